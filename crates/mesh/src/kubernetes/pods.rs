//! The pods of a cluster, as far as impersonation asks for them: who runs where.
//!
//! A cluster has tens of thousands of pods, so little is kept of each, and equal names are kept once.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use k8s_openapi::NamespaceResourceScope;
use kube::api::ObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::Workload;
use crate::ca::impersonate::{Pod, Pods, PodsError};
use chancery_kubernetes::{Told, follow_closely, resource};

/// The watch is opened anew this often, which bounds how long a dead connection goes unnoticed.
const WATCH_SECONDS: u32 = 60;

/// For how long what was known is believed while the watch is broken: a restart of the API server takes less, and a node
/// must not get certificates of pods that have long been gone.
const LONGEST_BREAK: Duration = Duration::from_secs(180);

/// What is known of a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFacts {
    /// Its UID.
    pub uid: Arc<str>,
    /// Its service account.
    pub service_account: Arc<str>,
    /// Its node; `None` until it is scheduled.
    pub node: Option<Arc<str>>,
}

/// The index of pods, kept by a watch of all namespaces.
#[derive(Debug, Default)]
pub struct PodIndex {
    state: RwLock<State>,
    /// Whether all pods have been seen once.
    seen: watch::Sender<bool>,
}

/// Namespace, service account, node.
type Place = (Arc<str>, Arc<str>, Arc<str>);

#[derive(Debug, Default)]
struct State {
    names: HashSet<Arc<str>>,
    /// By namespace, then by name.
    pods: HashMap<Arc<str>, HashMap<Box<str>, PodFacts>>,
    /// How many pods there are at each place.
    places: HashMap<Place, u32>,
    /// While the list is read anew: what of the old has not been seen again.
    stale: Option<HashSet<(Arc<str>, Box<str>)>>,
    /// Since when the watch has been broken, if it is.
    broken: Option<Instant>,
}

