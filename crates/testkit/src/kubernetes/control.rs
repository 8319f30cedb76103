//! The double as tests hold it: starting it, looking into it, and making things go wrong.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::access::{Access, Grant, IssuedToken, fits, user_info};
use super::admission::Idle;
use super::kind::Kind;
use super::selector::Selectors;
use super::serve;
use super::stop::Stop;
use super::store::{Store, text};
use super::write::{How, Part};

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
    /// It is refused as too much, with this `Retry-After`, in seconds.
    RetryAfter(u64),
    /// It is refused with this `Status`, whose `code` is the answer's.
    Refuse(Value),
    /// It is never answered.
    Hang,
    /// It is done, and never answered.
    HangAfter,
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
    /// Who sent it.
    pub user: String,
    /// When it arrived.
    pub at: Instant,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// The newest version, for watches.
    pub(super) revision: watch::Sender<u64>,
    /// How often all watches were ended, and whether the last time neatly.
    pub(super) ended: watch::Sender<(u64, bool)>,
    /// Whose watches are kept behind, of which resource, and the version behind which they are told nothing.
    pub(super) held: watch::Sender<Vec<(String, String, u64)>>,
    /// Connections: how many are open, and how many were at most.
    pub(super) connections: watch::Sender<(usize, usize)>,
    /// Connections to webhooks.
    pub(super) idle: Idle,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) store: Store,
    pub(super) access: Access,
    /// Where services are, for webhooks: namespace and name.
    pub(super) services: HashMap<(String, String), SocketAddr>,
    pub(super) latency: Duration,
    requests: Vec<Request>,
    counts: HashMap<(String, String), usize>,
    faults: Vec<Rule>,
    pub(super) stop: Option<Stop>,
}

/// When a fault comes.
#[derive(Debug)]
struct Rule {
    verb: String,
    resource: String,
    name: String,
    fault: Fault,
    left: usize,
}

