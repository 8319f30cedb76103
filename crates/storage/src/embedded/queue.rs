//! What waits for the writer.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, oneshot};

use crate::StorageError;
use crate::backend::Batch;

/// Batches that may wait or be written at once; callers beyond that wait for a place.
const PLACES: usize = 4096;

/// The longest that a batch waits for company. An fsync takes about as long, and whoever it is for waits
/// that long anyway.
const GATHERING: Duration = Duration::from_millis(2);

/// As many as this together share the cost of a commit well enough.
const GOOD_COMPANY: usize = 16;

/// A batch and whoever waits for it.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) batch: Batch,
    pub(super) answer: oneshot::Sender<Result<(), StorageError>>,
}

/// A bounded queue from any number of tasks to one thread.
#[derive(Debug)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
    places: Semaphore,
}

#[derive(Debug, Default)]
struct Waiting {
    requests: Vec<Request>,
    /// How many must wait before the writer, which sleeps, is to be woken. 0 while it works.
    wanted: usize,
    /// What is answered to those who come too late.
    closed: Option<StorageError>,
}

/// How many came together of late.
///
/// Each commit has a price that does not depend on how many share it. Where many write at once it pays
/// to wait until as many are together as usual; who writes alone is never kept waiting.
#[derive(Debug, Default)]
pub(super) struct Company {
    usual: usize,
}

impl Company {
    /// Grows at once with a larger group, shrinks slowly with smaller ones.
    fn came(&mut self, together: usize) {
        let faded = self.usual.saturating_sub(self.usual.div_ceil(8));
        self.usual = together.max(faded).min(GOOD_COMPANY);
    }
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            waiting: Mutex::new(Waiting::default()),
            arrived: Condvar::new(),
            places: Semaphore::new(PLACES),
        }
    }

    /// Hands a batch to the writer and waits until it is durable, or refused.
    pub(super) async fn commit(&self, batch: Batch) -> Result<(), StorageError> {
        let Ok(place) = self.places.acquire().await else { return Err(self.reason()) };
        let (answer, answered) = oneshot::channel();
        let wake = {
            let mut waiting = self.waiting();
            if let Some(reason) = &waiting.closed {
                return Err(reason.clone());
            }
            waiting.requests.push(Request { batch, answer });
            let wake = waiting.wanted > 0 && waiting.requests.len() >= waiting.wanted;
            if wake {
                waiting.wanted = 0;
            }
            wake
        };
        // The writer gives the place back when it takes the request.
        place.forget();
        if wake {
            self.arrived.notify_one();
        }
        // Whatever was accepted is answered, unless the writer died over it.
        answered
            .await
            .unwrap_or_else(|gone| Err(StorageError::unknown_outcome("the writer has stopped", gone)))
    }

    /// Moves everything that waits into `group`, which is empty; waits if nothing does, and for a moment
    /// longer until there is as much `company` as of late. `false` if the queue is closed and empty.
    pub(super) fn take(&self, group: &mut Vec<Request>, company: &mut Company) -> bool {
        let mut waiting = self.waiting();
        while waiting.requests.is_empty() {
            if waiting.closed.is_some() {
                return false;
            }
            waiting.wanted = 1;
            waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        if waiting.requests.len() < company.usual {
            let deadline = Instant::now() + GATHERING;
            while waiting.requests.len() < company.usual && waiting.closed.is_none() {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                waiting.wanted = company.usual;
                (waiting, _) =
                    self.arrived.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner);
            }
        }
        waiting.wanted = 0;
        std::mem::swap(&mut waiting.requests, group);
        drop(waiting);
        company.came(group.len());
        self.places.add_permits(group.len());
        true
    }

    /// Accepts nothing more, for the first reason that was given; what was accepted is still written.
    pub(super) fn close(&self, reason: StorageError) {
        self.waiting().closed.get_or_insert(reason);
        self.places.close();
        self.arrived.notify_one();
    }

    /// Drops what still waits, so that whoever waits for it learns that the writer is gone.
    pub(super) fn abandon(&self) {
        self.waiting().requests.clear();
    }

    fn reason(&self) -> StorageError {
        self.waiting().closed.clone().unwrap_or_else(|| closed("the writer has stopped"))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The reason where nothing is wrong.
pub(super) fn closed(why: &str) -> StorageError {
    StorageError::unavailable("the store is closed", why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn company_grows_at_once_and_fades_slowly() {
        let mut company = Company::default();
        company.came(1);
        assert_eq!(company.usual, 1, "who writes alone is not kept waiting");
        company.came(40);
        assert_eq!(company.usual, GOOD_COMPANY);
        company.came(3);
        assert_eq!(company.usual, 14);
        for _ in 0..20 {
            company.came(1);
        }
        assert_eq!(company.usual, 1);
    }
}
