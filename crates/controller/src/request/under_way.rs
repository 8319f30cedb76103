//! What this process did to CertificateRequests: what watches have not told yet, and what was signed and is not written.
//!
//! Here is why no request is signed twice. An answer of an issuer is kept, by the request's UID, until it is written or the
//! request is gone. And the newest version of a request that this process has written or read is remembered as long as the
//! request is there: an older one, from a watch that lags or begins anew at a replica that does, is not acted upon. When this
//! replica begins to lead, it does not know what the leader before it has written last: until a watch tells of a request what
//! is newer than that moment, it is read once before it is signed.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chancery_kubernetes::cert_manager::CertificateRequestStatus;
use chancery_kubernetes::events::EventType;
use chancery_kubernetes::{AT_ONCE, Pauses};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::cache::RequestFacts;
use crate::issuer::{IssuerKey, Signed};
use crate::{Key, Next};

/// So long a watch may lag behind what this process has written. Then the object is read: the API server's store may have
/// been put back to an earlier state, and what is remembered here is of a world that is gone.
const LAG: Duration = Duration::from_secs(30);

/// Pauses after failures of the API server that pass.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// An attempt that nobody said when to repeat is repeated once after so long if a change may have been overlooked.
const UNSURE: Duration = Duration::from_secs(5);

/// What this process did to CertificateRequests.
///
/// One worker at a time works on a key, as [`Queue`](chancery_kubernetes::queue::Queue) promises; the lock is held for
/// moments only.
#[derive(Debug)]
pub struct UnderWay {
    entries: Mutex<HashMap<Key, Box<Entry>>>,
    /// The version of the cluster when this replica began to lead; `None`: there are no others.
    began: Mutex<Option<Box<str>>>,
    /// Issuers whose requests were not to be approved here when it was tried last.
    unapproved: Mutex<HashSet<IssuerKey>>,
    /// Writes to the API server.
    writes: Semaphore,
}

impl Default for UnderWay {
    fn default() -> Self {
        let (entries, began, unapproved) = Default::default();
        Self { entries, began, unapproved, writes: Semaphore::new(AT_ONCE) }
    }
}

/// What an issuer said for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// It signed.
    Signed(Signed),
    /// It never will.
    Refused {
        /// The event's reason.
        reason: &'static str,
        /// The condition's message.
        message: String,
    },
}

/// An event that is told once what it tells of is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) component: &'static str,
    pub(super) kind: EventType,
    pub(super) reason: &'static str,
    pub(super) message: String,
}

/// What to make of what the cache has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    /// It can be acted upon.
    Cached,
    /// It is older than what this process knows; a watch will tell. If not, look again after this time.
    Stale(Duration),
    /// Only the API server knows.
    Unknown,
}

#[derive(Debug)]
struct Entry {
    uid: Box<str>,
    /// The newest version of the object that is known.
    newest: Option<Box<str>>,
    lags_since: Option<Instant>,
    /// What matters until the request has ended.
    open: Option<Box<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    answer: Option<(Arc<Answer>, &'static str)>,
    /// A status whose writing began, and of which nobody knows whether it is written.
    doubtful: Option<(CertificateRequestStatus, Vec<Event>)>,
    attempt: Option<Attempt>,
    pauses: Option<Pauses>,
    awaits_approval: bool,
}

/// An attempt at signing that came to nothing.
#[derive(Debug)]
struct Attempt {
    /// Version of the issuer that was asked.
    issuer: Option<String>,
    again: Option<Instant>,
    /// Version in which the request said so first.
    told: String,
}

impl UnderWay {
    /// Whether what the cache has of a request can be acted upon.
    pub(super) fn view(&self, facts: &RequestFacts, now: Instant) -> View {
        let mut entries = self.entries();
        let Some(entry) = entries.get_mut(&facts.key) else { return View::Cached };
        let is_doubtful = entry.open.as_ref().is_some_and(|open| open.doubtful.is_some());
        if *entry.uid != *facts.uid || is_doubtful {
            return View::Unknown;
        }
        let Some(newest) = &entry.newest else { return View::Cached };
        match compare(&facts.resource_version, newest) {
            None => View::Unknown,
            Some(Ordering::Less) => {
                let since = *entry.lags_since.get_or_insert(now);
                match LAG.checked_sub(now.saturating_duration_since(since)) {
                    Some(left) if !left.is_zero() => View::Stale(left),
                    _ => View::Unknown,
                }
            }
            Some(_) => {
                entry.lags_since = None;
                View::Cached
            }
        }
    }

