//! What is known of the cluster: facts, fed by watches.
//!
//! A [`Store`] per kind is changed by [`Store::apply`], [`Store::delete`] and [`Store::replace`]; each change is told to
//! the store's listeners, which say which queues get which keys.
//!
//! - `store.rs`: how facts are kept and found, `packed.rs`: how small. `terms.rs`: what each kind is found by. `facts.rs`: what is kept.
//! - `gather.rs`: facts made from objects.
//! - `gone.rs`: what this process deleted and watches may still show.
//! - `feed.rs`: the watches. `listen.rs`: which change leads to which work.

mod facts;
mod feed;
mod gather;
mod gone;
mod listen;
mod packed;
mod store;
mod terms;

use std::sync::Arc;

use chancery_kubernetes::cert_manager::{Certificate, Issuer};

pub use self::facts::{CertificateFacts, Digest, RequestFacts, SecretFacts, UnsignedFacts};
pub(crate) use self::feed::feed;
pub(crate) use self::gather::{names_digest, sha256};
pub(crate) use self::gone::Gone;
pub use self::store::{Change, Facts, Reading, Source, Store, Term};
use crate::Key;
use crate::issuer::IssuerKey;
use crate::request::UnderWay;

/// Everything that is known.
#[derive(Debug, Default)]
pub struct Cache {
    /// Issuers and ClusterIssuers, whole.
    pub issuers: Store<IssuerKey, Issuer>,
    /// Certificates, whole but for `metadata.managedFields` and what `kubectl apply` last applied.
    pub certificates: Store<Key, Certificate>,
    /// CertificateRequests.
    pub requests: Store<Key, RequestFacts>,
    /// Secrets of Certificates, and of issuances under way.
    pub secrets: Store<Key, SecretFacts>,
    /// Secrets that this process has deleted, and that watches may still show.
    pub(crate) gone: Gone,
    /// What this process did to CertificateRequests, and watches may not have told yet.
    pub requests_under_way: UnderWay,
}

impl Cache {
    /// Requests that a Certificate controls, by its UID.
    pub fn requests_of(&self, owner: &str) -> Vec<Arc<RequestFacts>> {
        values(self.requests.find_by(Term::Owner(owner)))
    }

    /// Requests that an issuer shall sign.
    pub fn requests_for(&self, issuer: &IssuerKey) -> Vec<Arc<RequestFacts>> {
        values(self.requests.find_by(Term::Issuer(issuer)))
    }

    /// Secrets that a Certificate controls, by its UID.
    pub fn secrets_of(&self, owner: &str) -> Vec<Arc<SecretFacts>> {
        values(self.secrets.find_by(Term::Owner(owner)))
    }

    /// Whether a Secret that was found here is gone.
    pub(crate) fn is_gone(&self, secret: &SecretFacts) -> bool {
        // A watch may have told that after it was found: then it is neither remembered as deleted any more nor here. It goes
        // from here first, and so this is looked at last.
        self.gone.left(&secret.uid).is_some()
            || self.secrets.get(&secret.key).is_none_or(|found| found.uid != secret.uid)
    }

    /// Certificates that name a Secret as theirs.
    pub fn certificates_in(&self, secret: &Key) -> Vec<Arc<Certificate>> {
        let term = Term::Secret { namespace: &secret.namespace, name: &secret.name };
        let mut found = values(self.certificates.find_by(term));
        // Others may only refer to it.
        found.retain(|certificate| certificate.spec.secret_name == secret.name);
        found
    }

    /// Certificates that an issuer shall sign.
    pub fn certificates_for(&self, issuer: &IssuerKey) -> Vec<Arc<Certificate>> {
        values(self.certificates.find_by(Term::Issuer(issuer)))
    }
}

fn values<K, V>(found: Vec<(K, Arc<V>)>) -> Vec<Arc<V>> {
    found.into_iter().map(|(_, value)| value).collect()
}
