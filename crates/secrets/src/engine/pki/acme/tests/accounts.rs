//! Accounts, bindings and keys.

use super::super::records::collection;
use super::client::binding;
use super::*;

#[tokio::test]
async fn an_account_is_made_once_for_each_key_and_directory() {
    let bed = Bed::new().await;
    bed.write("roles/web", json!({ "allow_any_name": true })).await.unwrap();
    let client = Client::without_account(&bed, "acme/");
    let only = client.new_account(json!({ "onlyReturnExisting": true })).await;
    assert_eq!(only.refusal(), (400, "accountDoesNotExist".to_owned()));
    let made = client.new_account(json!({ "contact": ["mailto:a@example.com"] })).await;
    assert_eq!(made.status, 201);
    assert_eq!(made.json()["status"], "valid");
    assert_eq!(made.json()["contact"], json!(["mailto:a@example.com"]));
    let found = client.new_account(json!({ "onlyReturnExisting": true })).await;
    assert_eq!((found.status, found.header(Header::Location)), (200, made.header(Header::Location)));
    let elsewhere = Client { directory: "roles/web/acme/".to_owned(), ..client };
    assert_eq!(elsewhere.new_account(json!({})).await.status, 201);
}

#[tokio::test]
async fn an_account_that_could_not_be_stored_is_not_there() {
    let bed = Bed::new().await;
    for (fault, there) in [(Fault::Fails, false), (Fault::FailsAfterPersisting, true)] {
        let client = Client::without_account(&bed, "acme/");
        bed.next_commit(fault);
        let answer = client.new_account(json!({})).await;
        assert_eq!(answer.refusal(), (500, "serverInternal".to_owned()));
        let found = client.new_account(json!({ "onlyReturnExisting": true })).await;
        assert_eq!(found.status == 200, there);
    }
}

#[tokio::test]
async fn requests_that_are_not_as_they_must_be_are_refused() {
    let bed = Bed::new().await;
    bed.write("roles/web", json!({ "allow_any_name": true })).await.unwrap();
    let client = Client::new(&bed, "acme/").await;
    let url = client.url("orders");
    let with = async |name: &str, value: Value| {
        let mut header = client.header(&url).await;
        if value.is_null() {
            header.as_object_mut().unwrap().remove(name);
        } else {
            header[name] = value;
        }
        client.send(&url, &client.key.sign(&header, b"")).await.refusal()
    };
    let refusal = |status: u16, name: &str| (status, name.to_owned());
    assert_eq!(with("nonce", Value::Null).await, refusal(400, "badNonce"));
    assert_eq!(with("nonce", json!("x")).await, refusal(400, "badNonce"));
    assert_eq!(
        with("url", json!("https://ca.example/v1/pki/acme/new-order")).await,
        refusal(401, "unauthorized")
    );
    assert_eq!(with("url", Value::Null).await, refusal(400, "malformed"));
    assert_eq!(with("jwk", client.key.jwk()).await, refusal(400, "malformed"), "both jwk and kid");
    assert_eq!(with("kid", Value::Null).await, refusal(400, "malformed"));
    assert_eq!(
        with("kid", json!("https://ca.example/v1/pki/acme/account/x")).await,
        refusal(400, "accountDoesNotExist")
    );
    for algorithm in ["none", "HS256", "RS256", "ES384", "x"] {
        assert_eq!(with("alg", json!(algorithm)).await, refusal(400, "badSignatureAlgorithm"), "{algorithm}");
    }
    let other = Client::new(&bed, "acme/").await;
    assert_eq!(with("kid", json!(other.kid)).await, refusal(400, "malformed"), "another account's name");
    let elsewhere = Client::new(&bed, "roles/web/acme/").await;
    assert_eq!(with("kid", json!(elsewhere.kid)).await, refusal(400, "malformed"));

    let unprotected = json!({ "protected": "e30", "payload": "", "signature": "", "header": {} });
    let answer = Answer::of(bed.write("acme/orders", unprotected).await.unwrap());
    assert_eq!(answer.refusal(), refusal(400, "malformed"));
    assert!(!answer.header(Header::ReplayNonce).is_empty());
    let by_jwk = json!({ "alg": "ES256", "jwk": client.key.jwk(), "nonce": bed.nonce().await, "url": url });
    assert_eq!(client.send(&url, &client.key.sign(&by_jwk, b"")).await.refusal(), refusal(400, "malformed"));
    let account = client.url("new-account");
    let by_kid = client.header(&account).await;
    assert_eq!(
        client.send(&account, &client.key.sign(&by_kid, b"{}")).await.refusal(),
        refusal(400, "malformed")
    );
}

