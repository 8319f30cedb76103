//! What is said about Kubernetes.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::kubernetes::{ClientOptions, is_key};

/// The Kubernetes API, and what is kept right in it.
#[derive(Debug, Clone)]
pub struct KubernetesSettings {
    /// How it is reached.
    pub connection: ClientOptions,
    /// Where the replicas agree on a leader.
    pub leader_election_namespace: String,
    /// The ConfigMap with the mesh's roots in each namespace; `None` leaves that to others.
    pub root_config_map: Option<RootConfigMap>,
    /// istiod's own certificate; `None` leaves that to others.
    pub istiod: Option<Istiod>,
}

/// The ConfigMap `istio-ca-root-cert`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootConfigMap {
    /// A label selector of namespaces; empty is all.
    pub namespace_selector: String,
    /// How many namespaces are worked on at once.
    pub max_concurrent_reconciles: usize,
}

/// istiod's own certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Istiod {
    /// The Certificate's name.
    pub name: String,
    /// Its namespace, istiod's own.
    pub namespace: String,
    /// How long it lives.
    pub duration: Duration,
    /// How long before its end it is renewed.
    pub renew_before: Duration,
    /// `RSA` or `ECDSA`.
    pub key_algorithm: String,
    /// The key's bits; 0 is the algorithm's usual size.
    pub key_size: u32,
    /// Further DNS names.
    pub additional_dns_names: Vec<String>,
    /// Annotations that it gets when it is created.
    pub additional_annotations: BTreeMap<String, String>,
    /// Istio's revisions; none is `default`.
    pub revisions: Vec<String>,
}

/// How CertificateRequests are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateRequests {
    /// Where they are made.
    pub namespace: String,
    /// Leave them when they are answered.
    pub preserve: bool,
    /// Annotations that each gets.
    pub additional_annotations: BTreeMap<String, String>,
    /// Whether the three next count.
    pub issuer_enabled: bool,
    /// The issuer.
    pub issuer_name: String,
    /// Its kind.
    pub issuer_kind: String,
    /// Its group.
    pub issuer_group: String,
    /// A ConfigMap that names another issuer while it is there: namespace and name.
    pub runtime_config_map: Option<(String, String)>,
}

impl Default for KubernetesSettings {
    fn default() -> Self {
        Self {
            connection: ClientOptions::default(),
            leader_election_namespace: "istio-system".to_owned(),
            root_config_map: Some(RootConfigMap {
                namespace_selector: String::new(),
                max_concurrent_reconciles: 1,
            }),
            istiod: None,
        }
    }
}

/// The first key that no annotation may have. Kubernetes looks at them in small letters, and at values not at all.
pub(super) fn wrong_annotation(annotations: &BTreeMap<String, String>) -> Option<&String> {
    annotations.keys().find(|key| !is_key(&key.to_ascii_lowercase()))
}

impl CertificateRequests {
    /// Whether name, kind and group of the issuer go together: all of them, or none and a ConfigMap that will name one.
    pub(super) fn is_complete(&self) -> bool {
        let Self { issuer_enabled, issuer_name, issuer_kind, issuer_group, .. } = self;
        let given = [issuer_name, issuer_kind, issuer_group].iter().filter(|part| !part.is_empty()).count();
        match given {
            3 if *issuer_enabled => true,
            1 | 2 if *issuer_enabled => false,
            _ => self.runtime_config_map.is_some(),
        }
    }
}
