//! Whether there is anything to do for a Certificate, from what the cache holds: nothing is read or written for those that
//! are as they should be.

use std::sync::Arc;
use std::time::Duration;

use chancery_kubernetes::cert_manager::{
    Certificate, CertificateStatus, ConditionStatus, ISSUING, READY, Time, condition, is_true,
};
use jiff::Timestamp;

use super::policy::{self, Current, Evidence, Finding, UNSUPPORTED};
use super::request::{self, Outcome};
use super::{matching, renewal, secret};
use crate::Next;
use crate::cache::{RequestFacts, SecretFacts};
use crate::settings::Settings;

/// When a Certificate whose Secret is another's is looked at again.
pub(super) const NOT_OWNER: Duration = Duration::from_secs(180);

/// What the cache holds for one Certificate.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) certificate: &'a Certificate,
    pub(super) secret: Option<&'a SecretFacts>,
    /// The requests that it controls.
    pub(super) requests: &'a [Arc<RequestFacts>],
    /// Secrets with keys of its issuances.
    pub(super) keys: &'a [Arc<SecretFacts>],
    /// Whether it may write its Secret.
    pub(super) is_owner: bool,
    pub(super) settings: &'a Settings,
    pub(super) now: Timestamp,
}

/// How many requests of past issuances are kept.
pub(super) fn history_limit(certificate: &Certificate) -> usize {
    certificate.spec.revision_history_limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(1).max(1)
}

/// When a Certificate changes by itself: it is to be renewed, or it ends.
pub(super) fn wakes(status: &CertificateStatus, now: Timestamp) -> Next {
    let times = [status.renewal_time, status.not_after].into_iter().flatten();
    let ahead = times.map(|time| time.0.as_second() - now.as_second()).filter(|ahead| *ahead >= 0).min();
    match ahead.and_then(|ahead| u64::try_from(ahead).ok()) {
        // A second later it is past for certain.
        Some(ahead) => Next::After(Duration::from_secs(ahead + 1)),
        None => Next::Done,
    }
}

/// How long until then; at least a second, so that nothing spins.
pub(super) fn until(then: Timestamp, now: Timestamp) -> Duration {
    let ahead = then.as_second() - now.as_second();
    Duration::from_secs(u64::try_from(ahead).unwrap_or(0).max(1))
}

/// Dates of the certificate in the Secret, and when it is renewed.
pub(super) fn dates(
    certificate: &Certificate,
    secret: Option<&SecretFacts>,
) -> (Option<Time>, Option<Time>, Option<Time>) {
    let Some(found) = secret.and_then(|secret| secret.certificate.as_ref()) else {
        return (None, None, None);
    };
    let due = renewal::renewal_time(found.not_before, found.not_after, &certificate.spec);
    (Some(Time::new(found.not_before)), Some(Time::new(found.not_after)), due.map(Time::new))
}

/// When a failed issuance is tried again; `None`: at once.
pub(super) fn retry_at(
    certificate: &Certificate,
    secret: Option<&SecretFacts>,
    is_next_outdated: bool,
    settings: &Settings,
    now: Timestamp,
) -> Option<Timestamp> {
    let status = certificate.status.as_ref()?;
    let failed = condition(&status.conditions, ISSUING);
    let is_edited = failed.is_some_and(|failed| {
        failed.observed_generation.is_some() && failed.observed_generation != certificate.metadata.generation
    });
    // By a clock that was ahead: who knows how long ago that is.
    let is_ahead = status.last_failure_time.is_some_and(|failed| failed.0 > now);
    if is_next_outdated || is_edited || is_ahead {
        return None;
    }
    let end = secret.and_then(|secret| secret.certificate.as_ref()).map(|found| found.not_after);
    renewal::retry_time(status, end, settings.backoff_min, settings.backoff_max)
}

