//! How long storage takes, under the names that Vault's dashboards know, in milliseconds.
//!
//! Names have points and no prefix: both are for whoever installs a recorder. Handles are made once.

use std::time::Instant;

use metrics::{Histogram, Unit};

use crate::backend::{Batch, Change};

fn times(name: &'static str, of: &'static str) -> Histogram {
    metrics::describe_histogram!(name, Unit::Milliseconds, of);
    metrics::histogram!(name)
}

/// Records the time from its making to its end.
pub(crate) struct Timer<'a> {
    times: &'a Histogram,
    start: Instant,
}

impl<'a> Timer<'a> {
    fn start(times: &'a Histogram) -> Self {
        Self { times, start: Instant::now() }
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        self.times.record(self.start.elapsed().as_secs_f64() * 1000.0);
    }
}

/// What the barrier measures.
pub(crate) struct BarrierMeasures {
    get: Histogram,
    put: Histogram,
    delete: Histogram,
    list: Histogram,
}

impl BarrierMeasures {
    pub(crate) fn new() -> Self {
        Self {
            get: times("barrier.get", "Time to read a record"),
            put: times("barrier.put", "Time to commit writes, until they are durable"),
            delete: times("barrier.delete", "Time to commit removals, until they are durable"),
            list: times("barrier.list", "Time to read a range of names or records"),
        }
    }

    pub(crate) fn get(&self) -> Timer<'_> {
        Timer::start(&self.get)
    }

    pub(crate) fn list(&self) -> Timer<'_> {
        Timer::start(&self.list)
    }

    /// A batch that writes anything counts as a write.
    pub(crate) fn commit(&self, batch: &Batch) -> Timer<'_> {
        let writes = batch.changes().iter().any(|change| matches!(change, Change::Put(..)));
        Timer::start(if writes || batch.changes().is_empty() { &self.put } else { &self.delete })
    }
}

/// What the writer of the embedded store measures.
pub(crate) struct WriterMeasures {
    commit: Histogram,
    batches: Histogram,
}

impl WriterMeasures {
    pub(crate) fn new() -> Self {
        let batches = "storage.commit.batches";
        metrics::describe_histogram!(batches, Unit::Count, "Batches that shared one commit");
        Self {
            commit: times("storage.commit", "Time of one commit to disk"),
            batches: metrics::histogram!(batches),
        }
    }

    /// Times the commit of so many batches.
    pub(crate) fn commit(&self, batches: usize) -> Timer<'_> {
        // A group has thousands at most.
        self.batches.record(u32::try_from(batches).map_or(f64::INFINITY, f64::from));
        Timer::start(&self.commit)
    }
}
