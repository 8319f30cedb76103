//! What changes, lies or stalls around the service does not bring it down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chancery_api::SystemClock;
use chancery_mesh::ca::health::Check;
use chancery_mesh::ca::run::{Parts, start};
use chancery_mesh::ca::signer::{SignedChain, Signer, SigningError, SigningRequest};
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::net::TcpStream;
use tokio_stream::StreamExt;
use tonic::{Code, Status};

use crate::serving::{Client, Mirror, Service, get, launch, settings};
use crate::support::{Authority, until};

/// Signs with one authority or the other, and names its root or the other's.
struct Change {
    authorities: [Arc<Authority>; 2],
    second: AtomicBool,
    lies: AtomicBool,
}

impl Change {
    fn new() -> Arc<Self> {
        let authorities = ["one", "two"].map(|name| Arc::new(Authority::new(name)));
        Arc::new(Self { authorities, second: AtomicBool::new(false), lies: AtomicBool::new(false) })
    }
}

#[async_trait]
impl Signer for Change {
    async fn sign(&self, request: &SigningRequest) -> Result<SignedChain, SigningError> {
        let [one, two] = &self.authorities;
        let (now, other) = if self.second.load(Ordering::SeqCst) { (two, one) } else { (one, two) };
        let mut answer = Signer::sign(now.as_ref(), request).await?;
        if self.lies.load(Ordering::SeqCst) {
            answer.root = Some(other.root.clone());
        }
        Ok(answer)
    }
}

#[tokio::test]
async fn new_roots_bring_a_new_certificate_that_leads_to_them() {
    let signer = Change::new();
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("ca.pem");
    std::fs::write(&roots, &signer.authorities[0].root).unwrap();
    let running = launch(settings(&roots), Arc::<Change>::clone(&signer)).await;
    let (probes, address) = (running.addresses().readiness, running.addresses().serving);
    until("readiness", || async { get(probes, "/readyz").await.0 == 200 }).await;
    signer.second.store(true, Ordering::SeqCst);
    std::fs::write(&roots, &signer.authorities[1].root).unwrap();
    // Long before it is due.
    until("a certificate below the new root", || async {
        Client::connect(address, &signer.authorities[1].root, None).await.is_ok()
    })
    .await;
    assert_eq!(get(probes, "/readyz").await.0, 200);
    assert!(Client::connect(address, &signer.authorities[0].root, None).await.is_err());
    running.shutdown().await;
}

#[tokio::test]
async fn an_answer_that_is_no_use_does_not_decide_what_is_trusted() {
    let signer = Change::new();
    signer.lies.store(true, Ordering::SeqCst);
    let folder = tempfile::tempdir().unwrap();
    let mut with = settings(folder.path());
    with.root_ca_file = None;
    let running = launch(with, Arc::<Change>::clone(&signer)).await;
    until("an answer", || async { signer.authorities[0].signed.load(Ordering::SeqCst) > 0 }).await;
    let probes = running.addresses().readiness;
    let (status, text) = get(probes, "/readyz").await;
    assert_eq!(status, 500);
    assert!(text.contains("[-]roots failed: the mesh's roots are not known yet"), "{text}");
    signer.lies.store(false, Ordering::SeqCst);
    until("readiness", || async { get(probes, "/readyz").await.0 == 200 }).await;
    let client = Client::connect(running.addresses().serving, &signer.authorities[0].root, None).await;
    assert!(client.is_ok());
    running.shutdown().await;
}

#[tokio::test]
async fn a_message_that_does_not_come_to_an_end_is_cut_off() {
    let service = Service::start_with(Authority::new("root"), |settings| {
        settings.listener.call_timeout = Duration::from_millis(300);
    })
    .await;
    service.until_ready().await;
    let mut sender = service.connect(None).await.unwrap().sender;
    // A message of 1,000 bytes, of which two come.
    let begun = Bytes::from_static(&[0, 0, 0, 3, 232, 10, 10]);
    let body = tokio_stream::once(Ok::<_, Status>(Frame::data(begun))).chain(tokio_stream::pending());
    let request = http::Request::post("https://ca/istio.v1.auth.IstioCertificateService/CreateCertificate")
        .header("content-type", "application/grpc")
        .body(tonic::body::Body::new(StreamBody::new(body)))
        .unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(5), sender.send_request(request)).await;
    let answer = answer.unwrap().unwrap();
    assert_eq!(answer.headers()["grpc-status"], (Code::DeadlineExceeded as i32).to_string());
    service.running.shutdown().await;
}

#[tokio::test]
async fn connections_that_are_only_held_keep_no_probe_out() {
    let service = Service::start(Authority::new("root")).await;
    service.until_ready().await;
    let probes = service.running.addresses().readiness;
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(TcpStream::connect(probes).await.unwrap());
    }
    assert_eq!(get(probes, "/readyz").await.0, 200);
    service.running.shutdown().await;
}

#[tokio::test]
async fn what_is_to_be_done_at_the_end_is_done_and_further_checks_count() {
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("ca.pem");
    let authority = Authority::new("root");
    std::fs::write(&roots, &authority.root).unwrap();
    let (is_done, is_bad) = (Arc::<AtomicBool>::default(), Arc::new(AtomicBool::new(true)));
    let (done, bad) = (Arc::clone(&is_done), Arc::clone(&is_bad));
    let parts = |_, _| async {
        let mut parts = Parts::new(Mirror);
        parts.last.push(Box::pin(async move { done.store(true, Ordering::SeqCst) }));
        parts.checks.push(Check::new("pods", move || {
            if bad.load(Ordering::SeqCst) { Err("none seen".to_owned()) } else { Ok(()) }
        }));
        Ok(parts)
    };
    let checked = settings(&roots).check().unwrap();
    let running = start(checked, Arc::new(authority), Arc::new(SystemClock), parts).await.unwrap();
    let probes = running.addresses().readiness;
    until("all but one", || async { get(probes, "/readyz").await.1.contains("[+]grpc_server ok") }).await;
    let (status, text) = get(probes, "/readyz").await;
    assert_eq!(status, 500);
    assert!(text.contains("[-]pods failed: none seen"), "{text}");
    is_bad.store(false, Ordering::SeqCst);
    assert_eq!(get(probes, "/readyz").await.0, 200);
    assert!(!is_done.load(Ordering::SeqCst));
    running.shutdown().await;
    assert!(is_done.load(Ordering::SeqCst));
}
