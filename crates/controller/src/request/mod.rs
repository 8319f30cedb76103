//! CertificateRequests: approved, signed, answered.
//!
//! `policy.rs` says what is to be done; here it is done: at most one signature and one write of the status, which approves,
//! answers, and ends the request. `under_way.rs` remembers what was done and cannot be seen yet, so that neither a lagging
//! watch nor a write that failed has anything signed twice.
//!
//! Leadership may be lost while an issuer signs. Then the work is dropped, and its answer with it; and should a write be under
//! way already, it carries the version and the UID of what was read: where the next leader has written, it is refused, what
//! is there is read, and the answer is dropped (`docs/adr/0023`).

mod object;
mod policy;
mod under_way;

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use chancery_issuance::{Certificate, KeyPolicy, VerifiedCsr};
use chancery_kubernetes::cert_manager::{
    APPROVED, Bytes, CertificateRequest, CertificateRequestStatus, Condition, READY, Time, set_condition,
};
use chancery_kubernetes::events::EventType;
use chancery_kubernetes::{ApiError, Pauses, optional, request};
use kube::api::{ListParams, PostParams};
use kube::core::Request;
use kube::{Api, Resource};
use tokio::time::{Instant, sleep};

use self::object::{Object, Written};
use self::policy::{Decision, Ignored, Mandate, Missing, decide};
pub use self::under_way::UnderWay;
use self::under_way::{Answer, Event, View};
use crate::context::Context;
use crate::issuer::{IssuerKey, Order, Sign, SignError};
use crate::{Error, Key, Next};

/// What an issuer asks to be left alone, at least: an issuer that says "at once" is not asked without end.
/// And at most: no clock is asked for a time that it cannot show.
const BREATH: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(86_400);

/// How long after an attempt that nobody said when to repeat: should what it waits for have come unnoticed, it goes on.
const AT_LAST: Duration = Duration::from_secs(300);

/// What an API server asks to be left alone, at most.
const LONGEST: Duration = Duration::from_secs(60);

/// Pauses while the API server cannot be asked.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// How often others may be quicker before it is left for later.
const CONFLICTS: u32 = 5;

/// Brings one a step further. It can be repeated at any time.
pub(crate) async fn reconcile(context: &Context, key: Key) -> Result<Next, Error> {
    Reconciler { context, signer: &*context.issuers }.reconcile(&key).await
}

/// Called whenever this replica begins to lead, before anything is worked on.
///
/// The watch of this replica may lag behind the last writes of the leader before it, and show requests as unsigned that are
/// signed. So the API server is asked once for the version at which it stands: of requests that are known at no later version
/// each is read once before it is signed, and none that is made or changed afterwards. That is one list of one object, and a
/// read for each request that was left unsigned; a list of all would be of ten thousands that are signed.
pub(crate) async fn begin_to_lead(context: &Context) {
    let client = context.client.clone();
    let api: Api<CertificateRequest> = match context.settings.namespaces.first() {
        // Versions are those of all objects of a kind, in whatever namespace.
        Some(namespace) => Api::namespaced(client, namespace),
        None => Api::all(client),
    };
    // No version is asked for: that is the newest, and no replica's that lags.
    let newest = ListParams::default().limit(1);
    let mut pauses = Pauses::new(PAUSES.0, PAUSES.1);
    loop {
        match request(api.list_metadata(&newest)).await {
            Ok(list) => {
                let version = list.metadata.resource_version.unwrap_or_default();
                return context.cache.requests_under_way.begin_to_lead(&version);
            }
            Err(error) => {
                tracing::warn!(%error, "CertificateRequests cannot be listed; nothing is done before they can");
                sleep(pauses.pause()).await;
            }
        }
    }
}

struct Reconciler<'a> {
    context: &'a Context,
    signer: &'a dyn Sign,
}

/// What became of an attempt.
enum Step {
    /// It is brought as far as it can be.
    Settled(Next),
    /// What the cache has is not enough.
    Read,
}

