//! How far a run is, or how the last one ended: `tidy-status` and the measurements.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use chancery_api::Ttl;
use chancery_storage::Name;
use jiff::Timestamp;
use metrics::{Counter, Gauge, Histogram};
use serde::Serialize;
use tokio::sync::Notify;

use super::count::Count;
use super::settings::{Settings, go_text};
use crate::error::Error;
use crate::measures::{counter, gauge, precise, times};

/// Why a run ends before its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// Somebody wished it.
    Cancelled,
    /// Something failed.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<chancery_storage::StorageError> for Stop {
    fn from(error: chancery_storage::StorageError) -> Self {
        Self::Failed(error.into())
    }
}

/// The run that is under way or was last; [`Run`] writes it, everybody reads it.
#[derive(Default)]
pub(super) struct Board(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Whether the run that is under way shall end.
    cancelled: AtomicBool,
    /// Wakes the run from its pause.
    wake: Notify,
    written: Mutex<Written>,
}

#[derive(Default)]
struct Written {
    run: Option<Report>,
    last: Option<Timestamp>,
}

impl Shared {
    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is known of a run.
#[derive(Debug, Clone)]
struct Report {
    settings: Settings,
    state: State,
    started: Timestamp,
    finished: Option<Timestamp>,
    progress: Progress,
    tally: Tally,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Running,
    Cancelling,
    Finished,
    Cancelled,
    Error(String),
}

/// Where a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nowhere that is worth a word.
    None,
    /// Among the certificates: this one of the page, behind so many of earlier pages.
    Certificates { index: usize, earlier: usize },
    /// Among the revoked ones: the same, and how many are on the page.
    Revoked { index: usize, length: usize, earlier: usize },
}

/// What a run did.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Tally {
    /// Certificates removed.
    pub(super) certificates: usize,
    /// Revocations forgotten.
    pub(super) revoked: usize,
    /// Revocations whose issuer was not known.
    pub(super) missing_issuers: usize,
    /// ACME accounts looked at.
    pub(super) acme_accounts: usize,
    /// ACME accounts removed.
    pub(super) acme_accounts_deleted: usize,
    /// ACME accounts revoked.
    pub(super) acme_accounts_revoked: usize,
    /// ACME orders removed.
    pub(super) acme_orders_deleted: usize,
}

impl Board {
    /// Opens the report of a run, unless one is under way.
    pub(super) fn begin(&self, settings: Settings, now: Timestamp) -> Option<Run> {
        let mut written = self.0.written();
        let under_way = |report: &Report| matches!(report.state, State::Running | State::Cancelling);
        if written.run.as_ref().is_some_and(under_way) {
            return None;
        }
        written.run = Some(Report {
            settings: settings.clone(),
            state: State::Running,
            started: now,
            finished: None,
            progress: Progress::None,
            tally: Tally::default(),
        });
        written.last = Some(now);
        self.0.cancelled.store(false, Ordering::Release);
        let measures = Measures::new();
        measures.start.set(now.as_second() as f64);
        let shared = Arc::clone(&self.0);
        Some(Run {
            shared,
            settings,
            started: now,
            clock: Instant::now(),
            measures,
            told: AtomicBool::new(false),
            ended: false,
        })
    }

    /// Asks the run that is under way to end; `false` if there is none.
    pub(super) fn cancel(&self) -> bool {
        let mut written = self.0.written();
        let Some(report) = &mut written.run else { return false };
        if report.state == State::Running {
            report.state = State::Cancelling;
            self.0.cancelled.store(true, Ordering::Release);
            self.0.wake.notify_waiters();
        }
        report.state == State::Cancelling
    }

    /// When a run began or ended last.
    pub(super) fn note_last(&self, at: Timestamp) {
        self.0.written().last = Some(at);
    }

    /// `tidy-status`
    pub(super) fn shown(&self, mount: &str, counts: Option<&Count>) -> Status {
        let written = self.0.written();
        let status = Status {
            current_cert_store_count: counts.map(|count| count.certificates),
            current_revoked_cert_count: counts.map(|count| count.revoked),
            certificate_counting_error: counts.and_then(|count| count.error.clone()),
            internal_backend_uuid: mount.to_owned(),
            state: "Inactive",
            ..Status::default()
        };
        match &written.run {
            Some(report) => status.with(report, written.last),
            None => status,
        }
    }
}

/// A run, in the hands of who does it.
pub(super) struct Run {
    shared: Arc<Shared>,
    settings: Settings,
    started: Timestamp,
    clock: Instant,
    measures: Measures,
    /// Whether the log knows of a revocation that cannot be read.
    told: AtomicBool,
    ended: bool,
}

impl Run {
    /// What is to be done.
    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// When it began; what is judged is judged as of then.
    pub(super) fn started(&self) -> Timestamp {
        self.started
    }

    /// The present, by the time that went by since the beginning.
    pub(super) fn now(&self) -> Timestamp {
        self.started.checked_add(self.clock.elapsed()).unwrap_or(Timestamp::MAX)
    }

