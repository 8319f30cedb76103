//! Where an Envoy's configuration is read from.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::Request;
use hyper::body::Body as _;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use zeroize::Zeroizing;

use super::dump::{Dump, DumpError};

/// An Envoy, or what one has said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Host and port of an Envoy's administration interface, which speaks plain HTTP.
    Admin(String),
    /// A file.
    File(PathBuf),
    /// Standard input.
    Stdin,
}

/// Why an Envoy could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// There is no connection.
    #[error("cannot reach Envoy at {address}: {error}")]
    Connect {
        /// Where.
        address: String,
        /// Why.
        error: std::io::Error,
    },
    /// It broke off.
    #[error("Envoy at {address} broke off: {reason}")]
    Broken {
        /// Where.
        address: String,
        /// Why.
        reason: String,
    },
    /// It answered something else.
    #[error("Envoy at {address} answered {status} to {path}")]
    Status {
        /// Where.
        address: String,
        /// What was asked for.
        path: &'static str,
        /// What it answered.
        status: u16,
    },
    /// It took too long.
    #[error("Envoy at {0} did not answer within {limit:?}", limit = Source::PATIENCE)]
    TooLate(String),
    /// What it said cannot be read.
    #[error(transparent)]
    Dump(#[from] DumpError),
}

/// The sections with secrets, of a configuration that may have many megabytes.
const SECRETS: &str = "/config_dump?mask=static_secrets,dynamic_active_secrets,dynamic_warming_secrets";

/// The same without choosing.
const EVERYTHING: &str = "/config_dump";

/// What is loaded.
const CERTS: &str = "/certs";

impl Source {
    /// How long an Envoy is waited for.
    pub const PATIENCE: Duration = Duration::from_secs(10);

    /// Understands `-`, `http://HOST:PORT`, `HOST:PORT` and the name of a file. A file whose name looks like an address is
    /// named with a slash: `./a:1`.
    pub fn parse(text: &str) -> Self {
        if text == "-" {
            return Self::Stdin;
        }
        if let Some(rest) = text.strip_prefix("http://") {
            return Self::Admin(rest.trim_end_matches('/').to_owned());
        }
        let is_address = |(host, port): (&str, &str)| {
            !host.is_empty() && !host.contains(['/', '\\']) && port.parse::<u16>().is_ok()
        };
        if text.rsplit_once(':').is_some_and(is_address) {
            return Self::Admin(text.to_owned());
        }
        Self::File(PathBuf::from(text))
    }
}

/// Asks the Envoy at an address for its secrets. The text may hold private keys where a peer that is no Envoy answers.
///
/// # Errors
/// It cannot be reached, or answers something else.
pub async fn config_dump(address: &str) -> Result<Zeroizing<String>, SourceError> {
    match get(address, SECRETS).await {
        // One that knows no masks, or not this one, still tells everything.
        Err(SourceError::Status { status: 400, .. }) => get(address, EVERYTHING).await,
        answer => answer,
    }
}

/// Asks the Envoy at an address for what it has loaded.
///
/// # Errors
/// It cannot be reached, or answers something else.
pub async fn certs(address: &str) -> Result<Zeroizing<String>, SourceError> {
    get(address, CERTS).await
}

async fn get(address: &str, path: &'static str) -> Result<Zeroizing<String>, SourceError> {
    let answer = tokio::time::timeout(Source::PATIENCE, ask(address, path)).await;
    answer.unwrap_or_else(|_| Err(SourceError::TooLate(address.to_owned())))
}

