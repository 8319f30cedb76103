//! The server, furnished as a mesh's operator would.

use std::net::SocketAddr;

use chancery_client::{Client, Config, Login, Request};
use chancery_mesh::ca::signer::{DirectSettings, DirectSigner};
use chancery_testkit::server::TestServer;
use serde_json::{Value, json};

pub(crate) struct Vault {
    pub(crate) server: TestServer,
    /// With root's rights.
    pub(crate) client: Client,
    pub(crate) root: String,
    pub(crate) role_id: String,
    pub(crate) secret_id: String,
}

const POLICY: &str = r#"path "istioca/sign/cluster-local" { capabilities = ["update"] }"#;

impl Vault {
    /// A root, an intermediate with its root imported, the role and an AppRole that may sign.
    pub(crate) async fn start() -> Self {
        let server = TestServer::start(false).await;
        let mut config = Config::new(server.url().parse().unwrap());
        config.token = Some(server.root_token().into());
        let client = Client::new(config).unwrap();
        let mut vault =
            Self { server, client, root: String::new(), role_id: String::new(), secret_id: String::new() };
        for mount in ["pki", "istioca"] {
            vault
                .write(
                    &format!("sys/mounts/{mount}"),
                    json!({ "type": "pki", "config": { "max_lease_ttl": "8760h" } }),
                )
                .await;
        }
        let root = json!({ "common_name": "mesh root", "key_type": "ec" });
        vault.root = vault.ask("pki/root/generate/internal", root, "certificate").await;
        let intermediate = json!({ "common_name": "istioca", "key_type": "ec" });
        let csr = vault.ask("istioca/intermediate/generate/internal", intermediate, "csr").await;
        let signed = json!({ "csr": csr, "format": "pem_bundle", "common_name": "istioca" });
        let signed = vault.ask("pki/root/sign-intermediate", signed, "certificate").await;
        vault
            .write(
                "istioca/intermediate/set-signed",
                json!({ "certificate": format!("{signed}\n{}", vault.root) }),
            )
            .await;
        vault.write("istioca/roles/cluster-local", json!({
            "allowed_domains": "svc", "allow_subdomains": true, "require_cn": false, "key_type": "any",
            "allowed_uri_sans": "spiffe://cluster.local/*", "max_ttl": "720h",
        })).await;
        vault.write("sys/policies/acl/mesh", json!({ "policy": POLICY })).await;
        vault.write("sys/auth/approle", json!({ "type": "approle" })).await;
        vault.write("auth/approle/role/mesh", json!({ "token_policies": "mesh", "token_ttl": "1h" })).await;
        vault.role_id = vault.read("auth/approle/role/mesh/role-id", "role_id").await;
        vault.secret_id = vault.ask("auth/approle/role/mesh/secret-id", json!({}), "secret_id").await;
        vault
    }

    pub(crate) async fn write(&self, path: &str, body: Value) {
        self.client.send(&Request::write(path, &body).unwrap()).await.unwrap();
    }

    pub(crate) async fn ask(&self, path: &str, body: Value, field: &str) -> String {
        let answer = self.client.answer(&Request::write(path, &body).unwrap()).await.unwrap().unwrap();
        answer.text(field).unwrap().to_owned()
    }

    pub(crate) async fn read(&self, path: &str, field: &str) -> String {
        let answer = self.client.answer(&Request::read(path)).await.unwrap().unwrap();
        answer.text(field).unwrap().to_owned()
    }

    /// The accessors of the tokens that logins have made.
    pub(crate) async fn logins(&self) -> Vec<String> {
        let list = Request::list("auth/token/accessors");
        let answer = self.client.answer(&list).await.unwrap().unwrap();
        let mut found = Vec::new();
        for accessor in answer.field("keys").unwrap().as_array().unwrap() {
            let accessor = accessor.as_str().unwrap().to_owned();
            let path = self.ask("auth/token/lookup-accessor", json!({ "accessor": accessor }), "path").await;
            found.extend(Some(accessor).filter(|_| path == "auth/approle/login"));
        }
        found
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.url().trim_start_matches("http://").parse().unwrap()
    }

    /// With the given secret id, over the given address.
    pub(crate) fn signer_with(
        &self,
        address: SocketAddr,
        secret_id: chancery_client::Credential,
    ) -> DirectSigner {
        let mut client = Config::new(format!("http://{address}").parse().unwrap());
        client.timeout = std::time::Duration::from_secs(2);
        let role_id = chancery_api::Secret::from(self.role_id.as_str()).into();
        DirectSigner::new(DirectSettings {
            client,
            login: Login::AppRole { mount: "approle".into(), role_id, secret_id },
            sign_path: "istioca/sign/cluster-local".into(),
            serving_sign_path: None,
        })
        .unwrap()
    }

    pub(crate) fn signer(&self, address: SocketAddr) -> DirectSigner {
        self.signer_with(address, chancery_api::Secret::from(self.secret_id.as_str()).into())
    }
}