    /// What is measured of it.
    pub(super) fn measures(&self) -> &Measures {
        &self.measures
    }

    /// An error if the run shall end.
    pub(super) fn go_on(&self) -> Result<(), Stop> {
        if self.shared.cancelled.load(Ordering::Acquire) { Err(Stop::Cancelled) } else { Ok(()) }
    }

    /// Says where the run is.
    pub(super) fn progress(&self, progress: Progress) {
        if let Some(report) = &mut self.shared.written().run {
            report.progress = progress;
        }
    }

    /// Takes the pause that was asked for. An error if the run shall end, at once if somebody wishes it meanwhile.
    pub(super) async fn pause(&self) -> Result<(), Stop> {
        if !self.settings.pause_duration.is_zero() {
            // Whoever cancels from now on wakes this.
            let cancelled = self.shared.wake.notified();
            self.go_on()?;
            tokio::select! {
                () = cancelled => {}
                () = tokio::time::sleep(self.settings.pause_duration) => {}
            }
        }
        self.go_on()
    }

    /// A revocation, if it could be read. The log hears of the first one of a run that could not.
    pub(super) fn readable<T>(&self, read: Result<T, Error>, name: &Name) -> Option<T> {
        match read {
            Ok(value) => Some(value),
            Err(error) => {
                if !self.told.swap(true, Ordering::AcqRel) {
                    let serial = name.text();
                    tracing::warn!(serial, %error, "a stored revocation cannot be read and is left alone");
                }
                None
            }
        }
    }

    /// Adds to what was done.
    pub(super) fn tally(&self, add: impl FnOnce(&mut Tally)) {
        if let Some(report) = &mut self.shared.written().run {
            add(&mut report.tally);
        }
    }

    /// Closes the report.
    pub(super) fn end(mut self, outcome: Result<(), Stop>) {
        let state = match outcome {
            Ok(()) => State::Finished,
            Err(Stop::Cancelled) => State::Cancelled,
            Err(Stop::Failed(error)) => State::Error(error.to_string()),
        };
        self.close(state);
    }

    fn close(&mut self, state: State) {
        self.ended = true;
        let now = self.now();
        if let Some(report) = &mut self.shared.written().run {
            let Tally { certificates, revoked, .. } = report.tally;
            self.measures.ended(state == State::Finished, self.clock, certificates, revoked);
            report.state = state;
            report.finished = Some(now);
        }
    }
}

/// A run that is dropped on its way, by a panic or with the runtime, is not under way any more.
impl Drop for Run {
    fn drop(&mut self) {
        if !self.ended {
            self.close(State::Error("the run was broken off".to_owned()));
        }
    }
}

/// What is measured of runs, of all mounts together as the peer has it.
pub(super) struct Measures {
    start: Gauge,
    duration: Histogram,
    success: Counter,
    failure: Counter,
    certificates_deleted: Counter,
    revoked_deleted: Counter,
    /// The certificate that is looked at.
    pub(super) certificate: Gauge,
    certificates: Gauge,
    certificates_left: Gauge,
    /// The revocation that is looked at.
    pub(super) revocation: Gauge,
    revocations: Gauge,
    revocations_left: Gauge,
    missing_issuers: Gauge,
    found_issuers: Gauge,
}

impl Measures {
    fn new() -> Self {
        Self {
            start: gauge("secrets.pki.tidy.start_time_epoch", "When the run that is under way began"),
            duration: times("secrets.pki.tidy.duration", "Time that runs took"),
            success: counter("secrets.pki.tidy.success", "Runs that finished"),
            failure: counter("secrets.pki.tidy.failure", "Runs that failed or were cancelled"),
            certificates_deleted: counter(
                "secrets.pki.tidy.cert_store_deleted_count",
                "Certificates that were removed",
            ),
            revoked_deleted: counter(
                "secrets.pki.tidy.revoked_cert_deleted_count",
                "Revocations that were forgotten",
            ),
            certificate: gauge(
                "secrets.pki.tidy.cert_store_current_entry",
                "The certificate that is looked at",
            ),
            certificates: gauge("secrets.pki.tidy.cert_store_total_entries", "Certificates looked at"),
            certificates_left: gauge(
                "secrets.pki.tidy.cert_store_total_entries_remaining",
                "Certificates left behind",
            ),
            revocation: gauge(
                "secrets.pki.tidy.revoked_cert_current_entry",
                "The revocation that is looked at",
            ),
            revocations: gauge("secrets.pki.tidy.revoked_cert_total_entries", "Revocations looked at"),
            revocations_left: gauge(
                "secrets.pki.tidy.revoked_cert_total_entries_remaining",
                "Revocations left behind",
            ),
            missing_issuers: gauge(
                "secrets.pki.tidy.revoked_cert_entries_incorrect_issuers",
                "Revocations whose issuer was not known",
            ),
            found_issuers: gauge(
                "secrets.pki.tidy.revoked_cert_entries_fixed_issuers",
                "Revocations whose issuer was found",
            ),
        }
    }