impl ApiServer {
    /// Starts it on a free port of this machine, with the namespaces `default`, `kube-system` and `istio-system`.
    pub async fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a free port")
    }

    /// As [`start`](Self::start), at a place of one's own choice.
    ///
    /// # Errors
    /// Nobody may listen there.
    pub async fn start_at(address: SocketAddr) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                store: Store::new(),
                access: Access::new(),
                services: HashMap::new(),
                latency: Duration::ZERO,
                requests: Vec::new(),
                counts: HashMap::new(),
                faults: Vec::new(),
                stop: None,
            }),
            revision: watch::Sender::new(0),
            ended: watch::Sender::new((0, false)),
            held: watch::Sender::default(),
            connections: watch::Sender::new((0, 0)),
            idle: Idle::default(),
        });
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let listener = tokio::spawn(serve::accept(listener, Arc::clone(&shared)));
        let server = Self { shared, address, listener };
        for namespace in ["default", "kube-system", "istio-system"] {
            server.namespace(namespace, &[]);
        }
        Ok(server)
    }

    /// Where it listens: `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A kubeconfig that leads to it, for whoever bears this token.
    pub fn kubeconfig(&self, token: &str) -> String {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "double",
            "clusters": [{ "name": "double", "cluster": { "server": self.url() } }],
            "users": [{ "name": "double", "user": { "token": token } }],
            "contexts": [{ "name": "double", "context": { "cluster": "double", "user": "double" } }],
        })
        .to_string()
    }

    /// Makes a kind known.
    pub fn define(&self, kind: Kind) {
        self.state().store.define(kind);
    }

    /// Creates a namespace with labels.
    pub fn namespace(&self, name: &str, labels: &[(&str, &str)]) {
        let labels: HashMap<_, _> = labels.iter().copied().collect();
        self.put("namespaces", "", json!({ "metadata": { "name": name, "labels": labels } }));
    }

    /// Creates or replaces an object (and its status), as an administrator who is never refused, whom no webhook is
    /// told of, and who owns no fields.
    pub fn put(&self, plural: &str, namespace: &str, object: Value) -> Value {
        let stored = {
            let mut state = self.state();
            let kind = state.kind(plural);
            let store = &mut state.store;
            let name = text(&object, "name").to_owned();
            let status = object.get("status").cloned();
            let how = How::plain(Part::Object);
            let mut current = match store.get(&kind, namespace, &name).cloned() {
                Err(_) => store.create(&kind, namespace, object, &how).expect("an object that can be made"),
                Ok(current) => {
                    let mut object = object;
                    object["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"].clone();
                    store.replace(&kind, namespace, &name, object, &how).expect("replaceable")
                }
            };
            if let Some(status) = status
                && kind.status
                && current.get("status") != Some(&status)
                && plural != "customresourcedefinitions"
            {
                let mut object = Value::clone(&current);
                object["status"] = status;
                let name = text(&current, "name").to_owned();
                let how = How::plain(Part::Status);
                current = store.replace(&kind, namespace, &name, object, &how).expect("a status");
            }
            current
        };
        self.shared.settle();
        Value::clone(&stored)
    }

    /// Creates a service account.
    pub fn service_account(&self, namespace: &str, name: &str) {
        self.put("serviceaccounts", namespace, json!({ "metadata": { "name": name } }));
    }

    /// Writes an object's status, if the object is still there.
    pub fn set_status(&self, plural: &str, namespace: &str, name: &str, status: Value) -> bool {
        let done = {
            let mut state = self.state();
            let kind = state.kind(plural);
            let Ok(current) = state.store.get(&kind, namespace, name) else { return false };
            let mut object = Value::clone(current);
            object["status"] = status;
            state.store.replace(&kind, namespace, name, object, &How::plain(Part::Status)).is_ok()
        };
        self.shared.settle();
        done
    }

    /// An object.
    pub fn get(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let state = self.state();
        state.store.get(&state.kind(plural), namespace, name).ok().map(|object| Value::clone(object))
    }

    /// All objects of a kind, in a namespace or in all.
    pub fn list(&self, plural: &str, namespace: Option<&str>) -> Vec<Value> {
        let state = self.state();
        let found = state.store.list(&state.kind(plural), namespace, &Selectors::default());
        found.iter().map(|object| Value::clone(object)).collect()
    }

    /// How many objects of a kind there are, and how many of them satisfy something, without copying them.
    pub fn tally(&self, plural: &str, holds: impl Fn(&Value) -> bool) -> (usize, usize) {
        let found = {
            let state = self.state();
            state.store.list(&state.kind(plural), None, &Selectors::default())
        };
        (found.len(), found.iter().filter(|object| holds(object)).count())
    }

    /// Deletes an object as a client does: finalizers hold it.
    pub fn delete(&self, plural: &str, namespace: &str, name: &str) -> bool {
        let done = {
            let mut state = self.state();
            let kind = state.kind(plural);
            state.store.delete(&kind, namespace, name, &json!({})).is_ok()
        };
        self.shared.settle();
        done
    }

    /// Removes an object at once; a namespace with all that is in it.
    pub fn remove(&self, plural: &str, namespace: &str, name: &str) {
        {
            let mut state = self.state();
            let kind = state.kind(plural);
            let store = &mut state.store;
            if plural == "namespaces" {
                for kind in store.kinds.clone() {
                    for object in store.list(&kind, Some(name), &Selectors::default()) {
                        store.remove(&kind, name, text(&object, "name"));
                    }
                }
            }
            store.remove(&kind, namespace, name);
        }
        self.shared.settle();
    }

    /// Whether dependents go when their owners have gone. They do, unless this says otherwise.
    pub fn collect_garbage(&self, collects: bool) {
        self.state().store.collects_garbage = collects;
    }

    /// Every request that arrived.
    pub fn requests(&self) -> Vec<Request> {
        self.state().requests.clone()
    }

    /// How many requests of this verb (`*`: any) for this resource (`*`: any) arrived.
    pub fn count(&self, verb: &str, resource: &str) -> usize {
        let state = self.state();
        let fitting = state.counts.iter().filter(|((one, of), _)| fits(verb, one) && fits(resource, of));
        fitting.map(|(_, count)| count).sum()
    }

    /// How many requests of this verb (`*`: any) for this resource (`*`: any) arrived from this user.
    pub fn count_of(&self, user: &str, verb: &str, resource: &str) -> usize {
        let state = self.state();
        let fitting = state.requests.iter().filter(|request| {
            request.user == user && fits(verb, &request.verb) && fits(resource, &request.resource)
        });
        fitting.count()
    }

    /// How many requests arrived that write this resource (`*`: any).
    pub fn writes(&self, resource: &str) -> usize {
        let verbs = ["create", "update", "patch", "delete", "deletecollection"];
        verbs.iter().map(|verb| self.count(verb, resource)).sum()
    }

    /// Forgets which requests arrived, and how many.
    pub fn forget_requests(&self) {
        let mut state = self.state();
        state.requests.clear();
        state.counts.clear();
    }

    /// From now on every request must bear this token, or one of [`user`](Self::user).
    pub fn require_token(&self, token: &str) {
        self.state().access.bearer = Some(token.to_owned());
    }

    /// Whoever bears this token is this user, in these groups.
    pub fn user(&self, token: &str, name: &str, groups: &[&str]) {
        self.state().access.users.insert(token.to_owned(), user_info(name, groups));
    }

    /// RBAC: no such verb (`*`: none) on this resource (`*`: on none), for nobody.
    pub fn deny(&self, verb: &str, resource: &str) {
        self.deny_to("*", verb, resource);
    }

    /// RBAC: no such verb (`*`: none) on this resource (`*`: on none), for this user.
    pub fn deny_to(&self, user: &str, verb: &str, resource: &str) {
        self.state().access.denied.push((user.into(), verb.into(), resource.into()));
    }

    /// Takes back [`deny`](Self::deny) and [`deny_to`](Self::deny_to), whole.
    pub fn allow_all(&self) {
        self.state().access.denied.clear();
    }

    /// What `SubjectAccessReview` allows; it allows nothing else.
    pub fn grant(&self, grant: Grant) {
        self.state().access.grants.push(grant);
    }

    /// Takes back all of [`grant`](Self::grant).
    pub fn revoke_grants(&self) {
        self.state().access.grants.clear();
    }

    /// The tokens that `serviceaccounts/token` made.
    pub fn issued_tokens(&self) -> Vec<IssuedToken> {
        self.state().access.issued.clone()
    }

    /// Where a service is that webhooks name.
    pub fn service(&self, namespace: &str, name: &str, address: SocketAddr) {
        self.state().services.insert((namespace.to_owned(), name.to_owned()), address);
    }

    /// The next `times` requests of this verb (`*`: any) for this resource (`*`: any) go wrong.
    pub fn inject(&self, verb: &str, resource: &str, fault: Fault, times: usize) {
        self.inject_for(verb, resource, "*", fault, times);
    }

    /// As [`inject`](Self::inject), for the object of this name.
    pub fn inject_for(&self, verb: &str, resource: &str, name: &str, fault: Fault, times: usize) {
        let [verb, resource, name] = [verb, resource, name].map(str::to_owned);
        self.state().faults.push(Rule { verb, resource, name, fault, left: times });
    }

    /// Takes back what [`inject`](Self::inject) has left, and [`stop_at_write`](Self::stop_at_write).
    pub fn heal(&self) {
        let mut state = self.state();
        state.faults.clear();
        state.stop = None;
    }

    /// Every request is looked at only after this time.
    pub fn latency(&self, latency: Duration) {
        self.state().latency = latency;
    }

    /// Forgets history: whoever resumes from a version before now is told 410.
    pub fn compact(&self) {
        self.state().store.compact();
        self.shared.settle();
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

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        self.shared.connections.borrow().0
    }

    /// How many connections were open at once, at most.
    pub fn most_connections(&self) -> usize {
        self.shared.connections.borrow().1
    }

    /// What TokenReview says of a token: the user, and the audiences that the token is for.
    pub fn token(&self, token: &str, user: Value, audiences: &[&str]) {
        let audiences = audiences.iter().map(|&audience| audience.to_owned()).collect();
        self.state().access.reviews.insert(token.to_owned(), (user, audiences));
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

    /// Does what follows from a write: lets dependents go, tells of the newest version.
    pub(super) fn settle(&self) {
        let revision = {
            let mut state = self.state();
            state.store.collect();
            state.store.revision
        };
        self.revision.send_if_modified(|newest| std::mem::replace(newest, revision) != revision);
    }
}

impl State {
    fn kind(&self, plural: &str) -> Arc<Kind> {
        let mut kinds = self.store.kinds.iter();
        Arc::clone(kinds.find(|kind| kind.plural == plural).expect("a known kind"))
    }

    /// Whether anybody wants to be told of writes.
    pub(super) fn has_webhooks(&self) -> bool {
        ["mutating", "validating"].iter().any(|which| {
            let table = format!("{which}webhookconfigurations.admissionregistration.k8s.io");
            self.store.tables.get(&table).is_some_and(|table| !table.objects.is_empty())
        })
    }

    pub(super) fn record(&mut self, request: Request) {
        *self.counts.entry((request.verb.clone(), request.resource.clone())).or_default() += 1;
        self.requests.push(request);
    }

    pub(super) fn fault(&mut self, verb: &str, resource: &str, name: &str) -> Option<Fault> {
        let found = self.faults.iter_mut().find(|rule| {
            rule.left > 0
                && fits(&rule.verb, verb)
                && fits(&rule.resource, resource)
                && fits(&rule.name, name)
        })?;
        found.left -= 1;
        Some(found.fault.clone())
    }
}
