//! A server that answers as a test tells it, and remembers what it was asked.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a helper of tests fails as tests do"
)]

use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use chancery_client::{Client, Config, Error, Loss, Request, Response};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    /// As it stood in the first line.
    pub target: String,
    headers: Vec<(String, String)>,
    pub body: String,
    pub at: Instant,
    /// Whether the client showed a certificate.
    pub certified: bool,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// What to do with a request.
pub enum Reply {
    /// A status, headers with a line break after each, and a body.
    Answer(u16, String, &'static str),
    /// Hang up without a word.
    Cut,
    /// Wait for so many milliseconds, then answer.
    Late(u64),
}

impl Reply {
    pub fn ok() -> Self {
        Self::Answer(200, String::new(), r#"{"data":{"ok":"yes"}}"#)
    }

    /// A refusal that asks to be repeated at once, where repeating helps.
    pub fn status(status: u16) -> Self {
        Self::Answer(status, "retry-after: 0\r\n".to_owned(), r#"{"errors":["told so"]}"#)
    }

    pub fn redirect(status: u16, location: &str) -> Self {
        Self::Answer(status, format!("location: {location}\r\n"), "")
    }
}

/// Given the number of the request, from 0, and the request.
pub type Script = Box<dyn Fn(usize, &Seen) -> Reply + Send + Sync>;

pub struct Server {
    pub address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

pub fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

impl Server {
    pub fn start(script: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::tcp("http", None, Box::new(script))
    }

    /// One that always answers, over TLS, with the certificate of that name in `testdata`.
    pub fn tls(certificate: &str) -> Self {
        Self::tls_with(certificate, |_, _| Reply::ok())
    }

    pub fn tls_with(
        certificate: &str,
        script: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let key = PrivateKeyDer::from_pem_file(testdata(&format!("{certificate}.key"))).unwrap();
        let chain = CertificateDer::from_pem_file(testdata(&format!("{certificate}.pem"))).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(testdata("authority.pem")).unwrap()).unwrap();
        let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
        let clients = clients.allow_unauthenticated().build().unwrap();
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_client_cert_verifier(clients).with_single_cert(vec![chain], key);
        Self::tcp("https", Some(Arc::new(config.unwrap())), Box::new(script))
    }

    fn tcp(scheme: &str, tls: Option<Arc<ServerConfig>>, script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("{scheme}://{}", listener.local_addr().unwrap());
        Self::serve(address, script, move || {
            let (stream, _) = listener.accept()?;
            Ok(match &tls {
                Some(tls) => {
                    let mut session = ServerConnection::new(tls.clone()).map_err(io::Error::other)?;
                    let mut stream = stream;
                    // A failed handshake is the client's wish here; its alert is in what is sent.
                    let done = session.complete_io(&mut stream);
                    let certified = session.peer_certificates().is_some();
                    if done.is_err() {
                        return Ok((Box::new(io::empty()) as Box<dyn Stream>, false));
                    }
                    (Box::new(StreamOwned::new(session, stream)), certified)
                }
                None => (Box::new(stream), false),
            })
        })
    }

    /// One that always answers, on a socket in the file system.
    pub fn unix(path: &Path) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let script: Script = Box::new(|_, _| Reply::ok());
        Self::serve(format!("unix://{}", path.display()), script, move || {
            Ok((Box::new(listener.accept()?.0), false))
        })
    }

    fn serve(
        address: String,
        script: Script,
        accept: impl Fn() -> io::Result<(Box<dyn Stream>, bool)> + Send + 'static,
    ) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (script, log) = (Arc::new(script), Arc::clone(&seen));
        // The thread ends with the test's process.
        std::thread::spawn(move || {
            while let Ok((mut stream, certified)) = accept() {
                let (script, log) = (Arc::clone(&script), Arc::clone(&log));
                std::thread::spawn(move || {
                    let Some(request) = read(&mut stream, certified) else {
                        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n");
                        return;
                    };
                    let number = {
                        let mut log = log.lock().unwrap();
                        log.push(request.clone());
                        log.len() - 1
                    };
                    let _ = reply(&mut stream, script(number, &request));
                });
            }
        });
        Self { address, seen }
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The settings for this server, with a token.
    pub fn config(&self) -> Config {
        let mut config = Config::new(self.address.parse().unwrap());
        config.token = Some("sekrit".into());
        config
    }

    pub fn client(&self) -> Client {
        Client::new(self.config()).unwrap()
    }
}

pub trait Stream: Read + Write + Send {}
impl<S: Read + Write + Send> Stream for S {}

fn read(stream: &mut dyn Stream, certified: bool) -> Option<Seen> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        // Whoever begins with something else, such as a TLS handshake, does not speak HTTP.
        if stream.read(&mut byte).ok()? == 0 || (head.is_empty() && !byte[0].is_ascii_alphabetic()) {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).ok()?;
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ');
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let mut body = vec![0; length.map_or(0, |(_, length)| length.parse().unwrap())];
    stream.read_exact(&mut body).ok()?;
    Some(Seen {
        method: first.next()?.to_owned(),
        target: first.next()?.to_owned(),
        headers,
        body: String::from_utf8(body).ok()?,
        at: Instant::now(),
        certified,
    })
}

fn reply(stream: &mut dyn Stream, reply: Reply) -> io::Result<()> {
    let (status, headers, body) = match reply {
        Reply::Answer(status, headers, body) => (status, headers, body),
        Reply::Late(milliseconds) => {
            std::thread::sleep(std::time::Duration::from_millis(milliseconds));
            (200, String::new(), "{}")
        }
        Reply::Cut => return Ok(()),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} X\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
    )?;
    stream.flush()
}

/// The kind and sentence of a loss.
pub fn loss<T: std::fmt::Debug>(result: Result<T, Error>) -> (Loss, String) {
    match result {
        Err(error @ Error::Transport { kind, .. }) => (kind, error.to_string()),
        other => panic!("not lost: {other:?}"),
    }
}

/// One request with these settings of the environment, besides the address.
pub async fn ask(server: &Server, settings: &[(&str, &str)]) -> Result<Response, Error> {
    let variable = |name: &str| {
        let given = settings.iter().find(|(given, _)| *given == name).map(|(_, value)| (*value).to_owned());
        given.or_else(|| (name == "VAULT_ADDR").then(|| server.address.clone()))
    };
    let config = Config { max_retries: 0, ..Config::from_env(&variable)? };
    Client::new(config)?.send(&Request::read("x")).await
}
