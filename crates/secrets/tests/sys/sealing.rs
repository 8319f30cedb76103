//! Initialisation, key shares, unsealing, sealing, and the keys behind them.

use super::*;

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
