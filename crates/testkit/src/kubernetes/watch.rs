//! Watches: what happened since a version, and what happens from now on.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use hyper::body::{Body, Frame};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::control::{ApiServer, Shared};
use super::kind::Kind;
use super::selector::Selectors;
use super::status::Failure;
use super::store::{Change, metadata_of};

/// How often a silent watch says how far it is. A real one does so about once a minute.
const BOOKMARK: Duration = Duration::from_secs(1);

/// How far a watch is behind the writes.
const LAG: Duration = Duration::from_millis(1);

/// Events go out together up to this size.
const CHUNK: usize = 64 * 1024;

impl ApiServer {
    /// From now on this user's watches of a resource lag behind: what happens is told to them only after
    /// [`release_watches`](Self::release_watches).
    pub fn hold_watches(&self, user: &str, resource: &str) {
        let revision = self.shared.state().store.revision;
        self.shared.held.send_modify(|held| held.push((user.to_owned(), resource.to_owned(), revision)));
    }

    /// Takes back all of [`hold_watches`](Self::hold_watches).
    pub fn release_watches(&self) {
        self.shared.held.send_modify(Vec::clear);
    }
}

/// What a watch was asked for.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) kind: Arc<Kind>,
    pub(super) namespace: Option<String>,
    pub(super) selectors: Selectors,
    pub(super) from: From,
    pub(super) bookmarks: bool,
    pub(super) timeout: Duration,
    /// The form objects are sent in.
    pub(super) metadata_only: bool,
    /// Whose it is.
    pub(super) user: String,
}

/// Where a watch begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    /// Behind this version.
    Version(u64),
    /// With what is there.
    Objects,
    /// With what is there, and a bookmark that says when all of that was sent.
    MarkedObjects,
    /// With what comes.
    Now,
}

/// The answer's body: events as they come.
pub(super) struct Events(mpsc::Receiver<io::Result<Bytes>>);

impl Body for Events {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(cx).map(|next| next.map(|bytes| bytes.map(Frame::data)))
    }
}

/// Begins a watch.
pub(super) fn begin(watch: Watch, shared: &Arc<Shared>) -> Events {
    let (sender, receiver) = mpsc::channel(16);
    let mut ended = shared.ended.subscribe();
    ended.mark_unchanged();
    tokio::spawn(run(watch, Arc::clone(shared), ended, sender));
    Events(receiver)
}

async fn run(
    watch: Watch,
    shared: Arc<Shared>,
    mut ended: watch::Receiver<(u64, bool)>,
    sender: mpsc::Sender<io::Result<Bytes>>,
) {
    let qualified = watch.kind.qualified();
    let mut news = shared.state().store.table(&qualified).news.subscribe();
    let mut held = shared.held.subscribe();
    let deadline = Instant::now() + watch.timeout;
    let mut next_bookmark = Instant::now() + BOOKMARK;
    let (mut at, mut begin) = match watch.first(&shared) {
        Ok(first) => first,
        Err(expired) => {
            let line = format!("{}\n", json!({ "type": "ERROR", "object": expired.body }));
            let _ = sender.send(Ok(line.into())).await;
            return;
        }
    };
    loop {
        for chunk in begin.drain(..) {
            if sender.send(Ok(chunk)).await.is_err() {
                return;
            }
        }
        // Before anything that wakes this up: what came meanwhile.
        let chunks = watch.since(&mut at, &qualified, &shared);
        if !chunks.is_empty() {
            begin = chunks;
            continue;
        }
        tokio::select! {
            changed = news.changed() => {
                if changed.is_err() {
                    return;
                }
                // An event comes through etcd and the watch cache: seldom before the answer to the write. And what
                // happens at once goes out together.
                tokio::time::sleep(LAG).await;
            }
            _ = ended.changed() => {
                if !ended.borrow().1 {
                    let _ = sender.send(Err(io::ErrorKind::ConnectionReset.into())).await;
                }
                return;
            }
            // Kept behind no longer, perhaps.
            _ = held.changed() => {}
            () = sender.closed() => return,
            () = tokio::time::sleep_until(deadline) => return,
            () = tokio::time::sleep_until(next_bookmark), if watch.bookmarks => {
                next_bookmark = Instant::now() + BOOKMARK;
                begin.extend(watch.since(&mut at, &qualified, &shared));
                begin.push(watch.bookmark(at, false));
            }
        }
    }
}

