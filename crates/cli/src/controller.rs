//! `chancery controller`: flags, help and printing of the certificate controller.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use chancery_api::SystemClock;
use chancery_controller::{Settings, run as control};
use chancery_kubernetes::{LeaseTimings, connect};
use chancery_server::config::LogFormat;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::cluster;
use crate::command::{Arguments, Call, Command, Failure, Outcome};
use crate::flags::{Flag, Flags, Kind};
use crate::logs;

/// The definitions, as the chart has them.
const DEFINITIONS: [&str; 4] = [
    include_str!(
        "../../../deploy/helm/chancery-controller/files/crds/cert-manager.io_certificaterequests.yaml"
    ),
    include_str!("../../../deploy/helm/chancery-controller/files/crds/cert-manager.io_certificates.yaml"),
    include_str!("../../../deploy/helm/chancery-controller/files/crds/cert-manager.io_clusterissuers.yaml"),
    include_str!("../../../deploy/helm/chancery-controller/files/crds/cert-manager.io_issuers.yaml"),
];

/// Where a pod finds the name of its namespace.
const POD_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

const SCOPE: &[Flag] = &[
    Flag::new(
        "namespace",
        Kind::Texts,
        "The namespace that is looked after. May be repeated, or comma-separated; the default is all, and ClusterIssuers.",
    ),
    Flag::new(
        "cluster-resource-namespace",
        Kind::Text,
        "Where the Secrets of ClusterIssuers are. The default is the pod's namespace, or else kube-system.",
    ),
    Flag::new("auto-approve", Kind::Bool, "Approve CertificateRequests for issuers of cert-manager.io.")
        .default("true"),
    Flag::new(
        "enable-certificate-owner-ref",
        Kind::Bool,
        "Let a Certificate own its Secret: whoever deletes the one then deletes the other.",
    ),
    Flag::new(
        "copied-annotation-prefixes",
        Kind::Texts,
        "What annotations begin with that go from a Certificate to its CertificateRequests: \"*\" is all, \"-PREFIX\" \
         leaves some out. May be repeated, or comma-separated; the default is \
         *,-kubectl.kubernetes.io/,-fluxcd.io/,-argocd.argoproj.io/.",
    ),
    Flag::new("workers", Kind::Uint, "How many objects of each kind are worked on at once.").default("5"),
    Flag::new("minimum-backoff", Kind::Duration, "The pause after a first failed issuance.").default("1m"),
    Flag::new("maximum-backoff", Kind::Duration, "The longest pause after failed issuances.").default("32h"),
    Flag::new("issuer-check-interval", Kind::Duration, "How often issuers that are ready are checked.")
        .default("1m"),
];

const ELECTION: &[Flag] = &[
    Flag::new("leader-elect", Kind::Bool, "Have the replicas agree on one that works.").default("true"),
    Flag::new(
        "leader-election-namespace",
        Kind::Text,
        "Where they do so. The default is the pod's namespace, or else kube-system.",
    ),
    Flag::new("leader-election-lease", Kind::Text, "The name of their Lease.")
        .default("cert-manager-controller"),
    Flag::new(
        "leader-election-lease-duration",
        Kind::Duration,
        "How long the others wait after the last sign of life of the one that works, before one of them takes over; in whole \
         seconds.",
    )
    .default("60s"),
    Flag::new(
        "leader-election-renew-deadline",
        Kind::Duration,
        "How long that one works on without being able to give a sign of life. Must be shorter.",
    )
    .default("40s"),
    Flag::new(
        "leader-election-retry-period",
        Kind::Duration,
        "How often it gives one. Must be shorter still.",
    )
    .default("15s"),
];

const SERVING: &[Flag] = &[
    Flag::new("metrics-address", Kind::Text, "Where /metrics is.").default(":9402"),
    Flag::new("health-address", Kind::Text, "Where /livez and /readyz are.").default(":9403"),
    Flag::new("webhook", Kind::Bool, "Serve the admission webhook.").default("true"),
    Flag::new("webhook-address", Kind::Text, "Where the webhook listens.").default(":10250"),
    Flag::new("webhook-service", Kind::Text, "Name of the Service before the webhook.")
        .default("cert-manager-webhook"),
    Flag::new(
        "webhook-namespace",
        Kind::Text,
        "Namespace of that Service. The default is the pod's namespace, or else cert-manager.",
    ),
    Flag::new(
        "webhook-configuration",
        Kind::Text,
        "Name of the webhook configurations that are told of its CA.",
    )
    .default("cert-manager-webhook"),
];

