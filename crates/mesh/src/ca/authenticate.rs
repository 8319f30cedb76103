//! Who calls.

use async_trait::async_trait;
use rustls::pki_types::CertificateDer;

use crate::Workload;

/// What a caller brings.
#[derive(Debug)]
pub struct Credentials<'a> {
    /// The call's metadata.
    pub metadata: &'a http::HeaderMap,
    /// The client's certificates, the leaf first, if it showed any; TLS has verified them against the mesh's roots.
    pub certificates: &'a [CertificateDer<'static>],
}

/// A caller that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The names that its certificate may and must carry, each a SPIFFE ID.
    pub identities: Vec<String>,
    /// The pod that the token was made for.
    pub pod: Option<CallerPod>,
    /// How it is known: `token_review`, `jwks`, `certificate`.
    pub by: &'static str,
}

/// The pod that a token is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallerPod {
    /// Its service account.
    pub workload: Workload,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
}

/// Why a caller is not known. The caller itself learns nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Denial {
    /// For metrics: a word.
    pub reason: &'static str,
    /// For the log: a sentence.
    pub detail: String,
}

/// One way to know a caller.
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// As [`Caller::by`].
    fn name(&self) -> &'static str;

    /// Who calls; `Ok(None)` if there is nothing here that this way could look at.
    ///
    /// # Errors
    /// What was brought is not good enough.
    async fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Option<Caller>, Denial>;
}
