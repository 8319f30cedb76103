//! TLS against a real port: what a handshake must let through, and what it must not.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chancery_secrets::dev_certificate;
use chancery_server::config::{Bind, ListenerConfig, StorageConfig, TlsConfig, TlsVersion};
use chancery_server::listener::Address;
use chancery_server::{Config, Running, start};
use jiff::Timestamp;
use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A server whose certificate lies in a folder of its own.
struct Server {
    running: Running,
    folder: TempDir,
    tls: TlsConfig,
}

impl Server {
    async fn start(change: impl FnOnce(&mut TlsConfig)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mut tls = TlsConfig {
            cert_file: folder.path().join("cert.pem"),
            key_file: folder.path().join("key.pem"),
            client_ca_file: None,
            require_client_cert: false,
            disable_client_certs: false,
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
        };
        change(&mut tls);
        write_certificate(&folder);
        let mut listener = ListenerConfig::new(Bind::Tcp("127.0.0.1:0".to_owned()));
        listener.tls = Some(tls.clone());
        let mut config = Config::new(StorageConfig::Memory);
        config.listeners.push(listener);
        let running = start(config).await.expect("a server");
        Self { running, folder, tls }
    }

    fn authority(&self) -> Vec<u8> {
        std::fs::read(self.folder.path().join("ca.pem")).expect("an authority")
    }
}

fn write_certificate(folder: &TempDir) {
    let now = Timestamp::try_from(std::time::UNIX_EPOCH + unix_time()).expect("now");
    let made =
        dev_certificate(&["localhost".to_owned(), "127.0.0.1".to_owned()], now).expect("a certificate");
    let write =
        |name: &str, content: &str| std::fs::write(folder.path().join(name), content).expect("written");
    write("ca.pem", &made.authority);
    write("cert.pem", &made.certificate);
    write("key.pem", &made.private_key);
}

#[expect(clippy::disallowed_methods, reason = "a test against a real verifier needs the real time")]
fn unix_time() -> Duration {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970")
}

/// What a client offers.
#[derive(Default)]
struct Client {
    identity: Option<(PathBuf, PathBuf)>,
    only: Option<&'static rustls::SupportedProtocolVersion>,
    alpn: Option<&'static str>,
}

/// Shows the same certificate to whoever asks, whatever key it is with.
#[derive(Debug)]
struct Always(Arc<CertifiedKey>);

impl ResolvesClientCert for Always {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl Client {
    /// The status line of `GET /v1/sys/health`, or why there is none; and the server's certificate.
    async fn ask(&self, server: &Server) -> Result<(String, Vec<u8>), String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&server.authority()).unwrap()).unwrap();
        let versions: Vec<_> = match self.only {
            Some(version) => vec![version],
            None => rustls::ALL_VERSIONS.to_vec(),
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
                let key = PrivateKeyDer::from_pem_file(key).unwrap();
                let key = provider.key_provider.load_private_key(key).unwrap();
                builder.with_client_cert_resolver(Arc::new(Always(Arc::new(CertifiedKey::new(chain, key)))))
            }
        };
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let Address::Tcp(address) = server.running.addresses()[0].clone() else { panic!("a port") };
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let name = ServerName::try_from("localhost").unwrap();
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let mut stream = connected.map_err(|error| error.to_string())?;
        let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        if let Some(wanted) = self.alpn {
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(wanted.as_bytes()));
        }
        // With TLS 1.3 a refused client certificate shows only on the first read.
        let request = b"GET /v1/sys/health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(request).await.map_err(|error| error.to_string())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.map_err(|error| error.to_string())?;
        let line = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
        if line.is_empty() { Err("no answer".to_owned()) } else { Ok((line, certificate)) }
    }
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
}

/// A store without keys: not initialised.
const ANSWER: &str = "HTTP/1.1 501 Not Implemented";

