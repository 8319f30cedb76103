//! What all parts share.

use std::sync::Arc;
use std::time::Duration;

use chancery_api::Clock;
use chancery_kubernetes::events::Recorder;
use chancery_kubernetes::queue::{Backoff, Queue};
use kube::Client;

use crate::Key;
use crate::cache::Cache;
use crate::issuer::{IssuerKey, Issuers};
use crate::metrics::Metrics;
use crate::settings::Settings;

/// What all parts share; handed around in an `Arc`.
#[derive(Clone)]
pub struct Context {
    /// The way to the API server.
    pub client: Client,
    /// What flags say.
    pub settings: Arc<Settings>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Tells users what happened.
    pub recorder: Recorder,
    /// What is known of the cluster.
    pub cache: Arc<Cache>,
    /// The issuers' connections.
    pub issuers: Arc<Issuers>,
    /// What waits to be looked at. Whoever knows that a key should be, adds it here.
    pub queues: Queues,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// The queues of the reconcilers. Clones are the same queues.
#[derive(Debug, Clone)]
pub struct Queues {
    /// For [`issuer`](crate::issuer).
    pub issuers: Queue<IssuerKey>,
    /// For [`request`](crate::request).
    pub requests: Queue<Key>,
    /// For [`certificate`](crate::certificate).
    pub certificates: Queue<Key>,
}

impl Default for Queues {
    fn default() -> Self {
        // What depends on a server outside the cluster is left alone for longer.
        let outside = Backoff { first: Duration::from_secs(5), max: Duration::from_secs(300) };
        let inside = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(30) };
        Self { issuers: Queue::new(outside), requests: Queue::new(outside), certificates: Queue::new(inside) }
    }
}

impl Context {
    /// Everything empty as at the start, and what writes events: run it beside the rest.
    pub fn new(
        client: Client,
        settings: Settings,
        clock: Arc<dyn Clock>,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (recorder, write_events) = Recorder::new(client.clone(), Arc::clone(&clock));
        let context = Self {
            client,
            settings: Arc::new(settings),
            clock,
            recorder,
            cache: Arc::default(),
            issuers: Arc::new(Issuers::new()),
            queues: Queues::default(),
            metrics: Arc::new(Metrics::default()),
        };
        (context, write_events)
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("settings", &self.settings).finish_non_exhaustive()
    }
}