impl Reconciler<'_> {
    async fn reconcile(&self, key: &Key) -> Result<Next, Error> {
        let Some(facts) = self.context.cache.requests.get(key) else {
            self.under_way().forget(key);
            return Ok(Next::Done);
        };
        let object = match self.under_way().view(&facts, Instant::now()) {
            View::Cached => Some(Object::cached(&facts)),
            View::Stale(pause) => return Ok(Next::After(pause)),
            View::Unknown => None,
        };
        match self.bring(key, object).await {
            Ok(next) => Ok(next),
            Err(error) if error.is_transient() || error.is_conflict() => {
                let (pause, is_first) = self.under_way().pause(key, &facts.uid);
                let pause = pause.max(retry_after(&error));
                if is_first {
                    tracing::warn!(certificate_request = %key, %error, "it is tried again");
                } else {
                    tracing::debug!(certificate_request = %key, %error, "it is tried again");
                }
                Ok(Next::After(pause))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Decides and acts; where another writer was quicker, it reads and decides again.
    async fn bring(&self, key: &Key, mut object: Option<Object>) -> Result<Next, ApiError> {
        let mut conflicts = 0;
        loop {
            let current = match object.take() {
                Some(object) => object,
                None => match self.read(key).await? {
                    Some(object) => object,
                    None => break,
                },
            };
            match self.step(&current).await {
                Ok(Step::Settled(next)) => return Ok(next),
                Ok(Step::Read) => {}
                Err(error) if error.is_not_found() => break,
                Err(error) if error.is_conflict() && conflicts < CONFLICTS => conflicts += 1,
                Err(error) => return Err(error),
            }
        }
        // Deleted meanwhile: whoever asked is served, or does not want it any more.
        self.under_way().forget(key);
        Ok(Next::Done)
    }

    async fn read(&self, key: &Key) -> Result<Option<Object>, ApiError> {
        let api: Api<CertificateRequest> = Api::namespaced(self.context.client.clone(), &key.namespace);
        let Some(found) = optional(api.get(&key.name)).await? else { return Ok(None) };
        let object = Object::read(key, found);
        let events = self.under_way().seen(key, &object.uid, &object.version, &object.status);
        self.tell(&object, events);
        Ok(Some(object))
    }

    async fn step(&self, object: &Object) -> Result<Step, ApiError> {
        let Context { settings, cache, .. } = self.context;
        let mandate =
            Mandate { approves: settings.approves, is_cluster_wide: settings.namespaces.is_empty() };
        let decision = decide(&object.known(), mandate, |issuer| cache.issuers.get(issuer));
        if !matches!(decision, Decision::Ignore(_)) && !object.is_whole() {
            return Ok(Step::Read);
        }
        let (key, uid) = (&object.key, object.uid.as_str());
        // What was signed is handed out, whatever has become of the issuer since.
        if let Decision::Wait { approve, .. } | Decision::Sign { approve, .. } = decision
            && let Some((answer, component)) = self.under_way().answer(key, uid)
        {
            self.answer(object, &answer, component, approve).await?;
            return Ok(Step::Settled(Next::Done));
        }
        match decision {
            Decision::Ignore(why) => {
                if matches!(
                    why,
                    Ignored::Ended | Ignored::Denied | Ignored::Deleting | Ignored::HasCertificate
                ) {
                    self.under_way().close(key, uid);
                }
            }
            Decision::Deny => self.deny(object).await?,
            Decision::AwaitApproval(component) => {
                if self.under_way().begins_to_await(key, uid) {
                    let (reason, message) =
                        (policy::WAITING_FOR_APPROVAL, policy::WAITING_MESSAGE.to_owned());
                    self.tell(object, vec![Event { component, kind: EventType::Normal, reason, message }]);
                }
            }
            Decision::Wait { approve, missing } => {
                self.wait(object, missing, approve).await?;
            }
            Decision::Sign { approve: true, issuer, component }
                if self.under_way().approves_apart(&issuer) =>
            {
                let (status, events) = self.begin(object, true);
                self.write(object, &status, events, component).await?;
                self.under_way().may_approve(&issuer, true);
                return Ok(Step::Read);
            }
            Decision::Sign { approve, issuer, component } => {
                return self.sign(object, &issuer, component, approve).await;
            }
        }
        Ok(Step::Settled(Next::Done))
    }

    async fn sign(
        &self,
        object: &Object,
        issuer: &IssuerKey,
        component: &'static str,
        approve: bool,
    ) -> Result<Step, ApiError> {
        let (key, uid) = (&object.key, object.uid.as_str());
        let Some(unsigned) = &object.unsigned else { return Ok(Step::Read) };
        if self.under_way().may_be_signed(key, uid, &object.version) {
            return Ok(Step::Read);
        }
        let issuer_version = self
            .context
            .cache
            .issuers
            .get(issuer)
            .and_then(|issuer| issuer.metadata.resource_version.clone());
        let issuer_version = issuer_version.as_deref();
        if let Some(next) =
            self.under_way().is_echo(key, uid, &object.version, issuer_version, Instant::now())
        {
            return Ok(Step::Settled(next));
        }
        let answer = match std::str::from_utf8(&unsigned.csr.0) {
            Err(error) => {
                let message = format!("The CSR in spec.request is not PEM: {error}");
                Answer::Refused { reason: "SigningError", message }
            }
            Ok(csr_pem) => {
                let order = Order {
                    issuer,
                    request: key,
                    csr_pem,
                    duration: object.duration,
                    is_ca: object.is_ca,
                    usages: &object.usages,
                    annotations: &unsigned.annotations,
                };
                match self.signer.sign(&order).await {
                    Ok(signed) => match flaw(csr_pem, &signed.certificate) {
                        None => Answer::Signed(signed),
                        Some((reason, message)) => Answer::Refused { reason, message },
                    },
                    Err(SignError::Failed { reason, message }) => Answer::Refused { reason, message },
                    Err(SignError::Pending { reason, message, retry_after }) => {
                        let retry_after =
                            retry_after.map(|pause| pause.clamp(*BREATH.start(), *BREATH.end()));
                        let again = retry_after.map(|pause| Instant::now() + pause);
                        let missing = Missing { component, reason, message: message.into() };
                        if let Some(version) = self.wait(object, missing, approve).await? {
                            self.under_way().attempted(key, uid, issuer_version, again, &version);
                        }
                        return Ok(Step::Settled(Next::After(retry_after.unwrap_or(AT_LAST))));
                    }
                    Err(SignError::Foreign) => return Ok(Step::Settled(Next::Done)),
                }
            }
        };
        let answer = self.under_way().keep(key, uid, answer, component);
        let written = self.answer(object, &answer, component, approve).await;
        if approve && written.as_ref().is_err_and(|error| code(error) == Some(403)) {
            self.under_way().may_approve(issuer, false);
        }
        written?;
        Ok(Step::Settled(Next::Done))
    }

    /// Writes what an issuer said for good.
    async fn answer(
        &self,
        object: &Object,
        answer: &Arc<Answer>,
        component: &'static str,
        approve: bool,
    ) -> Result<(), ApiError> {
        let (mut status, mut events) = self.begin(object, approve);
        let now = self.context.clock.now();
        let (ready, event) = match &**answer {
            Answer::Signed(signed) => {
                status.certificate = Some(Bytes(signed.certificate.clone()));
                status.ca = signed.ca.clone().map(Bytes);
                let message = policy::ISSUED_MESSAGE;
                (
                    Condition::new(READY, true, policy::ISSUED, message),
                    (EventType::Normal, policy::CERTIFICATE_ISSUED, message),
                )
            }
            Answer::Refused { reason, message } => {
                status.failure_time.get_or_insert(Time::new(now));
                (
                    Condition::new(READY, false, policy::FAILED, message),
                    (EventType::Warning, *reason, message.as_str()),
                )
            }
        };
        set_condition(&mut status.conditions, ready, now);
        let (kind, reason, message) = event;
        events.push(Event { component, kind, reason, message: message.to_owned() });
        self.write(object, &status, events, component).await?;
        self.under_way().close(&object.key, &object.uid);
        Ok(())
    }

    /// Writes what is missing, unless the request says so already. Returns the version that was written.
    async fn wait(
        &self,
        object: &Object,
        missing: Missing,
        approve: bool,
    ) -> Result<Option<String>, ApiError> {
        let Missing { component, reason, message } = missing;
        let message = message.into_owned();
        let (mut status, mut events) = self.begin(object, approve);
        let ready = Condition::new(READY, false, policy::PENDING, message.clone());
        let changes = set_condition(&mut status.conditions, ready, self.context.clock.now());
        if !changes && !approve {
            return Ok(None);
        }
        if !policy::is_pending(&object.status.conditions) {
            events.push(Event { component, kind: EventType::Normal, reason, message });
        }
        self.write(object, &status, events, component).await.map(Some)
    }

    async fn deny(&self, object: &Object) -> Result<(), ApiError> {
        let mut status = object.status.clone();
        let now = self.context.clock.now();
        status.failure_time.get_or_insert(Time::new(now));
        let ready = Condition::new(READY, false, policy::REFUSED, policy::DENIED_MESSAGE);
        set_condition(&mut status.conditions, ready, now);
        self.write(object, &status, Vec::new(), policy::APPROVER).await?;
        self.under_way().close(&object.key, &object.uid);
        Ok(())
    }

    /// The status to begin with; with the approval and its event, if that is still to be given.
    fn begin(&self, object: &Object, approve: bool) -> (CertificateRequestStatus, Vec<Event>) {
        let mut status = object.status.clone();
        if !approve {
            return (status, Vec::new());
        }
        let (reason, message) = (policy::APPROVED_REASON, policy::APPROVED_MESSAGE);
        let approved = Condition::new(APPROVED, true, reason, message);
        set_condition(&mut status.conditions, approved, self.context.clock.now());
        let (component, kind) = (policy::APPROVER, EventType::Normal);
        (status, vec![Event { component, kind, reason, message: message.to_owned() }])
    }

    /// Writes the status of just this version, and then tells of it. Returns the new version.
    async fn write(
        &self,
        object: &Object,
        status: &CertificateRequestStatus,
        events: Vec<Event>,
        component: &str,
    ) -> Result<String, ApiError> {
        let (key, uid) = (&object.key, object.uid.as_str());
        let path = CertificateRequest::url_path(&(), Some(&key.namespace));
        let parameters = PostParams { field_manager: Some(component.to_owned()), ..PostParams::default() };
        let put = async {
            let body = serde_json::to_vec(&object.with_status(status)).map_err(kube::Error::SerdeError)?;
            let put = Request::new(path).replace_subresource("status", &key.name, &parameters, body);
            self.context.client.request::<Written>(put.map_err(kube::Error::BuildRequest)?).await
        };
        let _place = self.under_way().place().await;
        self.under_way().begins(key, uid, status, &events);
        match request(put).await {
            Ok(Written { metadata }) => {
                self.under_way().written(key, uid, &metadata.resource_version);
                self.tell(object, events);
                Ok(metadata.resource_version)
            }
            Err(error) => {
                if is_refused_for_certain(&error) {
                    self.under_way().refused(key, uid);
                }
                Err(error)
            }
        }
    }

    fn tell(&self, object: &Object, events: Vec<Event>) {
        for Event { component, kind, reason, message } in events {
            self.context.recorder.record_reference(object.reference(), component, kind, reason, message);
        }
    }

    fn under_way(&self) -> &UnderWay {
        &self.context.cache.requests_under_way
    }
}

/// What is wrong with a certificate that an issuer answered to a CSR: reason and message.
fn flaw(csr_pem: &str, certificate: &[u8]) -> Option<(&'static str, String)> {
    let text = String::from_utf8_lossy(certificate);
    let leaf = match Certificate::from_pem(&text) {
        Ok(leaf) => leaf,
        Err(error) => {
            return Some(("DecodeError", format!("Failed to decode returned certificate: {error}")));
        }
    };
    // A CSR that does not read was the issuer's to judge.
    let csr = VerifiedCsr::from_pem(csr_pem, &KeyPolicy::new("any", 0).ok()?).ok()?;
    let is_anothers = leaf.public_key().is_some_and(|key| key != csr.public_key());
    is_anothers.then(|| {
        let message =
            "The issuer answered with a certificate for another key than the CSR's; it is not handed out";
        ("SigningError", message.to_owned())
    })
}

/// Whether an answer proves that nothing was written. A server that fails or does not answer may have written all the same.
fn is_refused_for_certain(error: &ApiError) -> bool {
    code(error).is_some_and(|code| code < 500 && code != 408)
}

fn code(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::Refused(status) => Some(status.code),
        _ => None,
    }
}

/// How long the API server wants to be left alone.
fn retry_after(error: &ApiError) -> Duration {
    let seconds = match error {
        ApiError::Refused(status) => status.details.as_ref().map_or(0, |details| details.retry_after_seconds),
        _ => 0,
    };
    Duration::from_secs(u64::from(seconds)).min(LONGEST)
}

#[cfg(test)]
mod tests;
