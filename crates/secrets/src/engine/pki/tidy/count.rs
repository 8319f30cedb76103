//! How many certificates there are, for mounts whose `config/auto-tidy` asks for it.
//!
//! What is there already is counted once, in the background, page by page; what is stored and removed
//! since is added and taken off as it happens. Serial numbers begin with the time of their birth, so that
//! one instant tells apart what the walk counts and what counts itself. Only serial numbers that
//! others chose, and revocations, may be missed or counted twice while the walk lasts.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chancery_issuance::SerialNumber;
use chancery_storage::{Name, Position};
use jiff::Timestamp;
use metrics::Gauge;

use super::Pki;
use super::settings::Counting;
use crate::engine::pki::store::collection;
use crate::error::Error;
use crate::measures::precise;

/// Names read at a time.
const PAGE: usize = 1_000;

/// When a walk that failed is begun anew.
const RETRY: Duration = Duration::from_secs(60);

/// By now every request is over that was under way when the counting began.
const PATIENCE: Duration = Duration::from_secs(10);

/// The number of certificates and revocations, if somebody asks for it.
#[derive(Default)]
pub(in super::super) struct Counts {
    /// A look at this is all that it costs those who store certificates where nobody counts.
    on: AtomicBool,
    certificates: AtomicU64,
    revoked: AtomicU64,
    state: Mutex<State>,
    /// Held by whoever walks through the certificates, so that nothing is removed that is being counted.
    walking: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct State {
    /// Since when what is stored counts itself.
    since: Option<Timestamp>,
    walk: Walk,
    gauges: Option<(Gauge, Gauge)>,
}

#[derive(Default, Clone, PartialEq, Eq)]
enum Walk {
    #[default]
    Due,
    UnderWay,
    Over,
    /// At this time, for this reason; it is tried again after [`RETRY`].
    Failed(Timestamp, String),
}

/// What `tidy-status` shows of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) certificates: u64,
    pub(super) revoked: u64,
    /// Whether all that was there before is counted.
    pub(super) complete: bool,
    pub(super) error: Option<String>,
}

impl Counts {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody else walks through the certificates while this is held.
    pub(super) async fn walk(&self) -> tokio::sync::OwnedMutexGuard<()> {
        Arc::clone(&self.walking).lock_owned().await
    }

    /// Begins or ends the counting, and shows the numbers to whom they are for.
    pub(super) fn keep(&self, counting: Counting, mount: &str, now: Timestamp) {
        let on = self.on.load(Ordering::Acquire);
        if counting == Counting::Off {
            if on {
                self.on.store(false, Ordering::Release);
                *self.state() = State::default();
            }
            return;
        }
        let mut state = self.state();
        if !on {
            *state = State { since: Some(now), ..State::default() };
            self.certificates.store(0, Ordering::Release);
            self.revoked.store(0, Ordering::Release);
            self.on.store(true, Ordering::Release);
        }
        if counting == Counting::Kept {
            state.gauges = None;
            return;
        }
        let (certificates, revoked) = state.gauges.get_or_insert_with(|| {
            let gauge = |what: &str| metrics::gauge!(format!("secrets.pki.{mount}.{what}"));
            (gauge("total_certificates_stored"), gauge("total_revoked_certificates_stored"))
        });
        let number =
            |count: &AtomicU64| precise(usize::try_from(count.load(Ordering::Acquire)).unwrap_or(usize::MAX));
        certificates.set(number(&self.certificates));
        revoked.set(number(&self.revoked));
    }

    /// The numbers, if somebody asks for them.
    pub(super) fn shown(&self) -> Option<Count> {
        if !self.on.load(Ordering::Acquire) {
            return None;
        }
        let walk = self.state().walk.clone();
        Some(Count {
            certificates: self.certificates.load(Ordering::Acquire),
            revoked: self.revoked.load(Ordering::Acquire),
            complete: walk == Walk::Over,
            error: match walk {
                Walk::Failed(_, error) => Some(error),
                _ => None,
            },
        })
    }

