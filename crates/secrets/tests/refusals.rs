//! What an operator, or the machine, got wrong: status and sentence, and that nothing else suffers.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chancery_api::Secret;
use chancery_issuance::{
    CaRequest, Curve, KeyForm, KeySpec, MountLimits, PrivateKey, SerialNumber, Signer, prepare_root,
};
use chancery_secrets::Operation;
use chancery_secrets::error::Kind;
use chancery_storage::memory::Fault;
use chancery_storage::{Backend, Batch, Memory, ShareScheme};
use common::Server;
use jiff::Timestamp;
use serde_json::{Value, json};

/// A root that is valid for a year from `born`: its certificate and its key.
fn root(born: &str) -> (String, String) {
    let year = Duration::from_secs(365 * 24 * 3600);
    let limits = MountLimits { default_ttl: year, max_ttl: year };
    let key = PrivateKey::generate(KeySpec::Ec(Curve::P256)).unwrap();
    let pem = key.to_pem(KeyForm::Pkcs8).to_string();
    let signer: Arc<dyn Signer> = Arc::new(key);
    let now: Timestamp = born.parse().unwrap();
    let serial = SerialNumber::generate(now, [7; 14]);
    let request = CaRequest::new("root", limits);
    let issued = prepare_root(&request, &signer, &Default::default(), serial, now).unwrap().sign().unwrap();
    (issued.pem, pem)
}

/// A server with an empty PKI mount and a role that allows any name.
async fn server() -> Server {
    let server = Server::start().await;
    server.write("sys/mounts/pki", json!({ "type": "pki" })).await;
    server.write("pki/roles/any", json!({ "allow_any_name": true, "key_type": "ec" })).await;
    server
}

async fn issue(server: &Server) -> (Kind, String) {
    let body = json!({ "common_name": "a.example.com", "ttl": "1h" });
    server.refusal(Operation::Update, "pki/issue/any", "root", body).await
}