    fn ended(&self, success: bool, clock: Instant, certificates: usize, revoked: usize) {
        self.duration.record(clock.elapsed().as_secs_f64() * 1000.0);
        self.start.set(0.0);
        self.certificates_deleted.increment(certificates as u64);
        self.revoked_deleted.increment(revoked as u64);
        if success { self.success.increment(1) } else { self.failure.increment(1) }
    }

    /// The certificates were walked through.
    pub(super) fn walked(&self, seen: usize, removed: usize) {
        self.certificates.set(precise(seen));
        self.certificates_left.set(precise(seen.saturating_sub(removed)));
    }

    /// The revocations were walked through.
    pub(super) fn walked_revocations(&self, seen: usize, forgotten: usize, missing: usize, found: usize) {
        self.revocations.set(precise(seen));
        self.revocations_left.set(precise(seen.saturating_sub(forgotten)));
        self.missing_issuers.set(precise(missing));
        self.found_issuers.set(precise(found));
    }
}

/// `tidy-status` as it is answered: null where nothing ran since the start.
#[derive(Default, Serialize)]
pub(super) struct Status {
    acme_account_deleted_count: Option<usize>,
    acme_account_revoked_count: Option<usize>,
    acme_account_safety_buffer: Option<Ttl>,
    acme_orders_deleted_count: Option<usize>,
    cert_store_deleted_count: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_counting_error: Option<String>,
    current_cert_store_count: Option<u64>,
    current_revoked_cert_count: Option<u64>,
    error: Option<String>,
    internal_backend_uuid: String,
    issuer_safety_buffer: Option<Ttl>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_auto_tidy_finished: Option<Timestamp>,
    message: Option<String>,
    missing_issuer_cert_count: Option<usize>,
    page_size: Option<i64>,
    pause_duration: Option<String>,
    revoked_cert_deleted_count: Option<usize>,
    revoked_safety_buffer: Option<Ttl>,
    safety_buffer: Option<Ttl>,
    state: &'static str,
    tidy_acme: Option<bool>,
    tidy_cert_store: Option<bool>,
    tidy_expired_issuers: Option<bool>,
    tidy_invalid_certs: Option<bool>,
    tidy_move_legacy_ca_bundle: Option<bool>,
    tidy_revoked_cert_issuer_associations: Option<bool>,
    tidy_revoked_certs: Option<bool>,
    time_finished: Option<Timestamp>,
    time_started: Option<Timestamp>,
    total_acme_account_count: Option<usize>,
}

impl Status {
    fn with(self, report: &Report, last: Option<Timestamp>) -> Self {
        let Report { settings, state, started, finished, progress, tally } = report;
        let (word, error) = match state {
            State::Running => ("Running", None),
            State::Cancelling => ("Cancelling", None),
            State::Finished => ("Finished", None),
            State::Cancelled => ("Cancelled", None),
            State::Error(error) => ("Error", Some(error.clone())),
        };
        // A run that failed or was cancelled says where; one that is through has nothing to say.
        let message = (*state != State::Finished).then(|| progress.message(settings.page_size)).flatten();
        Self {
            acme_account_deleted_count: Some(tally.acme_accounts_deleted),
            acme_account_revoked_count: Some(tally.acme_accounts_revoked),
            acme_account_safety_buffer: Some(settings.acme_account_safety_buffer),
            acme_orders_deleted_count: Some(tally.acme_orders_deleted),
            cert_store_deleted_count: Some(tally.certificates),
            error,
            issuer_safety_buffer: Some(settings.issuer_safety_buffer),
            last_auto_tidy_finished: last,
            message,
            missing_issuer_cert_count: Some(tally.missing_issuers),
            page_size: Some(settings.page_size),
            pause_duration: Some(go_text(settings.pause_duration)),
            revoked_cert_deleted_count: Some(tally.revoked),
            revoked_safety_buffer: Some(settings.revoked_safety_buffer()),
            safety_buffer: Some(settings.safety_buffer),
            state: word,
            tidy_acme: Some(settings.tidy_acme),
            tidy_cert_store: Some(settings.tidy_cert_store),
            tidy_expired_issuers: Some(settings.tidy_expired_issuers),
            tidy_invalid_certs: Some(settings.tidy_invalid_certs),
            tidy_move_legacy_ca_bundle: Some(settings.tidy_move_legacy_ca_bundle),
            tidy_revoked_cert_issuer_associations: Some(settings.tidy_revoked_cert_issuer_associations),
            tidy_revoked_certs: Some(settings.tidy_revoked_certs),
            time_finished: *finished,
            time_started: Some(*started),
            total_acme_account_count: Some(tally.acme_accounts),
            ..self
        }
    }
}

impl Progress {
    fn message(self, page_size: i64) -> Option<String> {
        match self {
            Self::None => None,
            Self::Certificates { index, earlier } => Some(format!(
                "Tidying certificate store: checking entry {index} of {page_size} on current page; total certs checked: {}",
                earlier + index
            )),
            Self::Revoked { index, length, earlier } => Some(format!(
                "Tidying revoked certificates: checking certificate {index} of {length} on current page; total revoked certs checked: {}",
                earlier + index
            )),
        }
    }
}
