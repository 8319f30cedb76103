//! `CreateCertificate`: from the call to the answer.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use chancery_api::Clock;
use chancery_issuance::Time;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Code, Request, Response, Status};

use super::answer::{Answer, Answers, Wanted};
use super::authenticate::{
    Authenticators, Caller, ClusterIds, Credentials, PeerCertificates, REVIEW_UNAVAILABLE,
};
use super::duration::lifetime;
use super::impersonate::{ImpersonationError, NodeAuthorizer, PODS_UNAVAILABLE, requested};
use super::metering::{Call, Meters, Signing};
use super::request::{CheckedCsr, KeyRules};
use super::roots::RootsWatch;
use super::signer::{AT_ONCE, Purpose, SignedChain, Signer, SigningError, SigningRequest};
use crate::proto::istio::istio_certificate_service_server::{
    IstioCertificateService, IstioCertificateServiceServer,
};
use crate::proto::istio::{IstioCertificateRequest, IstioCertificateResponse};

/// The largest request that is read, in bytes.
pub const MAX_REQUEST_BYTES: usize = 64 * 1024;

/// How far the signer's clock may be ahead before its certificates count as longer than was asked for.
const CLOCKS_APART: Duration = Duration::from_secs(300);

/// The longest cluster id that is logged, in bytes: it is the caller's text, and each call logs it.
const MAX_CLUSTER_ID: usize = 128;

/// What callers are told. Why, only the log says.
const NOT_AUTHENTICATED: &str = "request authenticate failure";
const NOT_SIGNED: &str = "failed to sign certificate request";
const NOT_VERIFIED: &str = "failed to parse and verify signed certificate from issuer";
const TOO_MANY: &str = "too many requests at once";
const TOO_LATE: &str = "no certificate within the deadline";

/// The limits of the service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceOptions {
    /// The longest life of a certificate. Requests for longer ones, or without a length, get this one.
    pub max_duration: Duration,
    /// The longest time that a call may take. A caller that waits less (`grpc-timeout`) has its own way.
    pub deadline: Duration,
    /// How many calls are worked on at once, once it is known who calls.
    pub concurrency: usize,
    /// How many more may wait for their turn. Beyond that calls are refused at once, with `ResourceExhausted`: Istio's
    /// agents repeat those, later and later.
    pub waiting: usize,
    /// The pause before a signer that was not able is asked again; it doubles each time, up to a second.
    pub backoff: Duration,
    /// The keys that certificates are made for.
    pub keys: KeyRules,
}

impl Default for ServiceOptions {
    fn default() -> Self {
        Self {
            max_duration: Duration::from_secs(3600),
            deadline: Duration::from_secs(30),
            concurrency: AT_ONCE,
            waiting: 4096,
            backoff: Duration::from_millis(50),
            keys: KeyRules::default(),
        }
    }
}

/// Istio's certificate service.
pub struct Service {
    options: ServiceOptions,
    authenticators: Authenticators,
    impersonation: Option<NodeAuthorizer>,
    signer: Arc<dyn Signer>,
    roots: RootsWatch,
    answers: Answers,
    meters: Meters,
    clock: Arc<dyn Clock>,
    /// One permit for each call that may be here, working or waiting.
    places: Semaphore,
    /// One permit for each call that is worked on.
    slots: Semaphore,
}

/// How far a call got, for the log: it is read also when the call was cut off.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) cluster: Option<String>,
    pub(super) by: Option<&'static str>,
    pub(super) caller: Option<String>,
    pub(super) identity: Option<String>,
    /// What it was doing, or failing to do.
    pub(super) step: &'static str,
    /// What the signer said last.
    pub(super) trouble: Option<String>,
}

/// Why there is no certificate: what the caller is told, and what the log is told.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) code: Code,
    pub(super) message: &'static str,
    pub(super) reason: &'static str,
    pub(super) detail: String,
}

impl Refusal {
    fn unauthenticated(reason: &'static str, detail: String) -> Self {
        Self { code: Code::Unauthenticated, message: NOT_AUTHENTICATED, reason, detail }
    }

    /// Who could not be asked today may be tomorrow: agents call again after `Unavailable`, not after `Unauthenticated`.
    fn unknown(reason: &'static str, detail: String) -> Self {
        let refusal = Self::unauthenticated(reason, detail);
        match reason {
            REVIEW_UNAVAILABLE | PODS_UNAVAILABLE => Self { code: Code::Unavailable, ..refusal },
            _ => refusal,
        }
    }

