//! What waits for the writer.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, oneshot};

use crate::StorageError;
use crate::backend::Batch;

/// Batches that may wait or be written at once; callers beyond that wait for a place.
const PLACES: usize = 4096;

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
    /// Whether the writer sleeps: nobody else needs to be woken.
    idle: bool,
    /// What is answered to those who come too late.
    closed: Option<StorageError>,
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
        let idle = {
            let mut waiting = self.waiting();
            if let Some(reason) = &waiting.closed {
                return Err(reason.clone());
            }
            waiting.requests.push(Request { batch, answer });
            std::mem::take(&mut waiting.idle)
        };
        // The writer gives the place back when it takes the request.
        place.forget();
        if idle {
            self.arrived.notify_one();
        }
        // Whatever was accepted is answered, unless the writer died over it.
        answered
            .await
            .unwrap_or_else(|gone| Err(StorageError::unknown_outcome("the writer has stopped", gone)))
    }

    /// Moves everything that waits into `group`, which is empty; waits if nothing does. `false` if the
    /// queue is closed and empty.
    pub(super) fn take(&self, group: &mut Vec<Request>) -> bool {
        let mut waiting = self.waiting();
        while waiting.requests.is_empty() {
            if waiting.closed.is_some() {
                return false;
            }
            waiting.idle = true;
            waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.idle = false;
        std::mem::swap(&mut waiting.requests, group);
        drop(waiting);
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
