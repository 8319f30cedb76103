//! Somebody else's client against the double: if kubectl is content with it, ours may believe it.

use std::process::Output;

use chancery_testkit::kubernetes::ApiServer;
use serde_json::{Value, json};
use tokio::process::Command;

async fn kubectl(server: &ApiServer, home: &str, arguments: &[&str]) -> Option<Output> {
    let mut command = Command::new("kubectl");
    command.arg(format!("--server={}", server.url())).args(arguments);
    command.env("HOME", home).env_remove("KUBECONFIG").kill_on_drop(true);
    command.output().await.ok()
}

#[tokio::test]
async fn kubectl_creates_reads_changes_and_deletes() {
    let server = ApiServer::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let home = folder.path().display().to_string();
    if kubectl(&server, &home, &["version"]).await.is_none() {
        eprintln!("SKIPPED: there is no kubectl");
        return;
    }
    let run = async |arguments: &[&str]| {
        let output = kubectl(&server, &home, arguments).await.expect("kubectl runs");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), out.into_owned() + &err)
    };
    let good = async |arguments: &[&str]| {
        let (is_good, text) = run(arguments).await;
        assert!(is_good, "{arguments:?}: {text}");
        text
    };
    // From files: what kubectl makes up itself it sends as protobuf, which the double does not speak.
    let write = |name: &str, object: Value| {
        let path = folder.path().join(name);
        std::fs::write(&path, object.to_string()).expect("written");
        path.display().to_string()
    };
    let map =
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "m" }, "data": { "k": "v" } });
    let map = write("map.json", map);
    let create = |file| ["create", "--validate=false", "-f", file];
    let text = good(&create(&map)).await;
    assert_eq!(text, "configmap/m created\n");
    let (is_good, text) = run(&create(&map)).await;
    assert!(
        !is_good && text.contains("(AlreadyExists)") && text.contains("configmaps \"m\" already exists"),
        "{text}"
    );
    good(&["patch", "configmap", "m", "--type=merge", "-p", "{\"data\":{\"k\":\"w\"}}"]).await;
    good(&["label", "configmap", "m", "a=b"]).await;
    let found = good(&["get", "configmaps", "-l", "a=b", "-A", "-o", "jsonpath={.items[*].data.k}"]).await;
    assert_eq!(found, "w");

    let request = json!({
        "apiVersion": "cert-manager.io/v1", "kind": "CertificateRequest",
        "metadata": { "generateName": "r-", "namespace": "istio-system" },
        "spec": { "request": "", "issuerRef": { "name": "istio-ca" } },
    });
    let text = good(&create(&write("request.json", request))).await;
    assert!(text.starts_with("certificaterequest.cert-manager.io/r-"), "{text}");
    good(&["delete", "certificaterequests", "--all", "-n", "istio-system"]).await;
    assert!(server.list("certificaterequests", None).is_empty());
    good(&["delete", "configmap", "m"]).await;
    let (is_good, text) = run(&["get", "configmap", "m"]).await;
    assert!(!is_good && text.contains("(NotFound): configmaps \"m\" not found"), "{text}");
    server.deny("list", "secrets");
    let (is_good, text) = run(&["get", "secrets"]).await;
    assert!(!is_good && text.contains("(Forbidden): secrets is forbidden"), "{text}");
}
