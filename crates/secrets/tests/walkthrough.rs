//! The founding walkthrough through the pipeline: root, intermediate, role, AppRole, a signed SPIFFE name.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a helper of tests fails as tests do")]

mod common;

use chancery_issuance::{
    CaRequest, Certificate, CsrRequest, Curve, KeyForm, KeySpec, MountLimits, PrivateKey, RequestedNames,
    SerialNumber, create_csr, prepare_root,
};
use chancery_secrets::Operation;
use chancery_secrets::error::Kind;
use common::Server;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const SPIFFE_ID: &str = "spiffe://cluster.local/ns/foo/sa/sleep";

/// A root that was made elsewhere: certificate and key in PEM.
fn external_root() -> String {
    let year = Duration::from_secs(365 * 24 * 3600);
    let limits = MountLimits { default_ttl: year * 10, max_ttl: year * 10 };
    let key = PrivateKey::generate(KeySpec::Ec(Curve::P256)).unwrap();
    let pem = key.to_pem(KeyForm::Pkcs8);
    let signer: Arc<dyn chancery_issuance::Signer> = Arc::new(key);
    let now = "2026-06-01T11:00:00Z".parse().unwrap();
    let request = CaRequest::new("root-ca", limits);
    let serial = SerialNumber::generate(now, [7; 14]);
    let issued = prepare_root(&request, &signer, &Default::default(), serial, now).unwrap().sign().unwrap();
    format!("{}{}", issued.pem, &*pem)
}

fn workload_csr() -> String {
    let key = PrivateKey::generate(KeySpec::Rsa(2048)).unwrap();
    let names = RequestedNames { uri_sans: vec![SPIFFE_ID.to_owned()], ..RequestedNames::default() };
    create_csr(&CsrRequest { names, ..CsrRequest::default() }, &key).unwrap().pem
}

/// Everything up to the role; answers the intermediate.
async fn set_up(server: &Server) -> String {
    server.write("sys/mounts/pki", json!({"type": "pki"})).await;
    server.write("sys/mounts/pki/tune", json!({"max_lease_ttl": "87600h"})).await;
    server.write("pki/config/ca", json!({"pem_bundle": external_root()})).await;
    server.write("sys/mounts/istioca", json!({"type": "pki"})).await;
    server.write("sys/mounts/istioca/tune", json!({"max_lease_ttl": "43800h"})).await;
    let made = server
        .write(
            "istioca/intermediate/generate/exported",
            json!({"common_name": "", "ttl": "43800h", "key_type": "ec"}),
        )
        .await;
    assert!(made["data"]["private_key"].as_str().unwrap().starts_with("-----BEGIN EC PRIVATE KEY-----"));
    let signed = server
        .write(
            "pki/root/sign-intermediate",
            json!({"csr": made["data"]["csr"], "format": "pem_bundle", "ttl": "43800h"}),
        )
        .await;
    let certificate = signed["data"]["certificate"].as_str().unwrap().to_owned();
    server.write("istioca/intermediate/set-signed", json!({"certificate": certificate})).await;
    server
        .write(
            "istioca/roles/cluster-local",
            json!({
                "allowed_domains": "svc", "allow_subdomains": "true", "max_ttl": "720h",
                "require_cn": "false", "allowed_uri_sans": "spiffe://cluster.local/*",
            }),
        )
        .await;
    server.write("sys/auth/approle", json!({"type": "approle"})).await;
    let policy = "path \"istioca/sign/cluster-local\" { capabilities = [\"update\"] }";
    server.write("sys/policies/acl/cert-manager", json!({"policy": policy})).await;
    let role = json!({"token_policies": "cert-manager", "token_ttl": "1h", "token_max_ttl": "4h"});
    server.write("auth/approle/role/cert-manager", role).await;
    certificate
}

async fn log_in(server: &Server) -> String {
    let role_id = server.read("auth/approle/role/cert-manager/role-id").await;
    let secret_id = server.write("auth/approle/role/cert-manager/secret-id", Value::Null).await;
    let credentials =
        json!({"role_id": role_id["data"]["role_id"], "secret_id": secret_id["data"]["secret_id"]});
    let login = server.json(server.ask(Operation::Update, "auth/approle/login", "", credentials).await);
    assert_eq!(login["auth"]["lease_duration"], 3600);
    assert_eq!(login["auth"]["policies"], json!(["cert-manager", "default"]));
    login["auth"]["client_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_workload_gets_its_spiffe_certificate() {
    let server = Server::start().await;
    let intermediate = set_up(&server).await;
    let token = log_in(&server).await;

    let body = json!({"csr": workload_csr(), "uri_sans": SPIFFE_ID, "ttl": "1h"});
    let signed = server.json(server.ask(Operation::Update, "istioca/sign/cluster-local", &token, body).await);
    let data = &signed["data"];
    let leaf = Certificate::from_pem(data["certificate"].as_str().unwrap()).unwrap();
    let chain = Certificate::all_from_pem(&intermediate).unwrap();
    assert_eq!(chain.len(), 2);
    assert!(leaf.is_signed_by(&chain[0]) && chain[0].is_signed_by(&chain[1]));
    assert_eq!(data["ca_chain"].as_array().unwrap().len(), 2);
    assert_eq!(
        data["expiration"].as_i64(),
        Some("2026-06-01T13:00:00Z".parse::<jiff::Timestamp>().unwrap().as_second())
    );

    // It is stored, and still there after sealing and unsealing.
    server.core.seal().await;
    server.unseal().await;
    let serial = data["serial_number"].as_str().unwrap();
    let stored = server.read(&format!("istioca/cert/{serial}")).await;
    assert_eq!(stored["data"]["certificate"], data["certificate"]);

    // The login's token may do this and nothing else.
    let refusal = server.refusal(Operation::Read, "istioca/roles/cluster-local", &token, Value::Null).await;
    assert_eq!(refusal.0, Kind::PermissionDenied);
}

#[tokio::test]
async fn names_outside_the_role_are_refused() {
    let server = Server::start().await;
    set_up(&server).await;
    let token = log_in(&server).await;
    for uri in ["spiffe://other.local/ns/foo/sa/sleep", "https://cluster.local/"] {
        let key = PrivateKey::generate(KeySpec::Ec(Curve::P256)).unwrap();
        let names = RequestedNames { uri_sans: vec![uri.to_owned()], ..RequestedNames::default() };
        let csr = create_csr(&CsrRequest { names, ..CsrRequest::default() }, &key).unwrap().pem;
        let refusal = server
            .refusal(Operation::Update, "istioca/sign/cluster-local", &token, json!({"csr": csr}))
            .await;
        assert_eq!(refusal.0, Kind::InvalidRequest, "{uri}");
    }
}
