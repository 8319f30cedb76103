//! A real Envoy is asked for its secrets. Only where `ENVOY` names its program.

#![expect(clippy::expect_used, reason = "what a helper of a test expects is part of the test")]

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chancery_mesh::inspect::{Content, Dump, LiveCertificates, Status, certs, config_dump};

const ROOT: &str = include_str!("data/inspect/root.pem");

struct Envoy(Child);

impl Drop for Envoy {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// An Envoy that trusts a root, by SDS from a file and in its own configuration.
fn start(program: &str, folder: &Path) -> (Envoy, String) {
    let free =
        || TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a free port").port();
    let (admin, port) = (free(), free());
    let root = serde_json::to_string(ROOT).expect("JSON");
    let kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";
    let sds = folder.join("sds.json").display().to_string();
    let secret = format!(
        r#"{{"resources": [{{"@type": "{kind}.Secret", "name": "ROOTCA", "validation_context": {{"trusted_ca": {{"inline_string": {root}}}}}}}]}}"#
    );
    std::fs::write(folder.join("sds.json"), secret).expect("writable");
    let config = format!(
        r#"{{"node": {{"id": "test", "cluster": "test"}}, "admin": {{"address": {{"socket_address": {{"address": "127.0.0.1", "port_value": {admin}}}}}}},
        "static_resources": {{
          "secrets": [{{"name": "own", "validation_context": {{"trusted_ca": {{"inline_string": {root}}}}}}}],
          "clusters": [{{"name": "c", "connect_timeout": "1s", "load_assignment": {{"cluster_name": "c", "endpoints": [{{"lb_endpoints":
            [{{"endpoint": {{"address": {{"socket_address": {{"address": "127.0.0.1", "port_value": {port}}}}}}}}}]}}]}},
            "transport_socket": {{"name": "tls", "typed_config": {{"@type": "{kind}.UpstreamTlsContext",
              "common_tls_context": {{"validation_context_sds_secret_config": {{"name": "ROOTCA",
                "sds_config": {{"resource_api_version": "V3", "path_config_source": {{"path": "{sds}"}}}}}}}}}}}}}}]}}}}"#
    );
    let file = folder.join("envoy.json");
    std::fs::write(&file, config).expect("writable");
    let child = Command::new(program)
        .arg("-c")
        .arg(&file)
        .args(["--disable-hot-restart", "-l", "error"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("Envoy's program is there");
    (Envoy(child), format!("127.0.0.1:{admin}"))
}

#[tokio::test]
async fn what_a_real_envoy_holds_is_shown() {
    let Ok(program) = std::env::var("ENVOY") else {
        eprintln!("ENVOY names no program: nothing was looked at");
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let (_envoy, address) = start(&program, folder.path());
    let began = Instant::now();
    let dump = loop {
        assert!(began.elapsed() < Duration::from_secs(30), "Envoy holds no secrets");
        let text = config_dump(&address).await;
        let dump = text.ok().and_then(|text| Dump::parse(&text).ok());
        match dump {
            Some(dump) if dump.secret("ROOTCA").is_some_and(|secret| secret.status == Status::Active) => {
                break dump;
            }
            _ => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    };
    let names: Vec<_> = dump.secrets().iter().map(|secret| (secret.name.as_str(), secret.status)).collect();
    assert_eq!(names, [("ROOTCA", Status::Active), ("own", Status::Static)]);
    for secret in dump.secrets() {
        let Content::Trusted(bundle) = &secret.content else { panic!("{secret:?}") };
        assert_eq!(bundle.first().expect("a certificate").pem(), ROOT);
    }
    let live = LiveCertificates::parse(&certs(&address).await.expect("an answer")).expect("certificates");
    assert!(live.table().contains(" CA "), "{}", live.table());
}
