//! A server of the Vault API as tests need it: it does as it is told, and remembers what it was asked.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::Authority;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) path: String,
    pub(super) token: String,
    pub(super) namespace: Option<String>,
    pub(super) body: Value,
    /// Of the connection, to tell connections apart.
    pub(super) peer: SocketAddr,
}

/// What it does.
pub(super) struct Behaviour {
    pub(super) is_sealed: bool,
    /// How long a signature takes.
    pub(super) delay: Duration,
    /// Instead of signing.
    pub(super) answer: Option<(u16, String)>,
    /// Of `sys/capabilities-self`; a status instead if it refuses to say.
    pub(super) capabilities: Result<Vec<&'static str>, u16>,
    pub(super) secret_id: String,
    pub(super) seen: Vec<Seen>,
    tokens: Vec<String>,
    logins: usize,
}

pub(super) struct VaultDouble {
    pub(super) root: Authority,
    pub(super) middle: Authority,
    behaviour: Mutex<Behaviour>,
    address: Mutex<Option<SocketAddr>>,
    listener: Mutex<Option<JoinHandle<()>>>,
}

impl VaultDouble {
    pub(super) async fn start() -> Arc<Self> {
        let root = Authority::root("root");
        let middle = root.below("middle");
        let behaviour = Behaviour {
            is_sealed: false,
            delay: Duration::ZERO,
            answer: None,
            capabilities: Ok(vec!["update"]),
            secret_id: "s1".into(),
            seen: Vec::new(),
            tokens: vec!["given".into()],
            logins: 0,
        };
        let double = Arc::new(Self {
            root,
            middle,
            behaviour: Mutex::new(behaviour),
            address: Mutex::default(),
            listener: Mutex::default(),
        });
        double.listen(SocketAddr::from(([127, 0, 0, 1], 0))).await;
        double
    }

    async fn listen(self: &Arc<Self>, at: SocketAddr) {
        let listener = TcpListener::bind(at).await.unwrap();
        *self.address.lock().unwrap() = Some(listener.local_addr().unwrap());
        let weak = Arc::downgrade(self);
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, peer)) = listener.accept().await {
                let weak = weak.clone();
                let answer = service_fn(move |request: http::Request<Incoming>| {
                    let weak = weak.clone();
                    async move {
                        let Some(double) = weak.upgrade() else { std::future::pending().await };
                        Ok::<_, Infallible>(double.answer(request, peer).await)
                    }
                });
                connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
            }
        });
        *self.listener.lock().unwrap() = Some(serving);
    }

    /// Nobody listens any more.
    pub(super) async fn go(&self) {
        let serving = self.listener.lock().unwrap().take().unwrap();
        serving.abort();
        let _ = serving.await;
    }

    pub(super) async fn come_back(self: &Arc<Self>) {
        let at = self.address.lock().unwrap().unwrap();
        self.listen(at).await;
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address.lock().unwrap().unwrap())
    }

    pub(super) fn is(&self) -> MutexGuard<'_, Behaviour> {
        self.behaviour.lock().unwrap()
    }

    /// Requests for paths that end so.
    pub(super) fn seen(&self, end: &str) -> Vec<Seen> {
        self.is().seen.iter().filter(|seen| seen.path.ends_with(end)).cloned().collect()
    }

    /// All tokens are worth nothing any more.
    pub(super) fn revoke_all(&self) {
        self.is().tokens.clear();
    }

    async fn answer(
        &self,
        request: http::Request<Incoming>,
        peer: SocketAddr,
    ) -> http::Response<Full<Bytes>> {
        let header =
            |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (token, namespace) = (header("x-vault-token").unwrap_or_default(), header("x-vault-namespace"));
        let path = request.uri().path().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&body).unwrap_or_default();
        let seen = Seen { path: path.clone(), token, namespace, body, peer };
        let delay = if path.contains("/sign/") { self.is().delay } else { Duration::ZERO };
        tokio::time::sleep(delay).await;
        let (status, body) = self.decide(&seen);
        self.is().seen.push(seen);
        http::Response::builder().status(status).body(Full::new(Bytes::from(body))).unwrap()
    }

    fn decide(&self, seen: &Seen) -> (u16, String) {
        let refuse = |status: u16, error: &str| (status, json!({ "errors": [error] }).to_string());
        let mut is = self.is();
        let path = seen.path.trim_start_matches("/base");
        if is.is_sealed {
            return refuse(503, "Vault is sealed");
        }
        if path == "/v1/sys/health" {
            return (200, "{}".into());
        }
        if path.starts_with("/v1/auth/") && path.ends_with("/login") {
            if path == "/v1/auth/approle/login" && seen.body["secret_id"] != is.secret_id.as_str() {
                return refuse(400, "invalid role or secret ID");
            }
            is.logins += 1;
            let token = format!("t{}", is.logins);
            is.tokens.push(token.clone());
            let auth = json!({ "client_token": token, "lease_duration": 3600, "renewable": true });
            return (200, json!({ "auth": auth }).to_string());
        }
        if !is.tokens.contains(&seen.token) {
            return refuse(403, "permission denied");
        }
        match path {
            "/v1/auth/token/revoke-self" => {
                is.tokens.retain(|token| *token != seen.token);
                (204, String::new())
            }
            "/v1/auth/token/lookup-self" => refuse(403, "permission denied"),
            "/v1/sys/capabilities-self" => match &is.capabilities {
                Ok(capabilities) => (200, json!({ "data": { "capabilities": capabilities } }).to_string()),
                Err(status) => refuse(*status, "permission denied"),
            },
            _ if is.answer.is_some() => is.answer.clone().unwrap(),
            "/v1/istioca/sign/mesh" if seen.body["csr"] == "" => refuse(400, "the CSR is empty"),
            "/v1/istioca/sign/mesh" => {
                let leaf = self.middle.sign(seen.body["csr"].as_str().unwrap(), 3600);
                let data = json!({
                    "certificate": leaf.pem(), "issuing_ca": self.middle.certificate.pem(),
                    "ca_chain": [self.middle.certificate.pem(), self.root.certificate.pem()],
                    "serial_number": "01", "expiration": 7,
                });
                (200, json!({ "request_id": "r", "lease_duration": 0, "data": data }).to_string())
            }
            _ => refuse(400, "unknown role: nope"),
        }
    }
}
