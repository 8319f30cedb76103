//! Looking at proofs, in the background.
//!
//! A challenge that a client answered is a record in the collection of validations, ordered by when it is due. A job takes it
//! up at once if one is free; else, and after a restart, the tick does. Jobs are bounded for the whole process, since the
//! other side of each is a stranger who may take their time. What a job finds is durable before anybody is shown it.
//!
//! As the peer does: a proof that does not hold is looked at again, five times in all, with growing pauses.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chancery_storage::{Name, Position, StorageError, Writes};
use jiff::Timestamp;
use tokio::sync::Semaphore;

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
const JOBS: usize = 32;

static FREE: Semaphore = Semaphore::const_new(JOBS);

/// How often a proof is looked at.
const LOOKS: u32 = 5;

/// The pause after the first look; each next is as much longer.
const PAUSE: Duration = Duration::from_secs(5);

/// How long a proof counts.
const PROOF_LIFETIME: Duration = Duration::from_secs(15 * 24 * 3600);

/// Records that a tick looks at.
const PAGE: usize = 2 * JOBS;

/// What is known of validations in memory: nothing that storage does not know better.
pub(super) struct Validations {
    /// Those that a job has in hand, by the text of their names.
    in_hand: Mutex<HashSet<String>>,
    /// No record is due before this instant (milliseconds), so that a tick need not look.
    quiet_until: AtomicU64,
}

impl Validations {
    /// Storage may hold some from before a restart: the first tick looks.
    pub(super) fn new() -> Self {
        Self { in_hand: Mutex::default(), quiet_until: AtomicU64::new(0) }
    }

    /// Whether no job has anything in hand.
    #[cfg(test)]
    pub(super) fn idle(&self) -> bool {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    fn due(&self, at: Timestamp) {
        self.quiet_until.fetch_min(millis(at), Ordering::AcqRel);
    }

    fn take(&self, name: &Name) -> bool {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner).insert(name.text().to_owned())
    }

    fn put_back(&self, name: &Name) {
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner).remove(name.text());
    }
}

/// Gives a validation back, however its job ends.
struct InHand {
    pki: Arc<Pki>,
    name: Name,
}

impl Drop for InHand {
    fn drop(&mut self) {
        self.pki.acme.validations.put_back(&self.name);
    }
}

impl Pki {
    /// Looks at a proof now if a job is free; else the next tick does.
    pub(super) fn validate_soon(self: &Arc<Self>, name: Name, record: ValidationRecord, now: Timestamp) {
        let Ok(permit) = FREE.try_acquire() else {
            self.acme.validations.due(now);
            return;
        };
        if !self.acme.validations.take(&name) {
            return;
        }
        let in_hand = InHand { pki: Arc::clone(self), name };
        tokio::spawn(async move {
            let InHand { pki, name } = &in_hand;
            if let Err(error) = pki.validate(name, record, now).await {
                // It stays where it is, and is looked at again.
                pki.acme.validations.due(now);
                if error.kind != Kind::Sealed {
                    tracing::warn!(%error, "an ACME challenge could not be validated");
                }
            }
            drop(permit);
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
        let soon = now + Duration::from_secs(1);
        let found = self.mount.view.scan(collection::VALIDATIONS, Position::Start, PAGE).await;
        let found = found.inspect_err(|_| validations.due(now))?;
        if found.len() == PAGE {
            validations.due(soon);
        }
        for (name, record) in found {
            if name.order() > millis(now) {
                validations.quiet_until.fetch_min(name.order(), Ordering::AcqRel);
                break;
            }
            self.validate_soon(name, record.json()?, now);
        }
        Ok(())
    }

    /// One look at a proof.
    async fn validate(&self, name: &Name, record: ValidationRecord, now: Timestamp) -> Result<(), Error> {
        let view = &self.mount.view;
        let authorization = self.authorization_of(&record).await?;
        let token = authorization.as_ref().and_then(|stored| open_token(&stored.value, record.kind, now));
        let (Some(authorization), Some(token)) = (authorization, token) else {
            // Given up, expired or decided meanwhile.
            return Ok(view.delete(collection::VALIDATIONS, name).await?);
        };
        let outcome = self.look(&authorization.value, record.kind, &token).await?;
        self.conclude(name, &record, outcome, now).await
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
        record: &ValidationRecord,
        outcome: Result<(), Problem>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let view = &self.mount.view;
        for _ in 0..ATTEMPTS {
            let mut writes = Writes::new();
            writes.delete(view, collection::VALIDATIONS, name)?;
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
                Err(StorageError::Conflict) => {}
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
