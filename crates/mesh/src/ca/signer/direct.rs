//! Signing straight over the Vault API: one client that keeps its connections, one session that keeps its token.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use chancery_client::{Client, Config, ConfigError, Error, Login, Loss, Request, Session, SessionError};
use chancery_issuance::Certificate;
use serde::{Deserialize, Serialize};

use super::{AT_ONCE, Purpose, SignedChain, Signer, SigningError, SigningRequest};

/// The shortest time between two readings of the server's certificates.
const RELOAD_PAUSE: Duration = Duration::from_secs(2);

/// Whom to ask, as whom, and where.
#[derive(Debug, Clone)]
pub struct DirectSettings {
    /// The server. Its `timeout` bounds one attempt; attempts are not repeated here.
    pub client: Config,
    /// How to come to a token.
    pub login: Login,
    /// `MOUNT/sign/ROLE` for workloads.
    pub sign_path: String,
    /// The same for this service's own certificate; its role must allow DNS names. `None` is the workloads' role.
    pub serving_sign_path: Option<String>,
}

/// Signs with a role of a PKI mount. Which names the role allows is the role's business.
#[derive(Debug)]
pub struct DirectSigner {
    session: Session,
    sign_path: String,
    serving_sign_path: String,
    /// When the server's certificates were last read again.
    reloaded: Mutex<Option<Instant>>,
    /// What came with the last certificate: the same for all of an issuer, so that it is read once.
    last: ArcSwapOption<Issuers>,
}

#[derive(Debug, PartialEq)]
struct Issuers {
    certificates: Vec<String>,
    /// In PEM, a line break at the end.
    pem: String,
    root: Option<String>,
}

#[derive(Serialize)]
struct Body<'a> {
    csr: &'a str,
    ttl: &'a str,
    format: &'static str,
}

#[derive(Deserialize)]
struct Signed {
    certificate: String,
    #[serde(default)]
    issuing_ca: String,
    #[serde(default)]
    ca_chain: Option<Vec<String>>,
}

impl DirectSigner {
    /// A signer that has not logged in yet. Reads the certificates that the settings name, opens no connection.
    ///
    /// # Errors
    /// The settings cannot be used.
    pub fn new(settings: DirectSettings) -> Result<Self, ConfigError> {
        let DirectSettings { client, login, sign_path, serving_sign_path } = settings;
        // Who calls has its own deadline and repeats what is worth it.
        // With fewer kept, a busy service opens a connection for every sixth call.
        let client =
            Client::new(Config { max_retries: 0, token: None, idle_connections: AT_ONCE, ..client })?;
        let sign_path = sign_path.trim_matches('/').to_owned();
        let serving = serving_sign_path.map(|path| path.trim_matches('/').to_owned());
        Ok(Self {
            session: Session::new(client, login),
            serving_sign_path: serving.unwrap_or_else(|| sign_path.clone()),
            sign_path,
            reloaded: Mutex::new(None),
            last: ArcSwapOption::empty(),
        })
    }

    /// Logs in and keeps the token alive, for as long as the service runs. Returns only if there was nothing but a
    /// token and it has come to its end.
    pub async fn keep(&self) -> SessionError {
        self.session.keep().await
    }

    async fn ask(&self, request: &Request) -> Result<SignedChain, Error> {
        let response = match self.session.client().send(request).await {
            Err(error) => {
                self.reload_after(&error).await;
                return Err(error);
            }
            Ok(response) => response,
        };
        let signed: Signed = response.data()?;
        Ok(self.chain(signed))
    }

    /// The server's authority may have been replaced since it was read, or the server moved; the next attempt will
    /// tell.
    async fn reload_after(&self, error: &Error) {
        if !matches!(error, Error::Transport { kind: Loss::Tls | Loss::Connect, .. }) {
            return;
        }
        {
            let mut reloaded = self.reloaded.lock().unwrap_or_else(PoisonError::into_inner);
            if reloaded.is_some_and(|reloaded| reloaded.elapsed() < RELOAD_PAUSE) {
                return;
            }
            *reloaded = Some(Instant::now());
        }
        if let Err(error) = self.session.client().reload().await {
            tracing::warn!(%error, "the certificates for the signer cannot be read again; the old ones stay");
        }
    }

    fn chain(&self, signed: Signed) -> SignedChain {
        let Signed { certificate, issuing_ca, ca_chain } = signed;
        let mut certificates = ca_chain.unwrap_or_default();
        if !issuing_ca.is_empty() && !certificates.contains(&issuing_ca) {
            certificates.push(issuing_ca);
        }
        let known = self.last.load_full().filter(|last| last.certificates == certificates);
        let issuers = known.unwrap_or_else(|| {
            let issuers = Arc::new(Issuers::of(certificates));
            self.last.store(Some(Arc::clone(&issuers)));
            issuers
        });
        let mut chain = certificate;
        chain.reserve(issuers.pem.len() + 1);
        end_line(&mut chain);
        chain.push_str(&issuers.pem);
        SignedChain { chain, root: issuers.root.clone() }
    }
}

