//! The double as tests hold it: starting it, looking into it, and making things go wrong.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::kind::Kind;
use super::selector::Selectors;
use super::serve;
use super::store::{Part, Store, text};

/// The double. It ends when it is dropped.
#[derive(Debug)]
pub struct ApiServer {
    pub(super) shared: Arc<Shared>,
    address: SocketAddr,
    listener: JoinHandle<()>,
}

/// What goes wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is refused with this code.
    Code(u16),
    /// The connection breaks before anything is done.
    Drop,
    /// It is done, and the connection breaks before the answer.
    LoseAnswer,
    /// It is answered this much later.
    Delay(Duration),
    /// Another writer is quicker: the object gets another version first.
    Race,
}

/// A request that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// The plural; with its subresource, if one is named: `certificates/status`.
    pub resource: String,
    /// The namespace, if one is named.
    pub namespace: Option<String>,
    /// The name, if one is named.
    pub name: Option<String>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// The newest version, for watches.
    pub(super) revision: watch::Sender<u64>,
    /// How often all watches were ended, and whether the last time neatly.
    pub(super) ended: watch::Sender<(u64, bool)>,
    /// Connections: how many are open, and how many were at most.
    pub(super) connections: watch::Sender<(usize, usize)>,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) store: Store,
    pub(super) kinds: Vec<Kind>,
    pub(super) requests: Vec<Request>,
    pub(super) denied: Vec<(String, String)>,
    pub(super) faults: Vec<(String, String, Fault, usize)>,
    pub(super) reviews: HashMap<String, (Value, Vec<String>)>,
    pub(super) bearer: Option<String>,
    pub(super) user: String,
}