impl Watch {
    /// What a watch begins with, and the version that it stands at then.
    fn first(&self, shared: &Shared) -> Result<(u64, Vec<Bytes>), Failure> {
        let state = shared.state();
        let revision = state.store.revision;
        match self.from {
            From::Version(from) => {
                let oldest = state.store.oldest(&self.kind.qualified());
                if from < oldest { Err(Failure::expired(from, oldest)) } else { Ok((from, Vec::new())) }
            }
            From::Now => Ok((revision, Vec::new())),
            From::Objects | From::MarkedObjects => {
                let objects = state.store.list(&self.kind, self.namespace.as_deref(), &self.selectors);
                drop(state);
                let mut chunks = Chunks::default();
                for object in &objects {
                    chunks.event("ADDED", self.form(object).as_bytes());
                }
                let mut chunks = chunks.done();
                if self.from == From::MarkedObjects {
                    chunks.push(self.bookmark(revision, true));
                }
                Ok((revision, chunks))
            }
        }
    }

    fn since(&self, at: &mut u64, qualified: &str, shared: &Shared) -> Vec<Bytes> {
        let held = self.held_at(shared);
        let changes: Vec<Arc<Change>> = {
            let mut state = shared.state();
            let revision = state.store.revision.min(held);
            let changes = state.store.table(qualified).since(*at);
            let changes = changes.take_while(|change| change.revision <= held).cloned().collect();
            *at = revision.max(*at);
            changes
        };
        let mut chunks = Chunks::default();
        for change in &changes {
            self.judge(change, &mut chunks);
        }
        chunks.done()
    }

    /// The version behind which nothing is told now.
    fn held_at(&self, shared: &Shared) -> u64 {
        let held = shared.held.borrow();
        let mine =
            held.iter().filter(|(user, resource, _)| *user == self.user && *resource == self.kind.plural);
        mine.map(|(_, _, revision)| *revision).min().unwrap_or(u64::MAX)
    }

    /// What a change is to somebody who sees only what is selected.
    fn judge(&self, change: &Change, chunks: &mut Chunks) {
        if self.namespace.as_ref().is_some_and(|namespace| change.place.0 != *namespace) {
            return;
        }
        let seen = |object: &Option<Arc<Value>>| {
            object.as_ref().is_some_and(|object| self.selectors.is_empty() || self.selectors.matches(object))
        };
        let name = match (seen(&change.before), seen(&change.after)) {
            (false, false) => return,
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
        };
        if let ("DELETED", Some(before), Some(_)) = (name, &change.before, &change.after) {
            // It is still there, but not in what is seen here: it is shown as it was.
            let mut object = Value::clone(before);
            object["metadata"]["resourceVersion"] = change.revision.to_string().into();
            chunks.event(name, self.form(&object).as_bytes());
        } else {
            chunks.event(name, change.json(self.metadata_only));
        }
    }

    fn form(&self, object: &Value) -> String {
        if self.metadata_only { metadata_of(object).to_string() } else { object.to_string() }
    }

    fn bookmark(&self, revision: u64, end_of_initial_events: bool) -> Bytes {
        let mut metadata = json!({ "resourceVersion": revision.to_string(), "creationTimestamp": null });
        if end_of_initial_events {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let (kind, api_version) = if self.metadata_only {
            ("PartialObjectMetadata".to_owned(), "meta.k8s.io/v1".to_owned())
        } else {
            (self.kind.kind.clone(), self.kind.api_version())
        };
        let event = json!({ "type": "BOOKMARK", "object": {
            "kind": kind, "apiVersion": api_version, "metadata": metadata,
        }});
        format!("{event}\n").into()
    }
}

/// Events, put together to chunks.
#[derive(Default)]
struct Chunks {
    full: Vec<Bytes>,
    growing: BytesMut,
}

impl Chunks {
    fn event(&mut self, name: &str, object: &[u8]) {
        self.growing.reserve(object.len() + 40);
        for part in [b"{\"type\":\"", name.as_bytes(), b"\",\"object\":", object, b"}\n"] {
            self.growing.put_slice(part);
        }
        if self.growing.len() >= CHUNK {
            self.full.push(self.growing.split().freeze());
        }
    }

    fn done(mut self) -> Vec<Bytes> {
        if !self.growing.is_empty() {
            self.full.push(self.growing.freeze());
        }
        self.full
    }
}
