//! The logins that Chancery's own server has not, with OpenBao at the other end.
//!
//! `BAO=/path/to/bao cargo test -p chancery-controller -- --ignored`

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use chancery_client::{Client, Config, Request};

use super::*;

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
    /// A development server with TLS, a role, and the two certificate and AppRole logins that may sign with it.
    async fn start() -> Self {
        let binary = std::env::var_os("BAO").expect("BAO must name the binary of OpenBao");
        let folder = tempfile::tempdir().unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
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
        for _ in 0..1000 {
            if authority.exists() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut config = Config::new(url.parse().unwrap());
        config.ca_cert = Some(authority);
        config.token = Some("root".into());
        config.max_retries = 0;
        let client = Client::new(config).unwrap();
        let bao = Self { process, folder, url, client };
        for _ in 0..1000 {
            if bao.client.send(&Request::read("sys/mounts")).await.is_ok() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        bao.write("sys/mounts/pki", json!({ "type": "pki" })).await;
        bao.write("pki/root/generate/internal", json!({ "common_name": "root", "key_type": "ec" })).await;
        let role =
            json!({ "require_cn": false, "key_type": "any", "allow_any_name": true, "max_ttl": "24h" });
        bao.write("pki/roles/web", role).await;
        let policy = r#"path "pki/sign/web" { capabilities = ["update"] }"#;
        bao.write("sys/policies/acl/web", json!({ "policy": policy })).await;
        bao
    }

    async fn write(&self, path: &str, body: Value) {
        self.client.send(&Request::write(path, &body).unwrap()).await.unwrap();
    }

    fn roots(&self) -> PathBuf {
        self.folder.path().join("vault-ca.pem")
    }

    fn spec(&self, auth: Value) -> Value {
        let roots = base64(&std::fs::read_to_string(self.roots()).unwrap());
        json!({ "vault": { "server": self.url, "path": "pki/sign/web", "caBundle": roots, "auth": auth } })
    }
}

#[tokio::test]
#[ignore = "needs OpenBao, which BAO must name"]
async fn a_client_certificate_of_a_secret_logs_in_and_its_token_is_revoked_in_the_end() {
    let (bao, bed) = (Bao::start().await, Bed::new().await);
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
    bed.issuer(&bao.spec(json!({ "clientCertificate": { "secretName": "login", "name": "web" } })));
    bed.reconcile().await.unwrap_err();
    assert_eq!(bed.ready().2, "Failed to initialize Vault client: secrets \"login\" not found");
    bed.secret("login", &pair);
    bed.reconcile().await.unwrap();
    assert_eq!(bed.ready(), ("True".into(), "VaultVerified".into(), "Vault verified".into()));
    let (_, csr) = csr("a.example");
    let signed = bed.sign(&csr).await.unwrap();
    assert_eq!((count(&signed.certificate), count(&signed.ca.unwrap())), (1, 1));
    let accessors = async || {
        let list = bao.client.answer(&Request::list("auth/token/accessors")).await.unwrap().unwrap();
        list.field("keys").unwrap().as_array().unwrap().len()
    };
    assert_eq!(accessors().await, 2);
    bed.context.issuers.stop().await;
    assert_eq!(accessors().await, 1);
    bed.secret("login", &authority.secret(&[]));
    bed.issuer(&bao.spec(json!({ "clientCertificate": { "secretName": "login", "name": "other" } })));
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
    let (bao, bed) = (Bao::start().await, Bed::new().await);
    bao.write("sys/auth/approle", json!({ "type": "approle" })).await;
    let role = json!({ "token_policies": "web", "token_no_default_policy": true });
    bao.write("auth/approle/role/web", role).await;
    let role_id = bao.client.answer(&Request::read("auth/approle/role/web/role-id")).await.unwrap().unwrap();
    let made = Request::write("auth/approle/role/web/secret-id", &json!({})).unwrap();
    let made = bao.client.answer(&made).await.unwrap().unwrap();
    bed.secret("login", &json!({ "id": base64(made.text("secret_id").unwrap()) }));
    let login = json!({ "path": "approle", "roleId": role_id.text("role_id").unwrap(),
        "secretRef": { "name": "login", "key": "id" } });
    bed.issuer(&bao.spec(json!({ "appRole": login })));
    bed.reconcile().await.unwrap();
    assert_eq!(bed.ready().0, "True");
    let (_, csr) = csr("a.example");
    bed.sign(&csr).await.unwrap();
    let token = json!({ "policies": ["web"], "no_default_policy": true, "no_parent": true });
    let token = Request::write("auth/token/create", &token).unwrap();
    let token = bao.client.answer(&token).await.unwrap().unwrap().auth.unwrap().client_token;
    bed.secret("login", &json!({ "token": base64(token.expose()) }));
    bed.issuer(&bao.spec(json!({ "tokenSecretRef": { "name": "login" } })));
    bed.reconcile().await.unwrap();
    assert_eq!(bed.ready().0, "True", "{}", bed.ready().2);
    bed.sign(&csr).await.unwrap();
    bao.write("auth/token/revoke", json!({ "token": token.expose() })).await;
    bed.reconcile().await.unwrap();
    assert!(bed.ready().2.contains("it has expired or was revoked"), "{}", bed.ready().2);
}