impl View<'_> {
    /// When to look again, if there is nothing to do now; `None`: there is something.
    pub(super) fn is_quiet(&self) -> Option<Next> {
        let Self { certificate, secret, .. } = self;
        let default = CertificateStatus::default();
        let status = certificate.status.as_ref().unwrap_or(&default);
        let current = self.of_revision(status.revision.unwrap_or(0)).map(|found| Current {
            public_key: found.public_key,
            violations: matching::kept_violations(&certificate.spec, found),
        });
        let evidence = Evidence {
            name: certificate.metadata.name.as_deref().unwrap_or_default(),
            spec: &certificate.spec,
            status,
            secret: *secret,
            current: current.as_ref(),
            now: self.now,
        };
        if !self.tells(status, evidence.is_unready().as_ref()) {
            return None;
        }
        if is_true(&status.conditions, ISSUING) {
            return if self.is_owner { self.is_waiting(status) } else { Some(Next::After(NOT_OWNER)) };
        }
        if !self.keys.is_empty() || status.next_private_key_secret_name.is_some() {
            return None;
        }
        if evidence.must_issue().is_some() {
            return self.is_held(status);
        }
        let keeps =
            secret.is_some_and(|secret| secret::is_kept(certificate, secret, self.settings.owner_references));
        let is_pruned =
            self.requests.iter().filter(|one| one.revision.is_some()).count() <= history_limit(certificate);
        (keeps && is_pruned).then(|| wakes(status, self.now))
    }

    fn of_revision(&self, revision: i32) -> Option<&RequestFacts> {
        let revision = u32::try_from(revision).ok().filter(|revision| *revision > 0)?;
        self.requests.iter().find(|one| one.revision == Some(revision)).map(Arc::as_ref)
    }

    /// Whether the status says what is.
    fn tells(&self, status: &CertificateStatus, unready: Option<&Finding>) -> bool {
        let Some(ready) = condition(&status.conditions, READY) else { return false };
        let reason = unready.map_or("Ready", |finding| finding.reason);
        let is_told = ready.status == ConditionStatus::from(unready.is_none())
            && (ready.reason == reason || (unready.is_some() && ready.reason == UNSUPPORTED))
            && ready.observed_generation == self.certificate.metadata.generation;
        is_told
            && dates(self.certificate, self.secret)
                == (status.not_before, status.not_after, status.renewal_time)
    }

    /// An issuance is under way, and the next step is somebody else's.
    fn is_waiting(&self, status: &CertificateStatus) -> Option<Next> {
        let spec = &self.certificate.spec;
        if policy::unsupported(spec).is_some() {
            return None;
        }
        let name = status.next_private_key_secret_name.as_ref()?;
        let key = self.keys.iter().find(|secret| secret.key.name == *name)?;
        if !policy::key_violations(spec, key.private_key_spec?).is_empty() {
            return None;
        }
        if self.requests.iter().any(|one| one.revision.is_none()) {
            return None;
        }
        let next = self.of_revision(status.revision.unwrap_or(0) + 1)?;
        let is_good = !next.is_deleting
            && next.public_key == key.private_key
            && matching::kept_violations(spec, next).is_empty();
        (is_good && request::outcome(next) == Outcome::Waiting).then_some(Next::Done)
    }

    /// It must be issued, but not now.
    fn is_held(&self, status: &CertificateStatus) -> Option<Next> {
        if let Some(refused) = policy::unsupported(&self.certificate.spec) {
            let told = condition(&status.conditions, ISSUING)?;
            return (told.reason == UNSUPPORTED && told.message == refused.message).then_some(Next::Done);
        }
        if !self.is_owner {
            return Some(Next::After(NOT_OWNER));
        }
        let next = self.of_revision(status.revision.unwrap_or(0) + 1);
        let is_outdated =
            next.is_some_and(|next| !matching::kept_violations(&self.certificate.spec, next).is_empty());
        let at = retry_at(self.certificate, self.secret, is_outdated, self.settings, self.now)?;
        (self.now < at).then(|| Next::After(until(at, self.now)))
    }
}
