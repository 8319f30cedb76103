//! Tidying: what has expired is removed, on request or from time to time.
//!
//! A run goes through its steps one after the other, in the background, one run at a time in a mount.
//! `settings.rs` says what a run does, `status.rs` how far it is; `certificates.rs` walks through the
//! certificates, `revoked.rs` through the revocations, and `issuers.rs` looks at the issuers; `count.rs` knows
//! how many certificates there are.
//!
//! A walk reads a page, judges what it read, and removes the page's share in small commits. Each removal
//! demands that the record is the one that was judged, so that whoever changes it meanwhile wins, and a
//! run that is cancelled, fails or dies with the process leaves whole records only: the next run begins
//! anew. Memory and the cost of a page do not grow with what is stored.
//!
//! When the last run was is at rest, so that restarts do not put the next one off.

mod certificates;
mod count;
mod issuers;
mod revoked;
mod settings;
mod status;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use chancery_api::fields::NoFields;
use chancery_storage::{Name, Version, View, Writes};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use self::settings::{AutoTidy, Settings, TidyRequest, WriteAutoTidy};
use self::status::{Board, Run, Stop};
use super::Pki;
use super::acme::tidy::{Buffers, Removed};
use super::store::{collection, config};
use crate::engine::Call;
use crate::error::Error;
use crate::response::Response;

pub(super) use self::count::Counts;

/// The shortest time between two runs that nobody asked for.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(60);

/// The mount's runs: the one that is under way or was last, and when the next one is due.
#[derive(Default)]
pub(super) struct Tidy {
    board: Board,
    timetable: Mutex<Option<Timetable>>,
}

/// What decides about the next run by itself, as it is at rest.
struct Timetable {
    auto: AutoTidy,
    version: Option<Version>,
    last: Option<Timestamp>,
}

/// When a run began or ended last.
#[derive(Serialize, Deserialize)]
struct LastRun {
    at: Timestamp,
}

impl Timetable {
    async fn load(view: &View) -> Result<Self, Error> {
        let (auto, version) = match view.get(collection::CONFIG, &Name::new(config::AUTO_TIDY)).await? {
            Some(record) => (record.json()?, Some(record.version)),
            None => (AutoTidy::default(), None),
        };
        let last: Option<LastRun> = view.get_json(collection::CONFIG, &Name::new(config::LAST_TIDY)).await?;
        Ok(Self { auto, version, last: last.map(|run| run.at) })
    }

    /// Whether a run is to begin. One that is said to have been in the future says nothing.
    fn is_due(&self, last: Timestamp, now: Timestamp) -> bool {
        let interval = self.auto.interval_duration.0.max(SHORTEST_INTERVAL);
        let next = last.checked_add(interval).unwrap_or(Timestamp::MAX);
        self.auto.enabled && (now >= next || now < last)
    }
}

impl Pki {
    /// POST `tidy`
    pub(super) async fn start_tidy(
        self: Arc<Self>,
        call: Call,
        body: TidyRequest,
    ) -> Result<Response, Error> {
        let settings = body.into_settings()?;
        let anything = settings.does_anything();
        if !self.begin_run(settings, call.now) {
            return Ok(Response::empty().warn("Tidy operation already in progress."));
        }
        Ok(Response::empty().status(202).warn(if anything {
            "Tidy operation successfully started. Any information from the operation will be printed to the server's logs.".to_owned()
        } else {
            format!(
                "Manual tidy requested but no tidy operations were set. Enable at least one tidy operation to be run ({}).",
                settings::SWITCHES
            )
        }))
    }

    /// POST `tidy-cancel`
    pub(super) async fn cancel_tidy(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        if self.tidy.board.cancel() {
            self.tidy_status()
        } else {
            Ok(Response::empty().warn("Tidy operation cannot be cancelled as none is currently running."))
        }
    }

    /// GET `tidy-status`
    pub(super) async fn read_tidy_status(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        self.tidy_status()
    }

    fn tidy_status(&self) -> Result<Response, Error> {
        let counts = self.store.counts.shown();
        let response = Response::data(&self.tidy.board.shown(&self.mount.uuid, counts.as_ref()))?;
        Ok(match counts {
            Some(counts) if !counts.complete => response.warn(
                "Certificates in storage are still being counted, current counts provided may be inaccurate",
            ),
            _ => response,
        })
    }

    /// GET `config/auto-tidy`
    pub(super) async fn read_auto_tidy(self: Arc<Self>, _: Call, _: NoFields) -> Result<Response, Error> {
        let mut timetable = self.tidy.timetable.lock().await;
        Response::data(&self.timetable(&mut timetable).await?.auto.shown())
    }