    /// This replica begins to lead, and the leader before it has written nothing behind this version. What was known of
    /// requests may be older; answers of issuers that could not be written are kept, for the version that will be read.
    pub(super) fn begin_to_lead(&self, version: &str) {
        *self.began.lock().unwrap_or_else(PoisonError::into_inner) = Some(version.into());
        for entry in self.entries().values_mut() {
            entry.newest = None;
            entry.lags_since = None;
        }
    }

    /// Whether the leader before this one may have signed an object of which this version is known here.
    pub(super) fn may_be_signed(&self, key: &Key, uid: &str, version: &str) -> bool {
        let began = self.began.lock().unwrap_or_else(PoisonError::into_inner);
        let is_newer = began.as_ref().is_none_or(|began| compare(version, began) == Some(Ordering::Greater));
        drop(began);
        if is_newer {
            return false;
        }
        // It is what was read or written here since.
        let entries = self.entries();
        let entry = entries.get(key).filter(|entry| *entry.uid == *uid);
        entry.and_then(|entry| entry.newest.as_deref()) != Some(version)
    }

    /// The API server itself showed an object. What is known of one that was there before under its name is forgotten. If a
    /// write was in doubt and this is what it should have made, the events that belong to it are returned.
    pub(super) fn seen(
        &self,
        key: &Key,
        uid: &str,
        version: &str,
        status: &CertificateRequestStatus,
    ) -> Vec<Event> {
        let mut entries = self.entries();
        let entry = of(&mut entries, key, uid);
        entry.newest = Some(version.into());
        entry.lags_since = None;
        let doubtful = entry.open.as_mut().and_then(|open| open.doubtful.take());
        doubtful.filter(|(wanted, _)| wanted == status).map(|(_, events)| events).unwrap_or_default()
    }

    /// The object is gone.
    pub(super) fn forget(&self, key: &Key) {
        self.entries().remove(key);
    }

    /// Nothing is left to be done.
    pub(super) fn close(&self, key: &Key, uid: &str) {
        if let Some(entry) = self.entries().get_mut(key).filter(|entry| *entry.uid == *uid) {
            entry.open = None;
        }
    }

    /// Keeps an issuer's answer.
    pub(super) fn keep(&self, key: &Key, uid: &str, answer: Answer, component: &'static str) -> Arc<Answer> {
        let answer = Arc::new(answer);
        let mut entries = self.entries();
        let open = of(&mut entries, key, uid).open.get_or_insert_default();
        open.answer = Some((Arc::clone(&answer), component));
        answer
    }

    /// The answer that is kept, and which part it comes from.
    pub(super) fn answer(&self, key: &Key, uid: &str) -> Option<(Arc<Answer>, &'static str)> {
        let entries = self.entries();
        let entry = entries.get(key).filter(|entry| *entry.uid == *uid)?;
        entry.open.as_ref()?.answer.clone()
    }

    /// A place among those who write to the API server; to be had before a write begins.
    pub(super) async fn place(&self) -> Option<SemaphorePermit<'_>> {
        // Nobody closes it.
        self.writes.acquire().await.ok()
    }

    /// A status is about to be written. Until [`written`](Self::written) or [`refused`](Self::refused) says how it went,
    /// nobody knows: whoever is killed in between leaves it so.
    pub(super) fn begins(&self, key: &Key, uid: &str, status: &CertificateRequestStatus, events: &[Event]) {
        let mut entries = self.entries();
        let open = of(&mut entries, key, uid).open.get_or_insert_default();
        open.doubtful = Some((status.clone(), events.to_vec()));
    }

    /// The status is written.
    pub(super) fn written(&self, key: &Key, uid: &str, version: &str) {
        let mut entries = self.entries();
        let entry = of(&mut entries, key, uid);
        entry.newest = Some(version.into());
        entry.lags_since = None;
        if let Some(open) = &mut entry.open {
            open.doubtful = None;
            open.pauses = None;
        }
    }

