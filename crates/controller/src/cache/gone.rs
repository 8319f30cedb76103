//! Secrets that this process has deleted, and that a watch may still show.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So long a watch may lag behind. Then what it still shows counts as there: the API server's store may have been put back to
/// an earlier state.
const LAG: Duration = Duration::from_secs(300);

/// So many are remembered before it is looked which of them are too old.
const SPARE: usize = 64;

/// UIDs of Secrets that are gone. An API server gives no UID twice, so that one that is made anew under the same name is
/// another.
///
/// An entry goes when a watch tells that the Secret has gone, or after [`LAG`]: there are never more than were deleted in so
/// short a time.
#[derive(Debug, Default)]
pub(crate) struct Gone(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    since: HashMap<Box<str>, Instant>,
    /// When there are so many, those that are too old go.
    limit: usize,
}

/// A Secret is being deleted. Dropped before it is [kept](Going::keep), nobody knows whether it was.
#[derive(Debug)]
#[must_use]
pub(crate) struct Going<'a> {
    gone: &'a Gone,
    uid: &'a str,
    is_kept: bool,
}

impl Gone {
    /// A Secret is about to be deleted; a watch may tell that it is gone before the answer does.
    pub(crate) fn begin<'a>(&'a self, uid: &'a str) -> Going<'a> {
        let now = Instant::now();
        let mut state = self.state();
        if state.since.len() >= state.limit {
            state.since.retain(|_, since| now.duration_since(*since) < LAG);
            state.limit = SPARE.max(2 * state.since.len());
        }
        state.since.insert(uid.into(), now);
        Going { gone: self, uid, is_kept: false }
    }

    /// For how long a Secret still counts as gone that the cache shows; `None`: it counts as there.
    pub(crate) fn left(&self, uid: &str) -> Option<Duration> {
        let since = *self.state().since.get(uid)?;
        LAG.checked_sub(since.elapsed()).filter(|left| !left.is_zero())
    }

    /// A watch tells that it is gone.
    pub(super) fn forget(&self, uid: &str) {
        self.state().since.remove(uid);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Going<'_> {
    /// It is gone.
    pub(crate) fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for Going<'_> {
    fn drop(&mut self) {
        if !self.is_kept {
            self.gone.forget(self.uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_was_deleted_counts_as_gone_until_a_watch_tells_or_has_lagged_too_long() {
        let gone = Gone::default();
        assert_eq!(gone.left("a"), None);
        gone.begin("a").keep();
        gone.begin("b").keep();
        advance(Duration::from_secs(100)).await;
        assert_eq!(gone.left("a"), Some(Duration::from_secs(200)));
        gone.forget("a");
        assert_eq!(gone.left("a"), None);
        advance(Duration::from_secs(200)).await;
        assert_eq!(gone.left("b"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_deletion_that_failed_or_was_cut_short_counts_for_nothing() {
        let gone = Gone::default();
        let going = gone.begin("a");
        assert!(gone.left("a").is_some());
        drop(going);
        assert_eq!(gone.left("a"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_is_quicker_than_the_answer_leaves_nothing_behind() {
        let gone = Gone::default();
        let going = gone.begin("a");
        gone.forget("a");
        going.keep();
        assert!(gone.state().since.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_watch_ever_tells_of_takes_no_room_for_ever() {
        let gone = Gone::default();
        for round in 0..10 {
            for number in 0..1000 {
                gone.begin(&format!("{round}-{number}")).keep();
            }
            advance(LAG).await;
        }
        assert!(gone.state().since.len() <= 2000, "{}", gone.state().since.len());
    }
}
