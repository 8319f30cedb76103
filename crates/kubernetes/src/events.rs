//! Events (core/v1): what happened to an object, for whoever runs `kubectl describe`.
//!
//! Telling is never in the way: events go through a bounded channel. What does not fit is counted and forgotten, and the
//! log says once in a while how many that were.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chancery_api::Clock;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::client::request;

/// So many events may wait to be written.
const WAITING: usize = 256;

/// So many events are remembered, to count their repetitions: some 100 bytes each.
const REMEMBERED: usize = 4096;

/// The log speaks of dropped events at most so often.
const SILENCE: Duration = Duration::from_secs(30);

/// Whether an event is a cause for concern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventType {
    /// It is not.
    Normal,
    /// It is.
    Warning,
}

/// What happened to one object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Happening {
    component: &'static str,
    kind: EventType,
    reason: String,
    message: String,
    uid: String,
}

/// Tells of events.
#[derive(Debug, Clone)]
pub struct Recorder {
    sender: mpsc::Sender<(Happening, Box<ObjectReference>)>,
    dropped: Arc<Mutex<Dropped>>,
}

/// Events that were dropped and not spoken of yet.
#[derive(Debug, Default)]
struct Dropped {
    count: u64,
    told: Option<Instant>,
}

impl Dropped {
    /// Counts one more; how many to speak of now, if it is time to.
    fn add(&mut self, now: Instant) -> Option<u64> {
        self.count = self.count.saturating_add(1);
        if self.told.is_some_and(|told| now.duration_since(told) < SILENCE) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

impl Recorder {
    /// A recorder, and what writes its events until all recorders are gone: run it beside the rest.
    pub fn new(client: Client, clock: Arc<dyn Clock>) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self { sender, dropped: Arc::default() }, write_all(client, clock, receiver))
    }

    /// Tells of an event of an object. `component` is the part of the program that it comes from. It does not wait.
    pub fn record<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        component: &'static str,
        kind: EventType,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) {
        let reference = object.object_ref(&());
        self.record_reference(reference, component, kind, reason, message);
    }

    /// The same with a reference instead of the object.
    pub fn record_reference(
        &self,
        object: ObjectReference,
        component: &'static str,
        kind: EventType,
        reason: impl Into<String>,
        message: impl Into<String>,
    ) {
        let uid = object.uid.clone().unwrap_or_default();
        let happening = Happening { component, kind, reason: reason.into(), message: message.into(), uid };
        if self.sender.try_send((happening, Box::new(object))).is_err() {
            let count = self.dropped.lock().unwrap_or_else(PoisonError::into_inner).add(Instant::now());
            if let Some(count) = count {
                tracing::warn!(count, "events were dropped: too many wait to be written");
            }
        }
    }
}

/// An event that was written, and how often.
struct Written {
    name: String,
    count: i32,
}

async fn write_all(
    client: Client,
    clock: Arc<dyn Clock>,
    mut receiver: mpsc::Receiver<(Happening, Box<ObjectReference>)>,
) {
    // By a hash that nobody can foresee: for two to meet would take four thousand millions of them.
    let hasher = RandomState::new();
    let mut known: HashMap<u64, Written> = HashMap::new();
    while let Some((happening, object)) = receiver.recv().await {
        // Events of a cluster-wide object go where kubectl looks for them.
        let namespace = object.namespace.clone().unwrap_or_else(|| "default".into());
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let now = clock.now();
        let hash = hasher.hash_one(&happening);
        if let Some(written) = known.get_mut(&hash) {
            written.count = written.count.saturating_add(1);
            let patch = json!({ "count": written.count, "lastTimestamp": time(now) });
            let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
            if request(api.patch(&written.name, &parameters, &patch)).await.is_ok() {
                continue;
            }
            // It expired, most likely; it is told anew.
            known.remove(&hash);
        }
        let event = event(&happening, &object, &namespace, now);
        match request(api.create(&PostParams::default(), &event)).await {
            Ok(created) => {
                if known.len() >= REMEMBERED {
                    known.clear();
                }
                let name = created.metadata.name.unwrap_or_default();
                known.insert(hash, Written { name, count: 1 });
            }
            Err(error) => tracing::warn!(reason = happening.reason, %error, "an event could not be written"),
        }
    }
}

fn event(happening: &Happening, object: &ObjectReference, namespace: &str, now: Timestamp) -> Event {
    let kind = match happening.kind {
        EventType::Normal => "Normal",
        EventType::Warning => "Warning",
    };
    let name = object.name.as_deref().unwrap_or_default();
    Event {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}.")),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        type_: Some(kind.to_owned()),
        reason: Some(happening.reason.clone()),
        message: Some(happening.message.clone()),
        source: Some(EventSource {
            component: Some(happening.component.to_owned()),
            ..EventSource::default()
        }),
        involved_object: object.clone(),
        count: Some(1),
        first_timestamp: time(now),
        last_timestamp: time(now),
        reporting_component: Some(happening.component.to_owned()),
        ..Event::default()
    }
}

fn time(now: Timestamp) -> Option<Time> {
    k8s_openapi::jiff::Timestamp::from_second(now.as_second()).ok().map(Time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_dropped_events_is_spoken_of_once_in_a_while() {
        let (mut dropped, start) = (Dropped::default(), Instant::now());
        assert_eq!(dropped.add(start), Some(1));
        assert!((0..10_000).all(|_| dropped.add(start + SILENCE / 2).is_none()));
        assert_eq!(dropped.add(start + SILENCE), Some(10_001));
        assert_eq!(dropped.add(start + SILENCE), None);
    }
}
