//! What every scenario lies in: a cluster, a namespace of its own in it, a server that signs, and controllers.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use chancery_kubernetes::{ClientOptions, connect};
use chancery_testkit::kubernetes::{ApiServer, RealApiServer};
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::report;
use crate::vault::Vault;

pub(crate) const CHANCERY: &str = env!("CARGO_BIN_EXE_chancery");

/// Who controllers are to the double of the API server; tests are others.
pub(crate) const CONTROLLER: &str = "controller";

/// Who tests are.
pub(crate) const TEST: &str = "test";

/// How long anything may take. Many processes start at the same time here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// An API server.
#[derive(Clone)]
pub(crate) enum Cluster {
    Double(Arc<ApiServer>),
    Real(Arc<RealApiServer>),
}

impl Cluster {
    /// The double, with our own definitions, so that their schemas judge what is written.
    pub(crate) async fn double() -> Self {
        let cluster = Self::Double(Arc::new(ApiServer::start().await));
        cluster.install().await;
        cluster
    }

    /// For this user. A real one knows us as its administrator only.
    pub(crate) fn kubeconfig(&self, user: &str) -> String {
        match self {
            Self::Double(server) => {
                server.user(user, user, &[]);
                server.kubeconfig(user)
            }
            Self::Real(real) => real.kubeconfig(),
        }
    }

    async fn client(&self, kubeconfig: &Path) -> Client {
        std::fs::write(kubeconfig, self.kubeconfig(TEST)).expect("written");
        let options = ClientOptions { kubeconfig: Some(kubeconfig.to_owned()), ..ClientOptions::default() };
        connect(&options).await.expect("a client")
    }

    /// Creates the CustomResourceDefinitions that are delivered, and waits until they are served.
    pub(crate) async fn install(&self) {
        let folder = tempfile::tempdir().expect("a folder");
        let client = self.client(&folder.path().join("kubeconfig")).await;
        let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/helm/chancery-controller/files/crds");
        let mut count = 0;
        for file in std::fs::read_dir(crds).expect("the definitions") {
            let text = std::fs::read_to_string(file.expect("a file").path()).expect("text");
            let definition: Value = serde_saphyr::from_str(&text).expect("YAML");
            let api = api(&client, "CustomResourceDefinition", None);
            let object = serde_json::from_value(definition).expect("an object");
            api.create(&PostParams::default(), &object).await.expect("defined");
            count += 1;
        }
        assert_eq!(count, 4);
        for kind in ["Issuer", "ClusterIssuer", "Certificate", "CertificateRequest"] {
            let api = api(&client, kind, None);
            until(kind, async || api.list(&ListParams::default()).await.ok()).await;
        }
    }
}

