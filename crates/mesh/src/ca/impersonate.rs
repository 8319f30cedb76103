//! Certificates for others: a node's proxy (ztunnel) asks for those of the workloads on its node.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use chancery_issuance::{SpiffeId, TrustDomain};
use prost_types::value::Kind;

use super::authenticate::Caller;
use crate::Workload;

/// The key in the request's metadata.
pub const IMPERSONATED_IDENTITY: &str = "ImpersonatedIdentity";

/// The word of [`ImpersonationError::reason`] for: nothing is known of pods now.
pub(super) const PODS_UNAVAILABLE: &str = "impersonation_unavailable";

/// What is known of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its UID.
    pub uid: String,
    /// Its service account.
    pub service_account: String,
    /// Its node; empty as long as it has none.
    pub node: String,
}

/// The pods of the cluster.
#[async_trait]
pub trait Pods: Send + Sync {
    /// The pod of this name.
    ///
    /// # Errors
    /// It is not known whether there is one.
    async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>, PodsError>;

    /// Whether a pod of this service account is on the node, and has not ended: its phase is neither Succeeded nor
    /// Failed.
    ///
    /// # Errors
    /// It is not known.
    async fn runs_on(&self, workload: &Workload, node: &str) -> Result<bool, PodsError>;
}

/// Why nothing is known of pods.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PodsError(pub String);

/// Why a caller gets no certificate for somebody else. It itself learns nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImpersonationError {
    /// The metadata has something else than a text.
    #[error("{IMPERSONATED_IDENTITY} is no text")]
    NotAText,
    /// Nobody may.
    #[error("no service account is trusted to ask for others' certificates")]
    Disabled,
    /// The caller's token is bound to no pod.
    #[error("the caller's token is bound to no pod")]
    NoPod,
    /// The caller may not.
    #[error("service account {0} is not trusted to ask for others' certificates")]
    Untrusted(Workload),
    /// What is asked for is no workload's name.
    #[error("requested identity: {0}")]
    Identity(String),
    /// What is asked for is of another trust domain.
    #[error("requested identity is of trust domain {0}")]
    TrustDomain(TrustDomain),
    /// The caller's pod is not there.
    #[error("the caller's pod {0} is not known")]
    UnknownPod(String),
    /// The caller's pod has been replaced by another of the same name.
    #[error("the caller's pod {0} has another UID than the token says")]
    Uid(String),
    /// The caller's pod has another service account than the token says.
    #[error("the caller's pod {0} has another service account than the token says")]
    ServiceAccount(String),
    /// The caller's pod has no node yet.
    #[error("the caller's pod {0} is on no node")]
    NoNode(String),
    /// The workload is not on the caller's node.
    #[error("no pod of {workload} is on the caller's node {node}")]
    NotOnNode {
        /// Whose certificate was asked for.
        workload: Workload,
        /// The caller's node.
        node: String,
    },
    /// Nothing is known of pods.
    #[error("pods: {0}")]
    Pods(#[from] PodsError),
}

impl ImpersonationError {
    /// A word for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotAText | Self::Identity(_) => "impersonation_identity",
            Self::Disabled => "impersonation_disabled",
            Self::NoPod | Self::UnknownPod(_) | Self::NoNode(_) => "impersonation_pod",
            Self::Untrusted(_) => "impersonation_untrusted",
            Self::TrustDomain(_) => "impersonation_trust_domain",
            Self::Uid(_) => "impersonation_pod_uid",
            Self::ServiceAccount(_) => "impersonation_service_account",
            Self::NotOnNode { .. } => "impersonation_node",
            Self::Pods(_) => PODS_UNAVAILABLE,
        }
    }
}

/// The identity that a request's metadata asks for, if it is another's.
///
/// # Errors
/// It is something else than a text.
pub fn requested(metadata: Option<&prost_types::Struct>) -> Result<Option<&str>, ImpersonationError> {
    match metadata.and_then(|metadata| metadata.fields.get(IMPERSONATED_IDENTITY)).map(|value| &value.kind) {
        None | Some(None | Some(Kind::NullValue(_))) => Ok(None),
        Some(Some(Kind::StringValue(text))) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(Some(_)) => Err(ImpersonationError::NotAText),
    }
}

