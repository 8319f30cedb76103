//! The order of the pipeline, from outside: who is let in, what is recorded, what is told to whom.

mod common;

use chancery_secrets::Operation;
use chancery_secrets::error::Kind;
use common::Server;
use serde_json::{Value, json};

const DENIED: &str = "permission denied";
const DENIED_BY_POLICY: &str = "1 error occurred:\n\t* permission denied\n\n";

#[tokio::test]
async fn a_sealed_server_answers_only_what_needs_no_barrier() {
    let server = Server::start().await;
    server.core.seal().await;
    let (kind, message) = server.refusal(Operation::Read, "sys/mounts", "root", Value::Null).await;
    assert_eq!((kind, message.as_str()), (Kind::Sealed, "Vault is sealed"));
    let status = server.json(server.ask(Operation::Read, "sys/seal-status", "", Value::Null).await);
    assert_eq!(status["sealed"], true);
    server.unseal().await;
    assert!(server.read("sys/mounts").await["data"]["sys/"].is_object());
}

#[tokio::test]
async fn paths_and_verbs_that_do_not_exist_say_so_only_to_those_who_may_ask() {
    let server = Server::start().await;
    for (operation, path, token, kind, message) in [
        (Operation::Read, "nowhere/x", "", Kind::PermissionDenied, DENIED),
        (Operation::Read, "nowhere/x", "forged", Kind::PermissionDenied, DENIED),
        (
            Operation::Read,
            "nowhere/x",
            "root",
            Kind::NotFound,
            "no handler for route \"nowhere/x\". route entry not found.",
        ),
        (
            Operation::Read,
            "sys/nowhere",
            "root",
            Kind::NotFound,
            "1 error occurred:\n\t* unsupported path\n\n",
        ),
        (
            Operation::Delete,
            "sys/health",
            "root",
            Kind::UnsupportedOperation,
            "1 error occurred:\n\t* unsupported operation\n\n",
        ),
    ] {
        let refusal = server.refusal(operation, path, token, Value::Null).await;
        assert_eq!(refusal, (kind, message.to_owned()), "{operation} {path} {token:?}");
    }
}

#[tokio::test]
async fn a_policy_lets_its_token_in_and_nobody_else() {
    let server = Server::start().await;
    server
        .write(
            "sys/policies/acl/mounts",
            json!({"policy": "path \"sys/mounts\" { capabilities = [\"read\"] }"}),
        )
        .await;
    let made = server.write("auth/token/create", json!({"policies": ["mounts"]})).await;
    let token = made["auth"]["client_token"].as_str().unwrap();
    assert!(server.ask(Operation::Read, "sys/mounts", token, Value::Null).await.is_ok());
    let refused = server.refusal(Operation::Read, "sys/auth", token, Value::Null).await;
    assert_eq!(refused, (Kind::PermissionDenied, DENIED_BY_POLICY.to_owned()));
    let refused = server.refusal(Operation::Read, "nowhere", token, Value::Null).await;
    assert_eq!(refused, (Kind::PermissionDenied, DENIED_BY_POLICY.to_owned()));
}

#[tokio::test]
async fn a_use_is_spent_even_when_the_policy_refuses() {
    let server = Server::start().await;
    let made = server.write("auth/token/create", json!({"policies": ["default"], "num_uses": 2})).await;
    let token = made["auth"]["client_token"].as_str().unwrap();
    for message in [DENIED_BY_POLICY, DENIED_BY_POLICY, DENIED] {
        let refused = server.refusal(Operation::Read, "sys/mounts", token, Value::Null).await;
        assert_eq!(refused, (Kind::PermissionDenied, message.to_owned()));
    }
}

#[tokio::test]
async fn mounts_survive_sealing_and_go_with_all_they_stored() {
    let server = Server::start().await;
    server.write("sys/auth/approle", json!({"type": "approle"})).await;
    server.write("auth/approle/role/web", json!({"token_policies": "web"})).await;
    let before = server.memory.dump().len();
    server.core.seal().await;
    server.unseal().await;
    assert_eq!(server.list("auth/approle/role").await["data"]["keys"], json!(["web"]));
    let answer = server.ask(Operation::Delete, "sys/auth/approle", "root", Value::Null).await.unwrap();
    assert!(!answer.has_body());
    assert!(server.memory.dump().len() < before);
    let refusal = server.refusal(Operation::Read, "auth/approle/role/web", "root", Value::Null).await;
    assert_eq!(refusal.0, Kind::NotFound);
}

#[tokio::test]
async fn an_audit_device_records_each_request_twice_without_its_secrets() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.log");
    server.write("sys/audit/file", json!({"type": "file", "options": {"file_path": file.to_str()}})).await;
    server.write("auth/token/create", json!({"policies": ["default"], "explicit_max_ttl": "7777s"})).await;
    let refused = server.refusal(Operation::Read, "sys/mounts", "forged-token", Value::Null).await;
    assert_eq!(refused.0, Kind::PermissionDenied);

    let text = std::fs::read_to_string(&file).unwrap();
    let records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let shapes: Vec<(&str, &str)> = records
        .iter()
        .map(|record| (record["type"].as_str().unwrap(), record["request"]["path"].as_str().unwrap()))
        .collect();
    assert_eq!(
        shapes,
        [
            // The device's proof that it works.
            ("request", "sys/audit/test"),
            ("request", "auth/token/create"),
            ("response", "auth/token/create"),
            ("request", "sys/mounts"),
            ("response", "sys/mounts"),
        ]
    );
    for secret in ["7777s", "forged-token", "\"s."] {
        assert!(!text.contains(secret), "{secret} is in the record");
    }
    assert_eq!(records[3]["error"], "permission denied");
}

#[tokio::test]
async fn a_device_that_cannot_be_written_to_is_refused() {
    let server = Server::start().await;
    for path in ["/nonexistent/audit.log", "/dev/full"] {
        let body = json!({"type": "file", "options": {"file_path": path}});
        let refusal = server.refusal(Operation::Update, "sys/audit/broken", "root", body).await;
        assert_eq!(refusal.0, Kind::InvalidRequest, "{path}");
    }
    assert_eq!(server.read("sys/audit").await["data"], json!({}));
}

#[tokio::test]
async fn no_reply_without_its_record() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.log");
    server.write("sys/audit/file", json!({"type": "file", "options": {"file_path": file.to_str()}})).await;
    drop(folder);
    server.core.reopen_audit();
    let refusal = server.refusal(Operation::Read, "sys/mounts", "root", Value::Null).await;
    assert_eq!(refusal.0, Kind::Internal);
    // A refusal stays the refusal it was.
    let refusal = server.refusal(Operation::Read, "sys/mounts", "forged", Value::Null).await;
    assert_eq!(refusal.0, Kind::PermissionDenied);
}

#[tokio::test]
async fn revoking_by_an_empty_prefix_is_refused() {
    let server = Server::start().await;
    for (path, kind) in [
        ("sys/leases/revoke-prefix", Kind::NotFound),
        ("sys/leases/revoke-prefix/", Kind::InvalidRequest),
        ("sys/leases/revoke-force/", Kind::InvalidRequest),
    ] {
        let refusal = server.refusal(Operation::Update, path, "root", Value::Null).await;
        assert_eq!(refusal.0, kind, "{path}");
    }
    assert!(server.ask(Operation::Read, "sys/mounts", "root", Value::Null).await.is_ok());
}
