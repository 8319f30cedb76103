//! Looking at proofs, in the background.
//!
//! A challenge that a client answered is a record in the collection of validations, ordered by when it is due. A job takes it
//! up at once if one is free; else, and after a restart, the tick does. What a job finds is durable before anybody is shown it.
//!
//! The other side of each job is a stranger who may take their time, so that jobs are bounded: for the process, for each
//! mount, and for each account, so that none of them keeps the others from theirs. What waits is bounded for each account
//! too. The tick goes on where the last one stopped: those who come first do not come first again until everybody had a turn.
//!
//! As the peer does: a proof that does not hold is looked at again, five times in all, with growing pauses, each counted from
//! the end of a look.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chancery_storage::{Name, Position, StorageError, Writes};
use jiff::Timestamp;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::super::Pki;
use super::jws::Jwk;
use super::problem::{Problem, ProblemKind};
use super::proof::KeyAuthorization;
use super::records::{
    ATTEMPTS, AccountStatus, AuthorizationRecord, AuthorizationStatus, ChallengeKind, ChallengeStatus,
    Stored, ValidationRecord, collection, millis, name_of, put_changed, read,
};
use crate::error::{Error, Kind};

/// Jobs at a time, for the whole process.
const JOBS: usize = 128;

static FREE: Semaphore = Semaphore::const_new(JOBS);

/// Jobs at a time for a mount, and those of them that are kept for accounts which have none.
const MOUNT_JOBS: usize = 16;
const RESERVED: usize = 4;

/// Jobs at a time for an account.
const ACCOUNT_JOBS: usize = 4;

/// Challenges of an account that are being looked at or wait for it: those of the largest order, since clients answer all
/// that an order has at once.
pub(super) const MOST_PROCESSING: usize = super::order::MOST_IDENTIFIERS;

/// How often a proof is looked at.
const LOOKS: u32 = 5;

/// The pause after the first look; each next is as much longer.
const PAUSE: Duration = Duration::from_secs(5);

/// How long a proof counts.
const PROOF_LIFETIME: Duration = Duration::from_secs(15 * 24 * 3600);

/// Records that a tick reads at a time, and how often it reads.
const PAGE: usize = 64;
const PAGES: usize = 4;

/// What is known of validations in memory: nothing that storage does not know better.
pub(super) struct Validations {
    /// Those that a job has in hand, by the text of their names, and whose they are.
    in_hand: Mutex<HashMap<String, String>>,
    /// No record is due before this instant (milliseconds), so that a tick need not look.
    quiet_until: AtomicU64,
    /// Where the next tick goes on; at the beginning, if nowhere.
    resume: Mutex<Option<Name>>,
    /// Whether the log knows of a record that cannot be read.
    told: AtomicBool,
}

impl Validations {
    /// Storage may hold some from before a restart: the first tick looks.
    pub(super) fn new() -> Self {
        Self {
            in_hand: Mutex::default(),
            quiet_until: AtomicU64::new(0),
            resume: Mutex::default(),
            told: AtomicBool::new(false),
        }
    }

    /// Whether no job has anything in hand.
    #[cfg(test)]
    pub(super) fn idle(&self) -> bool {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// How many jobs there are.
    #[cfg(test)]
    pub(super) fn jobs(&self) -> usize {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Says that a record is due at this instant, or may be.
    pub(super) fn due(&self, at: Timestamp) {
        self.quiet_until.fetch_min(millis(at), Ordering::AcqRel);
    }

    /// Takes a validation in hand, unless a job has it or the account or the mount has its share.
    fn take(&self, name: &Name, account: &str) -> bool {
        let mut in_hand = self.in_hand.lock().unwrap_or_else(PoisonError::into_inner);
        let own = in_hand.values().filter(|other| *other == account).count();
        let share = if own == 0 { MOUNT_JOBS } else { MOUNT_JOBS - RESERVED };
        if own >= ACCOUNT_JOBS || in_hand.len() >= share || in_hand.contains_key(name.text()) {
            return false;
        }
        in_hand.insert(name.text().to_owned(), account.to_owned());
        true
    }

    /// Whether the mount has its share.
    fn is_full(&self) -> bool {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner).len() >= MOUNT_JOBS
    }

    /// What was not taken because of this one is looked for again.
    fn put_back(&self, name: &Name) {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner).remove(name.text());
        self.quiet_until.store(0, Ordering::Release);
    }

    fn resume(&self) -> MutexGuard<'_, Option<Name>> {
        self.resume.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives a validation back, however its job ends.
struct InHand {
    pki: Arc<Pki>,
    name: Name,
    _permit: SemaphorePermit<'static>,
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.pki.acme.validations.put_back(&self.name);
    }
}

