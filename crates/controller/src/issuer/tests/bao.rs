//! The logins that Chancery's own server has not, with OpenBao at the other end.
//!
//! `BAO=/path/to/bao cargo test -p chancery-controller -- --ignored`

use chancery_client::Request;
use chancery_testkit::bao::Bao;

use super::*;

async fn started() -> Bao {
    let role = json!({ "require_cn": false, "key_type": "any", "allow_any_name": true, "max_ttl": "24h" });
    Bao::start("web", &role).await
}

fn spec(bao: &Bao, auth: &Value) -> Value {
    let roots = base64(&std::fs::read_to_string(bao.ca_file()).unwrap());
    json!({ "vault": { "server": bao.url(), "path": "pki/sign/web", "caBundle": roots, "auth": auth } })
}

#[tokio::test]
#[ignore = "needs OpenBao, which BAO must name"]
async fn a_client_certificate_of_a_secret_logs_in_and_its_token_is_revoked_in_the_end() {
    let (bao, bed) = (started().await, Bed::new().await);
    let authority = Authority::root("clients");
    let pem = authority.certificate.pem();
    bao.write("sys/auth/cert", json!({ "type": "cert" })).await;
    bao.write("auth/cert/certs/web", json!({ "certificate": pem, "token_policies": "web" })).await;
    let (key, own) = csr_with("issuer", &[], &[], &[]);
    let request = PlainRequest {
        ext_key_usage: vec![chancery_issuance::ExtendedKeyUsage::from_name("ClientAuth").unwrap()],
        ttl: Duration::from_secs(3600),
        ..PlainRequest::default()
    };
    let verified = VerifiedCsr::from_pem(&own, &KeyPolicy::any()).unwrap();
    let certificate = made(&request, &verified, PlainSigner::Issuer(&authority.signing()));
    // A certificate is valid from the second in which it was made.
    let pair =
        json!({ "tls.crt": base64(certificate.pem()), "tls.key": base64(&key.to_pem(KeyForm::Pkcs8)) });
    bed.issuer(&spec(&bao, &json!({ "clientCertificate": { "secretName": "login", "name": "web" } })));
    bed.reconcile().await.unwrap_err();
    assert_eq!(bed.ready().2, "Failed to initialize Vault client: secrets \"login\" not found");
    bed.secret("login", &pair);
    bed.reconcile().await.unwrap();
    assert_eq!(bed.ready(), ("True".into(), "VaultVerified".into(), "Vault verified".into()));
    let (_, csr) = csr("a.example");
    let signed = bed.sign(&csr).await.unwrap();
    assert_eq!((count(&signed.certificate), count(&signed.ca.unwrap())), (1, 1));
    let accessors = async || {
        let list = bao.client().answer(&Request::list("auth/token/accessors")).await.unwrap().unwrap();
        list.field("keys").unwrap().as_array().unwrap().len()
    };
    assert_eq!(accessors().await, 2);
    bed.context.issuers.stop().await;
    assert_eq!(accessors().await, 1);
    bed.secret("login", &authority.secret(&[]));
    bed.issuer(&spec(&bao, &json!({ "clientCertificate": { "secretName": "login", "name": "other" } })));
    bed.reconcile().await.unwrap_err();
    let message = bed.ready().2;
    assert!(
        message.starts_with("Failed to initialize Vault client: error calling Vault server: Error making"),
        "{message}"
    );
}

#[tokio::test]
#[ignore = "needs OpenBao, which BAO must name"]
async fn an_approle_signs_and_a_token_without_the_default_policy_does_too() {
    let (bao, bed) = (started().await, Bed::new().await);
    bao.write("sys/auth/approle", json!({ "type": "approle" })).await;
    let role = json!({ "token_policies": "web", "token_no_default_policy": true });
    bao.write("auth/approle/role/web", role).await;
    let role_id =
        bao.client().answer(&Request::read("auth/approle/role/web/role-id")).await.unwrap().unwrap();
    let made = Request::write("auth/approle/role/web/secret-id", &json!({})).unwrap();
    let made = bao.client().answer(&made).await.unwrap().unwrap();
    bed.secret("login", &json!({ "id": base64(made.text("secret_id").unwrap()) }));
    let login = json!({ "path": "approle", "roleId": role_id.text("role_id").unwrap(),
        "secretRef": { "name": "login", "key": "id" } });
    bed.issuer(&spec(&bao, &json!({ "appRole": login })));
    bed.reconcile().await.unwrap();
    assert_eq!(bed.ready().0, "True");
    let (_, csr) = csr("a.example");
    bed.sign(&csr).await.unwrap();
    let token = json!({ "policies": ["web"], "no_default_policy": true, "no_parent": true });
    let token = Request::write("auth/token/create", &token).unwrap();
    let token = bao.client().answer(&token).await.unwrap().unwrap().auth.unwrap().client_token;
    bed.secret("login", &json!({ "token": base64(token.expose()) }));
    bed.issuer(&spec(&bao, &json!({ "tokenSecretRef": { "name": "login" } })));
    bed.reconcile().await.unwrap();
    assert_eq!(bed.ready().0, "True", "{}", bed.ready().2);
    bed.sign(&csr).await.unwrap();
    bao.write("auth/token/revoke", json!({ "token": token.expose() })).await;
    bed.reconcile().await.unwrap();
    assert!(bed.ready().2.contains("it has expired or was revoked"), "{}", bed.ready().2);
}
