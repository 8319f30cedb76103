//! When the machine says no: what an operator reads at the start, and what clients are answered.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use chancery_server::config::{Bind, ListenerConfig, StorageConfig};
use chancery_server::{Config, Running, start};
use serde_json::{Value, json};

/// A server on the store in this folder, which listens on a socket beside it.
fn config(folder: &Path) -> Config {
    let mut config = Config::new(StorageConfig::Embedded { path: folder.join("store") });
    let bind = Bind::Unix { path: folder.join("socket"), mode: None };
    config.listeners.push(ListenerConfig::new(bind));
    config
}

async fn refusal(config: Config) -> String {
    start(config).await.err().expect("refused").to_string()
}

/// Status and body.
async fn ask(folder: &Path, token: &str, method: &str, path: &str, body: Value) -> (u16, Value) {
    let socket = folder.join("socket");
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = format!(
        "{method} /v1/{path} HTTP/1.1\r\nhost: x\r\nx-vault-token: {token}\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = answer.await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    (status, serde_json::from_str(body).unwrap_or(Value::Null))
}

/// Initialises the server and unseals it with two of three keys; the keys and the root token.
async fn unsealed(folder: &Path) -> (Vec<String>, String) {
    let shares = json!({ "secret_shares": 3, "secret_threshold": 2 });
    let (status, made) = ask(folder, "", "PUT", "sys/init", shares).await;
    assert_eq!(status, 200, "{made}");
    let keys: Vec<String> = serde_json::from_value(made["keys"].clone()).unwrap();
    for key in keys.iter().take(2) {
        assert_eq!(ask(folder, "", "PUT", "sys/unseal", json!({ "key": key })).await.0, 200);
    }
    (keys, made["root_token"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_store_in_use_is_refused_with_the_number_of_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let first = start(config(folder.path())).await.expect("a server");
    let store = folder.path().join("store");
    let mut second = config(folder.path());
    second.listeners.clear();
    assert_eq!(
        refusal(second).await,
        format!(
            "storage: the store {} is in use by another process (pid {}); stop that process or choose another path",
            store.display(),
            std::process::id()
        )
    );
    first.shutdown().await;
}

#[tokio::test]
async fn a_damaged_database_is_refused_by_name_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store/store.db");
    fs::create_dir(path.parent().unwrap()).unwrap();
    let damaged = b"SQLite format 3\0".repeat(600);
    fs::write(&path, &damaged).unwrap();
    let sentence = refusal(config(folder.path())).await;
    assert!(sentence.starts_with("storage: corrupt storage: "), "{sentence}");
    assert!(sentence.contains("store.db"), "{sentence}");
    assert_eq!(fs::read(&path).unwrap(), damaged);
}

#[tokio::test]
async fn wrong_unseal_keys_are_answered_with_400_and_the_right_ones_still_work() {
    let folder = tempfile::tempdir().unwrap();
    let running = start(config(folder.path())).await.expect("a server");
    let (keys, _) = unsealed(folder.path()).await;
    running.shutdown().await;

    let running = start(config(folder.path())).await.expect("a server");
    let unseal = async |key: &str| ask(folder.path(), "", "PUT", "sys/unseal", json!({ "key": key })).await;
    let wrong: String = keys[0].chars().map(|digit| if digit == '0' { '1' } else { digit }).collect();
    assert_ne!(wrong, keys[0]);
    assert_eq!(unseal(&wrong).await.0, 200, "one key cannot be judged alone");
    const INVALID: &str = "invalid key: it does not open the root key of this store";
    let (status, body) = unseal(&keys[1]).await;
    assert_eq!((status, body), (400, json!({ "errors": [INVALID] })));
    let (status, body) = unseal("not a key").await;
    assert_eq!((status, body), (400, json!({ "errors": ["'key' must be a valid hex or base64 string"] })));
    assert_eq!(ask(folder.path(), "", "GET", "sys/health", Value::Null).await.0, 503);
    for key in &keys[..2] {
        assert_eq!(unseal(key).await.0, 200);
    }
    assert_eq!(ask(folder.path(), "", "GET", "sys/health", Value::Null).await.0, 200);
    running.shutdown().await;
}

/// Runs one ignored test of this file in a process of its own, as another user if we are root.
fn run_as_nobody(test: &str, folder: &Path) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--ignored", "--nocapture"]).env("STORE", folder);
    if fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
        child.uid(65534).gid(65534);
    }
    child.status().is_ok_and(|status| status.success())
}

#[test]
fn a_folder_that_may_not_be_written_is_refused_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    assert!(run_as_nobody("child_finds_a_read_only_folder", folder.path()));
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test]
#[ignore = "run by a_folder_that_may_not_be_written_is_refused_with_advice in a process of its own"]
async fn child_finds_a_read_only_folder() {
    let folder = PathBuf::from(std::env::var("STORE").unwrap());
    let mut config = config(&folder);
    config.listeners.clear();
    let sentence = refusal(config).await;
    let store = folder.join("store");
    assert!(
        sentence.starts_with(&format!("storage: the store {} cannot be written (", store.display())),
        "{sentence}"
    );
    assert!(sentence.ends_with("give this user write permission there or choose another path"), "{sentence}");
}

/// A file system of four megabytes in a mount namespace of our own; skipped where that is not allowed.
#[test]
fn a_full_disk_costs_writes_until_there_is_room_again_and_reading_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"mount -t tmpfs -o size=4m none "$STORE" || exit 77
                    exec "$TEST" --exact child_fills_its_disk --ignored --nocapture"#;
    let status = Command::new("unshare")
        .args(["--mount", "--map-root-user", "sh", "-c", script])
        .env("STORE", folder.path())
        .env("TEST", std::env::current_exe().unwrap())
        .status();
    match status.ok().and_then(|status| status.code()) {
        Some(0) => {}
        // No such program, no user namespaces, or no mounting in them.
        None | Some(1 | 77) => eprintln!("skipped: this machine does not let tests mount a small disk"),
        Some(code) => panic!("the child failed with {code}"),
    }
}

#[tokio::test]
#[ignore = "run by a_full_disk_costs_writes_until_there_is_room_again_and_reading_goes_on on a disk of its own"]
async fn child_fills_its_disk() {
    let folder = PathBuf::from(std::env::var("STORE").unwrap());
    let ballast = folder.join("ballast");
    fs::write(&ballast, vec![1; 1 << 20]).unwrap();
    let running: Running = start(config(&folder)).await.expect("a server");
    let (_, root) = unsealed(&folder).await;
    let write = async |name: usize| {
        let body = json!({ "x": "y".repeat(30_000) });
        ask(&folder, &root, "POST", &format!("cubbyhole/{name}"), body).await
    };
    let mut written = 0;
    let refused = loop {
        match write(written).await {
            (204, _) => written += 1,
            refused => break refused,
        }
    };
    assert!(written > 10, "{written}");
    // Why is for the operator's log, not for clients.
    assert_eq!(refused, (500, json!({ "errors": ["internal error"] })));
    for name in [0, written - 1] {
        assert_eq!(ask(&folder, &root, "GET", &format!("cubbyhole/{name}"), Value::Null).await.0, 200);
    }
    assert_eq!(ask(&folder, "", "GET", "sys/health", Value::Null).await.0, 200);

    fs::remove_file(&ballast).unwrap();
    assert_eq!(write(written).await.0, 204);
    running.shutdown().await;
}
