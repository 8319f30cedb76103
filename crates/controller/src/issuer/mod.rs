//! Issuers: whether they are ready, and how they sign.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use chancery_kubernetes::cert_manager::{CLUSTER_ISSUER, ISSUER, IssuerReference, KeyUsage};

use crate::context::Context;
use crate::{Error, Key, Next};

/// An issuer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IssuerKey {
    /// An Issuer.
    Namespaced {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A ClusterIssuer.
    Cluster {
        /// Its name.
        name: String,
    },
}

impl IssuerKey {
    /// The issuer that an object of this namespace refers to; `None`: another controller's.
    pub fn of(reference: &IssuerReference, namespace: &str) -> Option<Self> {
        let name = reference.name.clone();
        match reference.kind() {
            _ if !reference.is_ours() => None,
            ISSUER => Some(Self::Namespaced { namespace: namespace.to_owned(), name }),
            CLUSTER_ISSUER => Some(Self::Cluster { name }),
            _ => None,
        }
    }
}

/// What shall be signed.
#[derive(Debug, Clone)]
pub struct Order<'a> {
    /// Who signs.
    pub issuer: &'a IssuerKey,
    /// The CertificateRequest.
    pub request: &'a Key,
    /// Its CSR in PEM.
    pub csr_pem: &'a str,
    /// The lifetime that is asked for.
    pub duration: Option<Duration>,
    /// Whether an authority is asked for.
    pub is_ca: bool,
    /// As written; none means the default pair.
    pub usages: &'a [KeyUsage],
    /// Annotations of the CertificateRequest.
    pub annotations: &'a BTreeMap<String, String>,
}

/// What was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// PEM: the leaf, then what stands between it and the root.
    pub certificate: Vec<u8>,
    /// PEM of the root, as far as it is known.
    pub ca: Option<Vec<u8>>,
}

/// Why nothing was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// It may be signed later.
    #[error("{message}")]
    Pending {
        /// The event's reason.
        reason: &'static str,
        /// The condition's message.
        message: String,
        /// When to try again of itself; `None`: when something changes.
        retry_after: Option<Duration>,
    },
    /// It will never be.
    #[error("{message}")]
    Failed {
        /// The event's reason.
        reason: &'static str,
        /// The condition's message.
        message: String,
    },
    /// The issuer is of a type that is left to others.
    #[error("the issuer is of a type that is left to others")]
    Foreign,
}

/// Signs.
#[async_trait]
pub trait Sign: Send + Sync {
    /// Signs once.
    ///
    /// # Errors
    /// As [`SignError`] says, with what to do next.
    async fn sign(&self, order: &Order<'_>) -> Result<Signed, SignError>;
}

/// All issuers with their connections.
#[derive(Debug, Default)]
pub struct Issuers {}

impl Issuers {
    /// No issuer is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives them their surroundings, once.
    pub fn attach(&self, _: &Context) {}

    /// Revokes the tokens of all connections: the process ends.
    pub async fn stop(&self) {}
}

#[async_trait]
impl Sign for Issuers {
    async fn sign(&self, _: &Order<'_>) -> Result<Signed, SignError> {
        Err(SignError::Foreign)
    }
}

/// Checks an issuer and writes its condition.
pub(crate) async fn reconcile(_: &Context, _: IssuerKey) -> Result<Next, Error> {
    Ok(Next::Done)
}
