//! The service as it is run, from its start to the signal that ends it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use chancery_client::{Config, Login};
use chancery_mesh::ca::config::{CertificateRequests, KubernetesSettings, Settings, SignerChoice};
use chancery_mesh::ca::run::run;
use chancery_mesh::kubernetes::{ClientOptions, LEASE};

use crate::bed::{double, until};

const REQUESTS: &str = "certificaterequests";

#[tokio::test]
async fn a_signal_gives_the_lease_back_and_leaves_no_request_behind() {
    let (server, _) = double().await;
    let login = Login::Token(chancery_api::Secret::from("unused").into());
    let mut settings = Settings::new(Config::new("http://127.0.0.1:1".parse().expect("a URL")), login);
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    (settings.serving_address, settings.readiness_address, settings.metrics_address) = (any, any, None);
    settings.signer = SignerChoice::CertificateRequest(Box::new(CertificateRequests {
        namespace: "istio-system".into(),
        preserve: false,
        additional_annotations: BTreeMap::new(),
        issuer_enabled: true,
        issuer_name: "istio-ca".into(),
        issuer_kind: "Issuer".into(),
        issuer_group: "cert-manager.io".into(),
        runtime_config_map: None,
    }));
    let connection = ClientOptions { server: Some(server.url()), ..ClientOptions::default() };
    settings.kubernetes = Some(KubernetesSettings { connection, ..KubernetesSettings::default() });

    let running = tokio::spawn(run(settings));
    let holder = || {
        let lease = server.get("leases", "istio-system", LEASE)?;
        lease["spec"]["holderIdentity"].as_str().map(str::to_owned)
    };
    until("it leads", || holder().is_some_and(|holder| !holder.is_empty())).await;
    // The one for the service's own certificate, which nobody signs.
    until("it waits for a request", || server.list(REQUESTS, None).len() == 1).await;
    let begun = Instant::now();
    let process = std::process::id().to_string();
    assert!(Command::new("kill").args(["-TERM", &process]).status().expect("kill").success());
    running.await.expect("no panic").expect("an orderly end");
    // Neither of the two was given up after its time.
    assert!(begun.elapsed() < Duration::from_millis(2500), "{:?}", begun.elapsed());
    assert_eq!(holder().as_deref(), Some(""));
    assert!(server.list(REQUESTS, None).is_empty());
}