#[async_trait]
impl Signer for DirectSigner {
    async fn sign(&self, request: &SigningRequest) -> Result<SignedChain, SigningError> {
        let path = match request.purpose {
            Purpose::Workload => &self.sign_path,
            Purpose::Serving => &self.serving_sign_path,
        };
        let mut ttl = String::with_capacity(16);
        // Writing to a string cannot fail.
        let _ = write!(ttl, "{}s", request.duration.as_secs().max(1));
        let body = Body { csr: &request.csr, ttl: &ttl, format: "pem" };
        let call = Request::post(path.as_str(), &body).map_err(|error| unavailable(&error))?.plain();

        let mut seen = self.session.generation();
        if seen == 0 {
            if let Err(error) = self.session.refresh(0).await {
                if let SessionError::Request(error) = &error {
                    self.reload_after(error).await;
                }
                return Err(no_login(&error));
            }
            seen = self.session.generation();
        }
        match self.ask(&call).await {
            Err(error) if error.status() == Some(403) => {
                // The token may have been revoked, or the server may be another one than before.
                if !self.session.refresh(seen).await.map_err(|error| no_login(&error))? {
                    return Err(classify(&error));
                }
                tracing::info!(path, "the signer refused the token; there is a new one");
                self.ask(&call).await.map_err(|error| classify(&error))
            }
            answered => answered.map_err(|error| classify(&error)),
        }
    }
}

impl Issuers {
    fn of(certificates: Vec<String>) -> Self {
        let mut pem = String::new();
        for certificate in &certificates {
            pem.push_str(certificate);
            end_line(&mut pem);
        }
        let is_root =
            |pem: &&String| Certificate::from_pem(pem).is_ok_and(|certificate| certificate.is_self_signed());
        let root = certificates.iter().rev().find(is_root).cloned();
        Self { certificates, pem, root }
    }
}

/// PEM blocks that touch each other are none.
fn end_line(pem: &mut String) {
    if !pem.ends_with('\n') {
        pem.push('\n');
    }
}

/// What a failed request means for the certificate.
fn classify(error: &Error) -> SigningError {
    match error.status() {
        Some(status) if is_final(status) => SigningError::Refused(error.line()),
        _ => unavailable(error),
    }
}

/// Whether asking again brings the same: a refusal of the request, not of the moment. 408 and 429 speak of the
/// moment, 412 of a replica that lags behind, 472 and 473 of a standby.
fn is_final(status: u16) -> bool {
    (400..500).contains(&status) && !matches!(status, 408 | 412 | 429 | 472 | 473)
}

fn unavailable(error: &Error) -> SigningError {
    SigningError::Unavailable(error.line())
}

fn no_login(error: &SessionError) -> SigningError {
    SigningError::Unavailable(format!("cannot log in to the signer: {}", error.line()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(status: u16) -> Error {
        let errors = vec!["one".to_owned(), "two".to_owned()];
        Error::Api { method: "POST".into(), url: "http://h".into(), status, errors, raw: None }
    }

    #[test]
    fn refusals_of_the_request_are_told_from_those_of_the_moment() {
        for status in [400, 403, 404, 405] {
            let expected = SigningError::Refused(format!("POST http://h: {status}: one; two"));
            assert_eq!(classify(&api(status)), expected);
        }
        for status in [412, 429, 472, 473, 500, 502, 503] {
            assert!(matches!(classify(&api(status)), SigningError::Unavailable(_)), "{status}");
        }
    }

    #[test]
    fn an_answer_without_line_breaks_at_its_ends_makes_a_readable_chain() {
        let config = Config::new("http://h".parse().unwrap());
        let token = chancery_api::Secret::from("t").into();
        let settings = DirectSettings {
            client: config,
            login: Login::Token(token),
            sign_path: "/pki/sign/web/".into(),
            serving_sign_path: None,
        };
        let signer = DirectSigner::new(settings).unwrap();
        assert_eq!(
            (signer.sign_path.as_str(), signer.serving_sign_path.as_str()),
            ("pki/sign/web", "pki/sign/web")
        );
        let signed = |chain: Option<&[&str]>| Signed {
            certificate: "leaf".into(),
            issuing_ca: "ca".into(),
            ca_chain: chain.map(|chain| chain.iter().map(|&one| one.to_owned()).collect()),
        };
        assert_eq!(signer.chain(signed(None)).chain, "leaf\nca\n");
        assert_eq!(signer.chain(signed(Some(&["ca", "root\n"]))).chain, "leaf\nca\nroot\n");
        assert_eq!(signer.chain(signed(Some(&["root"]))).chain, "leaf\nroot\nca\n");
    }
}
