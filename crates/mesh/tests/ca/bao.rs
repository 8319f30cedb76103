//! The logins that Chancery's own server has not, with OpenBao at the other end.
//!
//! `BAO=/path/to/bao cargo test -p chancery-mesh --test ca -- --ignored`

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use chancery_api::{Clock, SystemClock};
use chancery_client::{Config, Credential, Login};
use chancery_issuance::{CsrRequest, Curve, KeyForm, KeySpec, PrivateKey, RequestedNames, create_csr};
use chancery_mesh::ca::signer::{
    DirectSettings, DirectSigner, Purpose, Signer, SigningError, SigningRequest,
};
use chancery_testkit::bao::Bao;
use data_encoding::BASE64URL_NOPAD;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::support::{Authority, csr};

const HTTPBIN: &str = "spiffe://cluster.local/ns/sandbox/sa/httpbin";

async fn started() -> Bao {
    let role =
        json!({ "require_cn": false, "key_type": "any", "allowed_uri_sans": "spiffe://cluster.local/*" });
    Bao::start("mesh", &role).await
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
    let bao = started().await;
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
    let file = bao.folder().join("token");
    let login = |role: &str| Login::Kubernetes {
        mount: "k8s".to_owned(),
        role: role.to_owned(),
        jwt: Credential::File(file.clone()),
    };
    let client = || bao.config();
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
    let bao = started().await;
    let authority = Authority::new("clients");
    bao.write("sys/auth/cert", json!({ "type": "cert" })).await;
    bao.write("auth/cert/certs/mesh", json!({ "certificate": authority.root, "token_policies": "mesh" }))
        .await;
    // OpenBao calls who logs in by the common name.
    let key = PrivateKey::generate(KeySpec::Ec(Curve::P256)).unwrap();
    let names =
        RequestedNames { common_name: "mesh-ca.istio-system.svc".to_owned(), ..RequestedNames::default() };
    let csr = create_csr(&CsrRequest { names, ..CsrRequest::default() }, &key).unwrap().pem;
    let at = |name: &str| bao.folder().join(name);
    std::fs::write(at("client.pem"), authority.sign(&csr, Duration::from_secs(600))).unwrap();
    std::fs::write(at("client.key"), key.to_pem(KeyForm::Pkcs8).as_str()).unwrap();
    let login = |name: &str| Login::Certificate { mount: "cert".to_owned(), name: name.to_owned() };
    let mut client = bao.config();
    sign(client.clone(), login("mesh")).await.unwrap_err();
    client.client_cert = Some(at("client.pem"));
    client.client_key = Some(at("client.key"));
    for name in ["mesh", ""] {
        sign(client.clone(), login(name)).await.unwrap();
    }
    sign(client, login("other")).await.unwrap_err();
}