impl ApiServer {
    /// Starts it on a free port of this machine, with the namespaces `default`, `kube-system` and `istio-system`.
    pub async fn start() -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                store: Store::new(),
                kinds: Kind::known(),
                requests: Vec::new(),
                denied: Vec::new(),
                faults: Vec::new(),
                reviews: HashMap::new(),
                bearer: None,
                user: "system:serviceaccount:istio-system:chancery".into(),
            }),
            revision: watch::Sender::new(0),
            ended: watch::Sender::new((0, false)),
            connections: watch::Sender::new((0, 0)),
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let listener = tokio::spawn(serve::accept(listener, Arc::clone(&shared)));
        let server = Self { shared, address, listener };
        for namespace in ["default", "kube-system", "istio-system"] {
            server.namespace(namespace, &[]);
        }
        server
    }

    /// Where it listens: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes a kind known.
    pub fn define(&self, kind: Kind) {
        self.state().kinds.push(kind);
    }

    /// Creates a namespace with labels.
    pub fn namespace(&self, name: &str, labels: &[(&str, &str)]) {
        let labels: HashMap<_, _> = labels.iter().copied().collect();
        self.put("namespaces", "", json!({ "metadata": { "name": name, "labels": labels } }));
    }

    /// Creates or replaces an object (and its status), as an administrator who is never refused.
    pub fn put(&self, plural: &str, namespace: &str, object: Value) -> Value {
        let stored = {
            let mut state = self.state();
            let kind = state.kind(plural);
            let name = text(&object, "name").to_owned();
            let status = object.get("status").cloned();
            let mut current = match state.store.get(&kind, namespace, &name).cloned() {
                Err(_) => {
                    state.store.create(&kind, namespace, object, false).expect("an object that can be made")
                }
                Ok(current) => {
                    let mut object = object;
                    object["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"].clone();
                    state
                        .store
                        .replace(&kind, namespace, &name, object, Part::Object, false)
                        .expect("replaceable")
                }
            };
            if let Some(status) = status
                && kind.status
            {
                current["status"] = status;
                let name = text(&current, "name").to_owned();
                current = state
                    .store
                    .replace(&kind, namespace, &name, current, Part::Status, false)
                    .expect("a status");
            }
            current
        };
        self.shared.announce();
        stored
    }

    /// Writes an object's status, if the object is still there.
    pub fn set_status(&self, plural: &str, namespace: &str, name: &str, status: Value) -> bool {
        let Some(mut object) = self.get(plural, namespace, name) else { return false };
        object["status"] = status;
        let done = {
            let mut state = self.state();
            let kind = state.kind(plural);
            object["metadata"]["resourceVersion"] = match state.store.get(&kind, namespace, name) {
                Ok(current) => current["metadata"]["resourceVersion"].clone(),
                Err(_) => return false,
            };
            state.store.replace(&kind, namespace, name, object, Part::Status, false).is_ok()
        };
        self.shared.announce();
        done
    }

    /// An object.
    pub fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let state = self.state();
        state.store.get(&state.kind(plural), namespace, name).ok().cloned()
    }

    /// All objects of a kind, in a namespace or in all.
    pub fn list(&self, plural: &str, namespace: Option<&str>) -> Vec<Value> {
        let state = self.state();
        state.store.list(&state.kind(plural), namespace, &Selectors::default())
    }

    /// Removes an object at once; a namespace with all that is in it.
    pub fn remove(&self, plural: &str, namespace: &str, name: &str) {
        {
            let mut state = self.state();
            let key = Store::key(&state.kind(plural), namespace, name);
            if plural == "namespaces" {
                let inside: Vec<_> =
                    state.store.objects.keys().filter(|key| key.1 == name).cloned().collect();
                inside.into_iter().for_each(|key| state.store.remove(key));
            }
            state.store.remove(key);
        }
        self.shared.announce();
    }

    /// Every request that arrived.
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// How many requests of this verb for this resource arrived.
    pub fn count(&self, verb: &str, resource: &str) -> usize {
        self.state().requests.iter().filter(|one| one.verb == verb && one.resource == resource).count()
    }

    /// From now on every request must bear this token.
    pub fn require_token(&self, token: &str) {
        self.state().bearer = Some(token.to_owned());
    }

    /// RBAC: no such verb (`*`: none) on this resource (`*`: on none).
    pub fn deny(&self, verb: &str, resource: &str) {
        self.state().denied.push((verb.into(), resource.into()));
    }

    /// Takes back [`deny`](Self::deny), whole.
    pub fn allow_all(&self) {
        self.state().denied.clear();
    }

    /// The next `times` requests of this verb (`*`: any) for this resource (`*`: any) go wrong.
    pub fn inject(&self, verb: &str, resource: &str, fault: Fault, times: usize) {
        self.state().faults.push((verb.into(), resource.into(), fault, times));
    }

    /// Takes back what [`inject`](Self::inject) has left.
    pub fn heal(&self) {
        self.state().faults.clear();
    }

    /// Forgets history: whoever resumes from a version before now is told 410.
    pub fn compact(&self) {
        self.state().store.compact();
        self.shared.announce();
    }

    /// Breaks the connection of every watch.
    pub fn drop_watches(&self) {
        self.shared.ended.send_modify(|ended| *ended = (ended.0 + 1, false));
    }

    /// Ends every watch as its time-out does.
    pub fn end_watches(&self) {
        self.shared.ended.send_modify(|ended| *ended = (ended.0 + 1, true));
    }

    /// How many watches are open.
    pub fn watches(&self) -> usize {
        self.shared.ended.receiver_count()
    }

    /// How many connections were open at once, at most.
    pub fn most_connections(&self) -> usize {
        self.shared.connections.borrow().1
    }

    /// What TokenReview says of a token: the user, and the audiences that the token is for.
    pub fn token(&self, token: &str, user: Value, audiences: &[&str]) {
        let audiences = audiences.iter().map(|&audience| audience.to_owned()).collect();
        self.state().reviews.insert(token.to_owned(), (user, audiences));
    }

    /// A token of a service account, bound to a pod.
    pub fn service_account_token(&self, token: &str, namespace: &str, account: &str, pod: (&str, &str)) {
        let user = json!({
            "username": format!("system:serviceaccount:{namespace}:{account}"),
            "uid": "8a3b0bb1-52fb-4c0b-9b4c-6e9b0b1f0a55",
            "groups": ["system:serviceaccounts", format!("system:serviceaccounts:{namespace}"), "system:authenticated"],
            "extra": {
                "authentication.kubernetes.io/pod-name": [pod.0],
                "authentication.kubernetes.io/pod-uid": [pod.1],
            },
        });
        self.token(token, user, &["istio-ca"]);
    }

    /// Changes are to be seen here: the newest version.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.revision.subscribe()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state()
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.listener.abort();
        self.drop_watches();
    }
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panicked")
    }

    /// Tells watches of the newest version.
    pub(super) fn announce(&self) {
        let revision = self.state().store.revision;
        self.revision.send_if_modified(|newest| std::mem::replace(newest, revision) != revision);
    }
}

impl State {
    fn kind(&self, plural: &str) -> Kind {
        self.kinds.iter().find(|kind| kind.plural == plural).expect("a known kind").clone()
    }

    pub(super) fn is_denied(&self, verb: &str, resource: &str) -> bool {
        let fits = |pattern: &str, value: &str| pattern == "*" || pattern == value;
        self.denied.iter().any(|(verbs, resources)| fits(verbs, verb) && fits(resources, resource))
    }

    pub(super) fn fault(&mut self, verb: &str, resource: &str) -> Option<Fault> {
        let fits = |pattern: &str, value: &str| pattern == "*" || pattern == value;
        let found = self.faults.iter_mut().find(|(verbs, resources, _, left)| {
            *left > 0 && fits(verbs, verb) && fits(resources, resource)
        })?;
        found.3 -= 1;
        Some(found.2.clone())
    }
}
