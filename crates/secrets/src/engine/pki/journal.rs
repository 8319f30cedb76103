//! The order in which revocations enter a journal, so that "what came after this" has one meaning.
//!
//! A place in a journal is a number that only grows: nanoseconds since 1970, or one more than the last
//! place where the clock says the same or less. Whoever builds a CRL reads a journal up to a place and
//! goes on from there the next time, so nothing may come to lie before a place that was read: a builder
//! waits for the commits under way, each of which holds the gate open.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use chancery_storage::{StorageError, View};
use jiff::Timestamp;
use tokio::sync::{OnceCell, OwnedRwLockReadGuard, RwLock};

use super::crl_records::last_listed;
use super::revocations::{Scope, journal_collection, names_from};

/// Names read at a time while the end of a journal is looked for.
const PAGE: usize = 512;

/// The journals in use: as many as there are scopes, which is at most as many as there were issuers.
#[derive(Default)]
pub(super) struct Journals {
    open: Mutex<HashMap<Option<Scope>, Arc<Journal>>>,
    /// Grows with each revocation, once its commit has ended and before its request is answered.
    written: Arc<AtomicU64>,
}

impl Journals {
    /// The journal of this scope; `None` is that of certificates whose issuer is not here.
    pub(super) fn of(&self, scope: Option<Scope>) -> Arc<Journal> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(
            open.entry(scope).or_insert_with(|| Arc::new(Journal::new(scope, Arc::clone(&self.written)))),
        )
    }

    /// A number that is another one after each change of what is known to be revoked. What was read after asking
    /// for it holds for as long as the number stays.
    pub(super) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Says that records of revocations were changed beside the journals.
    pub(super) fn rewritten(&self) {
        self.written.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether anybody asked for the journal of this scope yet.
    pub(super) fn is_open(&self, scope: Scope) -> bool {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).contains_key(&Some(scope))
    }
}

/// One journal, as far as this process has to know it.
pub(super) struct Journal {
    scope: Option<Scope>,
    collection: String,
    /// Held for reading while a revocation is being committed.
    gate: Arc<RwLock<()>>,
    /// The last place given out, once it was looked for.
    last: OnceCell<AtomicU64>,
    /// The last place that is at rest.
    newest: AtomicU64,
    /// Whether entries may have come or gone before places that were read.
    doubtful: AtomicBool,
    /// [`Journals::written`].
    written: Arc<AtomicU64>,
}

impl Journal {
    fn new(scope: Option<Scope>, written: Arc<AtomicU64>) -> Self {
        Self {
            scope,
            collection: journal_collection(scope),
            gate: Arc::new(RwLock::new(())),
            last: OnceCell::new(),
            newest: AtomicU64::new(0),
            doubtful: AtomicBool::new(false),
            written,
        }
    }

    /// Its collection.
    pub(super) fn collection(&self) -> &str {
        &self.collection
    }

    /// Takes a place for a revocation at this instant. Builders wait until it is told how its commit ended.
    pub(super) async fn begin(
        self: &Arc<Self>,
        view: &View,
        at: Timestamp,
    ) -> Result<UnderWay, StorageError> {
        let guard = Arc::clone(&self.gate).read_owned().await;
        let last = self.last(view).await?;
        let wanted = u64::try_from(at.as_nanosecond()).unwrap_or(0);
        let next = |last: u64| wanted.max(last.saturating_add(1));
        let before = last
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| Some(next(last)))
            .unwrap_or_else(|last| last);
        Ok(UnderWay { journal: Arc::clone(self), place: next(before), told: false, _guard: guard })
    }

    /// The last place that is at rest; 0 for an empty journal.
    pub(super) async fn newest(&self, view: &View) -> Result<u64, StorageError> {
        self.last(view).await?;
        Ok(self.newest.load(Ordering::Acquire))
    }

    /// Waits for the commits under way, and answers the last place: nothing will come to lie at or
    /// before it any more.
    pub(super) async fn settled(&self, view: &View) -> Result<u64, StorageError> {
        let _alone = self.gate.write().await;
        Ok(self.last(view).await?.load(Ordering::Acquire))
    }

    /// Says that entries may have come or gone before places that were read.
    pub(super) fn doubt(&self) {
        self.doubtful.store(true, Ordering::Release);
    }

    /// Whether that was said since this was asked last.
    pub(super) fn take_doubt(&self) -> bool {
        self.doubtful.swap(false, Ordering::AcqRel)
    }

    /// Whether that was said.
    pub(super) fn is_doubtful(&self) -> bool {
        self.doubtful.load(Ordering::Acquire)
    }

    async fn last(&self, view: &View) -> Result<&AtomicU64, StorageError> {
        self.last
            .get_or_try_init(|| async {
                let last = end(view, &self.collection).await?;
                self.newest.fetch_max(last, Ordering::AcqRel);
                // Entries may have been removed behind the last one: what a CRL has read it does not read again.
                let listed = match self.scope {
                    Some(scope) => last_listed(view, scope).await?,
                    None => 0,
                };
                Ok(AtomicU64::new(last.max(listed)))
            })
            .await
    }
}

