//! Those who wait for CertificateRequests, and the one watch that tells them.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chancery_kubernetes::cert_manager::CertificateRequest;
use chancery_kubernetes::read;
use kube::api::DynamicObject;
use kube::runtime::watcher::Event;
use tokio::sync::oneshot;

use super::IDENTITIES;
use super::outcome::{Outcome, outcome, pending};
use crate::ca::signer::SigningError;

/// How many outcomes are kept that nobody has asked for yet: a request can be signed before the answer to its creation
/// has arrived here. What falls out of here is found by asking the API server.
const EARLY: usize = 512;

/// Everybody who waits.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<String, Waiter>,
    early: VecDeque<(String, Outcome)>,
    /// Which list, of those the watch began with, is the newest.
    list: u64,
}

#[derive(Debug)]
struct Waiter {
    sender: oneshot::Sender<Outcome>,
    /// The newest list when the wait began: only later ones must have the request in them.
    since: u64,
    /// The newest list that had it.
    seen: u64,
    pending: Option<String>,
}

impl Waiting {
    /// Begins to wait for a request that was just created.
    pub(super) fn wait(&self, name: &str) -> oneshot::Receiver<Outcome> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state();
        if let Some(at) = state.early.iter().position(|(early, _)| early == name)
            && let Some((_, outcome)) = state.early.remove(at)
        {
            // Nobody can have stopped waiting yet.
            let _ = sender.send(outcome);
            return receiver;
        }
        let since = state.list;
        state.waiting.insert(name.to_owned(), Waiter { sender, since, seen: since, pending: None });
        receiver
    }

    /// Stops waiting; says what the request was pending for, if it was still waited for.
    pub(super) fn forget(&self, name: &str) -> Option<String> {
        let waiter = self.state().waiting.remove(name)?;
        Some(waiter.pending.unwrap_or_else(|| "nobody has looked at it".to_owned()))
    }

    /// Takes note of what the API server says of a request.
    pub(super) fn observe(&self, found: DynamicObject) {
        let Some(name) = found.metadata.name.clone() else { return };
        let is_ours = found.metadata.annotations.as_ref().is_some_and(|all| all.contains_key(IDENTITIES));
        let is_kept = is_ours && found.metadata.deletion_timestamp.is_none();
        let (outcome, pending) = match read::<CertificateRequest>(found) {
            Ok(request) => (outcome(&request), pending(&request)),
            Err(error) => (Some(Err(malformed(&error))), None),
        };
        let mut state = self.state();
        let list = state.list;
        let Some(outcome) = outcome else {
            if let Some(waiter) = state.waiting.get_mut(&name) {
                waiter.seen = list;
                waiter.pending = pending.or_else(|| waiter.pending.take());
            }
            return;
        };
        if let Some(waiter) = state.waiting.remove(&name) {
            // Whoever stopped waiting needs no outcome.
            let _ = waiter.sender.send(outcome);
            return;
        }
        if is_kept {
            if state.early.len() >= EARLY {
                state.early.pop_front();
            }
            state.early.push_back((name, outcome));
        }
    }

    /// The request is gone.
    pub(super) fn deleted(&self, name: &str) {
        let mut state = self.state();
        state.early.retain(|(early, _)| early != name);
        if let Some(waiter) = state.waiting.remove(name) {
            let _ = waiter.sender.send(Err(gone()));
        }
    }

    /// What the watch tells.
    pub(super) fn apply(&self, event: Event<DynamicObject>) {
        match event {
            Event::Init => self.state().list += 1,
            Event::InitApply(found) | Event::Apply(found) => self.observe(found),
            Event::Delete(request) => {
                if let Some(name) = &request.metadata.name {
                    self.deleted(name);
                }
            }
            Event::InitDone => {
                let mut state = self.state();
                let list = state.list;
                let is_gone = |waiter: &Waiter| waiter.since < list && waiter.seen < list;
                let gone: Vec<String> = state
                    .waiting
                    .iter()
                    .filter(|(_, waiter)| is_gone(waiter))
                    .map(|(name, _)| name.clone())
                    .collect();
                for name in gone {
                    if let Some(waiter) = state.waiting.remove(&name) {
                        let _ = waiter.sender.send(Err(self::gone()));
                    }
                }
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is signed in a form that nobody can read is as good as refused.
fn malformed(error: &serde_json::Error) -> SigningError {
    SigningError::Refused(format!("the CertificateRequest is malformed: {error}"))
}

fn gone() -> SigningError {
    SigningError::Unavailable("the CertificateRequest was deleted before it was signed".into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(name: &str, certificate: Option<&str>) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "cert-manager.io/v1", "kind": "CertificateRequest",
            "metadata": { "name": name, "annotations": { IDENTITIES: "spiffe://d/ns/a/sa/b" } },
            "spec": { "request": "", "issuerRef": { "name": "istio-ca" } },
            "status": { "certificate": certificate },
        }))
        .expect("a request")
    }

    #[test]
    fn a_request_that_was_signed_before_anybody_waited_is_not_missed() {
        let waiting = Waiting::default();
        waiting.apply(Event::Apply(request("a", Some("Y2VydA=="))));
        let outcome = waiting.wait("a").try_recv().expect("an outcome");
        assert_eq!(outcome.expect("a chain").chain, "cert");
        assert!(waiting.wait("a").try_recv().is_err(), "an outcome is handed out once");
    }

    #[test]
    fn outcomes_that_nobody_asks_for_are_bounded() {
        let waiting = Waiting::default();
        for number in 0..EARLY + 100 {
            waiting.apply(Event::Apply(request(&number.to_string(), Some("Y2VydA=="))));
        }
        assert_eq!(waiting.state().early.len(), EARLY);
    }

    #[test]
    fn a_request_missing_from_a_later_list_was_deleted() {
        let waiting = Waiting::default();
        let (mut kept, mut lost) = (waiting.wait("kept"), waiting.wait("lost"));
        waiting.apply(Event::Init);
        // This one was created while the list was under way: it need not be in it.
        let mut new = waiting.wait("new");
        waiting.apply(Event::InitApply(request("kept", None)));
        waiting.apply(Event::InitDone);
        assert!(matches!(lost.try_recv(), Ok(Err(SigningError::Unavailable(_)))));
        assert!(kept.try_recv().is_err() && new.try_recv().is_err());
        waiting.apply(Event::Delete(request("kept", None)));
        assert!(matches!(kept.try_recv(), Ok(Err(SigningError::Unavailable(_)))));
    }

    #[test]
    fn whoever_stops_waiting_learns_what_for_unless_it_was_answered() {
        let waiting = Waiting::default();
        let _told = waiting.wait("a");
        assert_eq!(waiting.forget("a").as_deref(), Some("nobody has looked at it"));
        assert_eq!(waiting.forget("a"), None);
        let _told = waiting.wait("b");
        waiting.observe(request("b", Some("cGVt")));
        assert_eq!(waiting.forget("b"), None);
    }

    #[test]
    fn a_request_that_cannot_be_read_is_refused_and_hides_no_other() {
        let waiting = Waiting::default();
        let (mut malformed, mut other) = (waiting.wait("malformed"), waiting.wait("other"));
        waiting.apply(Event::Init);
        waiting.apply(Event::InitApply(request("malformed", Some("%%%"))));
        waiting.apply(Event::InitApply(request("other", Some("Y2VydA=="))));
        waiting.apply(Event::InitDone);
        assert!(matches!(malformed.try_recv(), Ok(Err(SigningError::Refused(_)))));
        assert_eq!(other.try_recv().expect("an outcome").expect("a chain").chain, "cert");
    }
}