const CONNECTION: &[Flag] = &[cluster::KUBECONFIG, cluster::CONTEXT];

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        name: "controller",
        synopsis: "Keep certificates in a Kubernetes cluster (cert-manager.io/v1)",
        usage: "[options]",
        help: "Looks after Issuers, ClusterIssuers, Certificates and CertificateRequests of cert-manager.io/v1 in a cluster: \
               has CertificateRequests signed by a server of the Vault API, by a CA in a Secret or by themselves, and keeps \
               Certificates in Secrets, renewed in time. Several replicas agree on one that works; all of them serve the \
               admission webhook.\n\n\
               Run it in a pod, by its service account:\n\n\
               $ {p} controller\n\n\
               Run it on your machine against the cluster that kubectl is set to, for one namespace and without the \
               webhook:\n\n\
               $ {p} controller -namespace=sandbox -leader-election-namespace=sandbox -webhook=false\n\n\
               Make the definitions known first:\n\n\
               $ {p} controller crds | kubectl apply -f -",
        flags: &[
            ("Controller Options", SCOPE),
            ("Election Options", ELECTION),
            ("Serving Options", SERVING),
            ("Kubernetes Options", CONNECTION),
            ("Log Options", logs::FLAGS),
        ],
        arguments: Arguments::Exactly(0),
        run,
    },
    Command {
        name: "controller crds",
        synopsis: "Print the definitions of cert-manager.io/v1",
        usage: "",
        help: "Prints the CustomResourceDefinitions of Issuer, ClusterIssuer, Certificate and CertificateRequest:\n\n\
               $ {p} controller crds | kubectl apply -f -",
        flags: &[],
        arguments: Arguments::Exactly(0),
        run: definitions,
    },
];

fn definitions(call: &mut Call<'_>) -> Outcome {
    call.ui.output(&documents());
    Ok(0)
}

/// All of them in one text, without the line end that printing adds.
fn documents() -> String {
    let documents = DEFINITIONS.map(|document| document.trim_start_matches("---\n").trim_end());
    documents.join("\n---\n")
}

fn run(call: &mut Call<'_>) -> Outcome {
    let pod = std::fs::read_to_string(POD_NAMESPACE).ok();
    let settings = settings(&call.flags, pod.as_deref().map(str::trim))?;
    let options = cluster::client_options(&call.flags);
    logs::init(&call.flags, log_format)?;
    chancery_server::raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Local(format!("no runtime: {error}")))?;
    let ended = runtime.block_on(async {
        let failed = |error| Failure::Local(format!("no signals: {error}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let client = connect(&options).await.map_err(|error| Failure::Local(error.to_string()))?;
        let (stop, shutdown) = watch::channel(false);
        let told = async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            stop.send_replace(true);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = control(client, settings, Arc::new(SystemClock), shutdown) => {
                ended.map_err(|error| Failure::Local(error.to_string()))
            }
            () = told => Ok(()),
        }
    });
    // A name that is still being looked up keeps nobody waiting.
    runtime.shutdown_background();
    ended.map(|()| 0)
}

/// What the flags say; `pod` is the namespace of the pod that this runs in, if it is one.
fn settings(flags: &Flags, pod: Option<&str>) -> Result<Settings, Failure> {
    let default = Settings::default();
    let text = |name: &str| flags.text(name).unwrap_or_default().to_owned();
    let pod = pod.filter(|namespace| !namespace.is_empty());
    let namespace =
        |name: &str, otherwise: &str| flags.non_empty(name).or(pod).unwrap_or(otherwise).to_owned();
    let duration = |name: &str| flags.duration(name).unwrap_or_default();
    let namespaces: BTreeSet<String> = flags.list("namespace").into_iter().collect();
    let prefixes = flags.list("copied-annotation-prefixes");
    let workers = match flags.text("workers").unwrap_or_default().parse() {
        Ok(workers) if workers > 0 => workers,
        _ => return Err(Failure::Local("-workers must be a number above 0".to_owned())),
    };
    let (minimum, maximum) = (duration("minimum-backoff"), duration("maximum-backoff"));
    if minimum.is_zero() || maximum < minimum {
        return Err(Failure::Local(
            "-minimum-backoff must be above 0, and -maximum-backoff no less than it".to_owned(),
        ));
    }
    let interval = duration("issuer-check-interval");
    if interval < Duration::from_secs(1) {
        return Err(Failure::Local("-issuer-check-interval must be at least 1s".to_owned()));
    }
    let lease_timings = LeaseTimings {
        lease: duration("leader-election-lease-duration"),
        renew_deadline: duration("leader-election-renew-deadline"),
        retry: duration("leader-election-retry-period"),
    };
    let LeaseTimings { lease, renew_deadline, retry } = lease_timings;
    // The lease is written in whole seconds.
    if retry.is_zero() || renew_deadline <= retry || Duration::from_secs(lease.as_secs()) <= renew_deadline {
        return Err(Failure::Local(
            "-leader-election-retry-period must be above 0, -leader-election-renew-deadline above that, and \
             -leader-election-lease-duration above that"
                .to_owned(),
        ));
    }
    Ok(Settings {
        namespaces,
        cluster_resource_namespace: namespace("cluster-resource-namespace", "kube-system"),
        leader_election: flags.on("leader-elect"),
        lease_name: text("leader-election-lease"),
        lease_namespace: namespace("leader-election-namespace", "kube-system"),
        lease_timings,
        workers,
        approves: flags.on("auto-approve"),
        owner_references: flags.on("enable-certificate-owner-ref"),
        backoff_min: minimum,
        backoff_max: maximum,
        copied_annotation_prefixes: if flags.texts("copied-annotation-prefixes").is_empty() {
            default.copied_annotation_prefixes
        } else {
            prefixes
        },
        metrics_address: address(flags, "metrics-address")?,
        health_address: address(flags, "health-address")?,
        webhook_address: flags.on("webhook").then(|| address(flags, "webhook-address")).transpose()?,
        webhook_service: text("webhook-service"),
        webhook_namespace: namespace("webhook-namespace", "cert-manager"),
        webhook_configuration: text("webhook-configuration"),
        health_interval: interval,
    })
}