/// The few fields of a pod that matter here; the rest is skipped while reading.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct PartialPod {
    #[serde(default)]
    metadata: ObjectMeta,
    #[serde(default)]
    spec: PartialSpec,
    #[serde(default)]
    status: PartialStatus,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PartialSpec {
    node_name: Option<String>,
    service_account_name: Option<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct PartialStatus {
    phase: Option<String>,
}

resource!(PartialPod, "", "Pod", "pods", NamespaceResourceScope);

impl PodIndex {
    /// Follows the pods of all namespaces. It does not return.
    pub async fn run(&self, client: Client) {
        let api: Api<PartialPod> = Api::all(client);
        let config = watcher::Config::default().timeout(WATCH_SECONDS);
        follow_closely(api, config, "pods", |told| match told {
            Told::Event(event) => self.apply(event),
            Told::Broken => self.breaks(),
        })
        .await;
    }

    /// Whether all pods have been seen once.
    pub fn is_complete(&self) -> bool {
        *self.seen.borrow()
    }

    /// Whether what is known counts: all pods have been seen, and the watch has not been broken for long.
    ///
    /// # Errors
    /// Which of the two it is.
    pub fn usable(&self) -> Result<(), PodsError> {
        if !self.is_complete() {
            return Err(PodsError("the cluster's pods have not all been listed yet".to_owned()));
        }
        match self.read().broken.map(|since| since.elapsed()) {
            Some(time) if time > LONGEST_BREAK => {
                let seconds = time.as_secs();
                Err(PodsError(format!("the watch of pods has been broken for {seconds} s")))
            }
            _ => Ok(()),
        }
    }

    /// The pod of this name that has not ended.
    pub fn pod(&self, namespace: &str, name: &str) -> Option<PodFacts> {
        self.read().pods.get(namespace)?.get(name).cloned()
    }

    /// Whether a pod of this workload that has not ended is on the node.
    pub fn runs_on(&self, workload: &Workload, node: &str) -> bool {
        let state = self.read();
        let name = |text: &str| state.names.get(text).cloned();
        let place = (name(&workload.namespace), name(&workload.service_account), name(node));
        let (Some(namespace), Some(account), Some(node)) = place else { return false };
        state.places.contains_key(&(namespace, account, node))
    }

    /// Waits until all pods have been seen; whoever asks bounds the time.
    async fn known(&self) -> Result<(), PodsError> {
        // It cannot end early: the sender is here.
        let _ = self.seen.subscribe().wait_for(|seen| *seen).await;
        self.usable()
    }

    fn breaks(&self) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.broken.get_or_insert_with(Instant::now);
    }

    fn apply(&self, event: Event<PartialPod>) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        // A list that only begins, or is read in part, does not tell what has gone.
        if matches!(event, Event::Apply(_) | Event::Delete(_) | Event::InitDone) {
            state.broken = None;
        }
        match event {
            Event::Init => state.begin(),
            Event::Apply(pod) | Event::InitApply(pod) => state.set(&pod),
            Event::Delete(pod) => {
                if let (Some(namespace), Some(name)) = (&pod.metadata.namespace, &pod.metadata.name) {
                    state.remove(namespace, name);
                }
            }
            Event::InitDone => {
                state.finish();
                self.seen.send_replace(true);
            }
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Pods for PodIndex {
    async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>, PodsError> {
        self.known().await?;
        Ok(Self::pod(self, namespace, name).map(|facts| Pod {
            uid: facts.uid.to_string(),
            service_account: facts.service_account.to_string(),
            node: facts.node.map(|node| node.to_string()).unwrap_or_default(),
        }))
    }

    async fn runs_on(&self, workload: &Workload, node: &str) -> Result<bool, PodsError> {
        self.known().await?;
        Ok(Self::runs_on(self, workload, node))
    }
}

impl State {
    fn begin(&mut self) {
        let all = self
            .pods
            .iter()
            .flat_map(|(namespace, pods)| pods.keys().map(|name| (Arc::clone(namespace), name.clone())));
        self.stale = Some(all.collect());
    }

    fn set(&mut self, pod: &PartialPod) {
        let (Some(namespace), Some(name), Some(uid)) =
            (&pod.metadata.namespace, &pod.metadata.name, &pod.metadata.uid)
        else {
            return;
        };
        if matches!(pod.status.phase.as_deref(), Some("Succeeded" | "Failed")) {
            self.remove(namespace, name);
            return;
        }
        let Some(account) = pod.spec.service_account_name.as_deref().filter(|account| !account.is_empty())
        else {
            self.remove(namespace, name);
            return;
        };
        let node = pod.spec.node_name.as_deref().filter(|node| !node.is_empty());
        let facts = PodFacts {
            uid: Arc::from(uid.as_str()),
            service_account: self.name(account),
            node: node.map(|node| self.name(node)),
        };
        let home = self.name(namespace);
        if let Some(stale) = &mut self.stale {
            stale.remove(&(Arc::clone(&home), name.as_str().into()));
        }
        if self.pods.get(&home).and_then(|pods| pods.get(name.as_str())) == Some(&facts) {
            return;
        }
        self.remove(namespace, name);
        if let Some(node) = &facts.node {
            let place = (Arc::clone(&home), Arc::clone(&facts.service_account), Arc::clone(node));
            *self.places.entry(place).or_default() += 1;
        }
        self.pods.entry(home).or_default().insert(name.as_str().into(), facts);
    }

    fn remove(&mut self, namespace: &str, name: &str) {
        let Some((home, mut pods)) = self.pods.remove_entry(namespace) else { return };
        let gone = pods.remove(name);
        if let Some(PodFacts { service_account, node: Some(node), .. }) = gone {
            let place = (Arc::clone(&home), service_account, node);
            if let Some(count) = self.places.get_mut(&place) {
                *count -= 1;
                if *count == 0 {
                    self.places.remove(&place);
                }
            }
        }
        if !pods.is_empty() {
            self.pods.insert(home, pods);
        }
    }

    fn finish(&mut self) {
        for (namespace, name) in self.stale.take().unwrap_or_default() {
            self.remove(&namespace, &name);
        }
        // Names that nothing uses any more are held by the set alone.
        self.names.retain(|name| Arc::strong_count(name) > 1);
        self.names.shrink_to_fit();
    }

    fn name(&mut self, text: &str) -> Arc<str> {
        if let Some(name) = self.names.get(text) {
            return Arc::clone(name);
        }
        let name: Arc<str> = Arc::from(text);
        self.names.insert(Arc::clone(&name));
        name
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(name: &str, account: &str, node: Option<&str>, phase: &str) -> PartialPod {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": { "namespace": "sandbox", "name": name, "uid": format!("uid-{name}") },
            "spec": { "serviceAccountName": account, "nodeName": node, "containers": [{ "name": "c" }] },
            "status": { "phase": phase },
        }))
        .expect("a pod")
    }

    fn workload(account: &str) -> Workload {
        Workload { namespace: "sandbox".into(), service_account: account.into() }
    }

    #[test]
    fn a_workload_runs_where_one_of_its_pods_does() {
        let index = PodIndex::default();
        index.apply(Event::Apply(pod("a", "web", Some("n1"), "Running")));
        index.apply(Event::Apply(pod("b", "web", Some("n1"), "Pending")));
        index.apply(Event::Apply(pod("c", "db", None, "Pending")));
        assert!(index.runs_on(&workload("web"), "n1"));
        assert!(!index.runs_on(&workload("web"), "n2"));
        assert!(!index.runs_on(&workload("db"), "n1"));
        let facts = index.pod("sandbox", "a").expect("a pod");
        assert_eq!((&*facts.uid, &*facts.service_account), ("uid-a", "web"));
        index.apply(Event::Delete(pod("a", "web", Some("n1"), "Running")));
        assert!(index.runs_on(&workload("web"), "n1"));
        index.apply(Event::Delete(pod("b", "web", Some("n1"), "Running")));
        assert!(!index.runs_on(&workload("web"), "n1"));
        index.apply(Event::Apply(pod("c", "db", Some("n2"), "Running")));
        assert!(index.runs_on(&workload("db"), "n2"));
    }

    #[test]
    fn pods_that_have_ended_run_nowhere() {
        let index = PodIndex::default();
        for phase in ["Succeeded", "Failed"] {
            index.apply(Event::Apply(pod("a", "web", Some("n1"), "Running")));
            assert!(index.runs_on(&workload("web"), "n1"));
            index.apply(Event::Apply(pod("a", "web", Some("n1"), phase)));
            assert!(!index.runs_on(&workload("web"), "n1"), "{phase}");
            assert_eq!(index.pod("sandbox", "a"), None);
        }
    }

    #[test]
    fn a_list_read_anew_forgets_what_is_gone_and_keeps_answering_meanwhile() {
        let index = PodIndex::default();
        for event in [
            Event::Init,
            Event::InitApply(pod("a", "web", Some("n1"), "Running")),
            Event::InitApply(pod("b", "db", Some("n1"), "Running")),
        ] {
            index.apply(event);
        }
        assert!(!index.is_complete());
        index.apply(Event::InitDone);
        assert!(index.is_complete());
        index.apply(Event::Init);
        index.apply(Event::InitApply(pod("a", "web", Some("n1"), "Running")));
        assert!(index.runs_on(&workload("db"), "n1"));
        index.apply(Event::InitDone);
        assert!(index.runs_on(&workload("web"), "n1"));
        assert!(!index.runs_on(&workload("db"), "n1"));
        assert!(!index.read().names.contains("db"));
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_early_waits_and_what_was_known_does_not_count_for_ever() {
        let index = Arc::new(PodIndex::default());
        index.apply(Event::Init);
        index.apply(Event::InitApply(pod("a", "web", Some("n1"), "Running")));
        let asks = tokio::spawn({
            let index = Arc::clone(&index);
            async move { Pods::runs_on(index.as_ref(), &workload("web"), "n1").await }
        });
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(!asks.is_finished() && index.usable().is_err());
        index.apply(Event::InitDone);
        assert_eq!(asks.await.expect("no panic"), Ok(true));

        index.breaks();
        tokio::time::advance(LONGEST_BREAK).await;
        assert_eq!(index.usable(), Ok(()));
        index.breaks();
        tokio::time::advance(Duration::from_secs(1)).await;
        index.apply(Event::Init);
        let refused = Pods::runs_on(index.as_ref(), &workload("web"), "n1").await;
        assert_eq!(refused, Err(PodsError("the watch of pods has been broken for 181 s".to_owned())));
        index.apply(Event::Apply(pod("b", "web", Some("n1"), "Running")));
        assert_eq!(index.usable(), Ok(()));
    }
}
