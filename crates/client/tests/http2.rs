//! One connection shared by all requests, which the server may close at any time.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chancery_client::{Client, Config, Loss, Request};
use h2::Reason;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use server::{loss, testdata};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What the server does with a request.
#[derive(Clone, Copy)]
enum Fate {
    Answered,
    /// The stream is reset.
    Reset(Reason),
    /// The connection goes away, and its last word is that no stream was looked at.
    Away(Reason),
}

/// A server that does this with the first, second, … request, and with all after the last as with that one; and how many
/// have come.
async fn server(fates: &'static [Fate]) -> (Client, Arc<AtomicUsize>) {
    let key = PrivateKeyDer::from_pem_file(testdata("server.key")).unwrap();
    let chain = CertificateDer::from_pem_file(testdata("server.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let mut config = config.unwrap().with_no_client_auth().with_single_cert(vec![chain], key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
            tokio::spawn(async move {
                let Ok(mut stream) = acceptor.accept(stream).await else { return };
                let next = fates.get(seen.load(Ordering::SeqCst)).or(fates.last()).unwrap();
                if let Fate::Away(reason) = next {
                    return away(&mut stream, *reason, &seen).await;
                }
                let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                while let Some(Ok((_, mut respond))) = connection.accept().await {
                    let number = seen.fetch_add(1, Ordering::SeqCst);
                    match fates.get(number).or(fates.last()).unwrap() {
                        Fate::Answered => {
                            let answer = http::Response::new(());
                            let mut body = respond.send_response(answer, false).unwrap();
                            body.send_data("{}".into(), true).unwrap();
                        }
                        Fate::Reset(reason) => respond.send_reset(*reason),
                        Fate::Away(_) => connection.graceful_shutdown(),
                    }
                }
            });
        }
    });
    let mut config = Config::new(address.parse().unwrap());
    (config.ca_cert, config.max_retries) = (Some(testdata("authority.pem")), 0);
    (Client::new(config).unwrap(), count)
}

/// Waits for the request and goes away (RFC 9113, 6.8) without having looked at it. The library's servers always look.
async fn away(stream: &mut TlsStream<TcpStream>, reason: Reason, seen: &AtomicUsize) {
    const HEADERS: u8 = 1;
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    stream.read_exact(&mut [0; 24]).await.unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        stream.read_exact(&mut vec![0; length.try_into().unwrap()]).await.unwrap();
        if head[3] == HEADERS {
            break;
        }
    }
    seen.fetch_add(1, Ordering::SeqCst);
    let mut goodbye = vec![0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    goodbye.extend(u32::from(reason).to_be_bytes());
    stream.write_all(&goodbye).await.unwrap();
    // Until the client has read it and hangs up.
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

#[tokio::test]
async fn a_request_that_the_server_has_not_looked_at_is_sent_again_at_once_even_a_write() {
    for refused in [Fate::Reset(Reason::REFUSED_STREAM), Fate::Away(Reason::NO_ERROR)] {
        let fates: &'static [Fate] = Box::leak(Box::new([refused, refused, Fate::Answered]));
        let (client, count) = server(fates).await;
        client.send(&Request::write("x", &()).unwrap()).await.unwrap();
        assert_eq!(count.load(Ordering::SeqCst), 3);
    }
}

#[tokio::test]
async fn a_server_that_looks_at_nothing_is_not_asked_for_ever() {
    let (client, count) = server(&[Fate::Reset(Reason::REFUSED_STREAM)]).await;
    let (kind, _) = loss(client.send(&Request::write("x", &()).unwrap()).await);
    assert_eq!((kind, count.load(Ordering::SeqCst)), (Loss::Other, 3));
}

#[tokio::test]
async fn a_write_that_the_server_may_have_looked_at_is_not_sent_again() {
    for lost in [Fate::Reset(Reason::INTERNAL_ERROR), Fate::Away(Reason::INTERNAL_ERROR)] {
        let fates: &'static [Fate] = Box::leak(Box::new([lost, Fate::Answered]));
        let (client, count) = server(fates).await;
        let (kind, sentence) = loss(client.send(&Request::write("x", &()).unwrap()).await);
        assert_eq!((kind, count.load(Ordering::SeqCst)), (Loss::Other, 1), "{sentence}");
    }
}
