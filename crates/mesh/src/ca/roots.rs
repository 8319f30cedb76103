//! What the mesh trusts.

use std::sync::Arc;

use chancery_issuance::Certificate;
use tokio::sync::watch;

/// The mesh's root certificates, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Roots {
    /// Each of them, none twice.
    pub certificates: Vec<Certificate>,
    /// All of them in PEM, as they are given out.
    pub pem: String,
}

/// The current roots; changes are seen at once.
pub type RootsWatch = watch::Receiver<Arc<Roots>>;
