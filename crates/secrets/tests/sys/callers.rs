//! What a caller may do and is shown.

use super::*;

#[tokio::test]
async fn capabilities_answer_for_any_token_under_each_path_and_at_the_top_level() {
    let server = Server::start().await;
    let rules = r#"path "secret/*" { capabilities = ["read", "list"] }
        path "secret/x" { capabilities = ["deny"] }
        path "sys/mounts" { capabilities = ["read", "sudo"] }"#;
    let token = token(&server, rules).await;
    let looked_up = server.write("auth/token/lookup", json!({ "token": token })).await;
    let accessor = looked_up["data"]["accessor"].clone();
    let one = json!({ "capabilities": ["list", "read"], "secret/a": ["list", "read"] });
    for (path, who, body) in [
        ("sys/capabilities", "root", json!({ "path": "secret/a", "token": token })),
        ("sys/capabilities-accessor", "root", json!({ "path": "secret/a", "accessor": accessor })),
        ("sys/capabilities-self", token.as_str(), json!({ "path": "secret/a" })),
    ] {
        let answer = server.json(server.ask(Operation::Update, path, who, body).await);
        assert_eq!(answer["data"], one, "{path}");
        assert_eq!(answer["secret/a"], json!(["list", "read"]), "{path}");
    }
    let body = json!({ "paths": ["secret/a", "secret/x", "none"], "token": token });
    assert_eq!(
        server.write("sys/capabilities", body).await["data"],
        json!({ "none": ["deny"], "secret/a": ["list", "read"], "secret/x": ["deny"] })
    );
    let own = server.write("sys/capabilities-self", json!({ "path": "sys/mounts" })).await;
    assert_eq!(own["capabilities"], json!(["root"]));
    for (path, body, text) in [
        ("sys/capabilities", json!({ "token": token }), "paths must be supplied"),
        ("sys/capabilities", json!({ "path": "a" }), "1 error occurred:\n\t* no token found\n\n"),
        (
            "sys/capabilities",
            json!({ "path": "a", "token": "bad" }),
            "1 error occurred:\n\t* invalid token\n\n",
        ),
        ("sys/capabilities", json!({ "token": "bad" }), "paths must be supplied"),
        ("sys/capabilities-self", json!({ "paths": ["a", ""] }), "1 error occurred:\n\t* missing path\n\n"),
        ("sys/capabilities-accessor", json!({ "path": "a" }), "missing accessor"),
        (
            "sys/capabilities-accessor",
            json!({ "path": "a", "accessor": "bad" }),
            "1 error occurred:\n\t* invalid accessor\n\n",
        ),
    ] {
        assert_eq!(server.refusal(Operation::Update, path, "root", body).await, invalid(text));
    }
}

#[tokio::test]
async fn a_caller_sees_the_mounts_it_can_use_and_those_listed_for_everybody() {
    let server = Server::start().await;
    for path in ["pki", "istioca"] {
        server.write(&format!("sys/mounts/{path}"), json!({ "type": "pki" })).await;
    }
    server.write("sys/auth/approle", json!({ "type": "approle" })).await;
    let token = token(&server, r#"path "istioca/sign/web" { capabilities = ["update"] }"#).await;
    let seen = |answer: Value| -> (Vec<String>, Vec<String>) {
        let names = |class: &str| answer["data"][class].as_object().unwrap().keys().cloned().collect();
        (names("secret"), names("auth"))
    };
    let mounts = |who: String| server.ask(Operation::Read, "sys/internal/ui/mounts", who.leak(), Value::Null);
    let (secret, auth) = seen(server.json(mounts(token.clone()).await));
    assert!(secret.contains(&"istioca/".to_owned()) && !secret.contains(&"pki/".to_owned()));
    assert_eq!(auth, ["token/"]);
    assert_eq!(seen(server.json(mounts(String::new()).await)), (vec![], vec![]));
    assert!(mounts("forged".to_owned()).await.is_err());

    server.write("sys/mounts/pki/tune", json!({ "listing_visibility": "unauth", "description": "d" })).await;
    let listed = server.json(mounts(String::new()).await);
    assert_eq!(
        listed["data"]["secret"],
        json!({ "pki/": { "description": "d", "options": {}, "type": "pki" } })
    );

    let one = |path: &'static str, who: &str| {
        let (core, who) = (Arc::clone(&server.core), who.to_owned());
        async move { core.handle(chancery_secrets::Request::new(Operation::Read, path).token(&who)).await }
    };
    let shown = server.json(one("sys/internal/ui/mounts/istioca/sign/web", &token).await);
    assert_eq!((&shown["data"]["path"], &shown["data"]["type"]), (&json!("istioca/"), &json!("pki")));
    for path in ["sys/internal/ui/mounts/pki/x", "sys/internal/ui/mounts/none/x"] {
        let error = one(path, &token).await.unwrap_err();
        let asked = path.strip_prefix("sys/internal/ui/mounts/").unwrap();
        assert_eq!(
            (error.kind, error.message()),
            (
                Kind::PermissionDenied,
                format!(
                    "preflight capability check returned 403, please ensure client's policies grant access to path \"{asked}/\""
                )
            )
        );
    }
}