#[tokio::test]
async fn an_account_that_was_ended_can_do_nothing_any_more() {
    let bed = Bed::new().await;
    let client = Client::new(&bed, "acme/").await;
    let changed = client.post(&client.kid, json!({ "contact": ["mailto:b@example.com"] })).await;
    assert_eq!(changed.json()["contact"], json!(["mailto:b@example.com"]));
    let wrong = client.post(&client.kid, json!({ "contact": ["tel:1"] })).await;
    assert_eq!(wrong.problem(), "unsupportedContact");
    bed.next_commit(Fault::Fails);
    assert_eq!(client.post(&client.kid, json!({ "status": "deactivated" })).await.status, 500);
    assert_eq!(client.read(&client.kid).await.json()["status"], "valid");
    let ended = client.post(&client.kid, json!({ "status": "deactivated" })).await;
    assert_eq!(ended.json()["status"], "deactivated");
    for answer in [client.read(&client.kid).await, client.order(&["a.example"]).await] {
        assert_eq!(answer.refusal(), (401, "unauthorized".to_owned()));
    }
    for only in [false, true] {
        let again = client.new_account(json!({ "onlyReturnExisting": only })).await;
        assert_eq!(again.refusal(), (401, "unauthorized".to_owned()), "for good");
    }
}

#[tokio::test]
async fn strangers_make_no_more_than_so_many_accounts_an_hour() {
    let bed = Bed::new().await;
    let mut writes = Writes::new();
    let view = bed.engine.store.view.clone();
    for _ in 0..999 {
        let name = super::super::records::name_of(&super::super::records::fresh_id(NOW).unwrap());
        writes.put(&view, collection::ACCOUNTS, &name, b"{}").unwrap();
    }
    view.commit(writes).await.unwrap();
    let first = Client::new(&bed, "acme/").await;
    let refused = Client::without_account(&bed, "acme/").new_account(json!({})).await;
    assert_eq!(refused.refusal(), (429, "rateLimited".to_owned()));
    assert_eq!(first.new_account(json!({})).await.status, 200, "an account that is there is found");
    bed.write("config/acme", json!({ "eab_policy": "new-account-required" })).await.unwrap();
    let client = Client::without_account(&bed, "acme/");
    let (id, secret) = eab(&bed, "acme/").await;
    let binding = binding(&client.key.jwk(), &id, &secret, &client.url("new-account"));
    let bound = client.new_account(json!({ "externalAccountBinding": binding })).await;
    assert_eq!(bound.status, 201, "whom an operator let in is no stranger");
    bed.write("config/acme", json!({ "eab_policy": "not-required" })).await.unwrap();
    bed.later(3601);
    Client::new(&bed, "acme/").await;
}

