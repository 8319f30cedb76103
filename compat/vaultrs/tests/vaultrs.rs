//! The vaultrs client, which decodes every answer into a struct: a field that is missing is an error.
//!
//! The tests need a server, so they are ignored unless the compat suite `vaultrs` runs them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::collections::HashMap;

use vaultrs::api::ResponseWrapper;
use vaultrs::api::auth::approle::requests::{GenerateNewSecretIDRequest, SetAppRoleRequest};
use vaultrs::api::pki::requests::{
    GenerateCertificateRequest, GenerateIntermediateRequest, GenerateRootRequest, SetRoleRequest,
    SignIntermediateRequest,
};
use vaultrs::api::sys::requests::ListMountsRequest;
use vaultrs::api::token::requests::CreateTokenRequest;
use vaultrs::client::{VaultClient, VaultClientSettingsBuilder};
use vaultrs::error::ClientError;
use vaultrs::{auth, cubbyhole, pki, sys, token};

fn client(with: Option<&str>) -> VaultClient {
    // A second test of the process finds the provider installed.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut settings = VaultClientSettingsBuilder::default();
    settings.address(std::env::var("VAULT_ADDR").expect("the suite must set VAULT_ADDR"));
    settings.token(with.map_or_else(|| std::env::var("VAULT_TOKEN").unwrap_or_default(), str::to_owned));
    VaultClient::new(settings.build().expect("the settings must be whole")).expect("the client must start")
}

fn status(error: &ClientError) -> u16 {
    match error {
        ClientError::APIError { code, .. } => *code,
        other => panic!("not an answer of the API: {other:?}"),
    }
}

