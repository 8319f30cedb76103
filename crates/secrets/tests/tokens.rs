//! Tokens, cubbyholes and wrapping through the whole pipeline.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a helper of tests fails as tests do"
)]

mod common;

use std::time::Duration;

use chancery_api::Ttl;
use chancery_secrets::error::Kind;
use chancery_secrets::{Operation, Request};
use common::Server;
use serde_json::{Value, json};

/// A token with the policy `all`, which may do everything but what needs `sudo`.
async fn somebody(server: &Server, body: Value) -> String {
    let policy = r#"path "*" { capabilities = ["create", "read", "update", "delete", "list"] }"#;
    server.write("sys/policies/acl/all", json!({ "policy": policy })).await;
    let mut wanted = json!({"policies": ["all"], "ttl": "1h"});
    for (name, value) in body.as_object().unwrap() {
        wanted[name] = value.clone();
    }
    let answer = server.write("auth/token/create", wanted).await;
    answer["auth"]["client_token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_last_use_still_shows_the_token_and_then_it_is_gone() {
    let server = Server::start().await;
    let token = somebody(&server, json!({"num_uses": 2})).await;
    let ask = async || server.ask(Operation::Read, "auth/token/lookup-self", &token, Value::Null).await;
    let answer = server.json(ask().await);
    assert_eq!((&answer["data"]["num_uses"], &answer["data"]["id"]), (&json!(1), &json!(token)));
    let answer = server.json(ask().await);
    assert_eq!(answer["data"]["num_uses"], json!(-1));
    assert_eq!(ask().await.unwrap_err().kind, Kind::PermissionDenied);
}

#[tokio::test]
async fn a_token_ends_on_time_and_upkeep_removes_what_is_left() {
    let server = Server::start().await;
    let token = somebody(&server, json!({})).await;
    let child =
        server.json(server.ask(Operation::Update, "auth/token/create", &token, json!({"ttl": "5h"})).await);
    let child = child["auth"]["client_token"].as_str().unwrap();
    assert_eq!(server.list("auth/token/accessors").await["data"]["keys"].as_array().unwrap().len(), 3);
    server.clock.advance(Duration::from_secs(3600));
    for token in [&*token, child] {
        let refused = server.refusal(Operation::Read, "auth/token/lookup-self", token, Value::Null).await;
        assert_eq!(refused, (Kind::PermissionDenied, "permission denied".to_owned()));
    }
    assert!(server.core.upkeep().await.is_empty());
    assert_eq!(server.list("auth/token/accessors").await["data"]["keys"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_cubbyhole_is_its_tokens_own_and_goes_with_it() {
    let server = Server::start().await;
    let (mine, other) = (somebody(&server, json!({})).await, somebody(&server, json!({})).await);
    let ask = async |operation, path: &str, body: Value| server.ask(operation, path, &mine, body).await;
    ask(Operation::Update, "cubbyhole/a/b", json!({"y": "z", "x": 1})).await.unwrap();
    ask(Operation::Update, "cubbyhole/a", json!({"k": [2]})).await.unwrap();
    let read = server.json(ask(Operation::Read, "cubbyhole/a/b", Value::Null).await);
    assert_eq!((&read["data"], &read["warnings"]), (&json!({"x": 1, "y": "z"}), &Value::Null));
    for (path, keys) in
        [("cubbyhole/", json!(["a", "a/"])), ("cubbyhole/a", json!(["b"])), ("cubbyhole/a/", json!(["b"]))]
    {
        assert_eq!(
            server.json(ask(Operation::List, path, Value::Null).await)["data"]["keys"],
            keys,
            "{path}"
        );
    }
    let hidden = server.refusal(Operation::Read, "cubbyhole/a/b", &other, Value::Null).await;
    assert_eq!(hidden, (Kind::NotFound, String::new()));
    for (operation, path, body, refusal) in [
        (Operation::Update, "cubbyhole/e", json!({}), "1 error occurred:\n\t* missing data fields\n\n"),
        (Operation::Update, "cubbyhole/d/", json!({"k": 1}), "cannot write to a path ending in '/'"),
        (Operation::Read, "cubbyhole/", Value::Null, "1 error occurred:\n\t* missing path\n\n"),
        (Operation::Read, "cubbyhole/none", Value::Null, ""),
        (Operation::List, "cubbyhole/none", Value::Null, ""),
    ] {
        assert_eq!(server.refusal(operation, path, &mine, body).await.1, refusal, "{path}");
    }
    let batch = somebody(&server, json!({"type": "batch"})).await;
    let refused = server.refusal(Operation::Read, "cubbyhole/a", &batch, Value::Null).await;
    assert_eq!(refused.1, "cubbyhole operations are only supported by 'service' type tokens");

    ask(Operation::Delete, "cubbyhole/a", Value::Null).await.unwrap();
    assert!(ask(Operation::Read, "cubbyhole/a", Value::Null).await.is_err());
    let before = server.memory.dump().len();
    ask(Operation::Update, "auth/token/revoke-self", Value::Null).await.unwrap();
    // The record, its marker, its place below root and one entry of the cubbyhole.
    assert_eq!(before - server.memory.dump().len(), 4);
}

#[tokio::test]
async fn an_answer_asked_to_be_wrapped_is_kept_instead_of_given() {
    let server = Server::start().await;
    let token = somebody(&server, json!({})).await;
    server.ask(Operation::Update, "cubbyhole/a", &token, json!({"x": 1})).await.unwrap();
    let wrapped = async |path: &str| {
        let mut request = Request::new(Operation::Read, path).token(&token);
        request.wrap_ttl = Some(Ttl::seconds(60));
        server.json(server.core.handle(request).await)
    };
    let answer = wrapped("cubbyhole/a").await;
    assert_eq!((&answer["data"], &answer["auth"]), (&Value::Null, &Value::Null));
    let info = &answer["wrap_info"];
    assert_eq!((&info["ttl"], &info["creation_path"]), (&json!(60), &json!("cubbyhole/a")));

    // The old way: the wrapping token reads its own cubbyhole, once.
    let wrapping = info["token"].as_str().unwrap();
    let read = server.json(server.ask(Operation::Read, "cubbyhole/response", wrapping, Value::Null).await);
    let inner: Value = serde_json::from_str(read["data"]["response"].as_str().unwrap()).unwrap();
    assert_eq!(inner["data"], json!({"x": 1}));
    assert!(
        read["warnings"][0].as_str().unwrap().starts_with("Reading from 'cubbyhole/response' is deprecated")
    );
    assert!(server.ask(Operation::Read, "cubbyhole/response", wrapping, Value::Null).await.is_err());

    // A wrapping token may do nothing else, and trying costs its use.
    let answer = wrapped("auth/token/lookup-self").await;
    let wrapping = answer["wrap_info"]["token"].as_str().unwrap();
    let refused = server.refusal(Operation::Read, "auth/token/lookup-self", wrapping, Value::Null).await;
    assert_eq!(refused.0, Kind::PermissionDenied);
    assert!(server.ask(Operation::Read, "cubbyhole/response", wrapping, Value::Null).await.is_err());
}

#[tokio::test]
async fn disabling_an_auth_method_revokes_the_tokens_it_gave() {
    let server = Server::start().await;
    server.write("sys/auth/approle", json!({"type": "approle"})).await;
    server
        .write(
            "auth/approle/role/web",
            json!({"token_ttl": "1h", "bind_secret_id": false, "secret_id_bound_cidrs": "127.0.0.0/8"}),
        )
        .await;
    let role_id = server.read("auth/approle/role/web/role-id").await["data"]["role_id"].clone();
    let mut request =
        Request::new(Operation::Update, "auth/approle/login").json(&json!({ "role_id": role_id }));
    request.connection.address = Some("127.0.0.1".parse().unwrap());
    let login = server.json(server.core.handle(request).await);
    let token = login["auth"]["client_token"].as_str().unwrap();
    assert_eq!(login["auth"]["lease_duration"], 3600);
    server.ask(Operation::Read, "auth/token/lookup-self", token, Value::Null).await.unwrap();
    server.ask(Operation::Delete, "sys/auth/approle", "root", Value::Null).await.unwrap();
    assert!(server.ask(Operation::Read, "auth/token/lookup-self", token, Value::Null).await.is_err());
}

#[tokio::test]
async fn no_login_makes_a_root_token() {
    let server = Server::start().await;
    server.write("sys/auth/approle", json!({"type": "approle"})).await;
    for policies in ["root", "ROOT", "other, root"] {
        let role = json!({"token_policies": policies, "bind_secret_id": false, "token_bound_cidrs": "::/0,0.0.0.0/0"});
        server.write("auth/approle/role/web", role).await;
        let role_id = server.read("auth/approle/role/web/role-id").await["data"]["role_id"].clone();
        let login = json!({ "role_id": role_id });
        let refusal = server.refusal(Operation::Update, "auth/approle/login", "", login).await;
        let words = "auth methods cannot create root tokens".to_owned();
        assert_eq!(refusal, (Kind::InvalidRequest, words), "{policies}");
    }
}

#[tokio::test]
async fn a_wrapped_answer_is_unwrapped_with_its_fields_in_data_alone() {
    let server = Server::start().await;
    let plain = server.read("sys/mounts").await;
    assert_eq!(plain["sys/"], plain["data"]["sys/"]);
    let mut request = Request::new(Operation::Read, "sys/mounts").token("root");
    request.wrap_ttl = Some(Ttl::seconds(60));
    let wrapped = server.json(server.core.handle(request).await);
    assert_eq!(wrapped["request_id"], "", "the request id is wrapped too");
    let unwrapped =
        server.write("sys/wrapping/unwrap", json!({"token": wrapped["wrap_info"]["token"]})).await;
    assert_eq!((&unwrapped["sys/"], &unwrapped["data"]), (&Value::Null, &plain["data"]));
    assert_ne!(unwrapped["request_id"], "");
}

#[tokio::test]
async fn a_large_answer_that_needs_no_token_is_not_wrapped() {
    let server = Server::start().await;
    server.write("sys/mounts/pki", json!({"type": "pki"})).await;
    let root = json!({"common_name": "r", "key_type": "ec"});
    server.write("pki/root/generate/internal", root).await;
    let asked = async |path: &str| {
        let mut request = Request::new(Operation::Read, path);
        request.wrap_ttl = Some(Ttl::seconds(60));
        server.core.handle(request).await.unwrap()
    };
    assert!(asked("pki/crl").await.wrap_info.is_some());
    server.write("pki/roles/any", json!({"allow_any_name": true, "key_type": "ec"})).await;
    for _ in 0..500 {
        let leaf = server.write("pki/issue/any", json!({"common_name": "a.example"})).await;
        server.write("pki/revoke", json!({"serial_number": leaf["data"]["serial_number"]})).await;
    }
    let answer = asked("pki/crl").await;
    assert!(answer.wrap_info.is_none() && answer.response.raw.is_some_and(|raw| raw.body.len() > 16 * 1024));
    assert!(asked("pki/cert/crl").await.wrap_info.is_none(), "the same as JSON");
    assert!(asked("pki/ca").await.wrap_info.is_some());
}

#[tokio::test]
async fn who_wraps_a_secret_id_learns_its_accessor() {
    let server = Server::start().await;
    server.write("sys/auth/approle", json!({"type": "approle"})).await;
    server.write("auth/approle/role/web", json!({})).await;
    let mut request = Request::new(Operation::Update, "auth/approle/role/web/secret-id").token("root");
    request.wrap_ttl = Some(Ttl::seconds(60));
    let info = server.json(server.core.handle(request).await)["wrap_info"].clone();
    let unwrapped = server.write("sys/wrapping/unwrap", json!({"token": info["token"]})).await;
    assert_eq!(info["wrapped_accessor"], unwrapped["data"]["secret_id_accessor"]);
    assert!(unwrapped["data"]["secret_id"].is_string());
}

#[tokio::test]
async fn there_is_one_token_mount() {
    let server = Server::start().await;
    for path in ["sys/auth/token", "sys/auth/other"] {
        let refusal = server.refusal(Operation::Update, path, "root", json!({"type": "token"})).await;
        assert_eq!(refusal.1, "token credential backend cannot be instantiated", "{path}");
    }
}

#[tokio::test]
async fn a_policy_with_a_comma_in_its_name_is_one_policy() {
    for joined_first in [false, true] {
        let server = Server::start().await;
        let policy = r#"path "sys/mounts" { capabilities = ["read"] }"#;
        server.write("sys/policies/acl/admin", json!({ "policy": policy })).await;
        let made = async |body: Value| server.write("auth/token/create", body).await["auth"].clone();
        let both = made(json!({"policies": ["admin"]})).await;
        let joined = made(json!({"policies": ["admin,default"], "no_default_policy": true})).await;
        assert_eq!(both["policies"], json!(["admin", "default"]));
        assert_eq!(joined["policies"], json!(["admin,default"]));
        let mut turns = [(both, true), (joined, false)];
        if joined_first {
            turns.reverse();
        }
        for (token, allowed) in turns {
            let text = token["client_token"].as_str().unwrap();
            let answer = server.ask(Operation::Read, "sys/mounts", text, Value::Null).await;
            assert_eq!(answer.is_ok(), allowed, "{}", token["policies"]);
        }
    }
}
