//! Requests that were begun and have not ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Counts what is under way, so that sealing at the end can wait for it.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    count: AtomicUsize,
    none_left: Notify,
}

impl UnderWay {
    /// Counts one more as long as the value lives.
    pub(crate) fn begin(self: &Arc<Self>) -> Begun {
        self.count.fetch_add(1, Ordering::AcqRel);
        Begun(Arc::clone(self))
    }

    /// Returns once nothing is under way.
    pub(crate) async fn settled(&self) {
        loop {
            let mut none_left = std::pin::pin!(self.none_left.notified());
            // Listening from before the look at the count, so that no end is missed in between.
            none_left.as_mut().enable();
            if self.count.load(Ordering::Acquire) == 0 {
                return;
            }
            none_left.await;
        }
    }
}

/// One that is under way.
#[derive(Debug)]
pub(crate) struct Begun(Arc<UnderWay>);

impl Drop for Begun {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none_left.notify_waiters();
        }
    }
}
