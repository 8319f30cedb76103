//! The prober against hosts on this machine.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chancery_api::{Clock, SystemClock};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio_rustls::TlsAcceptor;

use super::*;

/// A host that answers each request with what `answer` makes of its path; its port, and how often it was asked.
async fn host(answer: fn(&str, u16) -> String) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read_exact(&mut byte).await.is_err() {
                    break;
                }
                request.extend(byte);
            }
            let request = String::from_utf8_lossy(&request).into_owned();
            let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
            let _ = stream.write_all(answer(&path, port).as_bytes()).await;
        }
    });
    (port, asked)
}

fn loopback(http_port: u16, tls_port: u16) -> Outside {
    let permitted_networks = vec!["127.0.0.0/8".parse().expect("a network")];
    Outside::new(ProbeConfig { permitted_networks, http_port, tls_port })
}

fn address() -> Host {
    Host::Address("127.0.0.1".parse().expect("an address"))
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn to(location: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n")
}

#[tokio::test]
async fn a_proof_is_read_where_it_is_or_where_redirects_lead() {
    let (port, _) = host(|path, port| match path {
        "/.well-known/acme-challenge/direct" => ok("proof"),
        "/.well-known/acme-challenge/relative" => to("/elsewhere?x=1"),
        "/elsewhere?x=1" => to(&format!("http://127.0.0.1:{port}/there")),
        "/there" => ok("found"),
        _ => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
    })
    .await;
    let outside = loopback(port, 1);
    assert_eq!(outside.http(&address(), "direct", None).await, Ok(b"proof".to_vec()));
    assert_eq!(outside.http(&address(), "relative", None).await, Ok(b"found".to_vec()));
    assert!(matches!(outside.http(&address(), "absent", None).await, Err(ProbeError::Response(_))));
}

#[tokio::test]
async fn what_leads_astray_is_not_followed() {
    let (port, asked) = host(|path, port| match path.rsplit('/').next().unwrap_or_default() {
        "private" => to("http://10.0.0.1/x"),
        "link-local" => to("http://169.254.169.254/latest/meta-data"),
        "mapped" => to("http://[::ffff:10.0.0.1]/x"),
        "decimal" => to("http://0x0a000001/x"),
        "port" => to("http://127.0.0.1:22/x"),
        "scheme" => to("ftp://127.0.0.1/x"),
        "user" => to(&format!("http://a:b@127.0.0.1:{port}/x")),
        "nowhere" => "HTTP/1.1 302 Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "large" => ok(&"x".repeat(5000)),
        "far" => to(&format!("/{}", "x".repeat(3000))),
        "head" => format!("HTTP/1.1 200 OK\r\nx: {}\r\ncontent-length: 0\r\n\r\n", "x".repeat(100_000)),
        _ => to("/loop"),
    })
    .await;
    let outside = loopback(port, 1);
    for token in ["private", "link-local", "mapped", "decimal", "port", "scheme", "user"] {
        let answer = outside.http(&address(), token, None).await;
        assert!(matches!(answer, Err(ProbeError::Forbidden(_))), "{token}: {answer:?}");
    }
    for token in ["nowhere", "large", "far"] {
        let answer = outside.http(&address(), token, None).await;
        assert!(matches!(answer, Err(ProbeError::Response(_))), "{token}: {answer:?}");
    }
    let answer = outside.http(&address(), "head", None).await;
    assert!(matches!(answer, Err(ProbeError::Connection(_))), "{answer:?}");
    let before = asked.load(Ordering::SeqCst);
    let answer = outside.http(&address(), "loop", None).await;
    assert!(matches!(&answer, Err(ProbeError::Response(why)) if why.contains("more than 10")), "{answer:?}");
    assert_eq!(asked.load(Ordering::SeqCst) - before, 11);
}

#[tokio::test]
async fn hosts_that_are_not_public_are_asked_only_if_the_configuration_permits_it() {
    let (port, asked) = host(|_, _| ok("proof")).await;
    let strict = Outside::new(ProbeConfig { http_port: port, tls_port: port, ..ProbeConfig::default() });
    assert!(matches!(strict.http(&address(), "x", None).await, Err(ProbeError::Forbidden(_))));
    assert!(matches!(strict.tls(&address(), None).await, Err(ProbeError::Forbidden(_))));
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

/// A DNS server that knows the address of every name and the texts of one.
async fn names(text: &'static str) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    let server = socket.local_addr().expect("an address");
    tokio::spawn(async move {
        let mut query = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut query).await {
            // The question ends at the root label, the type and the class.
            let end = 12 + query[12..length].iter().position(|byte| *byte == 0).expect("a root label") + 5;
            let kind = query[end - 3];
            let data: Vec<u8> = match kind {
                1 => vec![127, 0, 0, 1],
                16 => [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat(),
                _ => Vec::new(),
            };
            let count = u8::from(!data.is_empty());
            let mut answer =
                [&query[..2], &[0x85, 0x80, 0, 1, 0, count, 0, 0, 0, 0], &query[12..end]].concat();
            if count == 1 {
                answer.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 1, 0]);
                answer.push(u8::try_from(data.len()).expect("short"));
                answer.extend(data);
            }
            let _ = socket.send_to(&answer, client).await;
        }
    });
    server
}

#[tokio::test]
async fn the_resolver_that_the_mount_names_says_where_names_lead() {
    let server = names("digest").await;
    let (port, _) = host(|_, _| ok("proof")).await;
    let outside = loopback(port, 1);
    let name = Host::Name("a.example".to_owned());
    assert_eq!(outside.http(&name, "x", Some(server)).await, Ok(b"proof".to_vec()));
    assert_eq!(outside.texts("_acme-challenge.a.example", Some(server)).await, Ok(vec!["digest".to_owned()]));
    let strict = Outside::new(ProbeConfig::default());
    let refused = strict.http(&name, "x", Some(server)).await;
    assert!(matches!(refused, Err(ProbeError::Forbidden(_))), "a name that leads to loopback: {refused:?}");
    let closed = loopback(1, 1).http(&name, "x", Some(server)).await;
    assert!(matches!(closed, Err(ProbeError::Connection(_))), "{closed:?}");
    for shown in [refused, closed] {
        assert!(!shown.unwrap_err().to_string().contains("127."), "strangers learn no addresses");
    }
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_handed_over() {
    let made = chancery_secrets::dev_certificate(&["a.example".to_owned()], SystemClock.now());
    let made = made.expect("a certificate");
    let certificate = CertificateDer::from_pem_slice(made.certificate.as_bytes()).expect("PEM");
    for (protocols, acme) in [(vec![b"acme-tls/1".to_vec()], true), (Vec::new(), false)] {
        let key = PrivateKeyDer::from_pem_slice(made.private_key.as_bytes()).expect("a key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key)
            .expect("a server");
        config.alpn_protocols = protocols;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.expect("a client");
            let _stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await;
        });
        let presented = loopback(1, port).tls(&address(), None).await.expect("a handshake");
        assert_eq!((presented.certificate.as_slice(), presented.acme), (certificate.as_ref(), acme));
    }
}
