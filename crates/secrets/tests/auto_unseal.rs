//! A server whose seal opens by itself: a static key in the configuration, and recovery shares for people.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a helper of tests fails as tests do")]

mod common;

use std::sync::Arc;

use chancery_secrets::Operation;
use chancery_secrets::error::Kind;
use chancery_storage::seal::{StaticKey, StaticSeal};
use chancery_storage::{Memory, Seal};
use common::Server;
use data_encoding::{BASE64_NOPAD, HEXLOWER};
use serde_json::{Value, json};

fn seal(id: &str, byte: u8) -> Option<Arc<dyn Seal>> {
    let key = StaticKey::new(id, &[byte; 32]).unwrap();
    Some(Arc::new(StaticSeal::new(key, None).unwrap()))
}

/// A server that was initialised through the API, with its recovery shares in hex and its root token.
async fn initialized() -> (Server, Vec<String>, String) {
    let server = Server::with_seal(Arc::new(Memory::new()), seal("a", 1));
    let body = json!({ "recovery_shares": 3, "recovery_threshold": 2 });
    let made = server.json(server.ask(Operation::Update, "sys/init", "", body).await);
    assert_eq!((&made["keys"], &made["keys_base64"]), (&json!([]), &json!([])), "nobody needs to unseal it");
    let shares = serde_json::from_value(made["recovery_keys"].clone()).unwrap();
    (server, shares, made["root_token"].as_str().unwrap().to_owned())
}

/// The same store after a restart under another seal; still sealed.
fn restarted(server: &Server, seal: Option<Arc<dyn Seal>>) -> Server {
    Server::with_seal(Arc::new(server.memory.reopened()), seal)
}

async fn seal_status(server: &Server) -> Value {
    server.json(server.ask(Operation::Read, "sys/seal-status", "", Value::Null).await)
}

#[tokio::test]
async fn it_is_unsealed_by_its_initialisation_and_by_each_start() {
    let (server, shares, root) = initialized().await;
    assert_eq!(shares.len(), 3);
    let shown = seal_status(&server).await;
    assert_eq!(
        (&shown["type"], &shown["sealed"], &shown["recovery_seal"], &shown["t"], &shown["n"]),
        (&json!("static"), &json!(false), &json!(true), &json!(2), &json!(3))
    );
    let body = json!({ "policy": r#"path "a" {}"# });
    server.ask(Operation::Update, "sys/policies/acl/kept", &root, body).await.unwrap();

    let again = restarted(&server, seal("a", 1));
    assert_eq!(seal_status(&again).await["sealed"], true);
    again.core.unseal_automatically().await.unwrap();
    assert_eq!(seal_status(&again).await["sealed"], false);
    let kept = again.ask(Operation::Read, "sys/policies/acl/kept", &root, Value::Null).await;
    assert_eq!(again.json(kept)["data"]["policy"], r#"path "a" {}"#);
}

#[tokio::test]
async fn it_stays_sealed_without_the_key_and_recovery_shares_do_not_open_it() {
    let (server, shares, root) = initialized().await;
    for other in [seal("a", 2), seal("b", 1)] {
        let again = restarted(&server, other);
        again.core.unseal_automatically().await.unwrap_err();
        assert!(again.core.is_sealed());
    }
    let again = restarted(&server, seal("a", 1));
    for share in &shares {
        // However the server answers, what people hold does not stand in for the key.
        let _ = again.ask(Operation::Update, "sys/unseal", "", json!({ "key": share })).await;
        assert!(again.core.is_sealed());
    }
    let refusal = again.refusal(Operation::Read, "sys/mounts", &root, Value::Null).await;
    assert_eq!(refusal.0, Kind::Sealed);
    let (one, two) = tokio::join!(again.core.unseal_automatically(), again.core.unseal_automatically());
    assert!(one.is_ok() && two.is_ok());
    // Open, it takes a share without a look at it, as with any other seal.
    again.ask(Operation::Update, "sys/unseal", "", json!({ "key": shares[0] })).await.unwrap();
    assert_eq!(seal_status(&again).await["sealed"], false);
}

#[tokio::test]
async fn recovery_shares_make_a_root_token_also_after_a_restart() {
    let (server, shares, root) = initialized().await;
    let server = restarted(&server, seal("a", 1));
    server.core.unseal_automatically().await.unwrap();
    let write = |path: &'static str, body: Value| server.ask(Operation::Update, path, &root, body);
    let begun = server.json(write("sys/generate-root-token/attempt", json!({})).await)["data"].clone();
    assert_eq!(begun["required"], 2);
    let share = |key: &str| json!({ "key": key, "nonce": begun["nonce"] });
    let first = server.json(write("sys/generate-root-token/update", share(&shares[2])).await);
    assert_eq!((&first["data"]["progress"], &first["data"]["complete"]), (&json!(1), &json!(false)));
    let done = server.json(write("sys/generate-root-token/update", share(&shares[0])).await)["data"].clone();
    assert_eq!(done["complete"], true);

    let encoded = BASE64_NOPAD.decode(done["encoded_token"].as_str().unwrap().as_bytes()).unwrap();
    let otp = begun["otp"].as_str().unwrap().bytes();
    let token: String = encoded.iter().zip(otp).map(|(a, b)| char::from(a ^ b)).collect();
    let shown = server.json(server.ask(Operation::Read, "auth/token/lookup-self", &token, Value::Null).await);
    assert_eq!(shown["data"]["policies"], json!(["root"]));
}

#[tokio::test]
async fn a_wrong_recovery_share_makes_nothing_and_the_right_ones_still_do() {
    let (server, shares, root) = initialized().await;
    let write = |path: &'static str, body: Value| server.ask(Operation::Update, path, &root, body);
    let accessors = async || {
        let listed = server.ask(Operation::List, "auth/token/accessors", &root, Value::Null).await;
        server.json(listed)["data"]["keys"].as_array().unwrap().len()
    };
    let begun = server.json(write("sys/generate-root-token/attempt", json!({})).await)["data"].clone();
    let share = |key: &str| json!({ "key": key, "nonce": begun["nonce"] });

    // Of the right shape, with another secret in it.
    let mut bytes = HEXLOWER.decode(shares[1].as_bytes()).unwrap();
    bytes[0] ^= 1;
    let wrong = HEXLOWER.encode(&bytes);
    write("sys/generate-root-token/update", share(&shares[0])).await.unwrap();
    let refusal =
        server.refusal(Operation::Update, "sys/generate-root-token/update", &root, share(&wrong)).await;
    assert_eq!(refusal.0, Kind::InvalidRequest);
    assert!(refusal.1.starts_with("root generation aborted"), "{}", refusal.1);
    assert_eq!(accessors().await, 1, "only the first root token");

    let idle = server.ask(Operation::Read, "sys/generate-root-token/attempt", &root, Value::Null).await;
    assert_eq!(server.json(idle)["data"]["progress"], 0, "the shares are given anew");
    write("sys/generate-root-token/update", share(&shares[0])).await.unwrap();
    let done = server.json(write("sys/generate-root-token/update", share(&shares[1])).await);
    assert_eq!(done["data"]["complete"], true);
    assert_eq!(accessors().await, 2);
}
