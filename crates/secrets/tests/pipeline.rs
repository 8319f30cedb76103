//! The order of the pipeline, from outside: who is let in, what is recorded, what is told to whom.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail with it")]

mod common;

use std::sync::Arc;

use chancery_secrets::error::Kind;
use chancery_secrets::{Operation, Request};
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

#[tokio::test]
async fn unknown_parameters_are_warned_of_where_an_answer_has_room_for_it() {
    let server = Server::start().await;
    let policy = r#"path "a" { capabilities = ["read"] }"#;
    let body = json!({"policy": policy, "nonsense": 1});
    assert_eq!(server.write("sys/policies/acl/a", body).await, Value::Null, "204 stays 204");
    let warned = server.write("sys/capabilities-self", json!({"path": "a", "y": 1, "x": 2})).await;
    assert_eq!(
        warned["warnings"],
        json!(["Endpoint ignored these unrecognized parameters: [x y]"]),
        "beside the answer"
    );
    let mut read = Request::new(Operation::Read, "sys/policies/acl/a").token("root");
    read.query = vec![("nonsense".to_owned(), "1".to_owned())];
    let read = server.json(server.core.handle(read).await);
    assert_eq!(read["warnings"], json!(["Endpoint ignored these unrecognized parameters: [nonsense]"]));
    let tidy = server.write("auth/token/tidy", json!({"nonsense": 1})).await;
    assert_eq!(tidy["warnings"].as_array().map_or(0, Vec::len), 1, "an answer with a status of its own");
}

#[tokio::test]
async fn a_slash_at_the_end_is_for_what_has_names_below() {
    let server = Server::start().await;
    let listed = server.ask(Operation::List, "auth/token/accessors/", "root", Value::Null).await;
    assert!(listed.is_ok());
    for (operation, path) in
        [(Operation::Read, "sys/key-status/"), (Operation::List, "auth/token/lookup-self/")]
    {
        let refusal = server.refusal(operation, path, "root", Value::Null).await;
        assert_eq!(refusal.0, Kind::NotFound, "{path}");
    }
}

/// The records of the last request in an audit file.
fn last_request(file: &std::path::Path) -> [Value; 2] {
    let text = std::fs::read_to_string(file).unwrap();
    let mut records = text.lines().rev().map(|line| serde_json::from_str(line).unwrap());
    let response = records.next().unwrap();
    [records.next().unwrap(), response]
}

#[tokio::test]
async fn request_headers_are_recorded_if_the_operator_says_so() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.log");
    server.write("sys/audit/file", json!({"type": "file", "options": {"file_path": file.to_str()}})).await;
    let at = |name: &str| format!("sys/config/auditing/request-headers/{name}");
    server.write(&at("X-Trace"), json!({})).await;
    server.write(&at("x-customer"), json!({"hmac": true})).await;
    server.write(&at("X-Absent"), json!({})).await;
    server.write(&at("X-Vault-Token"), json!({"hmac": false})).await;

    let mut request = Request::new(Operation::Read, "sys/mounts").token("root");
    request.headers = [
        ("x-trace", "a"),
        ("x-trace", "b"),
        ("x-customer", "c"),
        ("x-vault-token", "root"),
        ("x-other", "d"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    server.core.handle(request.clone()).await.unwrap();
    let records = last_request(&file);
    let hash = async |text: &str| {
        server.write("sys/audit-hash/file", json!({"input": text})).await["data"]["hash"].clone()
    };
    let headers = json!({
        "x-trace": ["a", "b"], "x-customer": [hash("c").await], "x-vault-token": [hash("root").await],
    });
    for record in &records {
        assert_eq!(record["request"]["headers"], headers, "{}", record["type"]);
    }

    server.core.handle(Request { token: Some("forged".into()), ..request }).await.unwrap_err();
    assert_eq!(last_request(&file)[0]["request"]["headers"], headers, "of refused requests too");
    server.ask(Operation::Delete, &at("X-TRACE"), "root", Value::Null).await.unwrap();
    server.read("sys/mounts").await;
    assert_eq!(last_request(&file)[0]["request"]["headers"], Value::Null);
}

#[tokio::test]
async fn audited_headers_are_known_in_any_case_and_after_a_restart() {
    let server = Server::start().await;
    let all = "sys/config/auditing/request-headers";
    assert_eq!(server.read(all).await["data"], json!({"headers": {}}));
    server.write(&format!("{all}/X-Trace"), json!({"hmac": "true"})).await;
    server.write(&format!("{all}/x-other"), Value::Null).await;
    server.core.seal().await;
    server.unseal().await;
    let shown = server.read(all).await;
    let headers = json!({"x-other": {"hmac": false}, "x-trace": {"hmac": true}});
    assert_eq!((&shown["headers"], &shown["data"]["headers"]), (&headers, &headers));
    let one = server.read(&format!("{all}/X-TRACE")).await;
    assert_eq!(
        (&one["X-TRACE"], &one["data"]),
        (&json!({"hmac": true}), &json!({"X-TRACE": {"hmac": true}}))
    );

    server.write(&format!("{all}/X-Trace"), json!({})).await;
    assert_eq!(
        server.read(&format!("{all}/x-trace")).await["x-trace"]["hmac"],
        false,
        "what is absent is false"
    );
    for (operation, path, refused) in [
        (Operation::Read, "absent", Some("Could not find header in config")),
        (Operation::Update, "with space", Some("\"with space\" is no name of a header")),
        (Operation::Delete, "absent", None),
        (Operation::Delete, "with space", None),
        (Operation::Delete, "x-trace", None),
    ] {
        let outcome = server.ask(operation, &format!("{all}/{path}"), "root", Value::Null).await;
        assert_eq!(outcome.err().map(|error| error.message()).as_deref(), refused, "{operation} {path}");
    }
    assert_eq!(server.read(all).await["headers"], json!({"x-other": {"hmac": false}}));
    let policy = r#"path "sys/config/*" { capabilities = ["create", "read", "update"] }"#;
    server.write("sys/policies/acl/config", json!({"policy": policy})).await;
    let made = server.write("auth/token/create", json!({"policies": ["config"]})).await;
    let token = made["auth"]["client_token"].as_str().unwrap();
    let refusal = server.refusal(Operation::Read, all, token, Value::Null).await;
    assert_eq!(refusal.0, Kind::PermissionDenied, "without sudo");
}

#[tokio::test]
async fn of_many_writers_who_name_the_same_version_of_a_policy_one_writes() {
    let server = Server::start().await;
    let write = |body: Value| {
        let core = Arc::clone(&server.core);
        let request = Request::new(Operation::Update, "sys/policies/acl/p").token("root").json(&body);
        tokio::spawn(async move { core.handle(request).await })
    };
    let policy = r#"path "a" { capabilities = ["read"] }"#;
    let writers: Vec<_> = (0..20).map(|_| write(json!({"policy": policy, "cas": 0}))).collect();
    let mut written = 0;
    for writer in writers {
        match writer.await.unwrap() {
            Ok(_) => written += 1,
            Err(error) => {
                assert_eq!(error.message(), "check-and-set parameter 0 did not match the current version 1");
            }
        }
    }
    assert_eq!(written, 1);

    let writers: Vec<_> = (0..20).map(|_| write(json!({ "policy": policy }))).collect();
    for writer in writers {
        writer.await.unwrap().unwrap();
    }
    let version = server.read("sys/policies/acl/p").await["data"]["version"].clone();
    assert_eq!(version, 21, "who names none writes after the others, not over them");
}
