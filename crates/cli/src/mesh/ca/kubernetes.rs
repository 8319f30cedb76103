//! The flags about Kubernetes, most of which have istio-csr's names.

use std::path::PathBuf;

use chancery_mesh::ca::config::{CertificateRequests, Istiod, KubernetesSettings, RootConfigMap};
use chancery_mesh::kubernetes::ClientOptions;

use super::number;
use crate::cluster;
use crate::command::Failure;
use crate::flags::{Flag, Flags, Kind};

pub(super) const CONNECTION: &[Flag] = &[
    Flag::new(
        "without-kubernetes",
        Kind::Bool,
        "Do without a Kubernetes API. Needs -jwks-file and -signer=direct; roots and istiod's certificate are then given out by others.",
    ),
    cluster::KUBECONFIG,
    cluster::CONTEXT,
    cluster::CLUSTER,
    cluster::USER,
    cluster::SERVER,
    Flag::new("api-token-file", Kind::Text, "A file with a token for the API."),
    Flag::new("certificate-authority", Kind::Text, "PEM certificates of the API's authority."),
    Flag::new("client-certificate", Kind::Text, "A PEM certificate to show the API."),
    Flag::new("client-key", Kind::Text, "Its key."),
    Flag::new("tls-server-name", Kind::Text, "The name in the API's certificate, if not the URL's."),
    Flag::new(
        "insecure-skip-tls-verify",
        Kind::Bool,
        "Trust any certificate of the API. Whoever is in between can then name callers as they like.",
    ),
    cluster::AS,
    Flag::new(
        "disable-kubernetes-client-rate-limiter",
        Kind::Bool,
        "Accepted and not used: there is no limit.",
    ),
    Flag::new("leader-election-namespace", Kind::Text, "Where the replicas agree on a leader.")
        .default("istio-system"),
    Flag::new(
        "without-root-config-map",
        Kind::Bool,
        "Leave the ConfigMap istio-ca-root-cert with the mesh's roots to others.",
    ),
    Flag::new(
        "configmap-namespace-selector",
        Kind::Text,
        "A label selector of the namespaces that get it. The default is all.",
    ),
    Flag::new("max-concurrent-reconciles", Kind::Uint, "How many namespaces are worked on at once.")
        .default("1"),
];

pub(super) const REQUESTS: &[Flag] = &[
    Flag::new("certificate-namespace", Kind::Text, "Where CertificateRequests are made.")
        .alias(&["c"])
        .default("istio-system"),
    Flag::new("issuer-enabled", Kind::Bool, "Use the issuer that the next three name.")
        .alias(&["e"])
        .default("true"),
    Flag::new("issuer-name", Kind::Text, "The issuer's name.").alias(&["u"]).default("istio-ca"),
    Flag::new("issuer-kind", Kind::Text, "The issuer's kind.").alias(&["k"]).default("Issuer"),
    Flag::new("issuer-group", Kind::Text, "The issuer's group.").alias(&["g"]).default("cert-manager.io"),
    Flag::new(
        "runtime-issuance-config-map-name",
        Kind::Text,
        "A ConfigMap that names another issuer while it is there.",
    ),
    Flag::new("runtime-issuance-config-map-namespace", Kind::Text, "Its namespace."),
    Flag::new(
        "certificate-request-additional-annotations",
        Kind::Pairs,
        "An annotation for each CertificateRequest. May be repeated.",
    ),
    Flag::new(
        "preserve-certificate-requests",
        Kind::Bool,
        "Leave CertificateRequests when they are answered.",
    )
    .alias(&["d"]),
];