    fn not_signed(reason: &'static str, detail: String) -> Self {
        Self { code: Code::Internal, message: NOT_SIGNED, reason, detail }
    }
}

impl Service {
    /// A service that knows callers by these authenticators, lets those that the node authorizer trusts ask for others,
    /// and has certificates signed by this signer and verified against these roots. It counts in the recorder that is
    /// installed now.
    pub fn new(
        options: ServiceOptions,
        authenticators: Authenticators,
        impersonation: Option<NodeAuthorizer>,
        signer: Arc<dyn Signer>,
        roots: RootsWatch,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let slots = options.concurrency.clamp(1, Semaphore::MAX_PERMITS);
        let places = slots.saturating_add(options.waiting).min(Semaphore::MAX_PERMITS);
        Self {
            authenticators,
            impersonation,
            signer,
            roots,
            answers: Answers::default(),
            meters: Meters::new(),
            clock,
            places: Semaphore::new(places),
            slots: Semaphore::new(slots),
            options,
        }
    }

    /// The gRPC service, with a limit on the size of requests.
    pub fn into_server(self) -> IstioCertificateServiceServer<Self> {
        IstioCertificateServiceServer::new(self).max_decoding_message_size(MAX_REQUEST_BYTES)
    }

    /// The whole way of one call.
    async fn work(
        &self,
        request: &Request<IstioCertificateRequest>,
        deadline: Instant,
        progress: &mut Progress,
    ) -> Result<Answer, Refusal> {
        // Without a slot: those who wait for an API server that hangs keep nobody else from being worked on.
        progress.step = "authenticate";
        let caller = self.authenticate(request, progress).await?;
        progress.step = "authorize";
        let identities = self.identities(&caller, request.get_ref()).await?;
        progress.identity = Some(identities.join(","));
        progress.step = "wait";
        // Never closed.
        let _slot = self.slots.acquire().await;
        progress.step = "csr";
        let csr = CheckedCsr::check(&request.get_ref().csr, &identities, &self.options.keys)
            .map_err(|error| Refusal::unauthenticated(error.reason(), error.to_string()))?;
        let signing = SigningRequest {
            csr: csr.pem(),
            identities: csr.identities().to_vec(),
            duration: lifetime(request.get_ref().validity_duration, self.options.max_duration),
            purpose: Purpose::Workload,
        };
        progress.step = "sign";
        let mut timer = Signing::begin(&self.meters);
        let signed = self.sign(&signing, deadline, progress).await?;
        timer.succeeded();
        drop(timer);
        progress.step = "verify";
        let roots = Arc::clone(&self.roots.borrow());
        let wanted = Wanted { public_key: csr.public_key(), identities: csr.identities() };
        let now = Time::from(self.clock.now());
        let answer = self.answers.answer(&signed, wanted, &roots, now).map_err(|error| {
            let (reason, detail) = (error.reason(), error.to_string());
            Refusal { code: Code::Internal, message: NOT_VERIFIED, reason, detail }
        })?;
        // Some signers know only lives of their own. That is no reason to leave the workload without a certificate.
        let end = answer.leaf.not_after();
        if end > now.plus(signing.duration + CLOCKS_APART) {
            let asked = signing.duration;
            tracing::warn!(not_after = %end, ?asked, "the signer gave a certificate a longer life than was asked for");
        }
        Ok(answer)
    }

    async fn authenticate(
        &self,
        request: &Request<IstioCertificateRequest>,
        progress: &mut Progress,
    ) -> Result<Caller, Refusal> {
        let certificates = request.extensions().get::<PeerCertificates>();
        let credentials = Credentials {
            metadata: request.metadata().as_ref(),
            certificates: certificates.map_or(&[], |certificates| &certificates.0),
        };
        let caller = self.authenticators.authenticate(&credentials).await;
        let caller = caller.map_err(|denial| Refusal::unknown(denial.reason, denial.detail))?;
        progress.by = Some(caller.by);
        progress.caller = Some(caller.identities.join(","));
        Ok(caller)
    }

    /// Whose certificate it is to be: the caller's own, or one that it may ask for.
    async fn identities(
        &self,
        caller: &Caller,
        request: &IstioCertificateRequest,
    ) -> Result<Vec<String>, Refusal> {
        let refused = |error: ImpersonationError| Refusal::unknown(error.reason(), error.to_string());
        let Some(wanted) = requested(request.metadata.as_ref()).map_err(refused)? else {
            return Ok(caller.identities.clone());
        };
        let nodes = self.impersonation.as_ref().ok_or_else(|| refused(ImpersonationError::Disabled))?;
        let id = nodes.authorize(caller, wanted).await.map_err(refused)?;
        Ok(vec![id.as_str().to_owned()])
    }