/// Who may ask for others' certificates, and how it is checked that they are on the same node.
#[derive(Clone)]
pub struct NodeAuthorizer {
    trusted: HashSet<Workload>,
    domain: TrustDomain,
    pods: Arc<dyn Pods>,
}

impl NodeAuthorizer {
    /// These service accounts may, for workloads of this trust domain.
    pub fn new(
        trusted: impl IntoIterator<Item = Workload>,
        domain: TrustDomain,
        pods: Arc<dyn Pods>,
    ) -> Self {
        Self { trusted: trusted.into_iter().collect(), domain, pods }
    }

    /// Reads the list `NAMESPACE/SERVICE_ACCOUNT,...`. An entry of another form is logged and passed over.
    pub fn trusted_accounts(list: &str) -> Vec<Workload> {
        let entries = list.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let read = |entry: &str| match entry.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Some(Workload { namespace: namespace.to_owned(), service_account: name.to_owned() })
            }
            _ => {
                tracing::warn!(
                    entry,
                    "trusted node account is not NAMESPACE/SERVICE_ACCOUNT and is passed over"
                );
                None
            }
        };
        entries.filter_map(read).collect()
    }

    /// Whether the caller may have the requested identity's certificate. Then that is the only identity that counts.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub async fn authorize(&self, caller: &Caller, requested: &str) -> Result<SpiffeId, ImpersonationError> {
        if self.trusted.is_empty() {
            return Err(ImpersonationError::Disabled);
        }
        let token_pod = caller.pod.as_ref().ok_or(ImpersonationError::NoPod)?;
        if !self.trusted.contains(&token_pod.workload) {
            return Err(ImpersonationError::Untrusted(token_pod.workload.clone()));
        }
        let wrong = |error: String| ImpersonationError::Identity(error);
        let id = SpiffeId::parse(requested).map_err(|error| wrong(format!("{requested:?}: {error}")))?;
        let workload = Workload::of(&id).map_err(|error| wrong(error.to_string()))?;
        if id.trust_domain() != self.domain {
            return Err(ImpersonationError::TrustDomain(id.trust_domain()));
        }
        let name = format!("{}/{}", token_pod.workload.namespace, token_pod.name);
        let Some(pod) = self.pods.pod(&token_pod.workload.namespace, &token_pod.name).await? else {
            return Err(ImpersonationError::UnknownPod(name));
        };
        if pod.uid != token_pod.uid {
            return Err(ImpersonationError::Uid(name));
        }
        if pod.service_account != token_pod.workload.service_account {
            return Err(ImpersonationError::ServiceAccount(name));
        }
        if pod.node.is_empty() {
            return Err(ImpersonationError::NoNode(name));
        }
        if !self.pods.runs_on(&workload, &pod.node).await? {
            return Err(ImpersonationError::NotOnNode { workload, node: pod.node });
        }
        Ok(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ca::authenticate::CallerPod;

    /// One proxy's pod on node `n1`, and workload `a/b` there.
    struct OneNode;

    #[async_trait]
    impl Pods for OneNode {
        async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>, PodsError> {
            let pod = |node: &str| Pod {
                uid: "u1".to_owned(),
                service_account: "ztunnel".to_owned(),
                node: node.to_owned(),
            };
            match (namespace, name) {
                ("istio-system", "z1") => Ok(Some(pod("n1"))),
                ("istio-system", "z2") => Ok(Some(pod("n2"))),
                ("istio-system", "pending") => Ok(Some(pod(""))),
                ("istio-system", "unknown") => Err(PodsError("not synchronised".to_owned())),
                _ => Ok(None),
            }
        }

        async fn runs_on(&self, workload: &Workload, node: &str) -> Result<bool, PodsError> {
            Ok(workload.to_string() == "a/b" && node == "n1")
        }
    }

    fn workload(namespace: &str, service_account: &str) -> Workload {
        Workload { namespace: namespace.to_owned(), service_account: service_account.to_owned() }
    }

    fn authorizer(trusted: &str) -> NodeAuthorizer {
        let domain = TrustDomain::new("cluster.local").expect("a trust domain");
        NodeAuthorizer::new(NodeAuthorizer::trusted_accounts(trusted), domain, Arc::new(OneNode))
    }

    fn proxy(account: &str, name: &str, uid: &str) -> Caller {
        let workload = workload("istio-system", account);
        let pod = CallerPod { workload, name: name.to_owned(), uid: uid.to_owned() };
        Caller { identities: vec!["spiffe://cluster.local/x".to_owned()], pod: Some(pod), by: "test" }
    }

    const WANTED: &str = "spiffe://cluster.local/ns/a/sa/b";

    #[tokio::test]
    async fn a_trusted_proxy_gets_the_identities_of_its_node() {
        let authorizer = authorizer("istio-system/ztunnel");
        let id = authorizer.authorize(&proxy("ztunnel", "z1", "u1"), WANTED).await.expect("authorized");
        assert_eq!(id.as_str(), WANTED);
    }

    #[tokio::test]
    async fn each_rule_that_is_broken_refuses() {
        let trusting = authorizer("istio-system/ztunnel,istio-system/other");
        let good = proxy("ztunnel", "z1", "u1");
        let elsewhere = "spiffe://other.domain/ns/a/sa/b";
        for (caller, wanted, reason) in [
            (Caller { pod: None, ..good.clone() }, WANTED, "impersonation_pod"),
            (proxy("stranger", "z1", "u1"), WANTED, "impersonation_untrusted"),
            (good.clone(), "spiffe://cluster.local/ns/a/sa/b/c", "impersonation_identity"),
            (good.clone(), "cluster.local/ns/a/sa/b", "impersonation_identity"),
            (good.clone(), elsewhere, "impersonation_trust_domain"),
            (proxy("ztunnel", "z9", "u1"), WANTED, "impersonation_pod"),
            (proxy("ztunnel", "z1", "u2"), WANTED, "impersonation_pod_uid"),
            (proxy("other", "z1", "u1"), WANTED, "impersonation_service_account"),
            (proxy("ztunnel", "pending", "u1"), WANTED, "impersonation_pod"),
            (proxy("ztunnel", "unknown", "u1"), WANTED, "impersonation_unavailable"),
            (proxy("ztunnel", "z2", "u1"), WANTED, "impersonation_node"),
            (good.clone(), "spiffe://cluster.local/ns/a/sa/c", "impersonation_node"),
        ] {
            let error = trusting.authorize(&caller, wanted).await.expect_err(reason);
            assert_eq!(error.reason(), reason, "{caller:?} {wanted}");
        }
        let error = authorizer("").authorize(&good, WANTED).await.expect_err("nobody may");
        assert_eq!(error, ImpersonationError::Disabled);
    }

    #[test]
    fn entries_of_another_form_are_passed_over() {
        let list = NodeAuthorizer::trusted_accounts("a/b, c/d ,e,/f,g/,h/i/j,");
        assert_eq!(list, [workload("a", "b"), workload("c", "d")]);
    }

    #[test]
    fn only_a_text_asks_for_another_identity() {
        let with = |kind| {
            let value = prost_types::Value { kind };
            prost_types::Struct { fields: [(IMPERSONATED_IDENTITY.to_owned(), value)].into() }
        };
        assert_eq!(requested(None), Ok(None));
        assert_eq!(requested(Some(&prost_types::Struct::default())), Ok(None));
        assert_eq!(requested(Some(&with(None))), Ok(None));
        assert_eq!(requested(Some(&with(Some(Kind::NullValue(0))))), Ok(None));
        assert_eq!(requested(Some(&with(Some(Kind::StringValue(String::new()))))), Ok(None));
        assert_eq!(requested(Some(&with(Some(Kind::StringValue("x".to_owned()))))), Ok(Some("x")));
        assert_eq!(requested(Some(&with(Some(Kind::NumberValue(1.0))))), Err(ImpersonationError::NotAText));
    }
}
