//! Signing over the API, with the real server at the other end.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chancery_api::Secret;
use chancery_client::{Config, Credential, Login, Request};
use chancery_issuance::Certificate;
use chancery_mesh::ca::signer::{
    DirectSettings, DirectSigner, Purpose, SignedChain, Signer, SigningError, SigningRequest,
};
use chancery_testkit::server::TestServer;
use serde_json::json;

use crate::support::{Authority, Link, Mode, Vault, csr};

const HTTPBIN: &str = "spiffe://cluster.local/ns/sandbox/sa/httpbin";

async fn sign(signer: &DirectSigner, name: &str) -> Result<SignedChain, SigningError> {
    let request = SigningRequest {
        csr: csr(&[name]).1,
        identities: vec![name.to_owned()],
        duration: Duration::from_secs(1800),
        purpose: Purpose::Workload,
    };
    signer.sign(&request).await
}

fn unavailable(answer: Result<SignedChain, SigningError>) -> String {
    match answer {
        Err(SigningError::Unavailable(reason)) => reason,
        other => panic!("not unavailable: {other:?}"),
    }
}

fn refused(answer: Result<SignedChain, SigningError>) -> String {
    match answer {
        Err(SigningError::Refused(reason)) => reason,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_workloads_csr_comes_back_as_a_chain_with_its_root() {
    let vault = Vault::start().await;
    let signer = vault.signer(vault.address());
    let signed = sign(&signer, HTTPBIN).await.unwrap();
    let chain = Certificate::all_from_pem(&signed.chain).unwrap();
    let root = Certificate::from_pem(&signed.root.unwrap()).unwrap();
    assert_eq!(root, Certificate::from_pem(&vault.root).unwrap());
    let [leaf, rest @ ..] = chain.as_slice() else { panic!("no leaf") };
    assert_eq!(leaf.sans().unwrap().uri, [HTTPBIN]);
    let lifetime = leaf.not_after().as_second() - leaf.not_before().as_second();
    assert!((1800..=1900).contains(&lifetime), "{lifetime}");
    let issuer = rest.iter().find(|one| leaf.is_signed_by(one)).unwrap();
    assert!(issuer.is_signed_by(&root));
    // The issuer comes both as such and in its chain, and is passed on once.
    assert_eq!(rest.iter().filter(|one| *one == issuer).count(), 1);
}

#[tokio::test]
async fn what_the_role_does_not_allow_is_refused_with_the_servers_sentence() {
    let vault = Vault::start().await;
    let signer = vault.signer(vault.address());
    let reason = refused(sign(&signer, "spiffe://elsewhere/ns/a/sa/b").await);
    assert!(
        reason.contains("/v1/istioca/sign/cluster-local: 400: ")
            && reason.contains("URI Subject Alternative Names"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_sealed_server_is_not_able_and_is_again_once_it_is_unsealed() {
    let vault = Vault::start().await;
    let signer = vault.signer(vault.address());
    sign(&signer, HTTPBIN).await.unwrap();
    vault.write("sys/seal", json!({})).await;
    let reason = unavailable(sign(&signer, HTTPBIN).await);
    assert!(reason.contains("503") && !reason.contains('\n'), "{reason}");
    vault.write("sys/unseal", json!({ "key": vault.server.unseal_key() })).await;
    sign(&signer, HTTPBIN).await.unwrap();
}

#[tokio::test]
async fn a_wrong_secret_id_is_told_and_a_right_one_in_its_file_is_found() {
    let vault = Vault::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret-id");
    std::fs::write(&path, "wrong").unwrap();
    let signer = vault.signer_with(vault.address(), Credential::File(path.clone()));
    let reason = unavailable(sign(&signer, HTTPBIN).await);
    assert!(reason.starts_with("cannot log in to the signer: ") && reason.contains("400"), "{reason}");
    std::fs::write(&path, format!("{}\n", vault.secret_id)).unwrap();
    // For a second everybody shares the first failure.
    assert_eq!(unavailable(sign(&signer, HTTPBIN).await), reason);
    tokio::time::sleep(Duration::from_millis(1050)).await;
    sign(&signer, HTTPBIN).await.unwrap();
}

#[tokio::test]
async fn a_right_that_is_missing_is_a_refusal_and_costs_one_login() {
    let vault = Vault::start().await;
    vault
        .write("sys/policies/acl/mesh", json!({ "policy": "path \"other\" { capabilities = [\"read\"] }" }))
        .await;
    let signer = vault.signer(vault.address());
    for _ in 0..5 {
        let reason = refused(sign(&signer, HTTPBIN).await);
        assert!(reason.contains("403") && reason.contains("permission denied"), "{reason}");
    }
    // The first, and one to see whether it was the token.
    assert_eq!(vault.logins().await.len(), 2);
}

#[tokio::test]
async fn a_revoked_token_costs_nobody_a_certificate() {
    let vault = Vault::start().await;
    let signer = Arc::new(vault.signer(vault.address()));
    sign(&signer, HTTPBIN).await.unwrap();
    for accessor in vault.logins().await {
        vault.write("auth/token/revoke-accessor", json!({ "accessor": accessor })).await;
    }
    assert_eq!(vault.logins().await.len(), 0);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let signer = Arc::clone(&signer);
        calls.spawn(async move { sign(&signer, HTTPBIN).await });
    }
    while let Some(signed) = calls.join_next().await {
        signed.unwrap().unwrap();
    }
    assert_eq!(vault.logins().await.len(), 1);
}

#[tokio::test]
async fn a_server_that_is_slow_or_gone_is_unavailable_until_it_is_back() {
    let vault = Vault::start().await;
    let link = Link::to(vault.address()).await;
    let signer = vault.signer(link.address);
    sign(&signer, HTTPBIN).await.unwrap();

    link.set(Mode::Cut).await;
    unavailable(sign(&signer, HTTPBIN).await);
    link.set(Mode::Open).await;
    sign(&signer, HTTPBIN).await.unwrap();

    link.set(Mode::Stalled).await;
    let begun = Instant::now();
    let reason = unavailable(sign(&signer, HTTPBIN).await);
    assert!(begun.elapsed() < Duration::from_secs(4), "{reason}");
    link.set(Mode::Open).await;
    sign(&signer, HTTPBIN).await.unwrap();
}

#[tokio::test]
async fn a_server_that_comes_up_later_is_found() {
    let vault = Vault::start().await;
    let link = Link::to(vault.address()).await;
    link.set(Mode::Cut).await;
    let signer = Arc::new(vault.signer(link.address));
    let kept = Arc::clone(&signer);
    let keeper = tokio::spawn(async move { kept.keep().await });
    let reason = unavailable(sign(&signer, HTTPBIN).await);
    assert!(reason.starts_with("cannot log in to the signer: "), "{reason}");
    link.set(Mode::Open).await;
    crate::support::until("a certificate", || async { sign(&signer, HTTPBIN).await.is_ok() }).await;
    keeper.abort();
}

#[tokio::test]
async fn connections_are_kept() {
    let vault = Vault::start().await;
    let link = Link::to(vault.address()).await;
    let signer = vault.signer(link.address);
    for _ in 0..20 {
        sign(&signer, HTTPBIN).await.unwrap();
    }
    assert_eq!(link.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_token_in_a_file_is_read_again_when_it_is_refused() {
    let vault = Vault::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let create = || async {
        let body = json!({ "policies": ["mesh"], "ttl": "1h" });
        let answer = vault.client.answer(&Request::write("auth/token/create", &body).unwrap()).await.unwrap();
        answer.unwrap().auth.unwrap().client_token
    };
    let first = create().await;
    std::fs::write(&file, first.expose()).unwrap();
    let signer = DirectSigner::new(DirectSettings {
        client: Config::new(vault.server.url().parse().unwrap()),
        login: Login::Token(Credential::File(file.clone())),
        sign_path: "istioca/sign/cluster-local".to_owned(),
        serving_sign_path: None,
    });
    let signer = signer.unwrap();
    sign(&signer, HTTPBIN).await.unwrap();
    vault.write("auth/token/revoke", json!({ "token": first.expose() })).await;
    let reason = unavailable(sign(&signer, HTTPBIN).await);
    assert!(reason.starts_with("cannot log in to the signer: ") && reason.contains("403"), "{reason}");
    std::fs::write(&file, create().await.expose()).unwrap();
    crate::support::until("a certificate", || async { sign(&signer, HTTPBIN).await.is_ok() }).await;
}

/// A signer that asks for what is not there, so that an answer of the server's is a refusal.
fn astray(server: &TestServer, client: Config) -> DirectSigner {
    DirectSigner::new(DirectSettings {
        client,
        login: Login::Token(Secret::from(server.root_token()).into()),
        sign_path: "absent/sign/role".to_owned(),
        serving_sign_path: None,
    })
    .unwrap()
}

#[tokio::test]
#[ignore = "takes a quarter of a minute"]
async fn a_server_that_vanished_without_a_word_does_not_hold_the_one_that_took_its_place() {
    let server = TestServer::start(true).await;
    let link = Link::to(server.url().trim_start_matches("https://").parse().unwrap()).await;
    let mut client = Config::new(format!("https://{}", link.address).parse().unwrap());
    client.ca_cert = server.ca_file().map(Into::into);
    client.timeout = Duration::from_secs(1);
    let signer = astray(&server, client);
    refused(sign(&signer, HTTPBIN).await);
    link.set(Mode::Hole).await;
    unavailable(sign(&signer, HTTPBIN).await);
    let begun = Instant::now();
    while !matches!(sign(&signer, HTTPBIN).await, Err(SigningError::Refused(_))) {
        assert!(begun.elapsed() < Duration::from_secs(25));
    }
    assert_eq!(link.connections.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_server_whose_authority_was_replaced_is_believed_without_a_restart() {
    let server = TestServer::start(true).await;
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("ca.pem");
    std::fs::write(&bundle, Authority::new("before").root).unwrap();
    let mut client = Config::new(server.url().parse().unwrap());
    client.ca_cert = Some(bundle.clone());
    let signer = astray(&server, client);
    let reason = unavailable(sign(&signer, HTTPBIN).await);
    assert!(reason.contains("certificate signed by unknown authority"), "{reason}");
    std::fs::copy(server.ca_file().unwrap(), &bundle).unwrap();
    // What the server then says is its own matter.
    let reaches = || async { matches!(sign(&signer, HTTPBIN).await, Err(SigningError::Refused(_))) };
    crate::support::until("a conversation", reaches).await;
}