pub(super) const ISTIOD: &[Flag] = &[
    Flag::new("istiod-cert-enabled", Kind::Bool, "Keep istiod's own certificate in the Secret istiod-tls."),
    Flag::new("istiod-cert-name", Kind::Text, "The name of its Certificate, with cert-manager.")
        .default("istiod-dynamic"),
    Flag::new("istiod-cert-namespace", Kind::Text, "istiod's namespace.").default("istio-system"),
    Flag::new("istiod-cert-duration", Kind::Duration, "How long it lives.").default("1h"),
    Flag::new("istiod-cert-renew-before", Kind::Duration, "How long before its end it is renewed.")
        .default("30m"),
    Flag::new("istiod-cert-key-algorithm", Kind::Text, "\"RSA\" or \"ECDSA\".").default("RSA"),
    Flag::new("istiod-cert-key-size", Kind::Uint, "Its key's bits. The default is 2048, or 256 with ECDSA."),
    Flag::new(
        "istiod-cert-additional-dns-names",
        Kind::Texts,
        "A further name. May be repeated, or comma-separated.",
    ),
    Flag::new(
        "istiod-cert-additional-annotations",
        Kind::Pairs,
        "An annotation for its Certificate when it is created. May be repeated.",
    ),
    Flag::new(
        "istiod-cert-istio-revisions",
        Kind::Texts,
        "A revision of Istio. May be repeated, or comma-separated; the default is default.",
    ),
];

/// What the flags say; `None` if there is no Kubernetes.
pub(super) fn settings(flags: &Flags) -> Result<Option<KubernetesSettings>, Failure> {
    if flags.on("without-kubernetes") {
        return Ok(None);
    }
    let text = |name: &str| flags.non_empty(name).map(str::to_owned);
    let path = |name: &str| flags.non_empty(name).map(PathBuf::from);
    let at_once = usize::try_from(number(flags, "max-concurrent-reconciles")?).unwrap_or(usize::MAX);
    if at_once == 0 {
        return Err(Failure::flag("max-concurrent-reconciles", "0", "a number from 1"));
    }
    let root_config_map = RootConfigMap {
        namespace_selector: text("configmap-namespace-selector").unwrap_or_default(),
        max_concurrent_reconciles: at_once,
    };
    Ok(Some(KubernetesSettings {
        connection: ClientOptions {
            token_file: path("api-token-file"),
            certificate_authority: path("certificate-authority"),
            client_certificate: path("client-certificate"),
            client_key: path("client-key"),
            tls_server_name: text("tls-server-name"),
            insecure_skip_tls_verify: flags.on("insecure-skip-tls-verify"),
            ..cluster::client_options(flags)
        },
        leader_election_namespace: text("leader-election-namespace").unwrap_or_default(),
        root_config_map: Some(root_config_map).filter(|_| !flags.on("without-root-config-map")),
        istiod: if flags.on("istiod-cert-enabled") { Some(istiod(flags)?) } else { None },
    }))
}

fn istiod(flags: &Flags) -> Result<Istiod, Failure> {
    let text = |name: &str| flags.text(name).unwrap_or_default().to_owned();
    let duration = |name: &str| flags.duration(name).unwrap_or_default();
    Ok(Istiod {
        name: text("istiod-cert-name"),
        namespace: text("istiod-cert-namespace"),
        duration: duration("istiod-cert-duration"),
        renew_before: duration("istiod-cert-renew-before"),
        key_algorithm: text("istiod-cert-key-algorithm"),
        key_size: number(flags, "istiod-cert-key-size")?,
        additional_dns_names: flags.list("istiod-cert-additional-dns-names"),
        additional_annotations: flags.pairs("istiod-cert-additional-annotations"),
        revisions: flags.list("istiod-cert-istio-revisions"),
    })
}

/// How cert-manager is asked.
pub(super) fn certificate_requests(flags: &Flags) -> CertificateRequests {
    let text = |name: &str| flags.text(name).unwrap_or_default().to_owned();
    let given = |name: &str| flags.non_empty(name).map(str::to_owned);
    let (namespace, name) =
        (given("runtime-issuance-config-map-namespace"), given("runtime-issuance-config-map-name"));
    CertificateRequests {
        namespace: text("certificate-namespace"),
        preserve: flags.on("preserve-certificate-requests"),
        additional_annotations: flags.pairs("certificate-request-additional-annotations"),
        issuer_enabled: flags.on("issuer-enabled"),
        issuer_name: text("issuer-name"),
        issuer_kind: text("issuer-kind"),
        issuer_group: text("issuer-group"),
        // Both must be set for it to count.
        runtime_config_map: namespace.zip(name),
    }
}
