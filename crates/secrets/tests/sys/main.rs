//! The server's own paths, from outside: initialisation and keys, mounts, policies, capabilities, tools.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "the helpers of a test fail with it")]

mod callers;
#[path = "../common/mod.rs"]
mod common;
mod leases;
mod mounts;
mod sealing;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use chancery_secrets::error::Kind;
use chancery_secrets::{Answer, Error, Operation};
use chancery_storage::Memory;
use chancery_storage::memory::Fault;
use common::{Server, Slow};
use data_encoding::{BASE64, BASE64_NOPAD, HEXLOWER};
use serde_json::{Value, json};

/// A server that was initialised through the API, with its key shares in hex and its root token; sealed.
async fn initialized(shares: u8, threshold: u8) -> (Server, Vec<String>, String) {
    let server = Server::over(Arc::new(Memory::new())).await;
    let body = json!({ "secret_shares": shares, "secret_threshold": threshold });
    let made = server.json(server.ask(Operation::Update, "sys/init", "", body).await);
    let keys = serde_json::from_value(made["keys"].clone()).unwrap();
    (server, keys, made["root_token"].as_str().unwrap().to_owned())
}

async fn unseal(server: &Server, key: &str) -> Result<Value, (Kind, String)> {
    match server.ask(Operation::Update, "sys/unseal", "", json!({ "key": key })).await {
        Ok(answer) => Ok(server.json(Ok(answer))),
        Err(error) => Err((error.kind, error.message())),
    }
}

/// A token with these rules.
async fn token(server: &Server, rules: &str) -> String {
    server.write("sys/policies/acl/test", json!({ "policy": rules })).await;
    let made = server.write("auth/token/create", json!({ "policies": ["test"] })).await;
    made["auth"]["client_token"].as_str().unwrap().to_owned()
}

/// Another process over the same records; sealed.
fn slow(server: &Server) -> (Server, Arc<Slow>) {
    let memory = server.memory.reopened();
    let store = Arc::new(Slow::over(memory.clone()));
    let server =
        Server { shares: server.shares.clone(), ..Server::with_store(store.clone(), Arc::new(memory), None) };
    (server, store)
}

/// A mount with an authority and a role whose certificates have leases.
async fn mount_with_leases(server: &Server) {
    server.write("sys/mounts/pki", json!({ "type": "pki" })).await;
    server.write("pki/root/generate/internal", json!({ "common_name": "root", "key_type": "ec" })).await;
    let role = json!({ "allow_any_name": true, "key_type": "ec", "generate_lease": true, "ttl": "1h" });
    server.write("pki/roles/web", role).await;
}

/// A certificate with a lease; its lease id.
async fn leased(server: &Server) -> String {
    let issued = server.write("pki/issue/web", json!({ "common_name": "a.example" })).await;
    issued["lease_id"].as_str().unwrap().to_owned()
}

fn status(answer: &Result<Answer, Error>) -> Option<u16> {
    answer.as_ref().unwrap().response.status
}

fn invalid(text: &str) -> (Kind, String) {
    (Kind::InvalidRequest, text.to_owned())
}

#[tokio::test]
async fn a_policy_is_changed_in_part_and_guarded_by_its_version() {
    let server = Server::start().await;
    let rules = |path: &str| format!("path \"{path}\" {{ capabilities = [\"read\"] }}");
    let patch = |body: Value| server.ask(Operation::Patch, "sys/policies/acl/p", "root", body);
    let refused = |answer: Result<Answer, Error>| answer.map(|_| ()).unwrap_err().message();
    assert_eq!(refused(patch(json!({ "ttl": "1h" })).await), "policy not found");
    server.write("sys/policies/acl/p", json!({ "policy": rules("a") })).await;

    patch(json!({ "ttl": "1h" })).await.unwrap();
    let read = server.read("sys/policies/acl/p").await;
    assert_eq!((&read["data"]["policy"], &read["data"]["version"]), (&json!(rules("a")), &json!(2)));
    assert_eq!(read["data"]["expiration"], "2026-06-01T13:00:00Z");
    patch(json!({ "policy": rules("b"), "cas": 2 })).await.unwrap();
    assert_eq!(server.read("sys/policies/acl/p").await["data"]["expiration"], "2026-06-01T13:00:00Z");

    for (body, words) in [
        (json!({ "cas": 1 }), "check-and-set parameter 1 did not match the current version 3"),
        (json!({ "cas_required": true }), "check-and-set parameter required for this call"),
        (json!({ "policy": "" }), "'policy' parameter not supplied or empty"),
        (
            json!({ "expiration": "2026-06-01T12:00:00Z" }),
            "refusing to update policy as expiration time has already elapsed",
        ),
    ] {
        assert_eq!(refused(patch(body).await), words);
    }
    patch(json!({ "cas_required": true, "cas": 3 })).await.unwrap();
    assert_eq!(refused(patch(json!({})).await), "check-and-set parameter required for this call");
    // A whole write forgets the end that was set before.
    server.write("sys/policies/acl/p", json!({ "policy": rules("c"), "cas": 4 })).await;
    assert_eq!(server.read("sys/policies/acl/p").await["data"]["expiration"], Value::Null);
    let detailed = server.list("sys/policies/detailed/acl").await;
    assert_eq!(detailed["data"]["key_info"]["p"]["policy"], rules("c"));
}

