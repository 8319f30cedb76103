//! The server's own paths, from outside: initialisation and keys, mounts, policies, capabilities, tools.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "the helpers of a test fail with it")]

mod common;

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

fn status(answer: &Result<Answer, Error>) -> Option<u16> {
    answer.as_ref().unwrap().response.status
}

fn invalid(text: &str) -> (Kind, String) {
    (Kind::InvalidRequest, text.to_owned())
}

#[tokio::test]
async fn initialisation_gives_out_keys_once_and_leaves_the_server_sealed() {
    let server = Server::over(Arc::new(Memory::new())).await;
    let read = |path: &'static str| server.ask(Operation::Read, path, "", Value::Null);
    assert_eq!(server.json(read("sys/init").await), json!({ "initialized": false }));
    let before = server.json(read("sys/seal-status").await);
    assert_eq!(
        (&before["initialized"], &before["sealed"], &before["n"]),
        (&json!(false), &json!(true), &json!(0))
    );
    for (body, text) in [
        (json!({}), "invalid seal configuration: shares must be at least one"),
        (json!({ "secret_shares": 5 }), "invalid seal configuration: threshold must be at least one"),
        (
            json!({ "secret_shares": 2, "secret_threshold": 1 }),
            "invalid seal configuration: threshold must be greater than one for multiple shares",
        ),
        (
            json!({ "secret_shares": 256, "secret_threshold": 2 }),
            "invalid seal configuration: shares must be less than 256",
        ),
        (
            json!({ "secret_shares": 5, "secret_threshold": 3, "recovery_shares": 1 }),
            "parameters recovery_shares not applicable to seal type shamir",
        ),
        (
            json!({ "secret_shares": 1, "secret_threshold": 1, "pgp_keys": ["x"] }),
            "pgp_keys, recovery_pgp_keys and root_token_pgp_key are not supported; take the shares over TLS",
        ),
    ] {
        assert_eq!(server.refusal(Operation::Update, "sys/init", "", body).await, invalid(text));
    }

    let body = json!({ "secret_shares": "3", "secret_threshold": "2" });
    let made = server.json(server.ask(Operation::Update, "sys/init", "", body.clone()).await);
    assert_eq!(made["keys"].as_array().unwrap().len(), 3);
    for (hex, base64) in made["keys"].as_array().unwrap().iter().zip(made["keys_base64"].as_array().unwrap())
    {
        let bytes = HEXLOWER.decode(hex.as_str().unwrap().as_bytes()).unwrap();
        assert_eq!(BASE64.encode(&bytes), base64.as_str().unwrap());
    }
    assert_eq!(
        server.refusal(Operation::Update, "sys/init", "", body).await,
        invalid("Vault is already initialized")
    );
    assert_eq!(server.json(read("sys/init").await), json!({ "initialized": true }));
    assert_eq!(server.refusal(Operation::Read, "sys/leader", "", Value::Null).await.0, Kind::Sealed);
}

#[tokio::test]
async fn shares_unseal_in_hex_and_base64_and_the_next_request_works() {
    let (server, keys, root) = initialized(3, 2).await;
    let base64 = BASE64.encode(&HEXLOWER.decode(keys[1].as_bytes()).unwrap());
    for (key, text) in [
        ("", "'key' must be specified in request body as JSON, or 'reset' set to true"),
        ("zz", "'key' must be a valid hex or base64 string"),
        ("aabb", "invalid key: key is shorter than minimum 16 bytes"),
    ] {
        assert_eq!(unseal(&server, key).await, Err(invalid(text)));
    }
    // The same share twice is one share.
    for _ in 0..2 {
        let shown = unseal(&server, &keys[0]).await.unwrap();
        assert_eq!((&shown["progress"], &shown["sealed"], &shown["t"]), (&json!(1), &json!(true), &json!(2)));
        assert_ne!(shown["nonce"], "");
    }
    let reset = server.ask(Operation::Update, "sys/unseal", "", json!({ "reset": true })).await;
    assert_eq!(server.json(reset)["progress"], 0);

    // A wrong share spoils the collection, and the right ones still work.
    unseal(&server, &keys[0]).await.unwrap();
    let wrong = format!("{}{}", &keys[1][..62], &keys[0][62..]);
    assert_eq!(unseal(&server, &wrong).await.unwrap_err().0, Kind::InvalidRequest);
    unseal(&server, &keys[0]).await.unwrap();
    assert_eq!(unseal(&server, &base64).await.unwrap()["sealed"], false);
    assert!(server.ask(Operation::Read, "sys/mounts", &root, Value::Null).await.is_ok());
    assert_eq!(
        server.refusal(Operation::Update, "sys/unseal", "", json!({ "reset": true })).await,
        invalid("vault is unsealed")
    );
}

