//! How many leases there are, counted a little at a time.
//!
//! A count in memory would miss what other processes and crashes do, and counting all at once would
//! keep the upkeep from expiring anything. So each round looks at one page, and the gauges change when
//! a walk through the store has ended.

use std::time::Duration;

use chancery_storage::{Name, Position, View};
use jiff::Timestamp;
use metrics::Gauge;
use tokio::sync::Mutex;

use super::{LEASES, LeaseRecord};
use crate::error::Error;
use crate::measures;
use crate::token::store;

/// Markers of one round.
const MARKERS: usize = 4096;
/// Records of one round: they have to be decrypted and decoded.
const RECORDS: usize = 512;
/// Between two walks.
const PAUSE: Duration = Duration::from_secs(10);

/// The gauges, and where the walk is.
pub(super) struct Census {
    leases: Gauge,
    irrevocable: Gauge,
    walk: Mutex<Walk>,
}

#[derive(Default)]
struct Walk {
    /// The next walk begins then.
    rests_until: Option<Timestamp>,
    /// All markers were counted; now the records of secrets' leases are looked at.
    among_records: bool,
    after: Option<Name>,
    leases: usize,
    irrevocable: usize,
}

impl Census {
    pub(super) fn new() -> Self {
        Self {
            leases: measures::gauge("expire.num_leases", "Leases, of secrets and of tokens"),
            irrevocable: measures::gauge(
                "expire.num_irrevocable_leases",
                "Leases that could not be taken back yet",
            ),
            walk: Mutex::new(Walk::default()),
        }
    }

    /// One round.
    pub(super) async fn step(&self, root: &View, now: Timestamp) -> Result<(), Error> {
        let mut walk = self.walk.lock().await;
        if walk.rests_until.is_some_and(|until| now < until) {
            return Ok(());
        }
        let from = Position::from(walk.after.as_ref());
        if !walk.among_records {
            // Whatever expires has one marker.
            let page = root.list(store::EXPIRIES, from, MARKERS).await?;
            walk.leases += page.len();
            walk.among_records = page.len() < MARKERS;
            walk.after = page.into_iter().next_back().filter(|_| !walk.among_records);
            return Ok(());
        }
        let page = root.scan(LEASES, from, RECORDS).await?;
        let ended = page.len() < RECORDS;
        for (_, record) in &page {
            walk.irrevocable += usize::from(record.json::<LeaseRecord>()?.attempts > 0);
        }
        walk.after = page.into_iter().next_back().map(|(name, _)| name);
        if ended {
            self.leases.set(measures::precise(walk.leases));
            self.irrevocable.set(measures::precise(walk.irrevocable));
            *walk = Walk { rests_until: now.checked_add(PAUSE).ok(), ..Walk::default() };
        }
        Ok(())
    }
}
