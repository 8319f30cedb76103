//! The logins that Chancery's own server has not, with OpenBao at the other end.
//!
//! `BAO=/path/to/bao cargo test -p chancery-mesh --test ca -- --ignored`

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chancery_api::{Clock, SystemClock};
use chancery_client::{Client, Config, Credential, Login, Request};
use chancery_issuance::{CsrRequest, Curve, KeyForm, KeySpec, PrivateKey, RequestedNames, create_csr};
use chancery_mesh::ca::signer::{
    DirectSettings, DirectSigner, Purpose, Signer, SigningError, SigningRequest,
};
use data_encoding::BASE64URL_NOPAD;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{Authority, csr, until};

const HTTPBIN: &str = "spiffe://cluster.local/ns/sandbox/sa/httpbin";

struct Bao {
    process: Child,
    folder: tempfile::TempDir,
    url: String,
    client: Client,
}

impl Drop for Bao {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Bao {
    /// A development server with TLS and a role that signs for workloads.
    async fn start() -> Self {
        let binary = std::env::var_os("BAO").expect("BAO must name the binary of OpenBao");
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let process = Command::new(binary)
            .args(["server", "-dev-tls", "-dev-no-store-token", "-dev-root-token-id=root"])
            .arg(format!("-dev-listen-address=127.0.0.1:{port}"))
            .arg(format!("-dev-tls-cert-dir={}", folder.path().display()))
            .env("HOME", folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let url = format!("https://127.0.0.1:{port}");
        let authority = folder.path().join("vault-ca.pem");
        until("OpenBao's certificate", || async { authority.exists() }).await;
        let mut config = config(&url, &authority);
        config.token = Some("root".into());
        let client = Client::new(config).unwrap();
        let bao = Self { process, folder, url, client };
        until("OpenBao", || async { bao.client.send(&Request::read("sys/mounts")).await.is_ok() }).await;
        bao.write("sys/mounts/pki", json!({ "type": "pki" })).await;
        bao.write("pki/root/generate/internal", json!({ "common_name": "root", "key_type": "ec" })).await;
        let role =
            json!({ "require_cn": false, "key_type": "any", "allowed_uri_sans": "spiffe://cluster.local/*" });
        bao.write("pki/roles/mesh", role).await;
        let policy = r#"path "pki/sign/mesh" { capabilities = ["update"] }"#;
        bao.write("sys/policies/acl/mesh", json!({ "policy": policy })).await;
        bao
    }

    async fn write(&self, path: &str, body: Value) {
        self.client.send(&Request::write(path, &body).unwrap()).await.unwrap();
    }

    fn authority(&self) -> PathBuf {
        self.folder.path().join("vault-ca.pem")
    }
}

fn config(url: &str, authority: &Path) -> Config {
    let mut config = Config::new(url.parse().unwrap());
    config.ca_cert = Some(authority.to_owned());
    config.timeout = Duration::from_secs(5);
    config
}

async fn sign(client: Config, login: Login) -> Result<String, SigningError> {
    let settings =
        DirectSettings { client, login, sign_path: "pki/sign/mesh".to_owned(), serving_sign_path: None };
    let signer = DirectSigner::new(settings).unwrap();
    let request = SigningRequest {
        csr: csr(&[HTTPBIN]).1,
        identities: vec![HTTPBIN.to_owned()],
        duration: Duration::from_secs(600),
        purpose: Purpose::Workload,
    };
    signer.sign(&request).await.map(|signed| signed.chain)
}

/// A Kubernetes API that knows one token and answers nothing but reviews.
async fn reviewer(token: String) -> (SocketAddr, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (token, log) = (token.clone(), Arc::clone(&log));
            let answer = service_fn(move |request: http::Request<Incoming>| {
                let (token, log) = (token.clone(), Arc::clone(&log));
                async move {
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let review: Value = serde_json::from_slice(&body).unwrap();
                    let known = review["spec"]["token"] == token;
                    log.lock().unwrap().push(review);
                    let user = json!({ "username": "system:serviceaccount:istio-system:mesh-ca", "uid": "u1",
                        "groups": ["system:serviceaccounts"] });
                    let status = if known {
                        json!({ "authenticated": true, "user": user })
                    } else {
                        json!({ "authenticated": false })
                    };
                    let answer = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
                        "metadata": {}, "spec": {}, "status": status });
                    http::Response::builder()
                        .status(201)
                        .header("content-type", "application/json")
                        .body(Full::new(Bytes::from(answer.to_string())))
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
        }
    });
    (address, seen)
}