    /// Has it signed; asks again, later and later, as long as the signer is not able and there is time.
    async fn sign(
        &self,
        request: &SigningRequest,
        deadline: Instant,
        progress: &mut Progress,
    ) -> Result<SignedChain, Refusal> {
        let mut pause = self.options.backoff;
        loop {
            match self.signer.sign(request).await {
                Ok(signed) => return Ok(signed),
                Err(SigningError::Refused(detail)) => {
                    return Err(Refusal::not_signed("signer_refused", detail));
                }
                Err(SigningError::Unavailable(detail)) => {
                    let pause_now = jittered(pause);
                    if Instant::now() + pause_now >= deadline {
                        return Err(Refusal::not_signed("signer_unavailable", detail));
                    }
                    progress.trouble = Some(detail);
                    sleep(pause_now).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
            }
        }
    }
}

#[tonic::async_trait]
impl IstioCertificateService for Service {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let mut call = Call::begin(&self.meters);
        let headers: &http::HeaderMap = request.metadata().as_ref();
        call.progress.cluster = ClusterIds::named(headers).map(|id| {
            let end = id.floor_char_boundary(MAX_CLUSTER_ID);
            id.get(..end).unwrap_or_default().to_owned()
        });
        let Ok(_place) = self.places.try_acquire() else {
            call.progress.step = "wait";
            let limit = self.options.concurrency.saturating_add(self.options.waiting);
            let detail = format!("{limit} calls are being worked on or waiting");
            let refusal =
                Refusal { code: Code::ResourceExhausted, message: TOO_MANY, reason: "overload", detail };
            return Err(call.refused(refusal));
        };
        let time =
            grpc_timeout(headers).map_or(self.options.deadline, |asked| asked.min(self.options.deadline));
        let deadline = Instant::now() + time;
        let outcome = timeout_at(deadline, self.work(&request, deadline, &mut call.progress)).await;
        match outcome {
            Ok(Ok(answer)) => {
                call.issued(&answer);
                Ok(Response::new(IstioCertificateResponse { cert_chain: answer.cert_chain }))
            }
            Ok(Err(refusal)) => Err(call.refused(refusal)),
            Err(_) => {
                let (step, trouble) = (call.progress.step, call.progress.trouble.take());
                let trouble =
                    trouble.map_or_else(String::new, |trouble| format!("; the signer last said: {trouble}"));
                let detail = format!("not done within {time:?}, at the step {step:?}{trouble}");
                let refusal =
                    Refusal { code: Code::DeadlineExceeded, message: TOO_LATE, reason: "deadline", detail };
                Err(call.refused(refusal))
            }
        }
    }
}

/// Up to a quarter less or more: those that were turned away together do not come back together.
fn jittered(pause: Duration) -> Duration {
    let mut byte = [128];
    // Without randomness there is no jitter.
    let _ = rand::fill(&mut byte);
    let [byte] = byte;
    pause.mul_f64(0.75 + f64::from(byte) / 510.0)
}

/// How long the caller waits: up to eight digits and a unit (gRPC over HTTP/2, Requests). Anything else is passed over.
fn grpc_timeout(headers: &http::HeaderMap) -> Option<Duration> {
    let value = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_patience_is_read_as_grpc_writes_it() {
        let read = |value: &'static str| {
            let value = http::HeaderValue::from_static(value);
            grpc_timeout(&[(http::HeaderName::from_static("grpc-timeout"), value)].into_iter().collect())
        };
        for (text, time) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("5S", Duration::from_secs(5)),
            ("250m", Duration::from_millis(250)),
            ("99999999u", Duration::from_micros(99_999_999)),
            ("0n", Duration::ZERO),
        ] {
            assert_eq!(read(text), Some(time), "{text}");
        }
        for text in ["", "S", "5", "5s", "-5S", "+5S", "5.0S", "123456789S", " 5S"] {
            assert_eq!(read(text), None, "{text:?}");
        }
        assert_eq!(grpc_timeout(&http::HeaderMap::new()), None);
    }

    #[test]
    fn pauses_differ_by_a_quarter_at_most() {
        for _ in 0..1000 {
            let pause = jittered(Duration::from_millis(100));
            assert!(
                (Duration::from_millis(75)..=Duration::from_micros(125_001)).contains(&pause),
                "{pause:?}"
            );
        }
    }
}