#[tokio::test]
async fn an_account_gets_another_key_and_the_old_one_is_nobodys() {
    let bed = Bed::new().await;
    let mut client = Client::new(&bed, "acme/").await;
    let url = client.url("key-change");
    let change = async |client: &Client<'_>, inner_key: &Key, account: &str, old: Value, inner_url: &str| {
        let header = json!({ "alg": inner_key.algorithm, "jwk": inner_key.jwk(), "url": inner_url });
        let payload = json!({ "account": account, "oldKey": old });
        let inner = inner_key.sign(&header, payload.to_string().as_bytes());
        client.post(&client.url("key-change"), json!(inner)).await
    };
    let new = Key::new("EdDSA");
    let (kid, old) = (client.kid.clone(), client.key.jwk());
    assert_eq!(change(&client, &new, "x", old.clone(), &url).await.refusal(), (400, "malformed".to_owned()));
    assert_eq!(change(&client, &new, &kid, new.jwk(), &url).await.refusal(), (400, "malformed".to_owned()));
    assert_eq!(change(&client, &new, &kid, old.clone(), &kid).await.refusal(), (400, "malformed".to_owned()));
    let other = Client::new(&bed, "acme/").await;
    let taken = change(&client, &other.key, &kid, old.clone(), &url).await;
    assert_eq!((taken.status, taken.header(Header::Location)), (409, other.kid.clone()));
    bed.next_commit(Fault::Fails);
    assert_eq!(change(&client, &new, &kid, old.clone(), &url).await.status, 500);
    assert_eq!(client.read(&kid).await.status, 200, "what was not stored did not happen");
    assert_eq!(change(&client, &new, &kid, old, &url).await.status, 200);
    assert_eq!(client.read(&kid).await.problem(), "badSignatureAlgorithm");
    assert_eq!(
        client.new_account(json!({ "onlyReturnExisting": true })).await.problem(),
        "accountDoesNotExist"
    );
    client.key = new;
    assert_eq!(client.read(&kid).await.status, 200);
}

