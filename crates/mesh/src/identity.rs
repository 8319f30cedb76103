//! A workload's identity: its service account, and the SPIFFE ID that Istio derives from it.

use std::fmt;

use chancery_issuance::{SpiffeError, SpiffeId, TrustDomain};

/// A service account of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Workload {
    /// The namespace.
    pub namespace: String,
    /// The service account.
    pub service_account: String,
}

/// Why something does not name a workload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WorkloadError {
    /// No SPIFFE ID.
    #[error(transparent)]
    Spiffe(#[from] SpiffeError),
    /// A SPIFFE ID of another form.
    #[error("{0:?} is not of the form spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT")]
    Form(String),
}

impl Workload {
    /// Takes a SPIFFE ID in Istio's form apart: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
    ///
    /// # Errors
    /// It has another form.
    pub fn of(id: &SpiffeId) -> Result<Self, WorkloadError> {
        let form = || WorkloadError::Form(id.as_str().to_owned());
        let mut segments = id.path().split('/').skip(1);
        let mut next = || segments.next().ok_or_else(form);
        let (ns, namespace, sa, service_account) = (next()?, next()?, next()?, next()?);
        if ns != "ns" || sa != "sa" || segments.next().is_some() {
            return Err(form());
        }
        Ok(Self { namespace: namespace.to_owned(), service_account: service_account.to_owned() })
    }

    /// The SPIFFE ID in a trust domain.
    ///
    /// # Errors
    /// The namespace or the service account has a character that no SPIFFE ID may have.
    pub fn spiffe_id(&self, domain: &TrustDomain) -> Result<SpiffeId, SpiffeError> {
        SpiffeId::from_segments(domain, &["ns", &self.namespace, "sa", &self.service_account])
    }

    /// The trust domain that a mesh's configuration names: Istio writes `@` as `.`.
    ///
    /// # Errors
    /// It is none.
    pub fn trust_domain(configured: &str) -> Result<TrustDomain, SpiffeError> {
        TrustDomain::new(&configured.replace('@', "."))
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.service_account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_and_its_spiffe_id_name_each_other() {
        let workload = Workload { namespace: "sandbox".into(), service_account: "httpbin".into() };
        let domain = Workload::trust_domain("cluster@local").expect("a trust domain");
        let id = workload.spiffe_id(&domain).expect("a SPIFFE ID");
        assert_eq!(id.as_str(), "spiffe://cluster.local/ns/sandbox/sa/httpbin");
        assert_eq!(Workload::of(&id), Ok(workload));
    }

    #[test]
    fn other_spiffe_ids_name_no_workload() {
        for id in ["spiffe://d", "spiffe://d/ns/a/sa", "spiffe://d/ns/a/sa/b/c", "spiffe://d/sa/a/ns/b"] {
            let id = SpiffeId::parse(id).expect("a SPIFFE ID");
            assert!(matches!(Workload::of(&id), Err(WorkloadError::Form(_))), "{id:?}");
        }
    }
}
