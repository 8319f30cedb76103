//! What the tests share.

use std::sync::Arc;
use std::time::Duration;

use chancery_api::{Clock, SystemClock};
use chancery_mesh::ca::roots::Roots;
use chancery_mesh::kubernetes::{ClientOptions, IssuerReference, connect};
use chancery_testkit::ca::Ca;
use chancery_testkit::kubernetes::ApiServer;
use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

/// Longer than anything takes here, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn now() -> Timestamp {
    SystemClock.now()
}

pub(crate) fn clock() -> Arc<dyn Clock> {
    Arc::new(SystemClock)
}

pub(crate) async fn client(url: &str) -> kube::Client {
    let options = ClientOptions { server: Some(url.to_owned()), ..ClientOptions::default() };
    connect(&options).await.expect("a client")
}

/// A double and a client of it.
pub(crate) async fn double() -> (ApiServer, kube::Client) {
    let server = ApiServer::start().await;
    let client = client(&server.url()).await;
    (server, client)
}

/// Runs something that does not end, until it is dropped.
pub(crate) fn background(task: impl Future<Output = ()> + Send + 'static) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    tasks.spawn(task);
    tasks
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < PATIENCE, "in vain: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn issuer(name: &str) -> IssuerReference {
    IssuerReference::new(name, "Issuer", "cert-manager.io")
}

pub(crate) fn authority(name: &str) -> Ca {
    Ca::root(name, now)
}

pub(crate) fn roots(authorities: &[&Ca]) -> Arc<Roots> {
    Arc::new(Roots {
        certificates: authorities.iter().map(|ca| ca.certificate().clone()).collect(),
        pem: authorities.iter().map(|ca| ca.pem()).collect(),
    })
}
