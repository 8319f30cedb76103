//! The mesh's roots in a ConfigMap of every namespace, where Istio's agents look for them.
//!
//! One replica does this, the leader. ConfigMaps are never deleted, also not when a namespace is no longer chosen: pods
//! there may still mount them.

mod decide;
mod rest;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chancery_api::Clock;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{PartialObjectMeta, PostParams};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use tokio::sync::watch;

use self::decide::{Action, Namespaces, decide};
pub use self::decide::{NotPublishable, publishable};
use self::rest::Rests;
use crate::ca::roots::{Roots, RootsWatch};
use chancery_kubernetes::queue::{Backoff, Queue, Verdict};
use chancery_kubernetes::{ApiError, LabelSelector, follow, optional, request};

/// The name of the ConfigMaps.
pub const CONFIG_MAP: &str = "istio-ca-root-cert";

/// The pauses of a namespace in which they could not be written.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(60) };

/// How roots are distributed.
#[derive(Debug, Clone)]
pub struct RootConfigMapSettings {
    /// `--configmap-namespace-selector`
    pub selector: LabelSelector,
    /// `--max-concurrent-reconciles`; 0 counts as 1.
    pub at_once: usize,
    /// Give out roots that are not self-signed too.
    pub allow_intermediates: bool,
}

/// What all parts share.
struct Shared {
    client: Client,
    settings: RootConfigMapSettings,
    namespaces: Mutex<Namespaces>,
    queue: Queue<String>,
    rests: Rests,
}

/// Keeps the ConfigMaps right. It does not return; drop it to end it.
pub async fn run_root_config_maps(
    client: Client,
    settings: RootConfigMapSettings,
    roots: RootsWatch,
    clock: Arc<dyn Clock>,
) {
    let shared = Arc::new(Shared {
        queue: Queue::new(BACKOFF),
        rests: Rests::default(),
        client: client.clone(),
        settings,
        namespaces: Mutex::default(),
    });
    let (publish, published) = watch::channel(None);
    let maps: Api<PartialObjectMeta<ConfigMap>> = Api::all(client.clone());
    let named = watcher::Config::default().fields(&format!("metadata.name={CONFIG_MAP}"));
    tokio::join!(
        follow(Api::<Namespace>::all(client), watcher::Config::default(), "namespaces", |event| {
            if let Some(name) = shared.namespaces().apply(event, &shared.settings.selector) {
                shared.queue.add(name);
            }
        }),
        follow(maps, named, "root ConfigMaps", |event| match event {
            Event::Apply(map) | Event::Delete(map) => {
                if let Some(name) = map.metadata.namespace {
                    shared.queue.add(name);
                }
            }
            // What was deleted while nobody watched is found by looking everywhere.
            Event::InitDone => shared.add_all(),
            Event::Init | Event::InitApply(_) => {}
        }),
        shared.judge(roots, publish, &*clock),
        shared.work(published),
    );
}

impl Shared {
    /// Hands on what may be given out, and has it given out everywhere.
    async fn judge(
        &self,
        mut roots: RootsWatch,
        publish: watch::Sender<Option<Arc<Roots>>>,
        clock: &dyn Clock,
    ) {
        loop {
            let current = Arc::clone(&roots.borrow_and_update());
            match publishable(&current, self.settings.allow_intermediates, clock.now()) {
                Ok(warnings) => {
                    for warning in warnings {
                        tracing::warn!(warning, "roots");
                    }
                    publish.send_replace(Some(current));
                    self.add_all();
                }
                Err(NotPublishable::None) => tracing::info!("no roots are known yet; nothing is given out"),
                Err(reason) => {
                    tracing::error!(%reason, "these roots are not given out; what was given out stays")
                }
            }
            if roots.changed().await.is_err() {
                // They will not change again.
                return std::future::pending().await;
            }
        }
    }

    async fn work(self: &Arc<Self>, mut published: watch::Receiver<Option<Arc<Roots>>>) {
        if published.wait_for(Option::is_some).await.is_err() {
            return;
        }
        // Nobody says when to stop.
        let (_running, never) = watch::channel(false);
        self.queue
            .run(self.settings.at_once, never, |namespace| {
                let (shared, published) = (Arc::clone(self), published.clone());
                async move {
                    if let Some(left) = shared.rests.left(&namespace) {
                        return Verdict::After(left);
                    }
                    match shared.reconcile(&namespace, &published).await {
                        Ok(()) => {
                            shared.rests.begin(&namespace);
                            return Verdict::Done;
                        }
                        Err(error) if error.is_conflict() => {
                            tracing::debug!(namespace, "somebody else wrote the ConfigMap at the same time");
                        }
                        Err(error) => {
                            tracing::warn!(namespace, %error, "the roots could not be written; this is tried again");
                        }
                    }
                    Verdict::Failed
                }
            })
            .await;
    }

    async fn reconcile(
        &self,
        namespace: &str,
        published: &watch::Receiver<Option<Arc<Roots>>>,
    ) -> Result<(), ApiError> {
        if !self.namespaces().contains(namespace) {
            return Ok(());
        }
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
        let observed = optional(api.get(CONFIG_MAP)).await?;
        let Some(roots) = published.borrow().clone() else { return Ok(()) };
        let (written, what) = match decide(observed, &roots.pem) {
            Action::Nothing => return Ok(()),
            Action::Create(map) => (request(api.create(&PostParams::default(), &map)).await, "created"),
            Action::Update(map) => {
                (request(api.replace(CONFIG_MAP, &PostParams::default(), &map)).await, "repaired")
            }
        };
        match written {
            Ok(_) => {
                tracing::debug!(namespace, what, "the ConfigMap of the roots");
                Ok(())
            }
            // The namespace went meanwhile, or is about to: its own event tells so.
            Err(ApiError::Refused(status)) if is_namespace_gone(&status) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn add_all(&self) {
        let namespaces = self.namespaces();
        namespaces.all().for_each(|name| self.queue.add(name.clone()));
    }

    fn namespaces(&self) -> std::sync::MutexGuard<'_, Namespaces> {
        self.namespaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_namespace_gone(status: &kube::core::Status) -> bool {
    let details = status.details.as_ref();
    let is_ending = details
        .is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"));
    let is_gone = status.is_not_found() && details.is_some_and(|details| details.kind == "namespaces");
    is_ending || is_gone
}
