//! Watches: what happened since a version, and what happens from now on.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::control::Shared;
use super::kind::Kind;
use super::selector::Selectors;
use super::status::Failure;
use super::store::Change;

/// How often a silent watch says how far it is. A real one does so about once a minute.
const BOOKMARK: Duration = Duration::from_secs(1);

/// What a watch was asked for.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) kind: Kind,
    pub(super) namespace: Option<String>,
    pub(super) selectors: Selectors,
    /// Resume behind this version; none: begin with what is there.
    pub(super) from: Option<u64>,
    pub(super) bookmarks: bool,
    /// Say, with a bookmark, when all that is there was sent.
    pub(super) initial_events: bool,
    pub(super) timeout: Duration,
    /// The form objects are sent in.
    pub(super) metadata_only: bool,
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
    let mut revision = shared.revision.subscribe();
    let deadline = Instant::now() + watch.timeout;
    let mut next_bookmark = Instant::now() + BOOKMARK;
    let (mut at, mut events) = watch.first(&shared);
    loop {
        for event in events.drain(..) {
            let is_error = event["type"] == "ERROR";
            let line = Bytes::from(format!("{event}\n"));
            if sender.send(Ok(line)).await.is_err() || is_error {
                return;
            }
        }
        tokio::select! {
            changed = revision.changed() => if changed.is_err() { return },
            _ = ended.changed() => {
                if !ended.borrow().1 {
                    let _ = sender.send(Err(io::ErrorKind::ConnectionReset.into())).await;
                }
                return;
            }
            () = sender.closed() => return,
            () = tokio::time::sleep_until(deadline) => return,
            () = tokio::time::sleep_until(next_bookmark), if watch.bookmarks => {
                next_bookmark = Instant::now() + BOOKMARK;
                events.push(watch.bookmark(at, false));
            }
        }
        events.extend(watch.since(&mut at, &shared));
    }
}

impl Watch {
    /// What a watch begins with, and the version that it stands at then.
    fn first(&self, shared: &Shared) -> (u64, Vec<Value>) {
        if let Some(from) = self.from {
            let oldest = shared.state().store.compacted;
            if from < oldest {
                return (
                    from,
                    vec![json!({ "type": "ERROR", "object": Failure::expired(from, oldest).body })],
                );
            }
            let mut at = from;
            let events = self.since(&mut at, shared);
            return (at, events);
        }
        let state = shared.state();
        let objects = state.store.list(&self.kind, self.namespace.as_deref(), &self.selectors);
        let mut events: Vec<Value> = objects.iter().map(|object| self.event("ADDED", object)).collect();
        if self.initial_events {
            events.push(self.bookmark(state.store.revision, true));
        }
        (state.store.revision, events)
    }

    fn since(&self, at: &mut u64, shared: &Shared) -> Vec<Value> {
        let state = shared.state();
        let news = state.store.log.iter().filter(|change| change.revision > *at);
        let events = news.filter_map(|change| self.judge(change)).collect();
        *at = state.store.revision;
        events
    }

    /// What a change is to somebody who sees only what is selected.
    fn judge(&self, change: &Change) -> Option<Value> {
        let here = change.key.0 == self.kind.qualified()
            && self.namespace.as_ref().is_none_or(|namespace| change.key.1 == *namespace);
        if !here {
            return None;
        }
        let seen =
            |object: &Option<Value>| object.as_ref().is_some_and(|object| self.selectors.matches(object));
        let gone = || {
            let mut object = change.before.clone()?;
            object["metadata"]["resourceVersion"] = change.revision.to_string().into();
            Some(self.event("DELETED", &object))
        };
        match (seen(&change.before), seen(&change.after)) {
            (false, false) => None,
            (false, true) => Some(self.event("ADDED", change.after.as_ref()?)),
            (true, true) => Some(self.event("MODIFIED", change.after.as_ref()?)),
            (true, false) => gone(),
        }
    }

    fn event(&self, name: &str, object: &Value) -> Value {
        let object = if self.metadata_only { metadata_of(object) } else { object.clone() };
        json!({ "type": name, "object": object })
    }

    fn bookmark(&self, revision: u64, end_of_initial_events: bool) -> Value {
        let mut metadata = json!({ "resourceVersion": revision.to_string(), "creationTimestamp": null });
        if end_of_initial_events {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        json!({ "type": "BOOKMARK", "object": {
            "kind": self.kind.kind, "apiVersion": self.kind.api_version(), "metadata": metadata,
        }})
    }
}

/// An object as `PartialObjectMetadata`.
pub(super) fn metadata_of(object: &Value) -> Value {
    json!({ "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"] })
}
