//! The watches that fill the cache. They survive what happens to watches.

use std::fmt::Debug;
use std::hash::Hash;
use std::pin::Pin;
use std::sync::Arc;

use chancery_kubernetes::cert_manager::{Certificate, CertificateRequest, ClusterIssuer, Issuer, names};
use chancery_kubernetes::{Told, follow_closely, read, untyped};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DynamicObject, ObjectMeta};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;

use super::Cache;
use super::facts::{RequestFacts, SecretFacts};
use super::gather::key;
use super::listen::{Works, listen};
use super::store::{Facts, Source, Store};
use crate::Key;
use crate::context::Context;
use crate::health::Health;
use crate::issuer::IssuerKey;

/// What `kubectl apply` keeps of its last run: the whole object once more.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Of objects that are read whole, so many are in memory at once when they are listed.
const PER_PAGE: u32 = 100;

/// Fills the cache, and keeps it so. It does not return; dropped, it stops.
pub(crate) async fn feed(context: Context, health: Arc<Health>) {
    listen(&context);
    let feed = Feed { works: Works::new(&context), context, health };
    // None begins before the others are expected: the first to be read would be taken for all.
    let mut watches = Vec::new();
    let namespaces = &feed.context.settings.namespaces;
    if namespaces.is_empty() {
        feed.cluster(&mut watches);
        feed.namespace(0, None, &mut watches);
    }
    for (place, namespace) in namespaces.iter().enumerate() {
        // Three sources each.
        let source = Source::try_from(place.saturating_mul(3)).unwrap_or(Source::MAX);
        feed.namespace(source, Some(namespace), &mut watches);
    }
    let mut watches: JoinSet<()> = watches.into_iter().collect();
    while let Some(ended) = watches.join_next().await {
        // They end by a panic only.
        if let Err(error) = ended {
            tracing::error!(%error, "a watch ended unexpectedly");
        }
    }
}

/// A watch that is to begin.
type Following = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Feed {
    context: Context,
    works: Works,
    health: Arc<Health>,
}

impl Feed {
    fn cluster(&self, watches: &mut Vec<Following>) {
        let facts = |cluster: ClusterIssuer| {
            let name = cluster.metadata.name.clone()?;
            let ClusterIssuer { api_version, kind, metadata, spec, status } = cluster;
            Some((
                IssuerKey::Cluster { name },
                slim_issuer(Issuer { api_version, kind, metadata, spec, status }),
            ))
        };
        let name = |metadata: &ObjectMeta| Some(IssuerKey::Cluster { name: metadata.name.clone()? });
        let api = untyped::<ClusterIssuer>(self.context.client.clone(), None);
        // Another source than Issuers, as it feeds the same store.
        let watch =
            Watch { what: "ClusterIssuers".to_owned(), source: Source::MAX, config: Config::default() };
        self.watch(watches, watch, api, |cache| &cache.issuers, name, facts);
    }

    fn namespace(&self, source: Source, namespace: Option<&String>, watches: &mut Vec<Following>) {
        let (client, name) = (&self.context.client, namespace.map(String::as_str));
        let what = |kind: &str| match namespace {
            Some(namespace) => format!("{kind} of {namespace}"),
            None => kind.to_owned(),
        };
        let config = Config::default().page_size(PER_PAGE);
        let watch = |kind: &str| Watch { what: what(kind), source, config: config.clone() };
        let issuer = |metadata: &ObjectMeta| {
            let Key { namespace, name } = key(metadata)?;
            Some(IssuerKey::Namespaced { namespace, name })
        };
        let facts = move |found: Issuer| Some((issuer(&found.metadata)?, slim_issuer(found)));
        let api = untyped::<Issuer>(client.clone(), name);
        self.watch(watches, watch("Issuers"), api, |cache| &cache.issuers, issuer, facts);

        let facts = |mut found: Certificate| {
            slim(&mut found.metadata);
            Some((key(&found.metadata)?, found))
        };
        let api = untyped::<Certificate>(client.clone(), name);
        self.watch(watches, watch("Certificates"), api, |cache| &cache.certificates, key, facts);

        let facts = |found: CertificateRequest| {
            let facts = RequestFacts::of(&found)?;
            Some((facts.key.clone(), facts))
        };
        let api = untyped::<CertificateRequest>(client.clone(), name);
        self.watch(watches, watch("CertificateRequests"), api, |cache| &cache.requests, key, facts);

        let facts = |found: Secret| {
            let facts = SecretFacts::of(&found)?;
            Some((facts.key.clone(), facts))
        };
        let (own, next) = (names::FAO, names::NEXT_PRIVATE_KEY);
        for (kind, source, selector) in [
            ("Secrets of Certificates", source, format!("{own}=true")),
            ("Secrets of issuances", source.saturating_add(1), format!("{own}!=true,{next}=true")),
        ] {
            let config = Config::default().labels(&selector).page_size(PER_PAGE);
            let watch = Watch { what: what(kind), source, config };
            let api = untyped::<Secret>(client.clone(), name);
            self.watch(watches, watch, api, |cache| &cache.secrets, key, facts);
        }
        let config = Config::default().labels(&format!("{own}!=true,{next}!=true"));
        let api = match namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        self.watch_foreign_secrets(watches, what("other Secrets"), api, config);
    }

