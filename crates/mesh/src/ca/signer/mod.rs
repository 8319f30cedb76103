//! Who signs.

pub mod direct;
mod observed;

use std::time::Duration;

use async_trait::async_trait;

pub use direct::{DirectSettings, DirectSigner};
pub use observed::{ObservedSigner, SignerState};

/// Certificates that the service has a signer work on at once, unless it is set up otherwise.
pub const AT_ONCE: usize = 256;

/// What shall be signed.
#[derive(Debug, Clone)]
pub struct SigningRequest {
    /// The CSR in PEM, checked.
    pub csr: String,
    /// The names in it, for records.
    pub identities: Vec<String>,
    /// How long the certificate shall live.
    pub duration: Duration,
    /// What it is for.
    pub purpose: Purpose,
}

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A workload: client and server.
    Workload,
    /// This service itself: server only.
    Serving,
}

/// What came back, not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedChain {
    /// PEM: the leaf first, then what the signer sent with it, in any order, roots perhaps among them.
    pub chain: String,
    /// PEM: the root, if the signer named one.
    pub root: Option<String>,
}

/// Why there is no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// The signer will not sign this, however often it is asked.
    #[error("{0}")]
    Refused(String),
    /// The signer could not be reached or is not able just now: sealed, overloaded, restarting.
    #[error("{0}")]
    Unavailable(String),
}

/// One way to have certificates signed.
#[async_trait]
pub trait Signer: Send + Sync {
    /// Signs. Whoever calls bounds the time; transient failures are for the caller to repeat.
    ///
    /// # Errors
    /// The signer refuses, or is not able now.
    async fn sign(&self, request: &SigningRequest) -> Result<SignedChain, SigningError>;
}