    /// POST `config/auto-tidy`
    pub(super) async fn write_auto_tidy(
        self: Arc<Self>,
        _: Call,
        body: WriteAutoTidy,
    ) -> Result<Response, Error> {
        let mut timetable = self.tidy.timetable.lock().await;
        let before = self.timetable(&mut timetable).await?;
        let auto = body.applied(before.auto.clone())?;
        let (view, name) = (self.store.view(), Name::new(config::AUTO_TIDY));
        let mut writes = Writes::new();
        match &before.version {
            Some(version) => writes.expect_unchanged(view, collection::CONFIG, &name, version)?,
            None => writes.expect_absent(view, collection::CONFIG, &name)?,
        };
        writes.put_json(view, collection::CONFIG, &name, &auto)?;
        // Whatever becomes of the commit, the record is read again by whoever needs it next.
        *timetable = None;
        view.commit(writes).await?;
        Response::data(&auto.shown())
    }

    /// Begins the run that is due, if one is. Costs a look at memory.
    pub(super) async fn tidy_if_due(self: &Arc<Self>, now: Timestamp) -> Result<(), Error> {
        let mut guard = self.tidy.timetable.lock().await;
        let timetable = self.timetable(&mut guard).await?;
        self.store.counts.keep(timetable.auto.counts(), &self.mount.uuid, now);
        if timetable.auto.enabled {
            match timetable.last {
                Some(last) if timetable.is_due(last, now) => {
                    // In memory at once: a run that cannot even begin is tried again an interval later.
                    timetable.last = Some(now);
                    self.begin_run(timetable.auto.settings.clone(), now);
                }
                Some(_) => {}
                None => {
                    // The interval begins with the wish for it.
                    self.write_last_run(now).await?;
                    timetable.last = Some(now);
                }
            }
        }
        drop(guard);
        self.count_certificates_if_due(now);
        Ok(())
    }

    /// What is at rest, read if nobody has it yet. For the holder of the lock.
    async fn timetable<'a>(&self, kept: &'a mut Option<Timetable>) -> Result<&'a mut Timetable, Error> {
        let loaded = match kept.take() {
            Some(timetable) => timetable,
            None => Timetable::load(self.store.view()).await?,
        };
        Ok(kept.insert(loaded))
    }

    async fn write_last_run(&self, at: Timestamp) -> Result<(), Error> {
        let (view, name) = (self.store.view(), Name::new(config::LAST_TIDY));
        Ok(view.put_json(collection::CONFIG, &name, &LastRun { at }).await?)
    }

    /// Starts a run in the background unless one is under way; says whether it did.
    fn begin_run(self: &Arc<Self>, settings: Settings, now: Timestamp) -> bool {
        let Some(run) = self.tidy.board.begin(settings, now) else { return false };
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            let outcome = engine.tidy_all(&run).await;
            match &outcome {
                Ok(()) => tracing::info!(mount = engine.mount.uuid, "tidying has finished"),
                Err(Stop::Cancelled) => tracing::info!(mount = engine.mount.uuid, "tidying was cancelled"),
                Err(Stop::Failed(error)) => {
                    tracing::warn!(mount = engine.mount.uuid, %error, "tidying has failed");
                }
            }
            run.end(outcome);
        });
        true
    }

    /// The steps of a run.
    async fn tidy_all(&self, run: &Run) -> Result<(), Stop> {
        let settings = run.settings();
        self.note_run(run.started()).await?;
        run.go_on()?;
        if settings.tidy_cert_store || settings.tidy_invalid_certs {
            self.tidy_certificates(run).await?;
        }
        run.go_on()?;
        if settings.tidy_revoked_certs || settings.tidy_revoked_cert_issuer_associations {
            self.tidy_revocations(run).await?;
        }
        run.go_on()?;
        if settings.tidy_expired_issuers {
            self.tidy_expired_issuers(run).await?;
        }
        run.go_on()?;
        // `tidy_move_legacy_ca_bundle`: no mount here is so old that it has one.
        if settings.tidy_acme {
            self.tidy_acme(run).await?;
        }
        Ok(self.note_run(run.now()).await?)
    }

    /// Remembers that a run began or ended now, so that the next one by itself is an interval away.
    async fn note_run(&self, at: Timestamp) -> Result<(), Error> {
        let mut guard = self.tidy.timetable.lock().await;
        self.write_last_run(at).await?;
        self.tidy.board.note_last(at);
        if let Some(timetable) = guard.as_mut() {
            timetable.last = Some(at);
        }
        Ok(())
    }

    /// ACME orders that ended, and accounts and keys for bindings that nobody uses.
    async fn tidy_acme(&self, run: &Run) -> Result<(), Stop> {
        let settings = run.settings();
        let buffers =
            Buffers { order: settings.safety_buffer.0, account: settings.acme_account_safety_buffer.0 };
        let mut after = None::<Name>;
        loop {
            let mut removed = Removed::default();
            let page = self
                .tidy_acme_page(after.as_ref(), settings.page(), buffers, run.started(), &mut removed)
                .await;
            run.tally(|tally| {
                tally.acme_accounts += removed.looked_at;
                tally.acme_accounts_deleted += removed.accounts;
                tally.acme_accounts_revoked += removed.ended;
                tally.acme_orders_deleted += removed.orders;
            });
            after = page?;
            if after.is_none() {
                return Ok(());
            }
            run.pause().await?;
        }
    }
}