/// A key of `new-eab`.
async fn eab(bed: &Bed, directory: &str) -> (String, String) {
    let answer = bed.write(&format!("{directory}new-eab"), json!({})).await.unwrap();
    let data: Value = serde_json::from_str(answer.data.unwrap().get()).unwrap();
    assert_eq!(data["acme_directory"], format!("{directory}directory"));
    assert_eq!(data["key_type"], "hs");
    (data["id"].as_str().unwrap().to_owned(), data["key"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_binding_lets_one_account_in() {
    let bed = Bed::new().await;
    bed.write("roles/web", json!({ "allow_any_name": true })).await.unwrap();
    let unbound = Client::new(&bed, "acme/").await;
    bed.write("config/acme", json!({ "eab_policy": "new-account-required" })).await.unwrap();
    assert_eq!(bed.get("acme/directory").await.json()["meta"]["externalAccountRequired"], true);
    let client = Client::without_account(&bed, "acme/");
    assert_eq!(client.new_account(json!({})).await.refusal(), (401, "externalAccountRequired".to_owned()));
    let (id, key) = eab(&bed, "acme/").await;
    let url = client.url("new-account");
    let bound = async |client: &Client<'_>, binding: Envelope| {
        client.new_account(json!({ "externalAccountBinding": binding })).await
    };
    let unauthorized = || (401, "unauthorized".to_owned());
    let wrong_key = BASE64URL.encode([7; 41]);
    let jwk = client.key.jwk();
    assert_eq!(bound(&client, binding(&jwk, &id, &wrong_key, &url)).await.refusal(), unauthorized());
    assert_eq!(bound(&client, binding(&jwk, "x", &key, &url)).await.refusal(), unauthorized());
    assert_eq!(bound(&client, binding(&jwk, &id, &key, "https://x")).await.refusal(), unauthorized());
    let other_jwk = Key::new("ES256").jwk();
    assert_eq!(bound(&client, binding(&other_jwk, &id, &key, &url)).await.problem(), "malformed");
    let (role_id, role_key) = eab(&bed, "roles/web/acme/").await;
    assert_eq!(bound(&client, binding(&jwk, &role_id, &role_key, &url)).await.refusal(), unauthorized());
    let listed = bed.ask(Operation::List, "eab", Value::Null).await.unwrap();
    let listed: Value = serde_json::from_str(listed.data.unwrap().get()).unwrap();
    let mut ids = [&id, &role_id];
    ids.sort();
    assert_eq!(listed["keys"], json!(ids));
    assert!(!listed.to_string().contains(&key), "the secret is shown once");

    bed.next_commit(Fault::Fails);
    assert_eq!(bound(&client, binding(&jwk, &id, &key, &url)).await.status, 500);
    let made = bound(&client, binding(&jwk, &id, &key, &url)).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert_eq!(made.json()["externalAccountBinding"]["protected"], binding(&jwk, &id, &key, &url).protected);
    let second = Client::without_account(&bed, "acme/");
    let again = binding(&second.key.jwk(), &id, &key, &url);
    assert_eq!(bound(&second, again).await.refusal(), unauthorized(), "each key is used once");

    assert_eq!(unbound.order(&["a.example"]).await.status, 201, "who was in stays in");
    bed.write("config/acme", json!({ "eab_policy": "always-required" })).await.unwrap();
    assert_eq!(unbound.order(&["a.example"]).await.problem(), "externalAccountRequired");
    let client = Client { kid: made.header(Header::Location), ..client };
    assert_eq!(client.order(&["a.example"]).await.status, 201);
}

#[tokio::test]
async fn a_key_for_bindings_can_be_taken_back() {
    let bed = Bed::new().await;
    let (id, key) = eab(&bed, "acme/").await;
    assert!(bed.ask(Operation::Delete, "eab/x", Value::Null).await.is_err());
    let answer = bed.ask(Operation::Delete, &format!("eab/{id}"), Value::Null).await.unwrap();
    assert_eq!(answer.warnings, [""; 0]);
    let again = bed.ask(Operation::Delete, &format!("eab/{id}"), Value::Null).await.unwrap();
    assert_eq!(again.warnings, [format!("No key id found with id: {id}")]);
    let client = Client::without_account(&bed, "acme/");
    let binding = binding(&client.key.jwk(), &id, &key, &client.url("new-account"));
    let answer = client.new_account(json!({ "externalAccountBinding": binding })).await;
    assert_eq!(answer.refusal(), (401, "unauthorized".to_owned()));
}

#[tokio::test]
async fn keys_for_bindings_come_and_go_once_that_is_durable() {
    for (fault, done) in [(Fault::Fails, false), (Fault::FailsAfterPersisting, true)] {
        let bed = Bed::new().await;
        let listed = async || bed.ask(Operation::List, "eab", Value::Null).await.is_ok();
        bed.next_commit(fault);
        assert!(bed.write("acme/new-eab", json!({})).await.is_err());
        assert_eq!(listed().await, done, "{fault:?}");
        let bed = Bed::new().await;
        let (id, _) = eab(&bed, "acme/").await;
        bed.next_commit(fault);
        assert!(bed.ask(Operation::Delete, &format!("eab/{id}"), Value::Null).await.is_err());
        assert_eq!(bed.ask(Operation::List, "eab", Value::Null).await.is_err(), done, "{fault:?}");
    }
}

#[tokio::test]
async fn what_became_of_an_account_whose_fate_is_unknown_is_what_storage_says() {
    let bed = Bed::new().await;
    let unknown = async |client: &Client<'_>, url: &str, payload: Value| {
        let header = client.header(url).await;
        let envelope = client.key.sign(&header, payload.to_string().as_bytes());
        bed.next_commit(Fault::FailsAfterPersisting);
        assert_eq!(client.send(url, &envelope).await.refusal(), (500, "serverInternal".to_owned()));
    };
    let mut client = Client::new(&bed, "acme/").await;
    let (new, url) = (Key::new("ES256"), client.url("key-change"));
    let header = json!({ "alg": new.algorithm, "jwk": new.jwk(), "url": url });
    let payload = json!({ "account": client.kid, "oldKey": client.key.jwk() });
    let inner = new.sign(&header, payload.to_string().as_bytes());
    unknown(&client, &url, json!(inner)).await;
    assert_eq!(client.read(&client.kid).await.problem(), "malformed", "the old key is nobody's");
    client.key = new;
    assert_eq!(client.read(&client.kid).await.status, 200);
    let order = client.order(&["a.example"]).await;
    let authorization = order.json()["authorizations"][0].as_str().unwrap().to_owned();
    unknown(&client, &authorization, json!({ "status": "deactivated" })).await;
    assert_eq!(client.read(&authorization).await.json()["status"], "deactivated");
    unknown(&client, &client.kid, json!({ "status": "deactivated" })).await;
    assert_eq!(client.read(&client.kid).await.refusal(), (401, "unauthorized".to_owned()));
}
