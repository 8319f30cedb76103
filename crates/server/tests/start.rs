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

use chancery_server::config::{Bind, ListenerConfig, StorageConfig};
use chancery_server::listener::Address;
use chancery_server::{Config, DevOptions, StartError, start, start_dev};

fn dev() -> DevOptions {
    DevOptions { listen_address: "127.0.0.1:0".to_owned(), no_store_token: true, ..DevOptions::default() }
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

    let asked = path.clone();
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = UnixStream::connect(asked).expect("connected");
        stream.write_all(b"GET /v1/sys/init HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("read");
        answer
    });
    assert!(answer.await.expect("asked").contains(r#"{"initialized":false}"#));
    running.shutdown().await;
    assert!(!path.exists() && !folder.path().join("pid").exists());
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
async fn two_servers_live_in_one_process() {
    let one = start_dev(&dev(), Config::new(StorageConfig::Memory)).await.expect("a server");
    let other = start_dev(&dev(), Config::new(StorageConfig::Memory)).await.expect("a server");
    assert_ne!(one.running.addresses(), other.running.addresses());
    assert_ne!(one.root_token.expose(), other.root_token.expose());
    one.running.shutdown().await;
    other.running.shutdown().await;
}
