//! Looking tokens up, listing and tidying them.

use super::*;

#[tokio::test]
async fn what_cannot_be_renewed_or_found_says_so() {
    let api = Api::open().await;
    let fixed = api.text("root", "create", json!({"policies": ["sub"], "renewable": false})).await;
    let batch = api.text("root", "create", json!({"policies": ["sub"], "type": "batch"})).await;
    for (who, path, body, refusal) in [
        ("root", "renew-self", json!({}), "lease is not renewable"),
        (&*fixed, "renew-self", json!({}), "lease is not renewable"),
        (&*batch, "renew-self", json!({}), "batch tokens cannot be renewed"),
        (&*batch, "revoke-self", json!({}), "batch tokens cannot be revoked"),
        ("root", "renew", json!({}), "missing token ID"),
        ("root", "renew", json!({"token": "nope"}), "token not found"),
        ("root", "lookup", json!({"token": "nope"}), "bad token"),
        ("root", "revoke", json!({}), "missing token ID"),
        ("root", "revoke-orphan", json!({"token": "nope"}), "token to revoke not found"),
        (
            "root",
            "lookup-accessor",
            json!({"accessor": "nope"}),
            "1 error occurred:\n\t* invalid accessor\n\n",
        ),
        ("root", "lookup-accessor", json!({}), "1 error occurred:\n\t* missing accessor\n\n"),
        (
            "root",
            "renew-accessor",
            json!({"accessor": "nope"}),
            "1 error occurred:\n\t* invalid accessor\n\n",
        ),
    ] {
        let refused = api.ask(who, true, Operation::Update, path, body.clone()).await.unwrap_err();
        assert_eq!(refused.message(), refusal, "{path} {body}");
    }
    let gone = api.ask("root", true, Operation::Update, "revoke", json!({"token": "nope"})).await.unwrap();
    assert!(gone.warnings.is_empty() && gone.data.is_none());
    let gone = api
        .ask("root", true, Operation::Update, "revoke-accessor", json!({"accessor": "nope"}))
        .await
        .unwrap();
    assert_eq!(gone.warnings, ["No token found with this accessor"]);
    let refused = api.ask(&fixed, false, Operation::Update, "revoke-orphan", json!({"token": fixed})).await;
    assert_eq!(refused.unwrap_err().message(), "root or sudo privileges required to revoke and orphan");
}

#[tokio::test]
async fn a_look_up_shows_the_peers_fields() {
    let api = Api::open().await;
    let body = json!({"policies": ["sub"], "num_uses": 10, "meta": {"a": "b"}, "period": "30m", "explicit_max_ttl": "2h",
        "display_name": "x y"});
    let text = api.text("root", "create", body).await;
    let mut shown = api.data("root", "lookup", json!({"token": text})).await;
    let accessor = shown["accessor"].take();
    assert_eq!(
        shown,
        json!({"accessor": null, "creation_time": 1_795_487_619, "creation_ttl": 1800, "display_name": "token-x-y",
            "entity_id": "", "expire_time": "2026-11-24T03:03:39Z", "explicit_max_ttl": 7200, "id": text,
            "issue_time": "2026-11-24T02:33:39Z", "meta": {"a": "b"}, "num_uses": 10, "orphan": false,
            "path": "auth/token/create", "period": 1800, "policies": ["default", "sub"], "renewable": true,
            "ttl": 1800, "type": "service"})
    );
    let shown = api.data("root", "lookup-accessor", json!({"accessor": accessor})).await;
    assert_eq!((&shown["id"], &shown["accessor"]), (&json!(""), &accessor));
    let shown = api.data("root", "lookup-self", json!({})).await;
    assert_eq!(
        (&shown["id"], &shown["expire_time"], &shown["ttl"]),
        (&json!("root"), &Value::Null, &json!(0))
    );
}

#[tokio::test]
async fn accessors_are_listed_while_their_tokens_live() {
    let api = Api::open().await;
    let mut expected = vec![api.tokens.keys.accessor(api.tokens.keys.key("root"))];
    for _ in 0..3 {
        let (auth, _) = api.create("root", true, "create", json!({"ttl": "1h"})).await.unwrap();
        expected.push(auth["accessor"].as_str().unwrap().to_owned());
    }
    let list = async |now| -> Vec<String> {
        let response = api.at(now, "root", true, Operation::List, "accessors", Value::Null).await.unwrap();
        let listed: BTreeMap<String, Vec<String>> =
            serde_json::from_str(response.data.unwrap().get()).unwrap();
        listed["keys"].clone()
    };
    let mut listed = list(start()).await;
    listed.sort();
    expected.sort();
    assert_eq!(listed, expected);
    assert_eq!(list(start() + Duration::from_secs(3600)).await.len(), 1);
}

#[tokio::test]
async fn tidy_removes_what_belongs_to_nothing() {
    let api = Api::open().await;
    let store = &api.tokens;
    let (parent, _) = family(store, 1).await;
    // As no code of ours does it: the record alone.
    let place = store.root.scan(TOKENS, Position::Start, 10).await.unwrap();
    let (name, _) = place.iter().find(|(name, _)| name.text() == parent.entry.key.text()).unwrap();
    store.root.delete(TOKENS, name).await.unwrap();
    store.cache.clear();
    assert!(store.tidy(start()).await.unwrap() > 0);
    assert_eq!((count(&store.root, TOKENS).await, count(&store.root, OWNED).await), (1, 0));
}
