//! Proxies between the client and the server.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod server;

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use chancery_client::{Client, Config, Loss, Request};
use server::{Reply, Server, ask, loss, testdata};

#[tokio::test]
async fn a_proxy_is_asked_for_the_whole_address_with_the_token() {
    let proxy = Server::start(|_, _| Reply::ok());
    let nobody = "http://127.0.0.1:1";
    for settings in [
        &[("VAULT_HTTP_PROXY", proxy.address.as_str())][..],
        &[("VAULT_PROXY_ADDR", &proxy.address), ("VAULT_HTTP_PROXY", nobody)],
    ] {
        // An address on this machine too, where the proxy was named for Vault alone.
        for address in ["http://chancery.invalid:8200", "http://127.0.0.1:2"] {
            let token = ("VAULT_TOKEN", "t");
            ask(&proxy, &[settings, &[("VAULT_ADDR", address), token]].concat()).await.unwrap();
            let seen = proxy.seen().pop().unwrap();
            assert_eq!(seen.target, format!("{address}/v1/x"));
            assert_eq!(seen.header("x-vault-token"), Some("t"));
        }
    }
}

/// The environment of a process cannot be changed safely from within, so the test runs its child with one.
#[tokio::test]
async fn the_systems_proxy_is_for_other_machines_only() {
    let proxy = Server::start(|_, _| Reply::ok());
    let server = Server::start(|_, _| Reply::ok());
    for (address, excepted, through) in [
        ("http://chancery.invalid", "", true),
        (server.address.as_str(), "", false),
        (&server.address.replace("127.0.0.1", "localhost"), "", false),
        ("http://chancery.invalid", "chancery.invalid", false),
    ] {
        let before = proxy.seen().len();
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", "child_asks_in_its_own_environment", "--ignored"]);
        child.env_clear().env("VAULT_ADDR", address).env("HTTP_PROXY", &proxy.address);
        let reached = child.env("NO_PROXY", excepted).output().unwrap().status.success();
        assert_eq!(proxy.seen().len() > before, through, "{address}");
        assert_eq!(reached, through || address != "http://chancery.invalid", "{address}");
    }
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
#[ignore = "run by the_systems_proxy_is_for_other_machines_only in a process of its own"]
async fn child_asks_in_its_own_environment() {
    let config = Config::from_env(&|name: &str| std::env::var(name).ok()).unwrap();
    let client = Client::new(Config { max_retries: 0, ..config }).unwrap();
    client.send(&Request::read("x")).await.unwrap();
}

#[tokio::test]
async fn a_proxy_that_is_named_with_a_password_is_shown_it_and_the_server_is_not() {
    let proxy = Server::start(|_, _| Reply::ok());
    let named = proxy.address.replace("http://", "http://me:secret@");
    let address = ("VAULT_ADDR", "http://chancery.invalid");
    ask(&proxy, &[address, ("VAULT_PROXY_ADDR", &named)]).await.unwrap();
    let seen = proxy.seen().pop().unwrap();
    assert_eq!(seen.target, "http://chancery.invalid/v1/x");
    assert_eq!(seen.header("proxy-authorization"), Some("Basic bWU6c2VjcmV0"));
    assert_eq!(seen.header("authorization"), None);
}

#[tokio::test]
async fn what_is_no_proxy_is_refused_before_anything_is_sent() {
    let server = Server::start(|_, _| Reply::ok());
    for proxy in ["socks5://127.0.0.1:1", "ftp://127.0.0.1:1", "http://", "a b"] {
        let error = ask(&server, &[("VAULT_PROXY_ADDR", proxy)]).await.unwrap_err().to_string();
        let expected = format!(
            "failed to create client: could not parse proxy: {proxy:?} is not the address of an HTTP proxy"
        );
        assert_eq!(error, expected);
    }
    let named = ("VAULT_PROXY_ADDR", "socks5://me:secret@127.0.0.1:1");
    let error = ask(&server, &[named]).await.unwrap_err().to_string();
    assert!(error.ends_with("\"127.0.0.1:1\" is not the address of an HTTP proxy"), "{error}");
    assert!(server.seen().is_empty());
}

/// A proxy that makes tunnels to this one address, whatever it is asked for; and the heads of what it was asked.
fn tunnels(to: &str) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let to = to.trim_start_matches("https://").to_owned();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&heads);
    // The thread ends with the test's process.
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut head = String::new();
            let mut reader = BufReader::with_capacity(1, client.try_clone().unwrap());
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap() > 0 {}
            let refused = head.contains("refused.invalid");
            seen.lock().unwrap().push(head);
            if refused {
                client.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").unwrap();
                continue;
            }
            client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let server = TcpStream::connect(&to).unwrap();
            pass(client.try_clone().unwrap(), server.try_clone().unwrap());
            pass(server, client);
        }
    });
    (address, heads)
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    thread::spawn(move || {
        // Either side may be gone.
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
}

#[tokio::test]
async fn to_a_server_with_tls_a_proxy_makes_a_tunnel_and_sees_no_token() {
    let server = Server::tls("server_elsewhere");
    let (proxy, heads) = tunnels(&server.address);
    let named = proxy.replace("http://", "http://me:secret@");
    let authority = testdata("authority.pem");
    let settings = |address| {
        let authority = ("VAULT_CACERT", authority.to_str().unwrap());
        [authority, ("VAULT_ADDR", address), ("VAULT_TOKEN", "tok"), ("VAULT_PROXY_ADDR", named.as_str())]
    };
    ask(&server, &settings("https://chancery.test:8200")).await.unwrap();
    let seen = server.seen().pop().unwrap();
    assert_eq!((seen.target.as_str(), seen.header("x-vault-token")), ("/v1/x", Some("tok")));
    assert_eq!((seen.header("host"), seen.header("proxy-authorization")), (Some("chancery.test:8200"), None));
    let head = heads.lock().unwrap().pop().unwrap();
    assert!(head.starts_with("CONNECT chancery.test:8200 HTTP/1.1\r\n"), "{head}");
    assert!(head.to_lowercase().contains("proxy-authorization: basic bwu6c2vjcmv0\r\n"), "{head}");
    assert!(!head.contains("tok"), "{head}");

    // The server behind it is held against its name like any other.
    let (kind, sentence) = loss(ask(&server, &settings("https://other.test")).await);
    assert_eq!(kind, Loss::Tls, "{sentence}");
    let (kind, sentence) = loss(ask(&server, &settings("https://refused.invalid")).await);
    assert_eq!(kind, Loss::Connect, "{sentence}");
    assert_eq!(server.seen().len(), 1);
}