/// An address as Go writes it: nothing before the colon means every address.
fn address(flags: &Flags, name: &str) -> Result<SocketAddr, Failure> {
    let text = flags.text(name).unwrap_or_default();
    let parsed = match text.strip_prefix(':') {
        Some(port) => port.parse().ok().map(|port| SocketAddr::new(every_address(), port)),
        None => text.parse().ok(),
    };
    parsed.ok_or_else(|| Failure::flag(name, text, "an address and a port"))
}

/// IPv6, which takes IPv4 too, unless the system has none.
fn every_address() -> IpAddr {
    let any = IpAddr::from(Ipv6Addr::UNSPECIFIED);
    match std::net::TcpListener::bind((any, 0)) {
        Ok(_) => any,
        Err(_) => IpAddr::from(std::net::Ipv4Addr::UNSPECIFIED),
    }
}

fn log_format(word: &str) -> Result<LogFormat, Failure> {
    match word {
        "text" => Ok(LogFormat::Standard),
        "json" => Ok(LogFormat::Json),
        other => Err(Failure::flag("log-format", other, "text or json")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::{Parsed, parse};

    fn read(args: &[&str], pod: Option<&str>) -> Result<Settings, Failure> {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let command = COMMANDS.first().expect("the command");
        let table = command.flags.iter().flat_map(|(_, flags)| flags.iter());
        match parse(table, &args, |_| None).expect("flags") {
            Parsed::Command(flags, _) => settings(&flags, pod),
            Parsed::Help => panic!("help"),
        }
    }

    #[test]
    fn without_flags_all_is_as_the_settings_have_it() {
        let mut found = read(&[], None).expect("settings");
        let default = Settings::default();
        // Every address, of whichever family.
        assert_eq!(found.metrics_address.port(), 9402);
        assert_eq!(found.health_address.port(), 9403);
        assert_eq!(found.webhook_address.map(|address| address.port()), Some(10250));
        found.metrics_address = default.metrics_address;
        found.health_address = default.health_address;
        found.webhook_address = default.webhook_address;
        assert_eq!(found, default);
    }

    #[test]
    fn in_a_pod_its_namespace_is_the_default() {
        let found = read(&["-webhook-namespace=other"], Some("here")).expect("settings");
        assert_eq!(found.cluster_resource_namespace, "here");
        assert_eq!(found.lease_namespace, "here");
        assert_eq!(found.webhook_namespace, "other");
    }

    #[test]
    fn flags_are_read_as_go_reads_them() {
        let found = read(
            &[
                "-namespace=a,b",
                "--leader-elect=false",
                "-auto-approve=false",
                "-webhook=false",
                "-minimum-backoff",
                "90s",
                "-copied-annotation-prefixes=*,-x/",
                "-health-address=127.0.0.1:0",
                "-leader-election-lease-duration=20s",
                "-leader-election-renew-deadline=12s",
                "-leader-election-retry-period=500ms",
            ],
            None,
        )
        .expect("settings");
        assert_eq!(found.namespaces, ["a".to_owned(), "b".to_owned()].into());
        assert!(!found.leader_election && !found.approves && found.webhook_address.is_none());
        assert_eq!(found.backoff_min, Duration::from_secs(90));
        let LeaseTimings { lease, renew_deadline, retry } = found.lease_timings;
        assert_eq!([lease, renew_deadline, retry], [20_000, 12_000, 500].map(Duration::from_millis));
        assert_eq!(found.copied_annotation_prefixes, ["*", "-x/"]);
        assert_eq!(found.health_address, SocketAddr::from(([127, 0, 0, 1], 0)));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for args in [
            &["-workers=0"][..],
            &["-minimum-backoff=2h", "-maximum-backoff=1h"],
            &["-issuer-check-interval=0s"],
            &["-leader-election-retry-period=0s"],
            &["-leader-election-renew-deadline=60s"],
            &[
                "-leader-election-lease-duration=2s500ms",
                "-leader-election-renew-deadline=2s200ms",
                "-leader-election-retry-period=1s",
            ],
            &["-metrics-address=nowhere"],
            &["-health-address=:70000"],
        ] {
            assert!(matches!(read(args, None), Err(Failure::Local(_))), "{args:?}");
        }
    }

    #[test]
    fn there_are_four_definitions_in_one_text() {
        let text = documents();
        assert_eq!(
            text.matches("\nkind: CustomResourceDefinition\n").count()
                + usize::from(text.starts_with("kind: CustomResourceDefinition")),
            4
        );
        assert_eq!(text.split("\n---\n").count(), 4);
    }
}