    /// The status is certainly not written.
    pub(super) fn refused(&self, key: &Key, uid: &str) {
        let mut entries = self.entries();
        if let Some(open) = &mut of(&mut entries, key, uid).open {
            open.doubtful = None;
        }
    }

    /// How long to wait after one more failure that passes, and whether it is the first in a row.
    pub(super) fn pause(&self, key: &Key, uid: &str) -> (Duration, bool) {
        let mut entries = self.entries();
        let open = of(&mut entries, key, uid).open.get_or_insert_default();
        let is_first = open.pauses.is_none();
        let pause = open.pauses.get_or_insert_with(|| Pauses::new(PAUSES.0, PAUSES.1)).pause();
        (pause, is_first)
    }

    /// Whether a request begins to wait for its approval now.
    pub(super) fn begins_to_await(&self, key: &Key, uid: &str) -> bool {
        let mut entries = self.entries();
        let open = of(&mut entries, key, uid).open.get_or_insert_default();
        !std::mem::replace(&mut open.awaits_approval, true)
    }

    /// An issuer of this version could not sign yet, and the request says so since version `told`.
    pub(super) fn attempted(
        &self,
        key: &Key,
        uid: &str,
        issuer: Option<&str>,
        again: Option<Instant>,
        told: &str,
    ) {
        let mut entries = self.entries();
        let open = of(&mut entries, key, uid).open.get_or_insert_default();
        open.attempt = Some(Attempt { issuer: issuer.map(str::to_owned), again, told: told.to_owned() });
    }

    /// Whether a request is looked at only because this process wrote that it could not be signed yet, and when it is tried
    /// again then. It says so once: whoever comes after that has another reason.
    pub(super) fn is_echo(
        &self,
        key: &Key,
        uid: &str,
        version: &str,
        issuer: Option<&str>,
        now: Instant,
    ) -> Option<Next> {
        let mut entries = self.entries();
        let entry = entries.get_mut(key).filter(|entry| *entry.uid == *uid)?;
        let attempt = entry.open.as_mut()?.attempt.take()?;
        let is_echo = attempt.told == version && attempt.issuer.as_deref() == issuer;
        let left = attempt.again.map_or(UNSURE, |again| again.saturating_duration_since(now));
        is_echo.then_some(Next::After(left))
    }

    /// Whether requests for an issuer are to be approved before they are signed, with a write of its own. It is so once an
    /// approval was refused: what may not be approved here is not to be signed either, before somebody else approves it.
    pub(super) fn approves_apart(&self, issuer: &IssuerKey) -> bool {
        self.unapproved.lock().unwrap_or_else(PoisonError::into_inner).contains(issuer)
    }

    /// Whether an approval of a request for this issuer was accepted or refused.
    pub(super) fn may_approve(&self, issuer: &IssuerKey, may: bool) {
        let mut unapproved = self.unapproved.lock().unwrap_or_else(PoisonError::into_inner);
        if may {
            unapproved.remove(issuer);
        } else {
            unapproved.insert(issuer.clone());
        }
    }

    /// How many answers are kept.
    #[cfg(test)]
    pub(super) fn answers(&self) -> usize {
        let entries = self.entries();
        let open = entries.values().filter_map(|entry| entry.open.as_ref());
        open.filter(|open| open.answer.is_some()).count()
    }

    /// How many requests are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries().len()
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Key, Box<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The entry of an object; a new one if there is none, or only that of another object.
fn of<'a>(entries: &'a mut HashMap<Key, Box<Entry>>, key: &Key, uid: &str) -> &'a mut Entry {
    let new = || Box::new(Entry { uid: uid.into(), newest: None, lags_since: None, open: None });
    let entry = entries.entry(key.clone()).or_insert_with(new);
    if *entry.uid != *uid {
        *entry = new();
    }
    entry
}

/// Which of two versions of one object is the older. API servers promise that they are numbers that grow since Kubernetes
/// 1.35, and have kept it so before; of anything else it is only known whether it is the same.
fn compare(one: &str, other: &str) -> Option<Ordering> {
    if one == other {
        return Some(Ordering::Equal);
    }
    Some(one.parse::<u128>().ok()?.cmp(&other.parse().ok()?))
}