#[tokio::test]
async fn the_resultant_acl_is_what_the_policies_say_together() {
    let server = Server::start().await;
    let token = token(
        &server,
        r#"path "secret/*" { capabilities = ["read"] } path "secret/x" { capabilities = ["deny"] }"#,
    )
    .await;
    let answer =
        server.json(server.ask(Operation::Read, "sys/internal/ui/resultant-acl", &token, Value::Null).await);
    assert_eq!(answer["data"]["root"], false);
    assert_eq!(answer["data"]["glob_paths"]["secret/"], json!({ "capabilities": ["read"] }));
    assert_eq!(answer["data"]["exact_paths"]["secret/x"], json!({ "capabilities": ["deny"] }));
    assert_eq!(server.read("sys/internal/ui/resultant-acl").await["data"], json!({ "root": true }));
}

#[tokio::test]
async fn the_openapi_document_shows_what_the_caller_may_use() {
    let server = Server::start().await;
    server.write("sys/auth/approle", json!({ "type": "approle" })).await;
    let document = server.read("sys/internal/specs/openapi").await;
    assert_eq!(document["openapi"], "3.0.2");
    let login = &document["paths"]["/auth/approle/login"];
    assert_eq!(login["x-vault-unauthenticated"], true);
    let properties = &login["post"]["requestBody"]["content"]["application/json"]["schema"]["properties"];
    assert_eq!(properties["role_id"]["type"], "string");
    let role = &document["paths"]["/auth/approle/role/{role_name}"];
    assert_eq!(role["parameters"][0]["name"], "role_name");
    assert!(document["paths"]["/sys/health"]["get"].is_object());
    assert_eq!(document["paths"]["/auth/approle/role"]["get"]["parameters"][0]["name"], "list");

    let request = server.ask(Operation::Read, "sys/internal/specs/openapi", "", Value::Null).await;
    let anybody = server.json(request);
    assert!(anybody["paths"]["/auth/approle/login"].is_null(), "an outsider cannot map the mounts");
}

#[tokio::test]
async fn privileged_paths_ask_for_sudo() {
    let server = Server::start().await;
    let rules = r#"path "*" { capabilities = ["create", "read", "update", "patch", "delete", "list"] }"#;
    let token = token(&server, rules).await;
    for (operation, path) in [
        (Operation::Update, "sys/seal"),
        (Operation::Update, "sys/step-down"),
        (Operation::Read, "sys/audit"),
        (Operation::Update, "sys/auth/x"),
        (Operation::Update, "sys/remount"),
        (Operation::Update, "sys/rotate"),
        (Operation::Update, "sys/rotate/keyring"),
        (Operation::Update, "sys/rotate/root"),
        (Operation::Read, "sys/config/cors"),
        (Operation::Read, "sys/plugins/catalog/auth/approle"),
    ] {
        let refusal = server.refusal(operation, path, &token, json!({})).await;
        assert_eq!(refusal.0, Kind::PermissionDenied, "{path}");
    }
    for path in
        ["sys/mounts", "sys/auth", "sys/key-status", "sys/policies/acl/default", "sys/plugins/catalog"]
    {
        assert!(server.ask(Operation::Read, path, &token, Value::Null).await.is_ok(), "{path}");
    }
}
