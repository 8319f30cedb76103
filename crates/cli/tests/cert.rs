//! `chancery cert` against a double of the Kubernetes API server.
#![allow(clippy::expect_used, clippy::indexing_slicing, reason = "helpers of tests fail as tests do")]

use std::process::Stdio;

use chancery_testkit::kubernetes::ApiServer;
use serde_json::{Value, json};
use tokio::process::Command;

struct Bed {
    server: ApiServer,
    folder: tempfile::TempDir,
}

impl Bed {
    /// A cluster, and a kubeconfig whose context is of the namespace `sandbox`.
    async fn new() -> Self {
        let server = ApiServer::start().await;
        server.namespace("sandbox", &[]);
        let folder = tempfile::tempdir().expect("a folder");
        let config = json!({ "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": { "server": server.url() } }],
            "users": [{ "name": "u", "user": {} }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u", "namespace": "sandbox" } }] });
        std::fs::write(folder.path().join("config"), config.to_string()).expect("written");
        Self { server, folder }
    }

    /// Exit code, standard output and standard error of a command.
    async fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
        command.arg("cert").args(arguments).env_clear().stdin(Stdio::null()).kill_on_drop(true);
        command.env("KUBECONFIG", self.folder.path().join("config"));
        let output = command.output().await.expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }

    fn certificate(&self, namespace: &str, name: &str, app: &str) {
        self.server.put(
            "certificates",
            namespace,
            json!({ "apiVersion": "cert-manager.io/v1", "kind": "Certificate",
                "metadata": { "name": name, "labels": { "app": app } },
                "spec": { "secretName": name, "issuerRef": { "name": "i" }, "dnsNames": ["a.example.com"] } }),
        );
    }

    fn condition(&self, plural: &str, name: &str, kind: &str) -> Option<Value> {
        let found = self.server.get(plural, "sandbox", name)?;
        found["status"]["conditions"].as_array()?.iter().find(|one| one["type"] == kind).cloned()
    }
}

#[tokio::test]
async fn certificates_are_renewed_by_name_by_label_and_all() {
    let bed = Bed::new().await;
    bed.certificate("sandbox", "a", "x");
    bed.certificate("sandbox", "b", "y");
    bed.certificate("default", "c", "x");
    let (code, out, _) = bed.run(&["renew", "a"]).await;
    assert_eq!((code, out.as_str()), (0, "Manually triggered issuance of Certificate sandbox/a\n"));
    assert_eq!(
        bed.condition("certificates", "a", "Issuing").expect("a condition")["reason"],
        "ManuallyTriggered"
    );
    let (code, out, _) = bed.run(&["renew", "-l", "app=x", "-A"]).await;
    assert_eq!(code, 0);
    assert!(out.contains("Issuance of Certificate sandbox/a is under way already\n"), "{out}");
    assert!(out.contains("Manually triggered issuance of Certificate default/c\n"), "{out}");
    let (code, out, _) = bed.run(&["renew", "--all", "-n", "sandbox"]).await;
    assert_eq!((code, out.lines().count()), (0, 2));
    let (code, out, err) = bed.run(&["renew", "b", "nobody"]).await;
    assert_eq!((code, out.as_str()), (2, "Issuance of Certificate sandbox/b is under way already\n"));
    assert!(err.starts_with("Certificate sandbox/nobody: "), "{err}");
    let (code, _, err) = bed.run(&["renew", "-l", "app=z"]).await;
    assert_eq!((code, err.as_str()), (0, "No Certificates found\n"));
    for (arguments, complaint) in [
        (&["renew"][..], "Give names of Certificates, -l SELECTOR or -all\n"),
        (&["renew", "-all", "a"], "Give one of names, -l SELECTOR and -all\n"),
        (&["renew", "-A", "a"], "A name is of one namespace: give -n instead of -A\n"),
    ] {
        let (code, _, err) = bed.run(arguments).await;
        assert_eq!((code, err.as_str()), (1, complaint), "{arguments:?}");
    }
}

#[tokio::test]
async fn requests_are_approved_and_denied() {
    let bed = Bed::new().await;
    for name in ["r", "s"] {
        bed.server.put(
            "certificaterequests",
            "sandbox",
            json!({ "apiVersion": "cert-manager.io/v1", "kind": "CertificateRequest", "metadata": { "name": name },
                "spec": { "issuerRef": { "name": "i" }, "request": "eA==" } }),
        );
    }
    for _ in 0..2 {
        let (code, out, err) = bed.run(&["approve", "r"]).await;
        assert_eq!((code, out.as_str()), (0, "Approved CertificateRequest 'sandbox/r'\n"), "{err}");
    }
    let approved = bed.condition("certificaterequests", "r", "Approved").expect("a condition");
    assert_eq!(approved["reason"], "KubectlCertManager");
    let (code, _, err) = bed.run(&["deny", "r"]).await;
    assert_eq!(code, 2);
    assert!(err.contains("is approved already, and that stands"), "{err}");
    let (code, out, _) = bed.run(&["deny", "s", "--reason", "Policy", "--message", "no"]).await;
    assert_eq!((code, out.as_str()), (0, "Denied CertificateRequest 'sandbox/s'\n"));
    let denied = bed.condition("certificaterequests", "s", "Denied").expect("a condition");
    assert_eq!((&denied["reason"], &denied["message"]), (&json!("Policy"), &json!("no")));
    let (code, out, _) = bed.run(&["status", "certificaterequest", "s"]).await;
    assert_eq!(code, 2);
    assert!(out.contains("  Denied: True, Reason: Policy, Message: no\n"), "{out}");
}

#[tokio::test]
async fn status_and_check_say_what_is_not_so() {
    let bed = Bed::new().await;
    bed.certificate("sandbox", "a", "x");
    let (code, out, _) = bed.run(&["status", "certificate", "a"]).await;
    assert_eq!(code, 2);
    assert!(out.ends_with("No CertificateRequest found for this Certificate\n"), "{out}");
    let (code, _, err) = bed.run(&["status", "certificate", "nobody"]).await;
    assert_eq!(code, 2);
    assert!(err.starts_with("Certificate sandbox/nobody: "), "{err}");
    let (code, out, err) = bed.run(&["check", "api", "-wait=300ms", "-interval=100ms"]).await;
    let line = "Not ready: the cert-manager webhook did not fill in who makes a request: is its mutating configuration \
                installed?\n";
    assert_eq!((code, out.as_str(), err), (2, "", line.repeat(2)), "told once while waiting, and at the end");
    let (code, _, err) = bed.run(&["inspect", "secret", "a"]).await;
    assert_eq!(code, 2, "{err}");
    let (code, _, err) = bed.run(&["status", "certificate", "a", "-context", "other"]).await;
    assert_eq!(code, 1, "{err}");
}
