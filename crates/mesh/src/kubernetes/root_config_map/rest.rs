//! Namespaces that were looked after just now.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Who was just looked after waits so long before it is again: somebody who undoes what is done, over and over, must not
/// take all the time there is.
const REST: Duration = Duration::from_secs(1);

/// When each namespace's rest is over.
#[derive(Debug, Default)]
pub(super) struct Rests(Mutex<HashMap<String, Instant>>);

impl Rests {
    /// It was looked after, and rests from now on.
    pub(super) fn begin(&self, name: &str) {
        let now = Instant::now();
        let mut rests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that are over say nothing any more.
        rests.retain(|_, end| *end > now);
        rests.insert(name.to_owned(), now + REST);
    }

    /// How long it still rests, if it does.
    pub(super) fn left(&self, name: &str) -> Option<Duration> {
        let rests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = rests.get(name)?.saturating_duration_since(Instant::now());
        Some(left).filter(|left| !left.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rest_ends_by_itself_and_leaves_nothing_behind() {
        let rests = Rests::default();
        rests.begin("a");
        assert_eq!((rests.left("a"), rests.left("b")), (Some(REST), None));
        tokio::time::advance(REST / 2).await;
        rests.begin("b");
        assert_eq!((rests.left("a"), rests.left("b")), (Some(REST / 2), Some(REST)));
        tokio::time::advance(REST / 2).await;
        assert_eq!(rests.left("a"), None);
        rests.begin("b");
        assert_eq!(rests.0.lock().expect("a lock").len(), 1);
    }
}