#[tokio::test]
async fn a_certificate_that_is_no_authoritys_is_no_issuer() {
    let server = server().await;
    server.write("pki/root/generate/internal", json!({ "common_name": "root", "key_type": "ec" })).await;
    let leaf = server.write("pki/issue/any", json!({ "common_name": "a.example.com", "ttl": "1h" })).await;
    let body = json!({ "pem_bundle": leaf["data"]["certificate"] });
    for path in ["pki/issuers/import/cert", "pki/issuers/import/bundle", "pki/config/ca"] {
        let (kind, sentence) = server.refusal(Operation::Update, path, "root", body.clone()).await;
        assert_eq!(kind, Kind::InvalidRequest, "{path}");
        let refused = "Error parsing issuer 0: Refusing to import non-CA certificate";
        assert!(sentence.starts_with(refused), "{sentence}");
        assert!(sentence.contains(leaf["data"]["certificate"].as_str().unwrap()), "{sentence}");
    }
    assert_eq!(server.list("pki/issuers").await["data"]["keys"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn an_expired_issuer_is_imported_and_issues_nothing() {
    let server = server().await;
    let (certificate, key) = root("2020-01-01T00:00:00Z");
    server.write("pki/issuers/import/bundle", json!({ "pem_bundle": certificate + &key })).await;
    let expected = "cannot satisfy request, as TTL would result in notAfter of 2026-06-01T13:00:00Z that is beyond \
                    the expiration of the CA certificate at 2020-12-31T00:00:00Z";
    assert_eq!(issue(&server).await, (Kind::InvalidRequest, expected.to_owned()));
    assert_eq!(
        server.refusal(Operation::List, "pki/certs", "root", Value::Null).await,
        (Kind::NotFound, String::new())
    );
}

#[tokio::test]
async fn a_certificate_beside_anothers_key_is_an_issuer_that_cannot_sign() {
    let server = server().await;
    let ((certificate, _), (_, key)) = (root("2026-01-01T00:00:00Z"), root("2026-01-01T00:00:00Z"));
    let made = server.write("pki/issuers/import/bundle", json!({ "pem_bundle": certificate + &key })).await;
    let issuer = made["data"]["imported_issuers"][0].as_str().unwrap();
    assert_eq!(made["data"]["mapping"], json!({ issuer: "" }));
    server.write("pki/config/issuers", json!({ "default": issuer })).await;
    // As the peer has it, 500: the mount is not set up as it should be.
    let expected = format!(
        "1 error occurred:\n\t* could not fetch the CA certificate (was one set?): unable to fetch corresponding key \
         for issuer {issuer}; unable to use this issuer for signing\n\n"
    );
    assert_eq!(issue(&server).await, (Kind::Internal, expected));
}

#[tokio::test]
async fn a_store_that_takes_no_writes_costs_the_write_and_nothing_else() {
    let memory = Memory::new();
    let broken = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&broken);
    let faulty =
        memory.with_faults(move |_| if asked.load(Ordering::Relaxed) { Fault::Fails } else { Fault::None });
    let mut server = Server::over(Arc::new(faulty)).await;
    let made =
        server.core.initialize(ShareScheme::new(1, 1).unwrap(), Some(Secret::new("root"))).await.unwrap();
    server.shares = made.shares.iter().map(|share| share.to_vec()).collect();
    server.unseal().await;
    server.write("sys/policies/acl/p", json!({ "policy": "path \"a\" {}" })).await;

    broken.store(true, Ordering::Relaxed);
    for (path, body) in [
        ("sys/policies/acl/p", json!({ "policy": "path \"b\" {}" })),
        ("sys/mounts/pki", json!({ "type": "pki" })),
        ("auth/token/create", json!({})),
        ("cubbyhole/a", json!({ "x": 1 })),
    ] {
        let refused = server.refusal(Operation::Update, path, "root", body).await;
        assert_eq!(refused, (Kind::Internal, "internal error".to_owned()), "{path}");
    }
    // Reading goes on, and shows what is stored.
    assert_eq!(server.read("sys/policies/acl/p").await["data"]["policy"], "path \"a\" {}");
    assert!(!server.core.is_sealed());

    broken.store(false, Ordering::Relaxed);
    server.write("sys/mounts/pki", json!({ "type": "pki" })).await;
    server.write("sys/policies/acl/p", json!({ "policy": "path \"b\" {}" })).await;
    assert_eq!(server.read("sys/policies/acl/p").await["data"]["policy"], "path \"b\" {}");
}

#[tokio::test]
async fn a_damaged_record_is_an_error_of_its_own_and_nothing_around_it_suffers() {
    let server = server().await;
    // Which record at rest is the role's shows by what a write of the role changes.
    let before = server.memory.dump();
    server.write("pki/roles/other", json!({ "ou": "x" })).await;
    let added: Vec<_> = server.memory.dump().into_iter().filter(|record| !before.contains(record)).collect();
    let [(key, value)] = added.as_slice() else { panic!("{} records changed", added.len()) };
    let mut damaged = value.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let mut batch = Batch::new();
    batch.put(key.clone(), damaged);
    server.memory.commit(batch).await.unwrap();

    // After a restart, since roles that were read are kept in memory.
    let mut again = Server::over(Arc::new(server.memory.reopened())).await;
    again.shares = server.shares.clone();
    again.unseal().await;
    let refused = again.refusal(Operation::Read, "pki/roles/other", "root", Value::Null).await;
    assert_eq!(refused, (Kind::Internal, "internal error".to_owned()));
    assert_eq!(again.read("pki/roles/any").await["data"]["allow_any_name"], true);
    again.write("pki/roles/other", json!({ "ou": "y" })).await;
    assert_eq!(again.read("pki/roles/other").await["data"]["ou"], json!(["y"]));
}

#[tokio::test]
async fn a_wrong_unseal_key_is_refused_and_the_right_one_still_works() {
    let server = Server::start().await;
    let right = data_encoding::HEXLOWER.encode(&server.shares[0]);
    server.core.seal().await;
    let unseal = async |key: &str| {
        let body = json!({ "key": key });
        server
            .ask(Operation::Update, "sys/unseal", "", body)
            .await
            .map_err(|error| (error.kind, error.message()))
    };
    let wrong = right.replace(['0', '1'], "2");
    assert_ne!(wrong, right);
    let expected =
        (Kind::InvalidRequest, "invalid key: it does not open the root key of this store".to_owned());
    assert_eq!(unseal(&wrong).await.unwrap_err(), expected);
    assert!(server.core.is_sealed());
    unseal(&right).await.unwrap();
    assert!(!server.core.is_sealed());
}