/// A revocation between its place and the end of its commit.
///
/// Dropped without a word, its outcome is unknown.
pub(super) struct UnderWay {
    journal: Arc<Journal>,
    place: u64,
    told: bool,
    _guard: OwnedRwLockReadGuard<()>,
}

impl UnderWay {
    /// Its place.
    pub(super) fn place(&self) -> u64 {
        self.place
    }

    /// Tells how its commit ended.
    pub(super) fn ended(mut self, outcome: &Result<(), StorageError>) {
        // Where the outcome is unknown it may be at rest, or come to rest later.
        self.told = !matches!(outcome, Err(StorageError::UnknownOutcome { .. }));
        if outcome.is_ok() {
            self.is_news();
        }
    }

    fn is_news(&self) {
        self.journal.newest.fetch_max(self.place, Ordering::AcqRel);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        if !self.told {
            self.is_news();
            self.journal.doubt();
        }
        self.journal.written.fetch_add(1, Ordering::AcqRel);
    }
}

/// The last place of a journal at rest, found by halving: a few reads, however long the journal is.
async fn end(view: &View, journal: &str) -> Result<u64, StorageError> {
    // Something lies at `from` or behind it, if anywhere; nothing at `to` or behind it.
    let (mut from, mut to, mut last) = (0_u64, u64::MAX, 0_u64);
    let mut probe = 0_u64;
    loop {
        let names = names_from(view, journal, probe, PAGE).await?;
        match names.last() {
            Some(name) => {
                last = name.order();
                if names.len() < PAGE {
                    return Ok(last);
                }
                from = last.saturating_add(1);
            }
            None if probe == from => return Ok(last),
            None => to = probe,
        }
        // Places are instants of our days far more often than of the rest of 64 bits; halving finds that out.
        probe = from.saturating_add(to.saturating_sub(from) / 2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chancery_storage::{Barrier, Memory, Name, ShareScheme, Writes};

    async fn view() -> View {
        let barrier = Barrier::new(Arc::new(Memory::new()), None);
        let scheme = ShareScheme::new(1, 1).unwrap();
        let founding = barrier.found(scheme, std::time::SystemTime::UNIX_EPOCH).await.unwrap();
        founding.commit(Writes::new()).await.unwrap().0.view("mount").unwrap()
    }

    fn at(nanosecond: i64) -> Timestamp {
        Timestamp::from_nanosecond(i128::from(nanosecond)).unwrap()
    }

    #[tokio::test]
    async fn the_end_of_a_journal_is_found_whatever_lies_in_it() {
        let view = view().await;
        assert_eq!(end(&view, "empty").await.unwrap(), 0);
        let base = 1_800_000_000_000_000_000_u64;
        for (name, places) in [
            ("one", vec![7]),
            ("page", (1..=512).collect::<Vec<u64>>()),
            ("pages", (0..1_500).map(|n| base + n * 1_000_003).collect()),
            ("apart", vec![1, base, u64::MAX - 1]),
            ("dense", (base..base + 1_025).collect()),
        ] {
            let mut writes = Writes::new();
            for place in &places {
                writes.put(&view, name, &Name::ordered(*place, "00"), &[]).unwrap();
            }
            view.commit(writes).await.unwrap();
            assert_eq!(end(&view, name).await.unwrap(), *places.last().unwrap(), "{name}");
        }
    }

    #[tokio::test]
    async fn places_grow_even_where_the_clock_does_not() {
        let (view, journals) = (view().await, Journals::default());
        let journal = journals.of(None);
        let mut places = Vec::new();
        for instant in [at(100), at(100), at(50), at(200)] {
            let under_way = journal.begin(&view, instant).await.unwrap();
            places.push(under_way.place());
            under_way.ended(&Ok(()));
        }
        assert_eq!(places, [100, 101, 102, 200]);
        assert_eq!(journal.newest(&view).await.unwrap(), 200);
        assert!(Arc::ptr_eq(&journal, &journals.of(None)));
    }

    #[tokio::test]
    async fn whoever_builds_waits_for_the_commits_under_way() {
        let (view, journal) = (view().await, Journals::default().of(None));
        let (first, second) =
            (journal.begin(&view, at(1)).await.unwrap(), journal.begin(&view, at(2)).await.unwrap());
        second.ended(&Ok(()));
        let settled = tokio::spawn({
            let (view, journal) = (view.clone(), Arc::clone(&journal));
            async move { journal.settled(&view).await.unwrap() }
        });
        tokio::task::yield_now().await;
        assert!(!settled.is_finished());
        first.ended(&Ok(()));
        assert_eq!(settled.await.unwrap(), 2);
        assert!(!journal.take_doubt());
        let unknown = journal.begin(&view, at(3)).await.unwrap();
        drop(unknown);
        assert!(journal.take_doubt() && !journal.take_doubt());
        // It may be at rest: a list that was read up to the place before does not name it.
        assert_eq!(journal.newest(&view).await.unwrap(), 3);
    }
}