impl Pki {
    /// Looks at a proof now if a job is free; else the next tick does.
    pub(super) fn validate_soon(self: &Arc<Self>, name: Name, account: &str, now: Timestamp) {
        let Ok(permit) = FREE.try_acquire() else {
            self.acme.validations.due(now);
            return;
        };
        if !self.acme.validations.take(&name, account) {
            // Whoever is in the way says so when it goes.
            return;
        }
        let in_hand = InHand { pki: Arc::clone(self), name, _permit: permit };
        tokio::spawn(async move {
            let InHand { pki, name, .. } = &in_hand;
            if let Err(error) = pki.validate(name, now).await {
                // It stays where it is, and is looked at again.
                if error.kind != Kind::Sealed {
                    tracing::warn!(%error, "an ACME challenge could not be validated");
                }
            }
        });
    }

    /// Takes up what is due: retries, and what a restart or a busy moment left behind.
    pub(in super::super) async fn take_up_validations(self: &Arc<Self>, now: Timestamp) -> Result<(), Error> {
        let validations = &self.acme.validations;
        if millis(now) < validations.quiet_until.load(Ordering::Acquire) {
            return Ok(());
        }
        // Before reading: what comes later says so itself.
        validations.quiet_until.store(u64::MAX, Ordering::Release);
        let mut after = validations.resume().take();
        if after.is_some() {
            // What lies before is looked at by the next one.
            validations.due(now);
        }
        for _ in 0..PAGES {
            let from = after.as_ref().map_or(Position::Start, Position::After);
            let found = self.mount.view.scan(collection::VALIDATIONS, from, PAGE).await;
            let found = found.inspect_err(|_| validations.due(now))?;
            let full = found.len() == PAGE;
            for (name, record) in found {
                if name.order() > millis(now) {
                    validations.quiet_until.fetch_min(name.order(), Ordering::AcqRel);
                    return Ok(());
                }
                if validations.is_full() {
                    // Whoever is done wakes the next one.
                    *validations.resume() = after;
                    return Ok(());
                }
                match record.json::<ValidationRecord>() {
                    Ok(record) => self.validate_soon(name.clone(), &record.account, now),
                    Err(error) if !validations.told.swap(true, Ordering::AcqRel) => {
                        tracing::warn!(name = name.text(), %error, "a stored ACME validation cannot be read");
                    }
                    Err(_) => {}
                }
                after = Some(name);
            }
            if !full {
                return Ok(());
            }
        }
        validations.due(now);
        *validations.resume() = after;
        Ok(())
    }

    /// One look at a proof.
    pub(super) async fn validate(&self, name: &Name, now: Timestamp) -> Result<(), Error> {
        let Some(validation) = self.validation(name).await? else { return Ok(()) };
        let record = &validation.value;
        let authorization = self.authorization_of(record).await?;
        let token = authorization.as_ref().and_then(|stored| open_token(&stored.value, record.kind, now));
        let (Some(authorization), Some(token)) = (authorization, token) else {
            // Given up, expired or decided meanwhile.
            let mut writes = Writes::new();
            self.end_validation(name, &validation, &mut writes)?;
            return Ok(self.mount.view.commit(writes).await?);
        };
        let clock = Instant::now();
        let outcome = self.look(&authorization.value, record.kind, &token).await?;
        // In whole seconds, as the pauses are.
        let ended = now + Duration::from_secs(clock.elapsed().as_secs());
        self.conclude(name, validation, outcome, ended).await
    }

    async fn validation(&self, name: &Name) -> Result<Option<Stored<ValidationRecord>>, Error> {
        read(&self.mount.view, collection::VALIDATIONS, name).await
    }

    /// Puts a validation's end into the batch, which fails if somebody else ended it.
    fn end_validation(
        &self,
        name: &Name,
        validation: &Stored<ValidationRecord>,
        writes: &mut Writes,
    ) -> Result<(), Error> {
        let view = &self.mount.view;
        writes.expect_unchanged(view, collection::VALIDATIONS, name, &validation.version)?;
        writes.delete(view, collection::VALIDATIONS, name)?;
        let record = &validation.value;
        writes.delete(view, &collection::validations_of(&record.account), &record.place())?;
        Ok(())
    }