#[tokio::test]
#[ignore = "needs a server: cargo xtask compat vaultrs"]
async fn mounts_policies_and_health_are_decoded() {
    let root = client(None);
    // OpenBao's answer lacks performance_standby, which vaultrs requires.
    if std::env::var("TARGET").is_ok_and(|target| target == "chancery") {
        let health = sys::health(&root).await.unwrap();
        assert!(health.initialized && !health.sealed && !health.standby);
    }

    sys::mount::enable(&root, "rs-mounts", "pki", None).await.unwrap();
    let mounts = sys::mount::list(&root).await.unwrap();
    assert_eq!(mounts["rs-mounts/"].mount_type, "pki");
    let one = sys::mount::get_configuration_of_a_secret_engine(&root, "rs-mounts").await.unwrap();
    assert_eq!(one.uuid, mounts["rs-mounts/"].uuid);
    let moving = sys::remount::remount(&root, "rs-mounts", "rs-moved").await.unwrap();
    let state = sys::remount::remount_status(&root, &moving.migration_id).await.unwrap();
    assert_eq!(state.migration_id, moving.migration_id);
    for _ in 0..100 {
        if sys::mount::list(&root).await.unwrap().contains_key("rs-moved/") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    sys::mount::disable(&root, "rs-moved").await.unwrap();
    assert!(!sys::mount::list(&root).await.unwrap().contains_key("rs-moved/"));

    let text = "path \"a\" { capabilities = [\"read\"] }";
    sys::policy::set(&root, "rs", text).await.unwrap();
    assert_eq!(sys::policy::read(&root, "rs").await.unwrap().rules, text);
    assert!(sys::policy::list(&root).await.unwrap().policies.contains(&"rs".to_owned()));
    sys::policy::delete(&root, "rs").await.unwrap();
    assert_eq!(status(&sys::policy::read(&root, "rs").await.unwrap_err()), 404);

    sys::auth::enable(&root, "rs-auth", "approle", None).await.unwrap();
    assert_eq!(sys::auth::list(&root).await.unwrap()["rs-auth/"].mount_type, "approle");
    sys::auth::disable(&root, "rs-auth").await.unwrap();
}

#[tokio::test]
#[ignore = "needs a server: cargo xtask compat vaultrs"]
async fn tokens_and_wrapped_answers_are_decoded() {
    let root = client(None);
    let made =
        token::new(&root, Some(CreateTokenRequest::builder().policies(vec!["default".into()]).ttl("1h")))
            .await
            .unwrap();
    let found = token::lookup(&root, &made.client_token).await.unwrap();
    assert_eq!(found.policies, ["default"]);
    assert_eq!(token::lookup_accessor(&root, &made.accessor).await.unwrap().id, "");
    assert_eq!(token::renew(&root, &made.client_token, Some("30m")).await.unwrap().lease_duration, 1800);
    let mine = client(Some(&made.client_token));
    assert!(token::lookup_self(&mine).await.unwrap().renewable.unwrap_or_default());

    let words = HashMap::from([("key", "value")]);
    cubbyhole::set(&mine, "cubbyhole", "place", &words).await.unwrap();
    let read: HashMap<String, String> = cubbyhole::get(&mine, "cubbyhole", "place").await.unwrap();
    assert_eq!(read["key"], "value");

    token::revoke(&root, &made.client_token).await.unwrap();
    assert_eq!(status(&token::lookup_self(&mine).await.unwrap_err()), 403);

    let wrapped = ListMountsRequest::builder().build().unwrap().wrap(&root).await.unwrap();
    assert_eq!(wrapped.lookup(&root).await.unwrap().creation_path, "sys/mounts");
    assert!(wrapped.unwrap(&root).await.unwrap().contains_key("cubbyhole/"));
    assert!(wrapped.unwrap(&root).await.is_err());
}

#[tokio::test]
#[ignore = "needs a server: cargo xtask compat vaultrs"]
async fn approle_logs_in() {
    let root = client(None);
    sys::auth::enable(&root, "rs-approle", "approle", None).await.unwrap();
    let mut role = SetAppRoleRequest::builder();
    auth::approle::role::set(
        &root,
        "rs-approle",
        "job",
        Some(role.token_policies(vec!["default".into()]).token_ttl("10m")),
    )
    .await
    .unwrap();
    assert_eq!(auth::approle::role::list(&root, "rs-approle").await.unwrap().keys, ["job"]);
    assert_eq!(auth::approle::role::read(&root, "rs-approle", "job").await.unwrap().token_ttl, 600);
    let id = auth::approle::role::read_id(&root, "rs-approle", "job").await.unwrap().role_id;
    let mut request = GenerateNewSecretIDRequest::builder();
    let secret =
        auth::approle::role::secret::generate(&root, "rs-approle", "job", Some(&mut request)).await.unwrap();
    let listed = auth::approle::role::secret::list(&root, "rs-approle", "job").await.unwrap();
    assert_eq!(listed.keys, std::slice::from_ref(&secret.secret_id_accessor));
    auth::approle::role::secret::read(&root, "rs-approle", "job", &secret.secret_id).await.unwrap();
    let login = auth::approle::login(&root, "rs-approle", &id, &secret.secret_id).await.unwrap();
    assert_eq!(login.token_policies, ["default"]);
    let mine = client(Some(&login.client_token));
    assert_eq!(token::lookup_self(&mine).await.unwrap().display_name, "rs-approle");
    let refused = auth::approle::login(&root, "rs-approle", &id, "nonsense").await.unwrap_err();
    assert_eq!(status(&refused), 400);
    sys::auth::disable(&root, "rs-approle").await.unwrap();
}

#[tokio::test]
#[ignore = "needs a server: cargo xtask compat vaultrs"]
async fn a_chain_is_made_and_a_certificate_issued() {
    let root = client(None);
    for mount in ["rs-root", "rs-sub"] {
        sys::mount::enable(&root, mount, "pki", None).await.unwrap();
    }
    let mut request = GenerateRootRequest::builder();
    let top = pki::cert::ca::generate(
        &root,
        "rs-root",
        "internal",
        Some(request.common_name("rs root").ttl("700h")),
    )
    .await
    .unwrap()
    .expect("a first root must be made");
    let mut request = GenerateIntermediateRequest::builder();
    let made = pki::cert::ca::int::generate(&root, "rs-sub", "internal", "rs sub", Some(&mut request))
        .await
        .unwrap();
    let mut request = SignIntermediateRequest::builder();
    let signed =
        pki::cert::ca::sign_intermediate(&root, "rs-root", &made.csr, "rs sub", Some(request.ttl("600h")))
            .await
            .unwrap();
    let taken = pki::cert::ca::int::set_signed(&root, "rs-sub", &signed.certificate).await.unwrap();
    let issuer = taken.imported_issuers.expect("an issuer must be imported").remove(0);
    assert!(taken.mapping.expect("the answer must map issuers to keys").contains_key(&issuer));
    let issuers = pki::issuer::list(&root, "rs-sub").await.unwrap();
    assert!(issuers.keys.contains(&issuer));
    pki::issuer::read(&root, "rs-sub", Some(&issuer)).await.unwrap();
    pki::issuer::set_default(&root, "rs-sub", &issuer).await.unwrap();

    let mut role = SetRoleRequest::builder();
    pki::role::set(
        &root,
        "rs-sub",
        "web",
        Some(role.allow_any_name(true).key_type("ec").key_bits(256_u64).ttl("1h")),
    )
    .await
    .unwrap();
    assert_eq!(pki::role::list(&root, "rs-sub").await.unwrap().keys, ["web"]);
    assert!(pki::role::read(&root, "rs-sub", "web").await.unwrap().allow_any_name);
    let mut request = GenerateCertificateRequest::builder();
    let leaf = pki::cert::generate(&root, "rs-sub", "web", Some(request.common_name("a.example.com")))
        .await
        .unwrap();
    assert!(leaf.private_key.contains("BEGIN EC PRIVATE KEY"));
    assert!(pki::cert::list(&root, "rs-sub").await.unwrap().contains(&leaf.serial_number));
    let stored = pki::cert::read(&root, "rs-sub", &leaf.serial_number).await.unwrap();
    assert_eq!(stored.certificate.trim(), leaf.certificate.trim());

    sys::mount::enable(&root, "rs-taken", "pki", None).await.unwrap();
    let taken = pki::issuer::import(&root, "rs-taken", &top.certificate).await.unwrap();
    assert_eq!(taken.imported_issuers.unwrap_or_default().len(), 1);
    let again = pki::issuer::import(&root, "rs-taken", &top.certificate).await.unwrap();
    assert_eq!(again.existing_issuers.unwrap_or_default().len(), 1);
    for mount in ["rs-root", "rs-sub", "rs-taken"] {
        sys::mount::disable(&root, mount).await.unwrap();
    }
}