#[tokio::test]
async fn shares_given_at_once_start_the_server_once() {
    let (origin, keys, root) = initialized(5, 3).await;
    for key in &keys[..3] {
        unseal(&origin, key).await.unwrap();
    }
    let (server, store) = slow(&origin);
    for key in &keys[..3] {
        unseal(&server, key).await.unwrap();
    }
    let once = store.listed.load(Ordering::Relaxed);
    assert_ne!(once, 0);

    server.core.seal().await;
    store.listed.store(0, Ordering::Relaxed);
    let (a, b, c, d, e) = tokio::join!(
        unseal(&server, &keys[0]),
        unseal(&server, &keys[1]),
        unseal(&server, &keys[2]),
        unseal(&server, &keys[3]),
        unseal(&server, &keys[4]),
    );
    for shown in [a, b, c, d, e] {
        shown.unwrap();
    }
    assert_eq!(store.listed.load(Ordering::Relaxed), once);
    assert!(server.ask(Operation::Read, "sys/mounts", &root, Value::Null).await.is_ok());
}

#[tokio::test]
async fn nothing_but_the_key_opens_a_server_whose_start_failed_or_broke_off() {
    let (origin, keys, _) = initialized(1, 1).await;
    let (server, store) = slow(&origin);
    let arbitrary = "07".repeat(32);

    store.broken.store(true, Ordering::Relaxed);
    assert_eq!(unseal(&server, &keys[0]).await.unwrap_err().0, Kind::Internal);
    store.broken.store(false, Ordering::Relaxed);
    assert!(unseal(&server, &arbitrary).await.is_err());
    assert!(server.core.is_sealed());
    assert_eq!(unseal(&server, &keys[0]).await.unwrap()["sealed"], false);
    // As the peer does: nobody looks at what is given to an open server.
    assert_eq!(unseal(&server, &arbitrary).await.unwrap()["sealed"], false);

    server.core.seal().await;
    assert!(unseal(&server, &arbitrary).await.is_err());
    store.listed.store(0, Ordering::Relaxed);
    let key = HEXLOWER.decode(keys[0].as_bytes()).unwrap();
    let mut starting = Box::pin(server.core.unseal(&key));
    std::future::poll_fn(|context| {
        let _ = starting.as_mut().poll(context);
        if store.listed.load(Ordering::Relaxed) > 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    drop(starting);
    assert!(server.core.is_sealed());
    assert!(unseal(&server, &arbitrary).await.is_err());
    assert!(server.core.is_sealed());
    assert_eq!(unseal(&server, &keys[0]).await.unwrap()["sealed"], false);
}

#[tokio::test]
async fn health_says_the_state_by_its_status_and_clients_may_choose_it() {
    let server = Server::over(Arc::new(Memory::new())).await;
    let health = |server: &Server, query: Value| {
        let core = Arc::clone(&server.core);
        let mut request = chancery_secrets::Request::new(Operation::Read, "sys/health");
        for (name, value) in query.as_object().unwrap() {
            request.query.push((name.clone(), value.as_str().unwrap().to_owned()));
        }
        async move { core.handle(request).await }
    };
    assert_eq!(status(&health(&server, json!({})).await), Some(501));
    assert_eq!(status(&health(&server, json!({ "uninitcode": "299" })).await), Some(299));
    assert!(health(&server, json!({ "uninitcode": "abc" })).await.is_err());

    let server = Server::start().await;
    let answer = health(&server, json!({})).await;
    assert_eq!(status(&answer), Some(200));
    let body = server.json(answer);
    assert_eq!(body["performance_standby"], false, "a client decodes it as required");
    assert_eq!((&body["standby"], &body["sealed"]), (&json!(false), &json!(false)));
    assert!(body["server_time_utc"].is_i64() && body["cluster_id"].is_string());
    assert_eq!(
        status(&health(&server, json!({ "activecode": "250", "standbyok": "true" })).await),
        Some(250)
    );
    server.core.seal().await;
    assert_eq!(status(&health(&server, json!({})).await), Some(503));
    assert_eq!(status(&health(&server, json!({ "sealedcode": "299" })).await), Some(299));
}

#[tokio::test]
async fn new_key_shares_replace_the_old_ones() {
    let (server, keys, root) = initialized(3, 2).await;
    unseal(&server, &keys[0]).await.unwrap();
    unseal(&server, &keys[1]).await.unwrap();
    let write = |path: &'static str, body: Value| server.ask(Operation::Update, path, &root, body);
    let idle = json!({ "n": 0, "required": 2, "started": false, "t": 0 });
    let read = || server.ask(Operation::Read, "sys/rotate/root/init", &root, Value::Null);
    assert_eq!(server.json(read().await)["data"], idle);

    let begun = server
        .json(write("sys/rotate/root/init", json!({ "secret_shares": 2, "secret_threshold": 2 })).await);
    let nonce = begun["data"]["nonce"].clone();
    assert_eq!(begun["data"]["started"], true);
    for (body, text) in [
        (json!({ "nonce": nonce }), "missing required field 'key'".to_owned()),
        (json!({ "key": keys[0] }), "missing required field 'nonce'".to_owned()),
        (
            json!({ "key": keys[0], "nonce": "bad" }),
            format!("incorrect nonce supplied; nonce for rotation is {nonce}"),
        ),
    ] {
        assert_eq!(
            server.refusal(Operation::Update, "sys/rotate/root/update", &root, body).await,
            invalid(&text)
        );
    }
    let share = json!({ "key": keys[0], "nonce": nonce });
    assert_eq!(server.json(write("sys/rotate/root/update", share.clone()).await)["data"]["progress"], 1);
    assert_eq!(
        server.refusal(Operation::Update, "sys/rotate/root/update", &root, share).await,
        invalid("given key has already been provided during this rotation")
    );
    let done = server.json(write("sys/rotate/root/update", json!({ "key": keys[2], "nonce": nonce })).await);
    assert_eq!(done["data"]["complete"], true);
    let new: Vec<String> = serde_json::from_value(done["data"]["keys"].clone()).unwrap();
    assert_eq!(server.json(read().await)["data"], idle);

    server.core.seal().await;
    unseal(&server, &keys[0]).await.unwrap();
    assert!(unseal(&server, &keys[1]).await.is_err(), "the old shares are worth nothing");
    unseal(&server, &new[0]).await.unwrap();
    assert_eq!(unseal(&server, &new[1]).await.unwrap()["sealed"], false);
    assert!(server.ask(Operation::Read, "sys/mounts", &root, Value::Null).await.is_ok());
}

#[tokio::test]
async fn new_key_shares_can_be_shown_back_before_they_are_in_force() {
    let (server, keys, root) = initialized(1, 1).await;
    unseal(&server, &keys[0]).await.unwrap();
    let ask =
        |operation: Operation, path: &'static str, body: Value| server.ask(operation, path, &root, body);
    let body = json!({ "secret_shares": 3, "secret_threshold": 2, "require_verification": true });
    let begun = server.json(ask(Operation::Update, "sys/rekey/init", body).await);
    let nonce = begun["nonce"].clone();
    assert_eq!(begun["verification_required"], true, "the older path shows its fields at the top level too");
    let body = json!({ "key": keys[0], "nonce": nonce });
    let done = server.json(ask(Operation::Update, "sys/rekey/update", body.clone()).await);
    let new: Vec<String> = serde_json::from_value(done["keys"].clone()).unwrap();
    let verification = done["verification_nonce"].clone();
    let again = server.refusal(Operation::Update, "sys/rekey/update", &root, body).await.1;
    assert!(again.contains("verification must be performed"), "{again}");

    // Before that the old share is still the one.
    let wrong = json!({ "key": new[0], "nonce": "bad" });
    assert_eq!(
        server.refusal(Operation::Update, "sys/rekey/verify", &root, wrong).await,
        invalid(&format!("incorrect nonce supplied; nonce for this verify operation is {verification}"))
    );
    let share = json!({ "key": new[0], "nonce": verification });
    assert_eq!(server.json(ask(Operation::Update, "sys/rekey/verify", share).await)["progress"], 1);
    let restarted = server.json(ask(Operation::Delete, "sys/rekey/verify", Value::Null).await);
    assert_eq!(restarted["progress"], 0);
    for key in [&new[2], &new[0]] {
        let body = json!({ "key": key, "nonce": restarted["nonce"] });
        server.json(ask(Operation::Update, "sys/rekey/verify", body).await);
    }
    server.core.seal().await;
    assert!(unseal(&server, &keys[0]).await.is_err() || server.core.is_sealed());
    server.ask(Operation::Update, "sys/unseal", "", json!({ "reset": true })).await.unwrap();
    unseal(&server, &new[0]).await.unwrap();
    assert_eq!(unseal(&server, &new[1]).await.unwrap()["sealed"], false);
}

#[tokio::test]
async fn key_holders_together_can_make_a_root_token() {
    let (server, keys, root) = initialized(3, 2).await;
    unseal(&server, &keys[0]).await.unwrap();
    unseal(&server, &keys[1]).await.unwrap();
    let write = |path: &'static str, body: Value| server.ask(Operation::Update, path, &root, body);
    let idle =
        server.json(server.ask(Operation::Read, "sys/generate-root-token/attempt", &root, Value::Null).await);
    let length = idle["data"]["otp_length"].as_u64().unwrap();
    assert_eq!((&idle["data"]["started"], &idle["data"]["required"]), (&json!(false), &json!(2)));
    assert_eq!(
        server
            .refusal(Operation::Update, "sys/generate-root-token/attempt", &root, json!({ "otp": "x" }))
            .await,
        invalid("OTP string has incorrect length")
    );
    let begun = server.json(write("sys/generate-root/attempt", json!({})).await);
    let (nonce, otp) = (begun["nonce"].clone(), begun["otp"].as_str().unwrap().to_owned());
    assert_eq!(otp.len() as u64, length);
    let shown =
        server.json(server.ask(Operation::Read, "sys/generate-root-token/attempt", &root, Value::Null).await);
    assert_eq!(shown["data"]["otp"], "", "the password is shown once");

    let share = |key: &str| json!({ "key": key, "nonce": nonce });
    assert_eq!(server.json(write("sys/generate-root/update", share(&keys[0])).await)["progress"], 1);
    let done = server.json(write("sys/generate-root/update", share(&keys[2])).await);
    assert_eq!((&done["complete"], &done["progress"]), (&json!(true), &json!(2)));
    let encoded = done["encoded_token"].as_str().unwrap();
    let bytes = BASE64_NOPAD.decode(encoded.as_bytes()).unwrap();
    let token: String = bytes.iter().zip(otp.bytes()).map(|(a, b)| char::from(a ^ b)).collect();
    let body = json!({ "encoded_token": encoded, "otp": otp });
    let decoded = server.json(server.ask(Operation::Update, "sys/decode-token", "", body).await);
    assert_eq!(decoded["data"]["token"], token);
    assert!(server.ask(Operation::Read, "sys/mounts", &token, Value::Null).await.is_ok());

    // Wrong shares make nothing, and the attempt can be given up.
    let begun = server.json(write("sys/generate-root-token/attempt", json!({})).await);
    let nonce = &begun["data"]["nonce"];
    let wrong = format!("{}{}", &keys[1][..62], &keys[0][62..]);
    write("sys/generate-root-token/update", json!({ "key": keys[0], "nonce": nonce })).await.unwrap();
    let refused = json!({ "key": wrong, "nonce": nonce });
    let refused = server.refusal(Operation::Update, "sys/generate-root-token/update", &root, refused).await;
    assert!(
        refused.1.starts_with("root generation aborted") || refused.1.starts_with("invalid key"),
        "{refused:?}"
    );
    server.ask(Operation::Delete, "sys/generate-root-token/attempt", &root, Value::Null).await.unwrap();
    assert_eq!(
        server.refusal(Operation::Read, "sys/generate-root/attempt", "", Value::Null).await.0,
        Kind::PermissionDenied
    );
}

#[tokio::test]
async fn sealing_forgets_shares_that_were_given_for_anything() {
    let (server, keys, root) = initialized(3, 2).await;
    unseal(&server, &keys[0]).await.unwrap();
    unseal(&server, &keys[1]).await.unwrap();
    let begun =
        server.json(server.ask(Operation::Update, "sys/generate-root-token/attempt", &root, json!({})).await);
    let share = json!({ "key": keys[0], "nonce": begun["data"]["nonce"] });
    server.ask(Operation::Update, "sys/generate-root-token/update", &root, share).await.unwrap();
    server.ask(Operation::Update, "sys/seal", &root, Value::Null).await.unwrap();
    assert!(server.core.is_sealed());
    unseal(&server, &keys[0]).await.unwrap();
    unseal(&server, &keys[1]).await.unwrap();
    let idle =
        server.json(server.ask(Operation::Read, "sys/generate-root-token/attempt", &root, Value::Null).await);
    assert_eq!(idle["data"]["started"], false);
}

#[tokio::test]
async fn the_encryption_key_is_replaced_on_demand_and_by_age() {
    let server = Server::start().await;
    let term = |shown: &Value| shown["term"].as_u64().unwrap();
    let first = server.read("sys/key-status").await;
    assert_eq!(first["data"]["term"], first["term"]);
    assert!(first["install_time"].is_string() && first["encryptions"].is_u64());
    server.write("sys/rotate", Value::Null).await;
    server.write("sys/rotate/keyring", Value::Null).await;
    assert_eq!(term(&server.read("sys/key-status").await), term(&first) + 2);
    // What was written under the old keys can still be read.
    assert!(server.read("sys/mounts").await["data"]["sys/"].is_object());

    for (body, text) in [
        (json!({ "max_operations": 1 }), "max_operations must be in the range [1000000,3865470566]"),
        (json!({ "interval": "1h" }), "interval must be greater or equal to 24h0m0s"),
    ] {
        assert_eq!(server.refusal(Operation::Update, "sys/rotate/config", "root", body).await, invalid(text));
    }
    server.write("sys/rotate/config", json!({ "interval": "24h" })).await;
    assert_eq!(server.read("sys/rotate/keyring/config").await["data"]["interval"], "24h0m0s");
    assert!(server.core.upkeep().await.is_empty());
    assert_eq!(term(&server.read("sys/key-status").await), term(&first) + 2);
    server.clock.advance(std::time::Duration::from_secs(25 * 3600));
    assert!(server.core.upkeep().await.is_empty());
    assert_eq!(term(&server.read("sys/key-status").await), term(&first) + 3);
}

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
async fn each_mount_has_its_own_accessor_and_keeps_it() {
    let server = Server::start().await;
    let names = async || {
        let (secret, auth) = (server.read("sys/mounts").await, server.read("sys/auth").await);
        ["sys/", "cubbyhole/"]
            .map(|path| secret["data"][path].clone())
            .into_iter()
            .chain([auth["data"]["token/"].clone()])
            .flat_map(|mount| [mount["accessor"].clone(), mount["uuid"].clone()])
            .collect::<Vec<_>>()
    };
    let before = names().await;
    let digits: std::collections::BTreeSet<&str> =
        before.iter().filter_map(|name| name.as_str()?.rsplit(['_', '-']).next()).collect();
    assert_eq!(digits.len(), 6, "{before:?}");
    server.core.seal().await;
    server.unseal().await;
    assert_eq!(names().await, before);

    let other = Server::start().await;
    assert_ne!(other.read("sys/mounts").await["data"]["sys/"]["accessor"], before[0]);
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
async fn a_move_that_is_refused_takes_nothing_back() {
    let server = Server::start().await;
    for mount in ["a", "b"] {
        server.write(&format!("sys/mounts/{mount}"), json!({ "type": "pki" })).await;
    }
    server.write("a/root/generate/internal", json!({ "common_name": "root", "key_type": "ec" })).await;
    let role = json!({ "allow_any_name": true, "key_type": "ec", "generate_lease": true, "ttl": "1h" });
    server.write("a/roles/web", role).await;
    let issued = server.write("a/issue/web", json!({ "common_name": "a.example" })).await;
    for (to, words) in [
        ("b", "path already in use at \"b/\""),
        ("a", "path already in use at \"a/\""),
        ("sys/x", "cannot remount to destination sys/x/"),
    ] {
        let body = json!({ "from": "a", "to": to });
        assert_eq!(server.refusal(Operation::Update, "sys/remount", "root", body).await, invalid(words));
    }
    let lease = json!({ "lease_id": issued["lease_id"] });
    assert_eq!(server.write("sys/leases/lookup", lease).await["data"]["path"], "a/issue/web");
}

#[tokio::test]
async fn an_auth_method_is_unmounted_and_moved_as_one() {
    let server = Server::start().await;
    server.write("sys/auth/approle", json!({ "type": "approle" })).await;
    let rules = r#"path "sys/mounts/*" { capabilities = ["create", "read", "update", "delete"] }"#;
    let token = token(&server, rules).await;
    for who in [token.as_str(), "root"] {
        for (path, shown) in [
            ("sys/mounts/auth/approle", "auth/approle/"),
            ("sys/mounts/auth/approle/", "auth/approle/"),
            ("sys/mounts/auth/token", "auth/token/"),
            ("sys/mounts/sys", "sys/"),
        ] {
            let refusal = server.refusal(Operation::Delete, path, who, Value::Null).await;
            assert_eq!(refusal, invalid(&format!("cannot unmount {shown:?}")), "{path}");
        }
        let mount = json!({ "type": "approle" });
        let refusal = server.refusal(Operation::Update, "sys/mounts/auth/new", who, mount).await;
        assert_eq!(refusal, invalid("cannot mount \"auth/new/\""));
        // As with the peer: what is not there counts as unmounted, and reading and tuning ask for no more.
        server.ask(Operation::Delete, "sys/mounts/auth/none", who, Value::Null).await.unwrap();
        server.ask(Operation::Read, "sys/mounts/auth/approle", who, Value::Null).await.unwrap();
        let tune = json!({ "description": who });
        server.ask(Operation::Update, "sys/mounts/auth/approle/tune", who, tune).await.unwrap();
    }
    for (from, to, words) in [
        ("auth/approle", "x", "cannot remount auth mount to non-auth mount \"x/\""),
        ("auth/none", "x", "cannot remount auth mount to non-auth mount \"x/\""),
        ("x", "auth/y", "cannot remount to destination auth/y/"),
    ] {
        let body = json!({ "from": from, "to": to });
        assert_eq!(server.refusal(Operation::Update, "sys/remount", "root", body).await, invalid(words));
    }
    assert_eq!(server.read("sys/auth").await["data"]["approle/"]["type"], "approle");
    let refusal = server.refusal(Operation::Delete, "sys/auth/approle", &token, Value::Null).await;
    assert_eq!(refusal.0, Kind::PermissionDenied);
    server.ask(Operation::Delete, "sys/auth/approle", "root", Value::Null).await.unwrap();
    assert!(server.read("sys/auth").await["data"]["approle/"].is_null());
}

/// A mount with an authority and a role whose certificates have leases.
async fn mount_with_leases(server: &Server) {
    server.write("sys/mounts/pki", json!({ "type": "pki" })).await;
    server.write("pki/root/generate/internal", json!({ "common_name": "root", "key_type": "ec" })).await;
    let role = json!({ "allow_any_name": true, "key_type": "ec", "generate_lease": true, "ttl": "1h" });
    server.write("pki/roles/web", role).await;
}

#[tokio::test]
async fn an_unmounting_that_failed_is_finished_by_asking_again() {
    for fault in [Fault::Fails, Fault::FailsAfterPersisting] {
        for failing in 0_usize.. {
            // How many commits work before the one that fails; unarmed before and after.
            let fuse = Arc::new(AtomicUsize::new(usize::MAX));
            let left = Arc::clone(&fuse);
            let memory = Memory::new().with_faults(move |_| {
                let commits = left.load(Ordering::Relaxed);
                if commits == usize::MAX {
                    return Fault::None;
                }
                left.store(commits.wrapping_sub(1), Ordering::Relaxed);
                if commits == 0 { fault } else { Fault::None }
            });
            let server = Server::start_over(Arc::new(memory)).await;
            let before = server.memory.dump().len();
            mount_with_leases(&server).await;
            leased(&server).await;

            fuse.store(failing, Ordering::Relaxed);
            let outcome = server.ask(Operation::Delete, "sys/mounts/pki", "root", Value::Null).await;
            if fuse.swap(usize::MAX, Ordering::Relaxed) != usize::MAX {
                assert!(outcome.is_ok() && failing >= 4, "{failing} commits");
                break;
            }
            assert!(outcome.is_err(), "commit {failing} failed and nobody noticed");
            server.ask(Operation::Delete, "sys/mounts/pki", "root", Value::Null).await.unwrap();

            let again = server.restarted().await;
            assert!(again.read("sys/mounts").await["data"]["pki/"].is_null(), "after commit {failing}");
            again.clock.advance(std::time::Duration::from_secs(1_000_000));
            for _ in 0..2 {
                let errors = again.core.upkeep().await;
                assert!(errors.is_empty(), "{errors:?}");
            }
            assert_eq!(again.memory.dump().len(), before, "after commit {failing}, {fault:?}");
            again.write("sys/mounts/pki", json!({ "type": "pki" })).await;
        }
    }
}

#[tokio::test]
async fn tunes_at_the_same_time_keep_what_the_others_set() {
    let (server, _) = slow(&Server::start().await);
    server.unseal().await;
    server.write("sys/mounts/pki", json!({ "type": "pki" })).await;
    tokio::join!(
        server.write("sys/mounts/pki/tune", json!({ "description": "d" })),
        server.write("sys/mounts/pki/tune", json!({ "max_lease_ttl": "5h" })),
        server.write("sys/mounts/pki/tune", json!({ "listing_visibility": "unauth" })),
    );
    let again = server.restarted().await;
    for server in [&server, &again] {
        let shown = server.read("sys/mounts/pki").await["data"].clone();
        let config = &shown["config"];
        assert_eq!(
            (&shown["description"], &config["max_lease_ttl"], &config["listing_visibility"]),
            (&json!("d"), &json!(18_000), &json!("unauth"))
        );
    }
}

#[tokio::test]
async fn what_was_tuned_of_the_servers_own_mounts_is_there_after_a_restart() {
    let server = Server::start().await;
    server.write("sys/auth/token/tune", json!({ "default_lease_ttl": "1h", "description": "d" })).await;
    for path in ["sys/mounts/sys/tune", "sys/mounts/cubbyhole/tune"] {
        server.write(path, json!({ "audit_non_hmac_request_keys": ["a"] })).await;
    }
    let again = server.restarted().await;
    for server in [&server, &again] {
        let shown = server.read("sys/auth/token/tune").await["data"].clone();
        assert_eq!((&shown["default_lease_ttl"], &shown["description"]), (&json!(3600), &json!("d")));
        for path in ["sys/mounts/sys/tune", "sys/mounts/cubbyhole/tune"] {
            assert_eq!(server.read(path).await["data"]["audit_non_hmac_request_keys"], json!(["a"]));
        }
    }
    for (path, body, words) in [
        (
            "sys/mounts/sys/tune",
            json!({ "default_lease_ttl": "" }),
            "cannot tune parameter default_lease_ttl of sys/",
        ),
        (
            "sys/mounts/cubbyhole/tune",
            json!({ "description": "d" }),
            "cannot tune parameter description of cubbyhole/",
        ),
        (
            "sys/mounts/sys/tune",
            json!({ "plugin_version": "v1" }),
            "cannot tune parameter plugin_version of sys/",
        ),
        (
            "sys/auth/token/tune",
            json!({ "token_type": "batch" }),
            "'token_type' cannot be set for 'token' or 'ns_token' auth mounts",
        ),
    ] {
        assert_eq!(server.refusal(Operation::Update, path, "root", body).await, invalid(words), "{path}");
    }
}

#[tokio::test]
async fn settings_that_a_mount_cannot_have_are_refused() {
    let server = Server::start().await;
    server.write("sys/mounts/pki", json!({ "type": "pki" })).await;
    for (body, words) in [
        (json!({ "token_type": "batch" }), "'token_type' can only be modified on auth mounts"),
        (
            json!({ "user_lockout_config": { "lockout_threshold": "5" } }),
            "tuning of user lockout configuration for auth type \"pki\" not allowed",
        ),
        (json!({ "plugin_version": "v1" }), "plugin not found in the catalog: pki, version=v1.0.0"),
        (json!({ "max_lease_ttl": "nonsense" }), "time: invalid duration \"nonsense\""),
        (
            json!({ "default_lease_ttl": "10h", "max_lease_ttl": "5h" }),
            "backend max lease TTL of 18000 would be less than backend default lease TTL of 36000",
        ),
    ] {
        let refusal = server.refusal(Operation::Update, "sys/mounts/pki/tune", "root", body).await;
        assert_eq!(refusal, invalid(words));
    }
    // Beyond the server's own limit it is only shortened when it is used.
    server.write("sys/mounts/pki/tune", json!({ "default_lease_ttl": "100000h" })).await;
    for kind in ["token", "system", "cubbyhole"] {
        let refusal =
            server.refusal(Operation::Update, "sys/mounts/x", "root", json!({ "type": kind })).await;
        assert_eq!(refusal, invalid(&format!("mount type of {kind:?} is not mountable")));
    }
    let body = json!({ "type": "pki", "config": "nonsense" });
    let (kind, message) = server.refusal(Operation::Update, "sys/mounts/x", "root", body).await;
    assert_eq!(kind, Kind::InvalidRequest);
    assert!(message.contains("field \"config\": '' expected type 'map[string]interface {}'"), "{message}");
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
async fn mounts_are_tuned_moved_and_described_as_clients_read_them() {
    let server = Server::start().await;
    server
        .write(
            "sys/auth/approle",
            json!({ "type": "approle", "config": { "user_lockout_config": { "lockout_threshold": "3" } } }),
        )
        .await;
    let shown = server.read("sys/auth").await;
    assert_eq!(shown["approle/"], shown["data"]["approle/"]);
    assert_eq!(shown["approle/"]["config"]["user_lockout_config"]["user_lockout_threshold"], 3);
    server
        .write(
            "sys/mounts/auth/approle/tune",
            json!({ "user_lockout_config": { "lockout_duration": "1m", "lockout_disable": true } }),
        )
        .await;
    let tuned = server.read("sys/auth/approle/tune").await;
    assert_eq!((&tuned["user_lockout_duration"], &tuned["user_lockout_disable"]), (&json!(60), &json!(true)));
    assert_eq!(tuned["data"]["user_lockout_threshold"], 3);
    assert_eq!(tuned["default_lease_ttl"], 2_764_800);

    server.write("sys/mounts/pki", json!({ "type": "pki" })).await;
    let moved = server.write("sys/remount", json!({ "from": "pki", "to": "ca" })).await;
    let id = moved["migration_id"].as_str().unwrap();
    let status = server.read(&format!("sys/remount/status/{id}")).await;
    assert_eq!(
        status["data"]["migration_info"],
        json!({ "source_mount": "pki/", "target_mount": "ca/", "status": "success" })
    );
    for (operation, path, body, text) in [
        (
            Operation::Update,
            "sys/remount",
            json!({ "from": "none", "to": "b" }),
            "no matching mount at \"none/\"",
        ),
        (
            Operation::Update,
            "sys/remount",
            json!({ "from": "ca", "to": "auth/b" }),
            "cannot remount to destination auth/b/",
        ),
        (
            Operation::Update,
            "sys/remount",
            json!({}),
            "both 'from' and 'to' path must be specified as a string",
        ),
        (
            Operation::Update,
            "sys/mounts/x",
            json!({ "type": "none" }),
            "plugin not found in the catalog: none",
        ),
        (Operation::Update, "sys/mounts/x", json!({}), "backend type must be specified as a string"),
        (Operation::Update, "sys/mounts/ca/x", json!({ "type": "pki" }), "path is already in use at ca/"),
        (Operation::Delete, "sys/auth/token", Value::Null, "token credential backend cannot be disabled"),
        (Operation::Read, "sys/mounts/none", Value::Null, "No secret engine mount at none/"),
        (Operation::Read, "sys/auth/none", Value::Null, "No auth engine at none/"),
        (Operation::Read, "sys/auth/none/tune", Value::Null, "cannot fetch sysview for path \"auth/none/\""),
    ] {
        assert_eq!(server.refusal(operation, path, "root", body).await, invalid(text), "{path}");
    }
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

/// A certificate with a lease; its lease id.
async fn leased(server: &Server) -> String {
    let issued = server.write("pki/issue/web", json!({ "common_name": "a.example" })).await;
    issued["lease_id"].as_str().unwrap().to_owned()
}

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