    /// Asks the outside world, and judges what comes back.
    async fn look(
        &self,
        authorization: &AuthorizationRecord,
        kind: ChallengeKind,
        token: &str,
    ) -> Result<Result<(), Problem>, Error> {
        let account = self.account(&authorization.account).await?;
        let Some(account) = account.filter(|account| account.value.status == AccountStatus::Valid) else {
            return Ok(Err(Problem::new(ProblemKind::Unauthorized, "the account is not valid any more")));
        };
        let key = Jwk::parse(account.value.jwk.as_bytes())
            .map_err(|problem| Error::internal("a stored account key does not parse", problem.detail))?;
        let proof = KeyAuthorization::new(token, &key.thumbprint());
        let resolver = self.acme_config().await?.resolver();
        let (prober, identifier) = (&self.mount.prober, &authorization.identifier);
        let (host, name) = (identifier.host(), identifier.text());
        Ok(match kind {
            ChallengeKind::Http01 => match prober.http(&host, token, resolver).await {
                Ok(body) => proof.check_body(&body),
                Err(error) => Err(error.into()),
            },
            ChallengeKind::Dns01 => match prober.texts(&format!("_acme-challenge.{name}"), resolver).await {
                Ok(texts) => proof.check_texts(&texts),
                Err(error) => Err(error.into()),
            },
            ChallengeKind::TlsAlpn01 => match prober.tls(&host, resolver).await {
                Ok(presented) => proof.check_certificate(&name, &presented),
                Err(error) => Err(error.into()),
            },
        })
    }

    /// Writes down what was found: in the authorization, and what becomes of the validation.
    async fn conclude(
        &self,
        name: &Name,
        validation: Stored<ValidationRecord>,
        outcome: Result<(), Problem>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let view = &self.mount.view;
        let record = &validation.value;
        for _ in 0..ATTEMPTS {
            let mut writes = Writes::new();
            self.end_validation(name, &validation, &mut writes)?;
            let mut next = None;
            if let Some(mut stored) = self.authorization_of(record).await?
                && open_token(&stored.value, record.kind, now).is_some()
            {
                let again =
                    ValidationRecord { attempts: record.attempts.saturating_add(1), ..record.clone() };
                let due = now + PAUSE * again.attempts;
                let retries = outcome.is_err() && again.attempts < LOOKS;
                apply(&mut stored.value, record.kind, &outcome, retries, now);
                if retries {
                    writes.put_json(view, collection::VALIDATIONS, &again.name(due), &again)?;
                    writes.put(view, &collection::validations_of(&again.account), &again.place(), &[])?;
                    next = Some(due);
                }
                let place = name_of(&stored.value.id);
                put_changed(&mut writes, view, collection::AUTHORIZATIONS, &place, &stored)?;
            }
            match view.commit(writes).await {
                Ok(()) => {
                    if let Some(due) = next {
                        self.acme.validations.due(due);
                    }
                    return Ok(());
                }
                Err(StorageError::Conflict) => {
                    let present = self.validation(name).await?;
                    if present.is_none_or(|present| present.version != validation.version) {
                        // It was concluded by another look, of whose outcome this one is a copy.
                        return Ok(());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Error::of(Kind::Busy, "an authorization is being changed by too many"))
    }

    async fn authorization_of(
        &self,
        record: &ValidationRecord,
    ) -> Result<Option<Stored<AuthorizationRecord>>, Error> {
        read(&self.mount.view, collection::AUTHORIZATIONS, &name_of(&record.authorization)).await
    }
}

/// The token of a challenge that still waits to be looked at.
fn open_token(authorization: &AuthorizationRecord, kind: ChallengeKind, now: Timestamp) -> Option<String> {
    if authorization.status_at(now) != AuthorizationStatus::Pending {
        return None;
    }
    let challenge = authorization.challenges.iter().find(|challenge| challenge.kind == kind)?;
    (challenge.status == ChallengeStatus::Processing).then(|| challenge.token.clone())
}

/// What a look means for an authorization (RFC 8555, 7.1.6).
fn apply(
    authorization: &mut AuthorizationRecord,
    kind: ChallengeKind,
    outcome: &Result<(), Problem>,
    retries: bool,
    now: Timestamp,
) {
    let Some(challenge) = authorization.challenge_mut(kind) else { return };
    match outcome {
        Ok(()) => {
            challenge.status = ChallengeStatus::Valid;
            challenge.validated = Some(now);
            challenge.error = None;
            authorization.status = AuthorizationStatus::Valid;
            authorization.expires = now + PROOF_LIFETIME;
        }
        Err(problem) => {
            challenge.error = Some(problem.clone());
            if !retries {
                challenge.status = ChallengeStatus::Invalid;
                authorization.status = AuthorizationStatus::Invalid;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_and_a_mount_have_their_shares_and_those_who_have_nothing_go_first() {
        let validations = Validations::new();
        let mut number = 0;
        let mut take = |account: &str| {
            number += 1;
            validations.take(&Name::new(format!("{number}")), account)
        };
        for account in ["a", "b", "c"] {
            let taken = (0..10).filter(|_| take(account)).count();
            assert_eq!(taken, ACCOUNT_JOBS, "{account}");
        }
        let taken = (0..10).filter(|_| take("d")).count();
        assert_eq!(taken, 1, "the rest is kept for those who have nothing");
        assert!(take("e") && take("f") && take("g"));
        assert!(!take("h"));
        assert!(!validations.take(&Name::new("1"), "h"), "nothing is in two hands");
        validations.put_back(&Name::new("1"));
        assert!(take("h"));
    }
}