/// Where objects of a kind are.
fn api(client: &Client, kind: &str, namespace: Option<&str>) -> Api<DynamicObject> {
    let group = match kind {
        "Secret" | "Event" | "Namespace" => "",
        "CustomResourceDefinition" => "apiextensions.k8s.io/",
        _ => "cert-manager.io/",
    };
    let resource = ApiResource {
        group: group.trim_end_matches('/').into(),
        version: "v1".into(),
        api_version: format!("{group}v1"),
        kind: kind.into(),
        plural: format!("{}s", kind.to_lowercase()),
    };
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

/// Asks until something is there.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "in vain: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// A namespace of a cluster, and what signs for it.
pub(crate) struct Bed {
    pub(crate) vault: Arc<Vault>,
    namespace: String,
    client: Client,
    folder: tempfile::TempDir,
    /// It ends with the bed.
    cluster: Cluster,
}

impl Bed {
    pub(crate) async fn new(cluster: Cluster, namespace: &str) -> Self {
        Self::with(&cluster, namespace, Arc::new(Vault::start().await)).await
    }

    pub(crate) async fn with(cluster: &Cluster, namespace: &str, vault: Arc<Vault>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let client = cluster.client(&folder.path().join("kubeconfig")).await;
        let bed = Self { vault, namespace: namespace.to_owned(), client, folder, cluster: cluster.clone() };
        let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
        let object = serde_json::from_value(object).expect("an object");
        api(&bed.client, "Namespace", None)
            .create(&PostParams::default(), &object)
            .await
            .expect("a namespace");
        bed
    }

    /// A bed in a double of its own.
    pub(crate) async fn in_double(namespace: &str) -> Self {
        Self::new(Cluster::double().await, namespace).await
    }

    pub(crate) fn double(&self) -> &ApiServer {
        let Cluster::Double(double) = &self.cluster else { panic!("this needs the double") };
        double
    }

    fn api(&self, kind: &str) -> Api<DynamicObject> {
        api(&self.client, kind, Some(&self.namespace))
    }

    pub(crate) async fn create(&self, object: Value) {
        let api = self.api(object["kind"].as_str().expect("a kind"));
        let object = serde_json::from_value(object).expect("an object");
        api.create(&PostParams::default(), &object).await.expect("created");
    }

    pub(crate) async fn find(&self, kind: &str, name: &str) -> Option<Value> {
        let found = self.api(kind).get_opt(name).await.expect("an answer")?;
        Some(serde_json::to_value(found).expect("JSON"))
    }

    pub(crate) async fn list(&self, kind: &str) -> Vec<Value> {
        let list = self.api(kind).list(&ListParams::default()).await.expect("a list");
        list.into_iter().map(|object| serde_json::to_value(object).expect("JSON")).collect()
    }

    /// The names of all objects of a kind.
    pub(crate) async fn names(&self, kind: &str) -> Vec<String> {
        let mut names: Vec<String> = self.list(kind).await.iter().map(name).collect();
        names.sort();
        names
    }

    pub(crate) async fn merge(&self, kind: &str, name: &str, patch: Value) {
        self.api(kind).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.expect("patched");
    }

    pub(crate) async fn merge_status(&self, kind: &str, name: &str, status: Value) {
        let patch = Patch::Merge(json!({ "status": status }));
        self.api(kind).patch_status(name, &PatchParams::default(), &patch).await.expect("patched");
    }

    pub(crate) async fn delete(&self, kind: &str, name: &str) {
        self.api(kind).delete(name, &DeleteParams::default()).await.expect("deleted");
    }

    /// The events of an object: reason and message.
    pub(crate) async fn events(&self, kind: &str, name: &str) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let events = self.list("Event").await.into_iter().filter(|event| {
            event["involvedObject"]["kind"] == kind && event["involvedObject"]["name"] == name
        });
        events.map(|event| (text(&event["reason"]), text(&event["message"]))).collect()
    }

    /// Waits until an object is as it is to be.
    pub(crate) async fn until(&self, kind: &str, name: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let found = self.find(kind, name).await;
            if let Some(found) = found.as_ref().filter(|found| holds(found)) {
                return found.clone();
            }
            if begun.elapsed() > PATIENCE {
                let found = serde_json::to_string_pretty(&found).expect("JSON");
                panic!("in vain: {kind} {name} is still {found}\n{}", self.log());
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until an object has a condition with this status and reason. Answers the object.
    pub(crate) async fn until_condition(&self, kind: &str, name: &str, wanted: [&str; 3]) -> Value {
        self.until(kind, name, |object| {
            let found = condition(object, wanted[0]);
            [&found["status"], &found["reason"]] == [wanted[1], wanted[2]]
        })
        .await
    }

    /// Starts a controller for this namespace.
    pub(crate) fn controller(&self, flags: &[&str]) -> Controller {
        self.controller_of(CONTROLLER, flags)
    }

    /// The same, as another user of the API server.
    pub(crate) fn controller_of(&self, user: &str, flags: &[&str]) -> Controller {
        let log = std::fs::File::options().create(true).append(true).open(self.log_path()).expect("a log");
        let process = self
            .chancery(user, &["controller"])
            .args(["-leader-elect=false", "-webhook=false"])
            .args(["-metrics-address=127.0.0.1:0", "-health-address=127.0.0.1:0"])
            .args(flags)
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("the controller starts");
        Controller { process }
    }

    /// A command about an object of this namespace, that ends by itself.
    pub(crate) async fn run(&self, command: &[&str], name: &str) -> Output {
        self.chancery("kubectl", command).arg(name).output().await.expect("it runs")
    }

    fn chancery(&self, user: &str, command: &[&str]) -> Command {
        let mut chancery = Command::new(CHANCERY);
        let kubeconfig = self.folder.path().join(format!("kubeconfig-{user}"));
        std::fs::write(&kubeconfig, self.cluster.kubeconfig(user)).expect("written");
        chancery.env_clear().env("HOME", self.folder.path()).stdin(Stdio::null());
        chancery.args(command).arg(format!("-kubeconfig={}", kubeconfig.display()));
        chancery.arg(format!("-namespace={}", self.namespace));
        chancery
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("controller.log")
    }

    /// What all controllers of this namespace have said.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The Secret and the Issuer of the walkthrough.
    pub(crate) async fn ready_issuer(&self) {
        self.create_secret_id(&self.vault.secret_id().await).await;
        self.create_issuer().await;
        self.until_condition("Issuer", "vault-issuer", ["Ready", "True", "VaultVerified"]).await;
    }

    pub(crate) async fn create_secret_id(&self, secret_id: &str) {
        self.create(json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": { "name": "cert-manager-vault-approle" },
            "data": { "secretId": data_encoding::BASE64.encode(secret_id.as_bytes()) },
        }))
        .await;
    }

    pub(crate) async fn create_issuer(&self) {
        self.create_issuer_of("vault-issuer", "cluster-local").await;
    }

    /// The same with a role that takes keys of every kind: those of elliptic curves are quickly made.
    pub(crate) async fn ready_quick_issuer(&self) {
        self.create_secret_id(&self.vault.secret_id().await).await;
        self.create_issuer_of("quick-issuer", "any-key").await;
        self.until_condition("Issuer", "quick-issuer", ["Ready", "True", "VaultVerified"]).await;
    }

    async fn create_issuer_of(&self, name: &str, role: &str) {
        self.create(json!({
            "apiVersion": "cert-manager.io/v1", "kind": "Issuer", "metadata": { "name": name },
            "spec": { "vault": {
                "path": format!("istioca/sign/{role}"), "server": self.vault.url,
                "auth": { "appRole": {
                    "path": "approle", "roleId": self.vault.role_id,
                    "secretRef": { "name": "cert-manager-vault-approle", "key": "secretId" },
                }},
            }},
        }))
        .await;
    }

    /// An authority in a Secret that nobody looks after, and `ca-issuer`, which signs with it.
    pub(crate) async fn ready_ca_issuer(&self) {
        self.create(json!({
            "apiVersion": "cert-manager.io/v1", "kind": "Issuer", "metadata": { "name": "self" },
            "spec": { "selfSigned": {} },
        }))
        .await;
        let mut authority = certificate("authority", "self");
        authority["spec"]["isCA"] = true.into();
        authority["spec"]["commonName"] = "authority".into();
        self.create(authority).await;
        self.until("Certificate", "authority", is_settled).await;
        let data = self.find("Secret", "authority-tls").await.expect("the Secret")["data"].clone();
        self.delete("Certificate", "authority").await;
        self.delete("Secret", "authority-tls").await;
        self.create(json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": { "name": "ca" }, "data": data,
        }))
        .await;
        self.create(json!({
            "apiVersion": "cert-manager.io/v1", "kind": "Issuer", "metadata": { "name": "ca-issuer" },
            "spec": { "ca": { "secretName": "ca" } },
        }))
        .await;
        self.until_condition("Issuer", "ca-issuer", ["Ready", "True", "KeyPairVerified"]).await;
    }

    /// Waits until so many Certificates are all there are, and nothing is left to be done for any. For the double only.
    pub(crate) async fn all_settled(&self, count: usize) {
        let begun = Instant::now();
        loop {
            let found = self.double().tally("certificates", is_settled);
            // A key goes only after that is told.
            let (_, keys) = self.double().tally("secrets", |secret| {
                secret["metadata"]["labels"]["cert-manager.io/next-private-key"] == "true"
            });
            if found == (count, count) && keys == 0 {
                return;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "in vain: {found:?} of {count} are settled, {keys} keys wait\n{}",
                self.log()
            );
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// The Certificate that istiod serves with.
    pub(crate) async fn create_istiod(&self) {
        self.create(json!({
            "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": { "name": "istiod" },
            "spec": {
                "commonName": "istiod.istio-system.svc",
                "dnsNames": ["istiod.istio-system.svc"],
                "uris": ["spiffe://cluster.local/ns/istio-system/sa/istiod-service-account"],
                "secretName": "istiod-tls",
                "duration": "1h", "renewBefore": "30m", "revisionHistoryLimit": 1,
                "privateKey": { "rotationPolicy": "Always", "algorithm": "RSA", "size": 2048 },
                "issuerRef": { "name": "vault-issuer", "kind": "Issuer", "group": "cert-manager.io" },
            },
        }))
        .await;
    }

    /// Waits until `istiod` is issued, and nothing is left to be done for this revision. Answers it.
    pub(crate) async fn issued(&self, revision: u64) -> Value {
        self.until("Certificate", "istiod", |certificate| {
            condition(certificate, "Ready")["status"] == "True"
                && condition(certificate, "Issuing").is_null()
                && certificate["status"]["revision"] == revision
                && certificate["status"]["nextPrivateKeySecretName"].is_null()
        })
        .await
    }
}

impl Drop for Bed {
    /// A test that fails says what it leaves behind: some failures come once in many runs.
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Cluster::Double(double) = &self.cluster
        {
            let (report, said) = (report::of(double), self.log());
            eprintln!("{report}\nthe controllers said:\n{said}\nthe server said:\n{}", self.vault.log());
        }
    }
}