#[tokio::test]
async fn the_older_path_of_policies_takes_their_older_name_and_says_so() {
    let server = Server::start().await;
    let rules = json!({ "rules": "path \"a\" { capabilities = [\"read\"] }" });
    let written = server.write("sys/policy/p", rules.clone()).await;
    assert_eq!(written["warnings"], json!(["'rules' is deprecated, please use 'policy' instead"]));
    let refusal = server.refusal(Operation::Update, "sys/policies/acl/p", "root", rules).await;
    assert_eq!(refusal, invalid("'policy' parameter not supplied or empty"));
}

#[tokio::test]
async fn what_the_server_says_of_itself_is_what_clients_look_for() {
    let server = Server::start().await;
    let catalog = server.read("sys/plugins/catalog").await;
    assert!(catalog["data"]["auth"].as_array().unwrap().contains(&json!("approle")));
    assert!(catalog["data"]["detailed"].as_array().unwrap().iter().all(|plugin| plugin["builtin"] == true));
    assert_eq!(server.read("sys/plugins/catalog/secret/pki").await["data"]["name"], "pki");
    let history = server.list("sys/version-history").await;
    let version = history["data"]["keys"][0].as_str().unwrap().to_owned();
    assert!(history["data"]["key_info"][&version]["timestamp_installed"].is_string());
    assert_eq!(server.read("sys/leader").await, json!({ "ha_enabled": false }));
    assert_eq!(server.read("sys/ha-status").await["nodes"][0]["active_node"], true);
    assert_eq!(server.read("sys/config/state/sanitized").await["data"]["storage"]["type"], "inmem");
    assert_eq!(
        server.refusal(Operation::List, "sys/namespaces", "root", Value::Null).await,
        (Kind::NotFound, String::new())
    );
    let random = server.write("sys/tools/random/platform/8", json!({ "format": "hex" })).await;
    assert_eq!(random["data"]["random_bytes"].as_str().unwrap().len(), 16);
}

/// A write whose answer is wrapped; the wrapping token.
async fn wrapped(server: &Server, path: &str, body: Value) -> String {
    let mut request = chancery_secrets::Request::new(Operation::Update, path).token("root").json(&body);
    request.wrap_ttl = Some(chancery_api::Ttl::seconds(60));
    let answer = server.json(server.core.handle(request).await);
    assert_eq!(
        (&answer["wrap_info"]["ttl"], &answer["wrap_info"]["creation_path"]),
        (&json!(60), &json!(path))
    );
    answer["wrap_info"]["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_wrapped_answer_is_there_once_for_whoever_has_the_token() {
    let server = Server::start().await;
    let used_up = || invalid("wrapping token is not valid or does not exist");
    assert_eq!(
        server.refusal(Operation::Update, "sys/wrapping/wrap", "root", json!({ "a": "b" })).await,
        invalid("endpoint requires response wrapping to be used")
    );

    // By its own token, with no body, as agents do.
    let token = wrapped(&server, "sys/wrapping/wrap", json!({ "a": "b" })).await;
    for _ in 0..2 {
        let shown =
            server.json(server.ask(Operation::Read, "sys/wrapping/lookup", &token, Value::Null).await);
        assert_eq!(
            (&shown["data"]["creation_path"], &shown["data"]["creation_ttl"]),
            (&json!("sys/wrapping/wrap"), &json!(60))
        );
    }
    let opened = server.json(server.ask(Operation::Update, "sys/wrapping/unwrap", &token, Value::Null).await);
    assert_eq!(opened["data"], json!({ "a": "b" }));
    let again = server.ask(Operation::Update, "sys/wrapping/unwrap", &token, Value::Null).await;
    assert!(again.is_err());

    // By another's token, with the wrapping token in the body; a login comes back whole.
    let token = wrapped(&server, "auth/token/create", json!({ "policies": ["default"] })).await;
    let body = json!({ "token": token });
    let opened = server.write("sys/wrapping/unwrap", body.clone()).await;
    assert_eq!(opened["auth"]["policies"], json!(["default"]));
    assert_eq!(server.refusal(Operation::Update, "sys/wrapping/unwrap", "root", body).await, used_up());

    // Wrapped anew, the old token is used up and the content stays.
    let old = wrapped(&server, "sys/wrapping/wrap", json!({ "c": 1 })).await;
    let fresh = server.write("sys/wrapping/rewrap", json!({ "token": old })).await;
    assert_eq!(fresh["wrap_info"]["creation_path"], "sys/wrapping/wrap");
    assert_eq!(
        server.refusal(Operation::Update, "sys/wrapping/lookup", "", json!({ "token": old })).await,
        used_up()
    );
    let opened = server.write("sys/wrapping/unwrap", json!({ "token": fresh["wrap_info"]["token"] })).await;
    assert_eq!(opened["data"], json!({ "c": 1 }));

    for token in ["root", "bad"] {
        let body = json!({ "token": token });
        assert_eq!(server.refusal(Operation::Update, "sys/wrapping/unwrap", "root", body).await, used_up());
    }
    assert_eq!(server.refusal(Operation::Update, "sys/wrapping/unwrap", "root", json!({})).await, used_up());
}
