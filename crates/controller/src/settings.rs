//! What flags say.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use chancery_kubernetes::LeaseTimings;

/// As others who hold this lease have them, so that either may follow the other.
const LEASE_TIMINGS: LeaseTimings = LeaseTimings {
    lease: Duration::from_secs(60),
    renew_deadline: Duration::from_secs(40),
    retry: Duration::from_secs(15),
};

/// Everything that can be chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The namespaces that are looked after; none means all of them, and ClusterIssuers.
    pub namespaces: BTreeSet<String>,
    /// Where the Secrets of ClusterIssuers are.
    pub cluster_resource_namespace: String,
    /// Whether replicas agree on one that works; without it this one always does.
    pub leader_election: bool,
    /// Name of the lease that one of several replicas holds.
    pub lease_name: String,
    /// Namespace of the lease.
    pub lease_namespace: String,
    /// How the lease is kept and lost.
    pub lease_timings: LeaseTimings,
    /// How many keys of each kind are worked on at once.
    pub workers: usize,
    /// Whether CertificateRequests are approved here.
    pub approves: bool,
    /// Whether a Secret is deleted with its Certificate.
    pub owner_references: bool,
    /// Pause after a first failed issuance.
    pub backoff_min: Duration,
    /// Longest pause after failed issuances; the remaining life of a certificate bounds it too.
    pub backoff_max: Duration,
    /// Prefixes of annotations that go from a Certificate to its requests: `*` for all, `-prefix` excludes.
    pub copied_annotation_prefixes: Vec<String>,
    /// Where metrics are served.
    pub metrics_address: SocketAddr,
    /// Where probes are answered.
    pub health_address: SocketAddr,
    /// Where the webhook listens; `None`: there is none.
    pub webhook_address: Option<SocketAddr>,
    /// Name of the Service before the webhook; its certificate has that name, and the Secret with its CA is called
    /// `<name>-ca`.
    pub webhook_service: String,
    /// Namespace of that Service and of that Secret.
    pub webhook_namespace: String,
    /// Name of the ValidatingWebhookConfiguration and of the MutatingWebhookConfiguration that are told of the CA.
    pub webhook_configuration: String,
    /// How often ready issuers are looked at again.
    pub health_interval: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        let any = |port| SocketAddr::from(([0, 0, 0, 0], port));
        let prefixes = ["*", "-kubectl.kubernetes.io/", "-fluxcd.io/", "-argocd.argoproj.io/"];
        Self {
            namespaces: BTreeSet::new(),
            cluster_resource_namespace: "kube-system".into(),
            leader_election: true,
            lease_name: "cert-manager-controller".into(),
            lease_namespace: "kube-system".into(),
            lease_timings: LEASE_TIMINGS,
            workers: 5,
            approves: true,
            owner_references: false,
            backoff_min: Duration::from_secs(60),
            backoff_max: Duration::from_secs(32 * 3600),
            copied_annotation_prefixes: prefixes.map(str::to_owned).to_vec(),
            metrics_address: any(9402),
            health_address: any(9403),
            webhook_address: Some(any(10250)),
            webhook_service: "cert-manager-webhook".into(),
            webhook_namespace: "cert-manager".into(),
            webhook_configuration: "cert-manager-webhook".into(),
            health_interval: Duration::from_secs(60),
        }
    }
}