/// A service account's token as Kubernetes writes it, but for its signature, which only Kubernetes could hold.
fn token(id: &str) -> String {
    let part = |value: Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let now = SystemClock.now().as_second();
    let claims = json!({ "iat": now, "nbf": now - 10, "iss": "https://kubernetes.default.svc", "jti": id, "exp": now + 3600,
        "sub": "system:serviceaccount:istio-system:mesh-ca",
        "kubernetes.io": { "namespace": "istio-system", "serviceaccount": { "name": "mesh-ca", "uid": "u1" } } });
    format!("{}.{}.{}", part(json!({ "alg": "RS256" })), part(claims), BASE64URL_NOPAD.encode(&[1; 256]))
}

#[tokio::test]
#[ignore = "needs OpenBao, which BAO must name"]
async fn a_service_accounts_token_logs_in_and_is_read_from_its_file_each_time() {
    let bao = Bao::start().await;
    let (right, wrong) = (token("right"), token("wrong"));
    let (kubernetes, reviews) = reviewer(right.clone()).await;
    bao.write("sys/auth/k8s", json!({ "type": "kubernetes" })).await;
    let host = format!("http://{kubernetes}");
    bao.write("auth/k8s/config", json!({ "kubernetes_host": host, "token_reviewer_jwt": token("reviewer"), "disable_local_ca_jwt": true,
        "kubernetes_ca_cert": Authority::new("kubernetes").root })).await;
    bao.write(
        "auth/k8s/role/mesh",
        json!({ "bound_service_account_names": "mesh-ca",
        "bound_service_account_namespaces": "istio-system", "token_policies": "mesh" }),
    )
    .await;
    let file = bao.folder.path().join("token");
    let login = |role: &str| Login::Kubernetes {
        mount: "k8s".to_owned(),
        role: role.to_owned(),
        jwt: Credential::File(file.clone()),
    };
    let client = || config(&bao.url, &bao.authority());
    std::fs::write(&file, &wrong).unwrap();
    let refused = sign(client(), login("mesh")).await.unwrap_err();
    assert!(
        matches!(&refused, SigningError::Unavailable(reason) if reason.starts_with("cannot log in")),
        "{refused:?}"
    );
    std::fs::write(&file, format!("{right}\n")).unwrap();
    sign(client(), login("mesh")).await.unwrap();
    sign(client(), login("other")).await.unwrap_err();
    let seen: Vec<_> = reviews.lock().unwrap().iter().map(|review| review["spec"]["token"].clone()).collect();
    assert_eq!(seen, [json!(wrong), json!(right)]);
}

#[tokio::test]
#[ignore = "needs OpenBao, which BAO must name"]
async fn a_client_certificate_logs_in_and_none_does_not() {
    let bao = Bao::start().await;
    let authority = Authority::new("clients");
    bao.write("sys/auth/cert", json!({ "type": "cert" })).await;
    bao.write("auth/cert/certs/mesh", json!({ "certificate": authority.root, "token_policies": "mesh" }))
        .await;
    // OpenBao calls who logs in by the common name.
    let key = PrivateKey::generate(KeySpec::Ec(Curve::P256)).unwrap();
    let names =
        RequestedNames { common_name: "mesh-ca.istio-system.svc".to_owned(), ..RequestedNames::default() };
    let csr = create_csr(&CsrRequest { names, ..CsrRequest::default() }, &key).unwrap().pem;
    let at = |name: &str| bao.folder.path().join(name);
    std::fs::write(at("client.pem"), authority.sign(&csr, Duration::from_secs(600))).unwrap();
    std::fs::write(at("client.key"), key.to_pem(KeyForm::Pkcs8).as_str()).unwrap();
    let login = |name: &str| Login::Certificate { mount: "cert".to_owned(), name: name.to_owned() };
    let mut client = config(&bao.url, &bao.authority());
    sign(client.clone(), login("mesh")).await.unwrap_err();
    client.client_cert = Some(at("client.pem"));
    client.client_key = Some(at("client.key"));
    for name in ["mesh", ""] {
        sign(client.clone(), login(name)).await.unwrap();
    }
    sign(client, login("other")).await.unwrap_err();
}
