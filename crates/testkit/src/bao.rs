//! OpenBao, for whoever has it: `BAO` names its binary.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use chancery_client::{Client, Config, Request};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// A development server with TLS; dropped, it ends.
#[derive(Debug)]
pub struct Bao {
    url: String,
    client: Client,
    folder: tempfile::TempDir,
    _process: Child,
}

impl Bao {
    /// Starts one, with an authority at `pki`, a role of this name there, and a policy of this name that allows to sign with it.
    pub async fn start(name: &str, role: &Value) -> Self {
        let binary = std::env::var_os("BAO").expect("BAO must name the binary of OpenBao");
        let folder = tempfile::tempdir().expect("a folder");
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let process = Command::new(binary)
            .args(["server", "-dev-tls", "-dev-no-store-token", "-dev-root-token-id=root"])
            .arg(format!("-dev-listen-address={address}"))
            .arg(format!("-dev-tls-cert-dir={}", folder.path().display()))
            .env("HOME", folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("OpenBao starts");
        let url = format!("https://{address}");
        until("OpenBao's certificate", || async { ca_file(folder.path()).exists() }).await;
        let mut config = config(&url, folder.path());
        config.token = Some("root".into());
        config.max_retries = 0;
        let client = Client::new(config).expect("a client");
        let bao = Self { url, client, folder, _process: process };
        until("OpenBao", || async { bao.client.send(&Request::read("sys/mounts")).await.is_ok() }).await;
        bao.write("sys/mounts/pki", json!({ "type": "pki" })).await;
        bao.write("pki/root/generate/internal", json!({ "common_name": "root", "key_type": "ec" })).await;
        bao.write(&format!("pki/roles/{name}"), role.clone()).await;
        let policy = format!(r#"path "pki/sign/{name}" {{ capabilities = ["update"] }}"#);
        bao.write(&format!("sys/policies/acl/{name}"), json!({ "policy": policy })).await;
        bao
    }

    /// Writes as root.
    pub async fn write(&self, path: &str, body: Value) {
        let request = Request::write(path, &body).expect("a request");
        self.client.send(&request).await.expect("written");
    }

    /// A client with the root token.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// How others get here, without a token.
    pub fn config(&self) -> Config {
        config(&self.url, self.folder())
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The file of the authority that clients have to believe.
    pub fn ca_file(&self) -> PathBuf {
        ca_file(self.folder())
    }

    /// A folder that goes with it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

fn config(url: &str, folder: &Path) -> Config {
    let mut config = Config::new(url.parse().expect("a URL"));
    config.ca_cert = Some(ca_file(folder));
    config.timeout = Duration::from_secs(5);
    config
}

fn ca_file(folder: &Path) -> PathBuf {
    folder.join("vault-ca.pem")
}

async fn until<Asked: Future<Output = bool>>(what: &str, holds: impl Fn() -> Asked) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(20), "in vain: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}
