//! Readiness and measurements, for probes and Prometheus.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chancery_api::Clock;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::resources::{ResourceError, ResourceName, Resources};
use super::secret::Content;
use super::store::Follower;

/// So many probes at once.
const CONNECTIONS: usize = 16;

/// What the agent has, for those who ask whether it is well.
pub(super) struct Health {
    pair: Follower,
    roots: Follower,
    clock: Arc<dyn Clock>,
    /// Another provider serves the workload's certificate.
    foreign: bool,
}

impl Health {
    pub(super) fn new(
        resources: &Resources,
        clock: Arc<dyn Clock>,
        foreign: bool,
    ) -> Result<Self, ResourceError> {
        let pair = resources.follow(&ResourceName::Default)?;
        let roots = resources.follow(&ResourceName::RootCa)?;
        Ok(Self { pair, roots, clock, foreign })
    }

    /// Seconds until the end of the certificate, and until that of the root that ends first.
    fn left(&self) -> [(&'static str, Option<f64>); 2] {
        let now = self.clock.now();
        let left = |follower: &Follower| {
            let content = follower.borrow().clone();
            let certificates = match content.as_deref()? {
                Content::KeyPair(pair) => pair.certificates.get(..1)?,
                Content::Roots(roots) => &roots.certificates,
            };
            let end = certificates.iter().map(|certificate| certificate.not_after().to_timestamp()).min()?;
            Some(end.duration_since(now).as_secs_f64())
        };
        [("default", left(&self.pair)), ("ROOTCA", left(&self.roots))]
    }

    /// Why the agent is not ready; `None` if it is.
    fn complaint(&self) -> Option<&'static str> {
        match self.left() {
            [(_, Some(left)), _] if left <= 0.0 => Some("the certificate has ended"),
            // They are the other's to have.
            [(_, None), _] | [_, (_, None)] if self.foreign => None,
            [(_, None), _] => Some("there is no certificate"),
            [_, (_, None)] => Some("there are no roots"),
            _ => None,
        }
    }
}

/// Where measurements are kept; once for a process.
pub(super) fn record() -> PrometheusHandle {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::warn!("measurements are recorded elsewhere in this process");
    }
    handle
}

pub(super) async fn listen(port: u16) -> std::io::Result<TcpListener> {
    TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await
}

/// Answers for ever.
pub(super) async fn serve(listener: TcpListener, health: Health, measured: PrometheusHandle) {
    let health = Arc::new(health);
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // It is never closed.
        let place = Arc::clone(&room).acquire_owned().await.ok();
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let (health, measured) = (Arc::clone(&health), measured.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let answer = answer(&request, &health, &measured);
            async move { Ok::<_, Infallible>(answer) }
        });
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(5))
                .max_buf_size(16 << 10)
                .serve_connection(TokioIo::new(stream), service);
            // Probes come and go as they like.
            let _ = tokio::time::timeout(Duration::from_secs(60), connection).await;
            drop(place);
        });
    }
}

fn answer<T>(request: &Request<T>, health: &Health, measured: &PrometheusHandle) -> Response<Full<Bytes>> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/healthz/ready") => match health.complaint() {
            None => (StatusCode::OK, String::new()),
            Some(complaint) => (StatusCode::SERVICE_UNAVAILABLE, format!("{complaint}\n")),
        },
        (&Method::GET | &Method::HEAD, "/metrics") => {
            for (name, left) in health.left() {
                if let Some(left) = left {
                    metrics::gauge!("cert_expiry_seconds", "resource_name" => name).set(left);
                }
            }
            measured.run_upkeep();
            (StatusCode::OK, measured.render())
        }
        _ => (StatusCode::NOT_FOUND, String::new()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let plain = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(http::header::CONTENT_TYPE, plain);
    response
}

#[cfg(test)]
mod tests {
    use chancery_api::FixedClock;

    use super::super::issue::Issued;
    use super::super::secret::{KeyPair, TrustBundle};
    use super::super::settings::Settings;
    use super::super::store::Store;
    use super::super::test_ca::{Ca, now};
    use super::*;

    #[test]
    fn it_is_ready_with_a_certificate_that_has_not_ended() {
        let folder = tempfile::tempdir().unwrap();
        let pairs = [
            ("POD_NAMESPACE", "a"),
            ("SERVICE_ACCOUNT", "b"),
            ("CHANCERY_AGENT_CERTS", folder.path().to_str().unwrap()),
        ];
        let settings =
            Settings::read(&pairs.map(|(name, value)| (name.into(), value.into())).into()).unwrap();
        let store = Arc::new(Store::default());
        let resources = Resources::new(&settings, Some(Arc::clone(&store)));
        let clock = Arc::new(FixedClock::at(now()));
        let health = Health::new(&resources, Arc::clone(&clock) as Arc<dyn Clock>, false).unwrap();
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        let get = |path: &str| {
            let request = Request::get(path).body(()).unwrap();
            metrics::with_local_recorder(&recorder, || answer(&request, &health, &handle))
        };
        let status = |path| get(path).status().as_u16();
        assert_eq!(status("/healthz/ready"), 503);
        assert_eq!(status("/other"), 404);
        let foreign = Health::new(&resources, Arc::clone(&clock) as Arc<dyn Clock>, true).unwrap();
        assert_eq!(foreign.complaint(), None);

        let ca = Ca::new("root");
        let (leaf, key) = ca.leaf("spiffe://d/ns/a/sa/b");
        store.put(Issued {
            key_pair: KeyPair::new(&[leaf, ca.root_pem()], key).unwrap(),
            roots: TrustBundle::from_pem(&ca.root_pem()).unwrap(),
            not_after: now(),
            received: now(),
        });
        assert_eq!(status("/healthz/ready"), 200);
        assert_eq!(status("/metrics"), 200);
        let text = handle.render();
        assert!(text.contains("cert_expiry_seconds{resource_name=\"default\"} 3"), "{text}");
        assert!(text.contains("cert_expiry_seconds{resource_name=\"ROOTCA\"} 3"), "{text}");

        clock.advance(Duration::from_secs(3601));
        assert_eq!(status("/healthz/ready"), 503);
        assert!(foreign.complaint().is_some());
    }
}