/// A running controller. Dropped, it is killed.
pub(crate) struct Controller {
    process: Child,
}

impl Controller {
    /// SIGKILL: it has no chance to finish anything.
    pub(crate) async fn kill(mut self) {
        assert!(self.process.try_wait().expect("a child").is_none(), "the controller ended by itself");
        self.process.kill().await.expect("killed");
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        let process = self.process.id().expect("it runs").to_string();
        let mut kill = std::process::Command::new("kill");
        assert!(kill.arg(format!("-{name}")).arg(process).status().expect("kill").success());
    }

    /// SIGTERM, and the wait for its end.
    pub(crate) async fn stop(mut self) {
        self.signal("TERM");
        let ended = timeout(PATIENCE, self.process.wait()).await.expect("it ends in time");
        assert!(ended.expect("a child").success(), "the controller did not end in order");
    }
}

/// A Certificate with a key that is quickly made.
pub(crate) fn certificate(name: &str, issuer: &str) -> Value {
    json!({
        "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": { "name": name },
        "spec": {
            "dnsNames": [format!("{name}.mesh.svc")], "secretName": format!("{name}-tls"),
            "duration": "1h", "renewBefore": "30m",
            "privateKey": { "rotationPolicy": "Always", "algorithm": "ECDSA", "size": 256 },
            "issuerRef": { "name": issuer, "kind": "Issuer", "group": "cert-manager.io" },
        },
    })
}

/// Whether a Certificate is issued, no try at it has failed, and nothing is left to be done.
pub(crate) fn is_settled(certificate: &Value) -> bool {
    let status = &certificate["status"];
    condition(certificate, "Ready")["status"] == "True"
        && condition(certificate, "Ready")["observedGeneration"] == certificate["metadata"]["generation"]
        && condition(certificate, "Issuing").is_null()
        && ["nextPrivateKeySecretName", "failedIssuanceAttempts", "lastFailureTime"]
            .iter()
            .all(|field| status[field].is_null())
}

/// A condition, or null.
pub(crate) fn condition(object: &Value, kind: &str) -> Value {
    let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.find(|condition| condition["type"] == kind).cloned().unwrap_or_default()
}

pub(crate) fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// A value of a Secret, or of a field that holds bytes.
pub(crate) fn decoded(value: &Value) -> String {
    let text = value.as_str().unwrap_or_else(|| panic!("{value} is no text"));
    String::from_utf8(data_encoding::BASE64.decode(text.as_bytes()).expect("base64")).expect("UTF-8")
}