#[tokio::test]
async fn both_versions_of_tls_are_spoken_and_old_ones_can_be_left_out() {
    let server = Server::start(|_| {}).await;
    for only in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = Client { only: Some(only), alpn: Some("http/1.1"), ..Client::default() };
        assert_eq!(client.ask(&server).await.expect("an answer").0, ANSWER);
    }
    let strict = Server::start(|tls| tls.min_version = TlsVersion::Tls13).await;
    let client = Client { only: Some(&rustls::version::TLS12), ..Client::default() };
    assert!(client.ask(&strict).await.is_err());
}

#[tokio::test]
async fn an_odd_client_certificate_does_not_fail_the_handshake() {
    let server = Server::start(|_| {}).await;
    let identity = Some((fixture("client_version_1_expired.pem"), fixture("client.key")));
    for only in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = Client { identity: identity.clone(), only: Some(only), ..Client::default() };
        assert_eq!(client.ask(&server).await.expect("an answer").0, ANSWER);
    }
}

#[tokio::test]
async fn a_client_certificate_without_its_key_fails_the_handshake() {
    let server = Server::start(|_| {}).await;
    // The server's own key stands in for a thief's.
    let identity = Some((fixture("client_version_1_expired.pem"), server.tls.key_file.clone()));
    for only in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let client = Client { identity: identity.clone(), only: Some(only), ..Client::default() };
        let error = client.ask(&server).await.expect_err("refused");
        assert!(error.contains("BadCertificate") || error.contains("DecryptError"), "{error}");
    }
}

#[tokio::test]
async fn required_client_certificates_are_held_against_the_authorities() {
    let folder = tempfile::tempdir().expect("a folder");
    write_certificate(&folder);
    let (ca, cert, key) =
        (folder.path().join("ca.pem"), folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let server = Server::start(|tls| {
        tls.client_ca_file = Some(ca);
        tls.require_client_cert = true;
    })
    .await;
    assert!(Client::default().ask(&server).await.is_err());
    let odd = Some((fixture("client_version_1_expired.pem"), fixture("client.key")));
    assert!(Client { identity: odd, ..Client::default() }.ask(&server).await.is_err());
    let good = Client { identity: Some((cert, key)), ..Client::default() };
    assert_eq!(good.ask(&server).await.expect("an answer").0, ANSWER);
}

#[tokio::test]
async fn certificates_are_reloaded_and_broken_ones_are_not() {
    let server = Server::start(|_| {}).await;
    let (_, first) = Client::default().ask(&server).await.expect("an answer");

    let authority = server.authority();
    std::fs::write(&server.tls.cert_file, "broken").expect("written");
    server.running.reload();
    let (_, still) = Client::default().ask(&server).await.expect("an answer");
    assert_eq!(first, still);

    write_certificate(&server.folder);
    assert_ne!(server.authority(), authority);
    server.running.reload();
    let (_, second) = Client::default().ask(&server).await.expect("an answer");
    assert_ne!(first, second);
}

#[tokio::test]
async fn a_key_that_is_not_the_certificates_is_refused_at_the_start() {
    let (one, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    write_certificate(&one);
    write_certificate(&other);
    let mut listener = ListenerConfig::new(Bind::Tcp("127.0.0.1:0".to_owned()));
    listener.tls = Some(TlsConfig {
        cert_file: one.path().join("cert.pem"),
        key_file: other.path().join("key.pem"),
        client_ca_file: None,
        require_client_cert: false,
        disable_client_certs: false,
        min_version: TlsVersion::Tls12,
        max_version: TlsVersion::Tls13,
    });
    let mut config = Config::new(StorageConfig::Memory);
    config.listeners.push(listener);
    let error = start(config).await.err().expect("refused").to_string();
    assert!(error.contains("not the key of the certificate in"), "{error}");
}

#[tokio::test]
async fn a_connection_that_never_speaks_does_not_hold_up_the_end() {
    let server = Server::start(|_| {}).await;
    let Address::Tcp(address) = server.running.addresses()[0].clone() else { panic!("a port") };
    let silent = TcpStream::connect(address).await.expect("connected");
    let end = tokio::time::timeout(Duration::from_secs(30), server.running.shutdown());
    end.await.expect("in time");
    drop(silent);
}