async fn ask(address: &str, path: &'static str) -> Result<Zeroizing<String>, SourceError> {
    let broken = |reason: String| SourceError::Broken { address: address.to_owned(), reason };
    let connected = TcpStream::connect(address).await;
    let stream = connected.map_err(|error| SourceError::Connect { address: address.to_owned(), error })?;
    let opened = handshake::<_, Empty<Bytes>>(TokioIo::new(stream)).await;
    let (mut sender, connection) = opened.map_err(|error| broken(error.to_string()))?;
    let request = Request::get(path).header("host", address).body(Empty::new());
    let request = request.map_err(|error| broken(error.to_string()))?;
    // The connection works while the answer is waited for, and ends with it.
    let answer = async {
        let answer = sender.send_request(request).await.map_err(|error| broken(error.to_string()))?;
        if answer.status() != 200 {
            let status = answer.status().as_u16();
            return Err(SourceError::Status { address: address.to_owned(), path, status });
        }
        if answer.body().size_hint().lower() > Dump::MOST as u64 {
            return Err(DumpError::TooLong.into());
        }
        let body = Limited::new(answer.into_body(), Dump::MOST).collect().await;
        let body = body.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => SourceError::Dump(DumpError::TooLong),
            None => broken(error.to_string()),
        })?;
        let text = String::from_utf8(body.to_bytes().to_vec());
        text.map(Zeroizing::new).map_err(|_| broken("the answer is no text".to_owned()))
    };
    tokio::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = connection => {
            if let Err(error) = ended {
                return Err(broken(error.to_string()));
            }
            answer.await
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn sources_are_told_apart_by_their_form() {
        for (text, source) in [
            ("-", Source::Stdin),
            ("http://127.0.0.1:15000/", Source::Admin("127.0.0.1:15000".to_owned())),
            ("127.0.0.1:15000", Source::Admin("127.0.0.1:15000".to_owned())),
            ("[::1]:15000", Source::Admin("[::1]:15000".to_owned())),
            ("localhost:15000", Source::Admin("localhost:15000".to_owned())),
            ("dump.json", Source::File("dump.json".into())),
            ("./a:1", Source::File("./a:1".into())),
            ("C:dump.json", Source::File("C:dump.json".into())),
        ] {
            assert_eq!(Source::parse(text), source);
        }
    }

    /// Answers one request after the other with these bytes, and gives what was asked last.
    async fn envoy_of(answers: Vec<&'static str>) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let task = tokio::spawn(async move {
            let mut last = String::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.expect("a connection");
                let mut asked = vec![0; 4096];
                let length = stream.read(&mut asked).await.expect("a request");
                stream.write_all(answer.as_bytes()).await.expect("somebody listens");
                last = String::from_utf8(asked[..length].to_vec()).expect("a text");
            }
            last
        });
        (address, task)
    }

    async fn envoy(answer: &'static str) -> (String, tokio::task::JoinHandle<String>) {
        envoy_of(vec![answer]).await
    }

    #[tokio::test]
    async fn an_envoy_that_takes_no_mask_is_asked_for_everything() {
        let refusal = "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
        let (address, task) = envoy_of(vec![refusal, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"]).await;
        assert_eq!(config_dump(&address).await.expect("an answer").as_str(), "{}");
        assert!(task.await.expect("it ended").starts_with("GET /config_dump HTTP/1.1\r\n"));
    }

    #[tokio::test]
    async fn an_envoy_is_asked_for_its_secrets_only() {
        let (address, task) = envoy("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await;
        assert_eq!(config_dump(&address).await.expect("an answer").as_str(), "{}");
        let asked = task.await.expect("it ended");
        assert!(
            asked.starts_with(
                "GET /config_dump?mask=static_secrets,dynamic_active_secrets,dynamic_warming_secrets HTTP/1.1\r\n"
            ),
            "{asked}"
        );
    }

    #[tokio::test]
    async fn what_is_no_answer_is_told() {
        let (address, _task) = envoy("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n").await;
        let told = |result: Result<Zeroizing<String>, SourceError>| result.expect_err("it fails").to_string();
        assert_eq!(told(certs(&address).await), format!("Envoy at {address} answered 403 to /certs"));
        let (address, _task) = envoy("HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{").await;
        assert!(told(config_dump(&address).await).starts_with(&format!("Envoy at {address} broke off: ")));
        let (address, _task) = envoy("SSH-2.0-test\r\n").await;
        assert!(told(config_dump(&address).await).starts_with(&format!("Envoy at {address} broke off: ")));
        let free = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
        let free = free.to_string();
        assert!(told(certs(&free).await).starts_with(&format!("cannot reach Envoy at {free}: ")));
        let huge = "HTTP/1.1 200 OK\r\ncontent-length: 9999999999\r\n\r\n";
        let (address, _task) = envoy(huge).await;
        assert_eq!(told(certs(&address).await), DumpError::TooLong.to_string());
    }
}
