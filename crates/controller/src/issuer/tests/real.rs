//! The whole way with the project's own server.

use chancery_client::{Client, Config, Request};
use chancery_testkit::server::TestServer;

use super::*;

const POLICY: &str = r#"path "istioca/sign/cluster-local" { capabilities = ["update"] }"#;

struct Furnished {
    server: TestServer,
    client: Client,
}

impl Furnished {
    /// A root, an intermediate below it that knows its root, a role, and an AppRole that may sign.
    async fn start(tls: bool) -> Self {
        let server = TestServer::start(tls).await;
        let mut config = Config::new(server.url().parse().unwrap());
        config.token = Some(server.root_token().into());
        config.ca_cert = server.ca_file().map(Into::into);
        let client = Client::new(config).unwrap();
        let it = Self { server, client };
        for mount in ["pki", "istioca"] {
            let config = json!({ "type": "pki", "config": { "max_lease_ttl": "8760h" } });
            it.ask(&format!("sys/mounts/{mount}"), config, "").await;
        }
        let root = json!({ "common_name": "mesh root", "key_type": "ec" });
        let root = it.ask("pki/root/generate/internal", root, "certificate").await;
        let csr = json!({ "common_name": "istioca", "key_type": "ec" });
        let csr = it.ask("istioca/intermediate/generate/internal", csr, "csr").await;
        let asked = json!({ "csr": csr, "common_name": "istioca" });
        let signed = it.ask("pki/root/sign-intermediate", asked, "certificate").await;
        it.ask("istioca/intermediate/set-signed", json!({ "certificate": format!("{signed}\n{root}") }), "")
            .await;
        let role = json!({ "allowed_domains": "svc", "allow_subdomains": true, "require_cn": false,
            "key_type": "any", "allowed_uri_sans": "spiffe://cluster.local/*", "max_ttl": "720h" });
        it.ask("istioca/roles/cluster-local", role, "").await;
        it.ask("sys/policies/acl/mesh", json!({ "policy": POLICY }), "").await;
        it.ask("sys/auth/approle", json!({ "type": "approle" }), "").await;
        it.ask("auth/approle/role/mesh", json!({ "token_policies": "mesh", "token_ttl": "1h" }), "").await;
        it
    }

    async fn ask(&self, path: &str, body: Value, field: &str) -> String {
        let answer = self.client.answer(&Request::write(path, &body).unwrap()).await.unwrap();
        answer.and_then(|answer| answer.text(field).map(str::to_owned)).unwrap_or_default()
    }

    async fn role_id(&self) -> String {
        let answer = self.client.answer(&Request::read("auth/approle/role/mesh/role-id")).await.unwrap();
        answer.unwrap().text("role_id").unwrap().to_owned()
    }

    /// A cluster with an issuer that logs in here.
    async fn bed(&self) -> Bed {
        let bed = Bed::new().await;
        let secret_id = self.ask("auth/approle/role/mesh/secret-id", json!({}), "secret_id").await;
        bed.secret("login", &json!({ "secretId": base64(&secret_id) }));
        bed.issuer(&self.spec("istioca/sign/cluster-local").await);
        bed
    }

    async fn spec(&self, path: &str) -> Value {
        let login = json!({ "path": "approle", "roleId": self.role_id().await,
            "secretRef": { "name": "login", "key": "secretId" } });
        let mut vault = json!({ "server": self.server.url(), "path": path, "auth": { "appRole": login } });
        if let Some(file) = self.server.ca_file() {
            vault["caBundle"] = base64(&std::fs::read_to_string(file).unwrap());
        }
        json!({ "vault": vault })
    }
}

