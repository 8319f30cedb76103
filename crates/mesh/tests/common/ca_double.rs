//! Istio's certificate service in a few lines, for tests: it signs what it is asked for, and does as it is told.

#![allow(dead_code, unreachable_pub, reason = "each of those who include it uses a part")]
#![allow(clippy::expect_used, reason = "a helper of tests fails as tests do")]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chancery_issuance::{KeyForm, PrivateKey};
use chancery_mesh::proto::istio::istio_certificate_service_server::{
    IstioCertificateService, IstioCertificateServiceServer,
};
use chancery_mesh::proto::istio::{IstioCertificateRequest, IstioCertificateResponse};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tonic::{Code, Request, Response, Status};
use tower_service::Service as _;

use super::test_ca::Ca;

/// What a call brought.
#[derive(Debug, Clone)]
pub struct Call {
    pub metadata: http::HeaderMap,
    pub request: IstioCertificateRequest,
    /// Whether the client showed a certificate.
    pub certificate: bool,
}

/// What it does with the next calls, and what it saw of those before.
pub struct State {
    pub ca: Mutex<Arc<Ca>>,
    pub calls: Mutex<Vec<Call>>,
    /// Refusals of the next calls, one each.
    pub refusals: Mutex<VecDeque<Code>>,
    /// The life of what it signs; otherwise what is asked for.
    pub life: Mutex<Option<Duration>>,
    /// Roots that stand beside its own in the answers.
    pub further_roots: Mutex<String>,
    /// Leave the roots away.
    pub leaf_only: Mutex<bool>,
    /// Answer no call.
    pub hang: Mutex<bool>,
}

/// A running double.
#[derive(Clone)]
pub struct CaDouble {
    pub state: Arc<State>,
    pub address: SocketAddr,
}

impl CaDouble {
    /// Starts one at `address` with a serving certificate for 127.0.0.1 of its own CA.
    pub async fn start(ca: Ca, address: &str) -> Self {
        let state = Arc::new(State {
            ca: Mutex::new(Arc::new(ca)),
            calls: Mutex::default(),
            refusals: Mutex::default(),
            life: Mutex::default(),
            further_roots: Mutex::default(),
            leaf_only: Mutex::default(),
            hang: Mutex::default(),
        });
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(accept(listener, Arc::clone(&state)));
        Self { state, address }
    }

    /// The calls so far.
    pub fn calls(&self) -> Vec<Call> {
        self.state.calls.lock().expect("a lock").clone()
    }

    /// The CA of the moment.
    pub fn ca(&self) -> Arc<Ca> {
        Arc::clone(&self.state.ca.lock().expect("a lock"))
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let tls = {
        let ca = Arc::clone(&state.ca.lock().expect("a lock"));
        let (leaf, key) = ca.server_leaf("127.0.0.1");
        let leaf = chancery_issuance::Certificate::from_pem(&leaf).expect("a leaf");
        let key = PrivateKey::from_pem(&key).expect("a key").to_der(KeyForm::Pkcs8).to_vec();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(ca.root().der().to_vec())).expect("a root");
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .expect("a verifier");
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                vec![CertificateDer::from(leaf.der().to_vec())],
                PrivatePkcs8KeyDer::from(key).into(),
            )
            .expect("a configuration");
        config.alpn_protocols = vec![b"h2".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    };
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let (tls, state) = (tls.clone(), Arc::clone(&state));
        tokio::spawn(async move {
            // As a client of HTTP/2 without TLS begins; TLS begins otherwise.
            let mut first = [0];
            if stream.peek(&mut first).await.is_ok() && first == *b"P" {
                return serve(stream, state, false).await;
            }
            let Ok(stream) = tls.accept(stream).await else { return };
            let certificate = stream.get_ref().1.peer_certificates().is_some();
            serve(stream, state, certificate).await;
        });
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + 'static>(stream: S, state: Arc<State>, certificate: bool) {
    let service = IstioCertificateServiceServer::new(Double { state, certificate });
    let answer = service_fn(move |request| {
        let mut service = service.clone();
        async move { Ok::<_, Infallible>(service.call(request).await.expect("infallible")) }
    });
    let served = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), answer);
    let _ = served.await;
}

struct Double {
    state: Arc<State>,
    certificate: bool,
}

#[async_trait::async_trait]
impl IstioCertificateService for Double {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let state = &self.state;
        let life = state.life.lock().expect("a lock").unwrap_or_else(|| {
            Duration::from_secs(u64::try_from(request.validity_duration).expect("not negative"))
        });
        let csr = request.csr.clone();
        let call = Call { metadata: metadata.into_headers(), request, certificate: self.certificate };
        state.calls.lock().expect("a lock").push(call);
        if *state.hang.lock().expect("a lock") {
            std::future::pending::<()>().await;
        }
        if let Some(code) = state.refusals.lock().expect("a lock").pop_front() {
            return Err(Status::new(code, "as told"));
        }
        let ca = Arc::clone(&state.ca.lock().expect("a lock"));
        let mut cert_chain = vec![ca.sign(&csr, life)];
        if !*state.leaf_only.lock().expect("a lock") {
            cert_chain.push(format!("{}{}", state.further_roots.lock().expect("a lock"), ca.root_pem()));
        }
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}
