//! The kinds of objects that the double knows, and the addresses of objects.

use std::sync::Arc;

use serde_json::Value;

const ADMISSION: &str = "admissionregistration.k8s.io";

/// By what events can be selected.
const EVENT: [&str; 9] = [
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "type",
];

/// By what pods can be selected.
const POD: [&str; 4] = ["spec.nodeName", "spec.serviceAccountName", "status.phase", "status.podIP"];

/// A kind of objects, as an API server knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// Empty for the core group.
    pub group: String,
    /// Such as `v1`.
    pub version: String,
    /// As it stands in paths.
    pub plural: String,
    /// As it stands in objects.
    pub kind: String,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Whether `status` is written at a path of its own only.
    pub status: bool,
    /// Whether it is defined by a CustomResourceDefinition: no update without a resource version, a generation.
    pub custom: bool,
    /// What clients may write instead of the plural.
    pub short_names: Vec<String>,
    /// Such as `cert-manager`, for `kubectl get`.
    pub categories: Vec<String>,
    /// Fields besides name and namespace by which lists and watches may select, as `spec.issuerRef.name`.
    pub selectable: Vec<String>,
    /// What objects must satisfy: an `openAPIV3Schema`.
    pub schema: Option<Arc<Value>>,
}

impl Kind {
    fn new(group: &str, plural: &str, kind: &str, namespaced: bool) -> Self {
        let (group, version) = (group.to_owned(), "v1".to_owned());
        Self {
            group,
            version,
            plural: plural.to_owned(),
            kind: kind.to_owned(),
            namespaced,
            status: false,
            custom: false,
            short_names: Vec::new(),
            categories: Vec::new(),
            selectable: Vec::new(),
            schema: None,
        }
    }

    /// A kind of a CustomResourceDefinition, with `status`, in namespaces.
    pub fn custom(group: &str, version: &str, plural: &str, kind: &str) -> Self {
        Self {
            version: version.to_owned(),
            status: true,
            custom: true,
            ..Self::new(group, plural, kind, true)
        }
    }

    /// `v1`, or `group/v1`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }

    /// As sentences of an API server name it: `pods`, `leases.coordination.k8s.io`.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.clone() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// Whether an update must say which version it replaces.
    pub(super) fn needs_version(&self) -> bool {
        self.custom || self.plural == "leases"
    }

    pub(super) fn known() -> Vec<Self> {
        let core = |plural, kind| Self::new("", plural, kind, true);
        let with_status = |kind: Self| Self { status: true, ..kind };
        vec![
            with_status(Self::new("", "namespaces", "Namespace", false)),
            with_status(Self::new("", "nodes", "Node", false)),
            with_status(Self { selectable: POD.map(str::to_owned).to_vec(), ..core("pods", "Pod") }),
            with_status(core("services", "Service")),
            core("configmaps", "ConfigMap"),
            Self { selectable: vec!["type".into()], ..core("secrets", "Secret") },
            core("serviceaccounts", "ServiceAccount"),
            Self { selectable: EVENT.map(str::to_owned).to_vec(), ..core("events", "Event") },
            with_status(Self::new(
                "apiextensions.k8s.io",
                "customresourcedefinitions",
                "CustomResourceDefinition",
                false,
            )),
            Self::new(ADMISSION, "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", false),
            Self::new(ADMISSION, "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", false),
            Self::new("rbac.authorization.k8s.io", "roles", "Role", true),
            Self::new("rbac.authorization.k8s.io", "rolebindings", "RoleBinding", true),
            Self::new("rbac.authorization.k8s.io", "clusterroles", "ClusterRole", false),
            Self::new("rbac.authorization.k8s.io", "clusterrolebindings", "ClusterRoleBinding", false),
            with_status(Self::new("networking.k8s.io", "ingresses", "Ingress", true)),
            Self::new("coordination.k8s.io", "leases", "Lease", true),
            with_status(Self::new("apps", "deployments", "Deployment", true)),
            Self::custom("cert-manager.io", "v1", "certificates", "Certificate"),
            Self::custom("cert-manager.io", "v1", "certificaterequests", "CertificateRequest"),
            Self::custom("cert-manager.io", "v1", "issuers", "Issuer"),
            Self {
                namespaced: false,
                ..Self::custom("cert-manager.io", "v1", "clusterissuers", "ClusterIssuer")
            },
        ]
    }
}

/// What a request's path names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) plural: String,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) subresource: Option<String>,
}

impl Target {
    /// Takes `/api/v1/…` or `/apis/GROUP/VERSION/…` apart.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let mut parts = path.trim_matches('/').split('/').map(str::to_owned);
        let group = match parts.next()?.as_str() {
            "api" => String::new(),
            "apis" => parts.next()?,
            _ => return None,
        };
        let version = parts.next()?;
        let mut rest: Vec<String> = parts.collect();
        let mut namespace = None;
        // `namespaces/NAME` itself, and its `status`, are objects; anything else below is inside.
        if rest.len() > 2 && rest[0] == "namespaces" && !matches!(rest[2].as_str(), "status" | "finalize") {
            namespace = Some(rest[1].clone());
            rest.drain(..2);
        }
        let mut rest = rest.into_iter();
        let plural = rest.next()?;
        let (name, subresource) = (rest.next(), rest.next());
        if rest.next().is_some() {
            return None;
        }
        Some(Self { group, version, plural, namespace, name, subresource })
    }
}

#[cfg(test)]
mod tests {
    use super::Target;

    #[test]
    fn paths_name_collections_objects_and_their_status() {
        let target = |path| Target::parse(path).expect("a path of objects");
        let pods = target("/api/v1/pods");
        assert_eq!((pods.plural.as_str(), pods.namespace, pods.name), ("pods", None, None));
        let namespace = target("/api/v1/namespaces/sandbox");
        assert_eq!((namespace.plural.as_str(), namespace.name.as_deref()), ("namespaces", Some("sandbox")));
        let status = target("/apis/cert-manager.io/v1/namespaces/a/certificaterequests/b/status");
        assert_eq!((status.group.as_str(), status.namespace.as_deref()), ("cert-manager.io", Some("a")));
        assert_eq!((status.name.as_deref(), status.subresource.as_deref()), (Some("b"), Some("status")));
        assert_eq!(Target::parse("/healthz"), None);
    }
}
