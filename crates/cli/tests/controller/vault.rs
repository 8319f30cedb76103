//! The server that signs: `chancery server -dev`, set up as the founding walkthrough says.

use std::process::Stdio;
use std::time::Duration;

use chancery_client::{Client, Config, Request};
use chancery_issuance::Certificate;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::bed::{CHANCERY, until};

/// A development server.
pub(crate) struct Vault {
    pub(crate) url: String,
    /// What every chain leads to.
    pub(crate) root: Certificate,
    /// The role of the issuer.
    pub(crate) role_id: String,
    client: Client,
    unseal_key: String,
    /// How many certificates there were before anything was signed.
    before: usize,
    _process: Child,
    folder: tempfile::TempDir,
}

impl Vault {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("log");
        let file = std::fs::File::create(&log).expect("a file");
        let arguments = ["server", "-dev", "-dev-no-store-token", "-dev-root-token-id=root"];
        let process = Command::new(CHANCERY)
            .args(arguments)
            .arg("-dev-listen-address=127.0.0.1:0")
            .env_clear()
            .env("HOME", folder.path())
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a file"))
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .expect("the server starts");
        let said = async |what: &str| {
            until(what, async || {
                let text = std::fs::read_to_string(&log).ok()?;
                text.lines()
                    .find_map(|line| line.trim().strip_prefix(what))
                    .map(|rest| rest.trim().to_owned())
            })
            .await
        };
        let url = said("Api Address:").await;
        let unseal_key = said("Unseal Key:").await;
        let mut config = Config::new(url.parse().expect("an address"));
        config.token = Some("root".into());
        config.timeout = Duration::from_secs(10);
        let client = Client::new(config).expect("a client");
        until("the server", async || client.send(&Request::read("sys/mounts")).await.ok()).await;
        let (root, role_id) = walk(&client).await;
        let before = certificates(&client).await;
        Self { url, root, role_id, client, unseal_key, before, _process: process, folder }
    }

    /// A new secret id for the issuer's role.
    pub(crate) async fn secret_id(&self) -> String {
        let made = write(&self.client, "auth/approle/role/cert-manager/secret-id", json!({})).await;
        text(&made, "secret_id")
    }

    /// What it has said.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub(crate) async fn seal(&self) {
        write(&self.client, "sys/seal", json!({})).await;
    }

    pub(crate) async fn unseal(&self) {
        write(&self.client, "sys/unseal", json!({ "key": self.unseal_key })).await;
    }

    /// How many certificates were signed.
    pub(crate) async fn signed(&self) -> usize {
        certificates(&self.client).await - self.before
    }
}

/// The founding walkthrough. Answers the root, and the role id of the issuer.
async fn walk(client: &Client) -> (Certificate, String) {
    let mount = |ttl: &str| json!({ "type": "pki", "config": { "max_lease_ttl": ttl } });
    write(client, "sys/mounts/pki", mount("87600h")).await;
    let root = json!({ "common_name": "root-ca", "ttl": "87600h" });
    let root = text(&write(client, "pki/root/generate/internal", root).await, "certificate");
    write(client, "sys/mounts/istioca", mount("43800h")).await;
    let wanted = json!({ "common_name": "", "ttl": "43800h" });
    let csr = text(&write(client, "istioca/intermediate/generate/exported", wanted).await, "csr");
    let wanted = json!({ "csr": csr, "format": "pem_bundle", "ttl": "43800h" });
    // Intermediate and root in one text: this is why `ca.crt` will hold the root.
    let bundle = text(&write(client, "pki/root/sign-intermediate", wanted).await, "certificate");
    write(client, "istioca/intermediate/set-signed", json!({ "certificate": bundle })).await;
    let role = json!({
        "allowed_domains": "svc", "allow_subdomains": true, "max_ttl": "720h", "require_cn": false,
        "allowed_uri_sans": "spiffe://cluster.local/*",
    });
    write(client, "istioca/roles/cluster-local", role.clone()).await;
    let mut any_key = role;
    any_key["key_type"] = "any".into();
    write(client, "istioca/roles/any-key", any_key).await;
    write(client, "sys/auth/approle", json!({ "type": "approle" })).await;
    let policy = r#"
        path "istioca/sign/cluster-local" { capabilities = ["update"] }
        path "istioca/sign/any-key" { capabilities = ["update"] }
    "#;
    write(client, "sys/policies/acl/cert-manager", json!({ "policy": policy })).await;
    let role = json!({ "token_policies": "cert-manager", "token_ttl": "1h", "token_max_ttl": "4h" });
    write(client, "auth/approle/role/cert-manager", role).await;
    let read = Request::read("auth/approle/role/cert-manager/role-id");
    let role_id: Value = client.send(&read).await.expect("a role id").json().expect("JSON");
    (Certificate::from_pem(&root).expect("a root"), text(&role_id["data"], "role_id"))
}

async fn write(client: &Client, path: &str, body: Value) -> Value {
    let request = Request::write(path, &body).expect("JSON");
    let response = client.send(&request).await.unwrap_or_else(|error| panic!("{path}: {error:?}"));
    if response.body.is_empty() {
        return Value::Null;
    }
    let answer: Value = response.json().expect("JSON");
    answer["data"].clone()
}

fn text(data: &Value, field: &str) -> String {
    data[field].as_str().unwrap_or_else(|| panic!("no {field} in {data}")).to_owned()
}

async fn certificates(client: &Client) -> usize {
    match client.send(&Request::list("istioca/certs")).await {
        Ok(list) => {
            let answer: Value = list.json().expect("JSON");
            answer["data"]["keys"].as_array().expect("a list").len()
        }
        Err(error) if error.is_not_found() => 0,
        Err(error) => panic!("istioca/certs: {error:?}"),
    }
}
