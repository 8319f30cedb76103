//! A real API server with its store, for whoever has them: `KUBEBUILDER_ASSETS` names their folder.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use chancery_kubernetes::{ClientOptions, connect};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};
use serde_json::json;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};

/// Both processes; dropped, they end.
#[derive(Debug)]
pub struct RealApiServer {
    url: String,
    kubeconfig: PathBuf,
    _processes: [Child; 2],
    _folder: tempfile::TempDir,
}

impl RealApiServer {
    /// Starts both, if there is a folder with `kube-apiserver` and `etcd`; says on standard error if there is none.
    pub async fn start() -> Option<Self> {
        let Some(assets) = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from) else {
            eprintln!("SKIPPED: KUBEBUILDER_ASSETS names no folder with kube-apiserver and etcd");
            return None;
        };
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let [etcd, peer, secure] = [free_port(), free_port(), free_port()];
        let store = format!("http://127.0.0.1:{etcd}");
        let store_process = process(
            &assets.join("etcd"),
            &[
                format!("--data-dir={}", path("etcd")),
                format!("--listen-client-urls={store}"),
                format!("--advertise-client-urls={store}"),
                format!("--listen-peer-urls=http://127.0.0.1:{peer}"),
                "--unsafe-no-fsync".into(),
            ],
        );
        let keys = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/keys/rsa2048.pem");
        std::fs::write(path("tokens.csv"), "secret,admin,admin,system:masters\n").expect("written");
        let server_process = process(
            &assets.join("kube-apiserver"),
            &[
                format!("--etcd-servers={store}"),
                format!("--secure-port={secure}"),
                "--bind-address=127.0.0.1".into(),
                format!("--cert-dir={}", path("certificates")),
                format!("--token-auth-file={}", path("tokens.csv")),
                "--authorization-mode=RBAC".into(),
                "--service-cluster-ip-range=10.0.0.0/24".into(),
                "--service-account-issuer=https://kubernetes.default.svc".into(),
                format!("--service-account-key-file={keys}"),
                format!("--service-account-signing-key-file={keys}"),
                "--disable-admission-plugins=ServiceAccount".into(),
            ],
        );
        let (url, kubeconfig) = (format!("https://127.0.0.1:{secure}"), PathBuf::from(path("kubeconfig")));
        let processes = [store_process, server_process];
        let real = Self { url, kubeconfig, _processes: processes, _folder: folder };
        std::fs::write(&real.kubeconfig, real.kubeconfig()).expect("written");
        let namespaces: Api<Namespace> = Api::all(real.client().await);
        let begun = Instant::now();
        while namespaces.get("default").await.is_err() {
            assert!(begun.elapsed() < Duration::from_secs(120), "the API server does not come up");
            sleep(Duration::from_millis(200)).await;
        }
        Some(real)
    }

    /// A client that may do everything.
    pub async fn client(&self) -> Client {
        let options = ClientOptions { kubeconfig: Some(self.kubeconfig.clone()), ..ClientOptions::default() };
        connect(&options).await.expect("a client")
    }

    /// The same as a kubeconfig.
    pub fn kubeconfig(&self) -> String {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "real",
            "clusters": [{ "name": "real", "cluster": { "server": self.url, "insecure-skip-tls-verify": true } }],
            "users": [{ "name": "real", "user": { "token": "secret" } }],
            "contexts": [{ "name": "real", "context": { "cluster": "real", "user": "real" } }],
        })
        .to_string()
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("an address").port()
}

fn process(program: &Path, arguments: &[String]) -> Child {
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command.spawn().unwrap_or_else(|error| panic!("{}: {error}", program.display()))
}