#[tokio::test]
async fn the_founding_scenario_signs_for_a_workload() {
    let furnished = Furnished::start(true).await;
    let bed = furnished.bed().await;
    bed.reconcile().await.unwrap();
    assert_eq!(bed.ready(), ("True".into(), "VaultVerified".into(), "Vault verified".into()));
    let (_, csr) = csr_with("", &["istiod.istio-system.svc"], &[], &["spiffe://cluster.local/ns/a/sa/b"]);
    let order = Order { duration: Some(Duration::from_secs(3600)), ..order_of(&csr) };
    let signed = bed.context.issuers.sign(&order).await.unwrap();
    assert_eq!((count(&signed.certificate), count(signed.ca.as_ref().unwrap())), (2, 1));
    let ca = Certificate::from_pem(std::str::from_utf8(&signed.ca.unwrap()).unwrap()).unwrap();
    assert!(ca.is_self_signed());
    // Outside the role.
    let (_, csr) = csr_with("", &["a.example.com"], &[], &[]);
    let error = bed.sign(&csr).await.unwrap_err();
    assert!(matches!(&error, SignError::Failed { reason: "SigningError", .. }), "{error:?}");
    assert!(error.to_string().contains("Code: 400. Errors:\n\n* "), "{error}");
    bed.context.issuers.stop().await;
}

#[tokio::test]
async fn a_path_that_the_policy_does_not_allow_is_noticed_before_anybody_asks() {
    let furnished = Furnished::start(false).await;
    let bed = furnished.bed().await;
    bed.issuer(&furnished.spec("istioca/sign/other").await);
    bed.reconcile().await.unwrap();
    let (_, _, message) = bed.ready();
    assert!(message.ends_with(r#"path "istioca/sign/other" { capabilities = ["update"] }"#), "{message}");
    bed.issuer(&furnished.spec("istioca/sign/cluster-local").await);
    bed.reconcile().await.unwrap();
    assert_eq!(bed.ready().0, "True");
}

#[tokio::test]
async fn a_sealed_server_is_waited_for() {
    let furnished = Furnished::start(false).await;
    let bed = furnished.bed().await;
    bed.reconcile().await.unwrap();
    furnished.ask("sys/seal", json!({}), "").await;
    let (_, csr) = csr_with("", &["istiod.istio-system.svc"], &[], &[]);
    let error = bed.sign(&csr).await.unwrap_err();
    assert!(matches!(&error, SignError::Pending { .. }), "{error:?}");
    bed.reconcile().await.unwrap();
    assert_eq!(bed.ready().2, "Failed to verify Vault is initialized and unsealed: Vault is sealed");
    furnished.ask("sys/unseal", json!({ "key": furnished.server.unseal_key() }), "").await;
    for _ in 0..100 {
        bed.reconcile().await.unwrap();
        if bed.ready().0 == "True" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(bed.ready().0, "True");
    bed.sign(&csr).await.unwrap();
}

#[tokio::test]
async fn roots_in_a_secret_are_trusted_as_they_are_now() {
    let furnished = Furnished::start(true).await;
    let bed = furnished.bed().await;
    let right = std::fs::read_to_string(furnished.server.ca_file().unwrap()).unwrap();
    let mut spec = furnished.spec("istioca/sign/cluster-local").await;
    spec["vault"].as_object_mut().unwrap().remove("caBundle");
    spec["vault"]["caBundleSecretRef"] = json!({ "name": "roots" });
    bed.issuer(&spec);
    bed.reconcile().await.unwrap_err();
    assert_eq!(
        bed.ready().2,
        "Failed to initialize Vault client: failed to load vault CA bundle: could not access secret 'default/roots': secrets \
         \"roots\" not found"
    );
    bed.secret("roots", &json!({ "ca.crt": base64("nothing") }));
    bed.reconcile().await.unwrap_err();
    assert!(bed.ready().2.ends_with(": no Vault CA bundles loaded, check bundle contents"));
    bed.secret("roots", &json!({ "ca.crt": base64(Authority::root("other").certificate.pem()) }));
    bed.reconcile().await.unwrap();
    assert!(bed.ready().2.contains("x509: certificate signed by unknown authority"), "{}", bed.ready().2);
    bed.secret("roots", &json!({ "ca.crt": base64(&right) }));
    bed.reconcile().await.unwrap();
    assert_eq!(bed.ready().0, "True");
    // Another name than the URL's, which the certificate does not have.
    spec["vault"]["serverName"] = json!("other.example");
    bed.issuer(&spec);
    bed.reconcile().await.unwrap();
    assert!(bed.ready().2.contains("x509: certificate is valid for "), "{}", bed.ready().2);
    spec["vault"]["serverName"] = json!("localhost");
    bed.issuer(&spec);
    bed.reconcile().await.unwrap();
    assert_eq!(bed.ready().0, "True");
}
