//! What all parts share.

use std::sync::Arc;

use chancery_api::Clock;
use chancery_kubernetes::events::Recorder;
use kube::Client;

use crate::cache::Cache;
use crate::issuer::Issuers;
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
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("settings", &self.settings).finish_non_exhaustive()
    }
}
