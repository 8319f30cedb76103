//! Leases: looked up, listed, revoked, never given out with the last use.

use super::*;

#[tokio::test]
async fn leases_are_looked_up_listed_and_revoked() {
    let server = Server::start().await;
    server.write("sys/mounts/pki", json!({ "type": "pki" })).await;
    server
        .write("pki/root/generate/internal", json!({ "common_name": "root", "key_type": "ec", "ttl": "10h" }))
        .await;
    server
        .write(
            "pki/roles/web",
            json!({ "allow_any_name": true, "generate_lease": true, "ttl": "1h", "key_type": "ec" }),
        )
        .await;
    let lease = leased(&server).await;
    let shown = server.write("sys/leases/lookup", json!({ "lease_id": lease })).await;
    assert_eq!(
        (&shown["data"]["id"], &shown["data"]["renewable"], &shown["data"]["ttl"]),
        (&json!(lease), &json!(false), &json!(3600))
    );
    let keys = |answer: Value| answer["data"]["keys"].clone();
    assert_eq!(keys(server.list("sys/leases/lookup/pki").await), json!(["issue/"]));
    assert_eq!(keys(server.list("sys/leases/lookup/pki/issue/").await), json!(["web/"]));
    assert!(keys(server.list("sys/leases/lookup").await).as_array().unwrap().contains(&json!("pki/")));
    let name = lease.rsplit('/').next().unwrap();
    assert_eq!(keys(server.list("sys/leases/lookup/pki/issue/web/").await), json!([name]));
    for (path, body, text) in [
        ("sys/leases/lookup", json!({}), "lease_id must be specified"),
        ("sys/leases/lookup", json!({ "lease_id": "bad" }), "invalid lease"),
        ("sys/leases/renew", json!({}), "lease_id must be specified"),
        ("sys/leases/renew", json!({ "lease_id": "bad" }), "lease not found"),
        ("sys/leases/renew", json!({ "lease_id": lease }), "lease is not renewable"),
        ("sys/leases/revoke", json!({}), "lease_id must be specified"),
    ] {
        assert_eq!(server.refusal(Operation::Update, path, "root", body).await, invalid(text));
    }

    let revoke = |path: String, body: Value| {
        let core = Arc::clone(&server.core);
        let request = chancery_secrets::Request::new(Operation::Update, path).token("root").json(&body);
        async move { core.handle(request).await.unwrap() }
    };
    assert!(!revoke("sys/leases/revoke".into(), json!({ "lease_id": lease })).await.has_body());
    assert!(!revoke("sys/leases/revoke".into(), json!({ "lease_id": lease })).await.has_body());
    let gone =
        server.refusal(Operation::Update, "sys/leases/lookup", "root", json!({ "lease_id": lease })).await;
    assert_eq!(gone, invalid("invalid lease"));
    let lease = leased(&server).await;
    let answer = revoke(format!("sys/leases/revoke/{lease}"), json!({ "sync": false })).await;
    assert_eq!(answer.response.status, Some(202));
    leased(&server).await;
    revoke("sys/leases/revoke-prefix/pki/issue".into(), json!({})).await;
    leased(&server).await;
    revoke("sys/leases/revoke-force/pki".into(), json!({})).await;
    assert_eq!(
        server.refusal(Operation::List, "sys/leases/lookup/pki", "root", Value::Null).await,
        (Kind::NotFound, String::new())
    );

    let rules = r#"path "sys/*" { capabilities = ["read", "update", "list"] }"#;
    let token = token(&server, rules).await;
    for (operation, path) in [
        (Operation::List, "sys/leases/lookup"),
        (Operation::List, "sys/leases/lookup/pki"),
        (Operation::Update, "sys/leases/revoke-prefix/pki"),
        (Operation::Update, "sys/leases/revoke-force/pki"),
    ] {
        assert_eq!(
            server.refusal(operation, path, &token, Value::Null).await.0,
            Kind::PermissionDenied,
            "{path}"
        );
    }
    let count =
        server.ask(Operation::Read, "sys/leases/count", "root", json!({ "type": "irrevocable" })).await;
    assert_eq!(server.json(count)["data"], json!({ "counts": {}, "lease_count": 0 }));
}

#[tokio::test]
async fn the_last_use_of_a_token_gives_out_nothing_that_has_a_lease() {
    let server = Server::start().await;
    mount_with_leases(&server).await;
    let rules = r#"path "pki/issue/web" { capabilities = ["update"] }"#;
    server.write("sys/policies/acl/issue", json!({ "policy": rules })).await;
    let ask = async |uses: u64, wrap_ttl: Option<chancery_api::Ttl>| {
        let body = json!({ "policies": ["issue"], "num_uses": uses });
        let made = server.write("auth/token/create", body).await;
        let token = made["auth"]["client_token"].as_str().unwrap();
        let mut request = chancery_secrets::Request::new(Operation::Update, "pki/issue/web")
            .token(token)
            .json(&json!({ "common_name": "a.example" }));
        request.wrap_ttl = wrap_ttl;
        server.core.handle(request).await
    };
    for wrap_ttl in [None, Some(chancery_api::Ttl::seconds(60))] {
        let error = ask(1, wrap_ttl).await.unwrap_err();
        let words = "Secret cannot be returned; token had one use left, so leased credentials were immediately revoked.";
        assert_eq!((error.kind, error.message()), invalid(words));
    }
    assert!(server.core.upkeep().await.is_empty());
    assert_eq!(
        server.refusal(Operation::List, "sys/leases/lookup/pki", "root", Value::Null).await,
        (Kind::NotFound, String::new())
    );
    assert_ne!(server.json(ask(2, None).await)["lease_id"], "");
}
