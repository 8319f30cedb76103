//! Starting and stopping: sockets, storage, seals.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use chancery_server::config::{Bind, ListenerConfig, StorageConfig};
use chancery_server::listener::Address;
use chancery_server::{Config, DevOptions, StartError, start, start_dev};

fn dev() -> DevOptions {
    DevOptions { listen_address: "127.0.0.1:0".to_owned(), no_store_token: true, ..DevOptions::default() }
}

/// What the server behind this socket answers.
async fn ask(path: &Path) -> String {
    let path = path.to_owned();
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = UnixStream::connect(path).expect("connected");
        stream.write_all(b"GET /v1/sys/init HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("read");
        answer
    });
    answer.await.expect("asked")
}

#[tokio::test]
async fn a_unix_socket_is_served_and_removed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    // Left behind by a process that was killed.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("bound"));
    let mut config = Config::new(StorageConfig::Memory);
    config.listeners.push(ListenerConfig::new(Bind::Unix { path: path.clone(), mode: Some(0o600) }));
    config.pid_file = Some(folder.path().join("pid"));
    let running = start(config).await.expect("a server");
    assert_eq!(running.addresses(), [Address::Unix(path.clone())]);
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    let number = std::fs::read_to_string(folder.path().join("pid")).expect("there");
    assert_eq!(number, std::process::id().to_string());

    assert!(ask(&path).await.contains(r#"{"initialized":false}"#));
    running.shutdown().await;
    assert!(!path.exists() && !folder.path().join("pid").exists());
}

#[tokio::test]
async fn the_socket_of_a_running_server_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("socket");
    let mut config = Config::new(StorageConfig::Memory);
    config.listeners.push(ListenerConfig::new(Bind::Unix { path: path.clone(), mode: None }));
    let first = start(config.clone()).await.expect("a server");
    let error = start(config.clone()).await.err().expect("refused");
    assert_eq!(
        error.to_string(),
        format!("cannot listen on {}: Address already in use: another process answers there", path.display())
    );
    assert!(ask(&path).await.contains(r#"{"initialized":false}"#));
    first.shutdown().await;
    start(config).await.expect("free again").shutdown().await;
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notes");
    std::fs::write(&path, "mine").expect("written");
    let mut config = Config::new(StorageConfig::Memory);
    config.listeners.push(ListenerConfig::new(Bind::Unix { path: path.clone(), mode: None }));
    start(config).await.err().expect("refused");
    assert_eq!(std::fs::read_to_string(&path).expect("there"), "mine");
}

#[tokio::test]
async fn a_taken_port_is_an_error_with_the_address() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let address = taken.local_addr().expect("an address").to_string();
    let mut config = Config::new(StorageConfig::Memory);
    config.listeners.push(ListenerConfig::new(Bind::Tcp(address.clone())));
    let error = start(config).await.err().expect("refused");
    assert!(
        error.to_string().starts_with(&format!("cannot listen on {address}: Address already in use")),
        "{error}"
    );
}

#[tokio::test]
async fn a_second_server_on_the_same_store_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config::new(StorageConfig::Embedded { path: folder.path().join("store") });
    let first = start(config.clone()).await.expect("a server");
    let error = start(config.clone()).await.err().expect("refused");
    assert!(matches!(error, StartError::Storage(_)), "{error}");
    first.shutdown().await;
    start(config).await.expect("free again").shutdown().await;
}

#[tokio::test]
async fn a_development_server_is_unsealed_and_says_how_to_reach_it() {
    let options = DevOptions { root_token_id: Some("chosen".to_owned()), tls: true, ..dev() };
    let server = start_dev(&options, Config::new(StorageConfig::Memory)).await.expect("a server");
    assert!(!server.running.core().is_sealed());
    let (banner, url) = (server.banner(), server.running.url());
    let ca = server.ca_file.clone().expect("with TLS");
    for line in [
        "WARNING! dev mode is enabled!".to_owned(),
        format!("    $ export VAULT_ADDR='{url}'\n"),
        format!("    $ export VAULT_CACERT='{}'\n", ca.display()),
        "\nRoot Token: chosen\n".to_owned(),
        format!("\nUnseal Key: {}\n", server.unseal_key.expose()),
    ] {
        assert!(banner.contains(&line), "{line} in {banner}");
    }
    assert!(url.starts_with("https://127.0.0.1:"));
    assert!(ca.exists());
    drop(server);
    assert!(!ca.exists());
}

#[tokio::test]
async fn keys_of_a_development_server_are_not_written_into_files_that_others_may_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let names = ["vault-ca.pem", "vault-cert.pem", "vault-key.pem"];
    for name in names {
        let path = folder.path().join(name);
        std::fs::write(&path, "old").expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).expect("permitted");
    }
    // Somebody who opened the old file reads on in the old file.
    let mut opened = std::fs::File::open(folder.path().join("vault-key.pem")).expect("opened");
    let options = DevOptions { tls: true, tls_cert_dir: Some(folder.path().to_owned()), ..dev() };
    let server = start_dev(&options, Config::new(StorageConfig::Memory)).await.expect("a server");
    for name in names {
        let path = folder.path().join(name);
        assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600, "{name}");
        assert!(std::fs::read_to_string(&path).expect("there").starts_with("-----BEGIN "), "{name}");
    }
    let mut old = String::new();
    opened.read_to_string(&mut old).expect("read");
    assert_eq!(old, "old");
    assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), names.len());
    server.running.shutdown().await;
}

#[tokio::test]
async fn two_servers_live_in_one_process() {
    let one = start_dev(&dev(), Config::new(StorageConfig::Memory)).await.expect("a server");
    let other = start_dev(&dev(), Config::new(StorageConfig::Memory)).await.expect("a server");
    assert_ne!(one.running.addresses(), other.running.addresses());
    assert_ne!(one.root_token.expose(), other.root_token.expose());
    one.running.shutdown().await;
    other.running.shutdown().await;
}