    /// Follows one kind. `name` is the key of what is gone or cannot be read, `facts` what is kept of what is there.
    fn watch<K, N, V>(
        &self,
        watches: &mut Vec<Following>,
        Watch { what, source, config }: Watch,
        api: Api<DynamicObject>,
        store: impl Fn(&Cache) -> &Store<N, V> + Send + Sync + 'static,
        name: impl Fn(&ObjectMeta) -> Option<N> + Send + Sync + 'static,
        facts: impl Fn(K) -> Option<(N, V)> + Send + Sync + 'static,
    ) where
        K: Resource<DynamicType = ()> + DeserializeOwned + 'static,
        N: Clone + Eq + Hash + Debug + Send + Sync + 'static,
        V: Facts<N> + 'static,
    {
        self.health.expect(&what);
        let (cache, health) = (Arc::clone(&self.context.cache), Arc::clone(&self.health));
        watches.push(Box::pin(async move {
            let mut reading = store(&cache).begin(source);
            let known = |found: DynamicObject| {
                let place = (found.metadata.namespace.clone(), found.metadata.name.clone());
                match read::<K>(found) {
                    Ok(found) => facts(found),
                    Err(error) => {
                        let (namespace, name) = (place.0.unwrap_or_default(), place.1.unwrap_or_default());
                        tracing::warn!(kind = %K::kind(&()), namespace, name, %error, "an object is passed over: it is malformed");
                        None
                    }
                }
            };
            let on = |told: Told<DynamicObject>| {
                let store = store(&cache);
                let event = match told {
                    Told::Event(event) => event,
                    Told::Broken => return health.set_broken(&what),
                };
                match event {
                    Event::Init => reading = store.begin(source),
                    Event::InitApply(found) => {
                        if let Some((key, value)) = known(found) {
                            store.add(&mut reading, key, &value);
                        }
                    }
                    Event::InitDone => {
                        store.end(std::mem::replace(&mut reading, store.begin(source)));
                        health.set_filled(&what);
                    }
                    Event::Apply(found) => {
                        health.set_working(&what);
                        let key = name(&found.metadata);
                        match (known(found), key) {
                            (Some((key, value)), _) => store.apply_from(source, key, &value),
                            // What was known of it no longer holds.
                            (None, Some(key)) => store.delete_from(source, &key),
                            (None, None) => {}
                        }
                    }
                    Event::Delete(found) => {
                        health.set_working(&what);
                        if let Some(key) = name(&found.metadata) {
                            store.delete_from(source, &key);
                        }
                    }
                }
            };
            follow_closely(api, config, &what, on).await;
        }));
    }

    /// Follows Secrets of which nothing is kept: some may be referred to.
    fn watch_foreign_secrets(
        &self,
        watches: &mut Vec<Following>,
        what: String,
        api: Api<PartialObjectMeta<Secret>>,
        config: Config,
    ) {
        self.health.expect(&what);
        let (works, health) = (self.works.clone(), Arc::clone(&self.health));
        watches.push(Box::pin(async move {
            let mut is_filled = false;
            let on = |told: Told<PartialObjectMeta<Secret>>| match told {
                Told::Broken => health.set_broken(&what),
                // Whoever refers to a Secret is looked at anyway when the first list is read.
                Told::Event(Event::Init | Event::InitApply(_)) => {}
                Told::Event(Event::InitDone) => {
                    if std::mem::replace(&mut is_filled, true) {
                        works.foreign_secrets();
                    }
                    health.set_filled(&what);
                }
                Told::Event(Event::Apply(found) | Event::Delete(found)) => {
                    health.set_working(&what);
                    if let Some(key) = key(&found.metadata) {
                        works.foreign_secret(&key);
                    }
                }
            };
            follow_closely(api, config, &what, on).await;
        }));
    }
}

/// One watch.
struct Watch {
    what: String,
    source: Source,
    config: Config,
}

fn slim_issuer(mut issuer: Issuer) -> Issuer {
    slim(&mut issuer.metadata);
    issuer
}

/// Drops what nobody here asks about.
fn slim(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(LAST_APPLIED);
    }
}
