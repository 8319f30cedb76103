//! Moving what was committed from the log into the database, without making a commit wait for it.
//!
//! SQLite would do it inside a commit, once the log has 1000 pages: every such commit, and all that wait
//! behind it, would take several milliseconds longer. Here a second thread copies while the writer goes on
//! writing. It can never catch up with a busy writer, and the log is only written from its start again
//! when all of it has been copied; so when little is left, the writer copies that rest itself.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

/// Bytes of keys and values after which the log is copied. It has about twice this size then.
const LOG_SIZE: usize = 8 << 20;

#[derive(Debug)]
pub(super) struct Checkpointer {
    state: Mutex<State>,
    changed: Condvar,
    /// The rest is for the writer.
    nearly_done: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// Bytes written since the last copying began.
    written: usize,
    wanted: bool,
    running: bool,
    stopped: bool,
}

impl Checkpointer {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
            nearly_done: AtomicBool::new(false),
        }
    }

    /// Told by the writer after each group; copies the rest of the log here if the thread left one.
    pub(super) fn wrote(&self, connection: &Connection, size: usize) {
        if self.nearly_done.swap(false, Ordering::Acquire) {
            copy(connection);
            self.state().running = false;
        }
        let mut state = self.state();
        state.written = state.written.saturating_add(size);
        if state.written >= LOG_SIZE && !state.running {
            state.written = 0;
            state.running = true;
            state.wanted = true;
            drop(state);
            self.changed.notify_one();
        }
    }

    /// The thread: copies when told to, until told to stop.
    pub(super) fn run(&self, connection: &Connection) {
        loop {
            let mut state = self.state();
            while !state.wanted && !state.stopped {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.stopped {
                return;
            }
            state.wanted = false;
            drop(state);
            // The second pass is over what was written during the first, and leaves still less.
            copy(connection);
            copy(connection);
            self.nearly_done.store(true, Ordering::Release);
        }
    }

    pub(super) fn stop(&self) {
        self.state().stopped = true;
        self.changed.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Copies what can be copied without waiting for anyone. Failing is no loss: the log stays, and grows.
fn copy(connection: &Connection) {
    let copied = connection
        .prepare_cached("PRAGMA wal_checkpoint(PASSIVE)")
        .and_then(|mut pragma| pragma.query_row([], |_| Ok(())));
    if let Err(error) = copied {
        tracing::warn!(%error, "the storage log could not be copied into the database");
    }
}