    /// A certificate was stored.
    pub(in super::super) fn stored(&self, serial: &SerialNumber) {
        if self.on.load(Ordering::Acquire) && self.counts_itself(serial.order()) {
            self.certificates.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Certificates were removed: these. Those that the walk would have counted are not there to be counted.
    pub(super) fn removed<'a>(&self, names: impl IntoIterator<Item = &'a Name>) {
        if self.on.load(Ordering::Acquire) {
            let counted = names.into_iter().filter(|name| self.counts_itself(name.order())).count();
            take_off(&self.certificates, counted);
        }
    }

    /// A certificate was revoked. Which the walk has seen nobody can tell, so while it lasts they are its own.
    pub(in super::super) fn revoked(&self) {
        if self.on.load(Ordering::Acquire) && self.state().walk == Walk::Over {
            self.revoked.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// Revocations were forgotten.
    pub(super) fn forgotten(&self, count: usize) {
        if self.on.load(Ordering::Acquire) && self.state().walk == Walk::Over {
            take_off(&self.revoked, count);
        }
    }

    fn counts_itself(&self, order: u64) -> bool {
        let state = self.state();
        state.walk == Walk::Over || state.since.is_some_and(|since| order >= order_at(since))
    }
}

fn take_off(number: &AtomicU64, count: usize) {
    let less = |before: u64| Some(before.saturating_sub(count as u64));
    let _ = number.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
}

/// The order of the first serial number that is born at an instant.
fn order_at(at: Timestamp) -> u64 {
    SerialNumber::generate(at, [0; 14]).order()
}

impl Pki {
    /// Counts what was stored before, once nobody can be storing any more of it.
    pub(super) fn count_certificates_if_due(self: &Arc<Self>, now: Timestamp) {
        let counts = &self.store.counts;
        let Ok(walking) = Arc::clone(&counts.walking).try_lock_owned() else { return };
        let mut state = counts.state();
        let Some(since) = state.since else { return };
        let over = |begin: Timestamp, pause: Duration| begin.checked_add(pause).is_ok_and(|end| now >= end);
        let ready = match &state.walk {
            Walk::Due => over(since, PATIENCE),
            Walk::Failed(at, _) => over(*at, RETRY),
            Walk::UnderWay | Walk::Over => false,
        };
        if !ready {
            return;
        }
        state.walk = Walk::UnderWay;
        drop(state);
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            let outcome = engine.count_certificates(since).await;
            let mut state = engine.store.counts.state();
            // Somebody may have ended the counting, and begun it again.
            if state.since == Some(since) {
                state.walk = match outcome {
                    Ok(()) => Walk::Over,
                    Err(error) => Walk::Failed(now, error.to_string()),
                };
            }
            drop(walking);
        });
    }

    async fn count_certificates(&self, since: Timestamp) -> Result<(), Error> {
        let counts = &self.store.counts;
        let end = order_at(since);
        let kinds = [
            (collection::CERTIFICATES, &counts.certificates, end),
            (collection::REVOKED, &counts.revoked, u64::MAX),
        ];
        let mut added = [0, 0];
        let mut outcome = Ok(());
        for ((kind, count, end), added) in kinds.into_iter().zip(&mut added) {
            if outcome.is_ok() {
                outcome = self.count_collection(kind, count, end, added).await;
            }
        }
        if outcome.is_err() {
            // The next walk begins anew.
            let [certificates, revoked] = added;
            take_off(&counts.certificates, certificates);
            take_off(&counts.revoked, revoked);
        }
        outcome
    }

    /// Counts the records of a collection that lie before `end`, page by page.
    async fn count_collection(
        &self,
        kind: &str,
        count: &AtomicU64,
        end: u64,
        added: &mut usize,
    ) -> Result<(), Error> {
        let mut after = None::<Name>;
        loop {
            let from = after.as_ref().map_or(Position::Start, Position::After);
            let names = self.store.view().list(kind, from, PAGE).await?;
            let before = names.iter().filter(|name| name.order() < end).count();
            count.fetch_add(before as u64, Ordering::AcqRel);
            *added += before;
            match names.into_iter().nth(PAGE - 1) {
                Some(last) => after = Some(last),
                None => return Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;
    use serde_json::json;

    use super::*;
    use crate::engine::Engine;
    use crate::engine::pki::tests::{Bed, NOW};

    #[tokio::test]
    async fn a_walk_that_failed_is_begun_anew_after_a_while() {
        let bed = Bed::new().await;
        bed.write("config/auto-tidy", json!({"maintain_stored_certificate_counts": true})).await.unwrap();
        bed.engine.clone().tick(NOW).await.unwrap();
        let counts = &bed.engine.store.counts;
        counts.state().walk = Walk::Failed(NOW, "the disk is gone".to_owned());
        bed.engine.clone().tick(NOW + 59.seconds()).await.unwrap();
        assert_eq!(counts.shown().unwrap().error.as_deref(), Some("the disk is gone"));
        bed.engine.clone().tick(NOW + 60.seconds()).await.unwrap();
        drop(counts.walk().await);
        assert!(counts.shown().unwrap().complete);
    }
}
