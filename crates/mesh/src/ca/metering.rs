//! One call in the log and in the metrics, whichever way it ends.
//!
//! The names of the first five metrics are istio-csr's, so that its dashboards go on to work.

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use tokio::time::Instant;
use tonic::{Code, Status};

use super::answer::Answer;
use super::service::{Progress, Refusal};

const STARTED: &str = "cert_manager_istio_csr_grpc_server_started_total";
const RECEIVED: &str = "cert_manager_istio_csr_grpc_server_msg_received_total";
const SENT: &str = "cert_manager_istio_csr_grpc_server_msg_sent_total";
const HANDLED: &str = "cert_manager_istio_csr_grpc_server_handled_total";
const SECONDS: &str = "cert_manager_istio_csr_grpc_server_handling_seconds";
/// By `step` and `reason`.
const REFUSALS: &str = "cert_manager_istio_csr_refusals_total";
/// Those at the step `authenticate`, by `reason`.
const AUTHENTICATION_FAILURES: &str = "cert_manager_istio_csr_authentication_failures_total";
const IN_FLIGHT: &str = "cert_manager_istio_csr_requests_in_flight";
/// By `success`.
const SIGNING: &str = "cert_manager_istio_csr_signing_seconds";

/// The bounds of the buckets of what is measured in seconds: the defaults of Prometheus' libraries. A recorder that is not told
/// of them makes summaries, which dashboards cannot add up.
pub const SECONDS_BUCKETS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The longest detail that is logged, in bytes: some of it is the caller's text.
const MAX_DETAIL: usize = 2048;

/// Says what each metric means. To be called once, after the recorder is installed.
pub fn describe() {
    metrics::describe_counter!(STARTED, "Calls that began");
    metrics::describe_counter!(RECEIVED, "Messages that callers sent");
    metrics::describe_counter!(SENT, "Messages that callers were sent");
    metrics::describe_counter!(HANDLED, "Calls that ended, by gRPC status code");
    metrics::describe_histogram!(SECONDS, metrics::Unit::Seconds, "How long calls took");
    metrics::describe_counter!(REFUSALS, "Calls that ended without a certificate, by step and reason");
    metrics::describe_counter!(AUTHENTICATION_FAILURES, "Callers that were not known, by reason");
    metrics::describe_gauge!(IN_FLIGHT, "Calls that are being answered");
    metrics::describe_histogram!(
        SIGNING,
        metrics::Unit::Seconds,
        "How long the signer took, repetitions included"
    );
}

/// A call was cut off before the service saw it: its message did not come to an end.
pub(super) fn stalled() {
    counter!(REFUSALS, "step" => "read", "reason" => "deadline").increment(1);
}

/// The labels that each gRPC metric carries, and further ones.
macro_rules! grpc {
    ($kind:ident, $name:expr $(, $label:expr => $value:expr)*) => {
        $kind!($name,
            "grpc_type" => "unary",
            "grpc_service" => "istio.v1.auth.IstioCertificateService",
            "grpc_method" => "CreateCertificate"
            $(, $label => $value)*)
    };
}

/// What every call touches, looked up in the recorder once.
pub(super) struct Meters {
    started: Counter,
    received: Counter,
    sent: Counter,
    in_flight: Gauge,
    issued: Counter,
    seconds: Histogram,
    /// By whether there was a certificate.
    signing: [Histogram; 2],
}

impl Meters {
    /// Of the recorder that is installed now.
    pub(super) fn new() -> Self {
        Self {
            started: grpc!(counter, STARTED),
            received: grpc!(counter, RECEIVED),
            sent: grpc!(counter, SENT),
            in_flight: gauge!(IN_FLIGHT),
            issued: grpc!(counter, HANDLED, "grpc_code" => name(Code::Ok)),
            seconds: grpc!(histogram, SECONDS),
            signing: [histogram!(SIGNING, "success" => "0"), histogram!(SIGNING, "success" => "1")],
        }
    }
}

/// The signer is asked, perhaps several times; cut off, it counts as a failure.
pub(super) struct Signing<'a> {
    meters: &'a Meters,
    begin: Instant,
    success: bool,
}

impl<'a> Signing<'a> {
    pub(super) fn begin(meters: &'a Meters) -> Self {
        Self { meters, begin: Instant::now(), success: false }
    }

    pub(super) fn succeeded(&mut self) {
        self.success = true;
    }
}

impl Drop for Signing<'_> {
    fn drop(&mut self) {
        let [failures, successes] = &self.meters.signing;
        let signing = if self.success { successes } else { failures };
        signing.record(self.begin.elapsed().as_secs_f64());
    }
}

/// As Go's library names status codes.
fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unauthenticated => "Unauthenticated",
        Code::Internal => "Internal",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::Unavailable => "Unavailable",
        // Nothing else is ever answered.
        _ => "Unknown",
    }
}

/// A call, from its beginning to its end.
pub(super) struct Call<'a> {
    meters: &'a Meters,
    begin: Instant,
    pub(super) progress: Progress,
    ended: bool,
}

impl<'a> Call<'a> {
    pub(super) fn begin(meters: &'a Meters) -> Self {
        meters.started.increment(1);
        meters.received.increment(1);
        meters.in_flight.increment(1.0);
        Self { meters, begin: Instant::now(), progress: Progress::default(), ended: false }
    }

    /// It ended with a certificate.
    pub(super) fn issued(&mut self, answer: &Answer) {
        let Progress { cluster, by, caller, identity, .. } = &self.progress;
        tracing::info!(
            identity,
            serial = %answer.leaf.serial_number(),
            not_after = %answer.leaf.not_after(),
            cluster,
            by,
            caller,
            milliseconds = self.milliseconds(),
            "certificate issued"
        );
        self.meters.sent.increment(1);
        self.end(Code::Ok);
    }

    /// It ended without one. What the caller is told comes back.
    pub(super) fn refused(&mut self, refusal: Refusal) -> Status {
        let Refusal { code, message, reason, detail } = refusal;
        let Progress { cluster, by, caller, identity, step, .. } = &self.progress;
        let detail = detail.get(..detail.floor_char_boundary(MAX_DETAIL)).unwrap_or_default();
        let milliseconds = self.milliseconds();
        tracing::warn!(
            reason,
            detail,
            step,
            ?code,
            identity,
            cluster,
            by,
            caller,
            milliseconds,
            "certificate refused"
        );
        counter!(REFUSALS, "step" => *step, "reason" => reason).increment(1);
        if *step == "authenticate" {
            counter!(AUTHENTICATION_FAILURES, "reason" => reason).increment(1);
        }
        self.end(code);
        Status::new(code, message)
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn end(&mut self, code: Code) {
        self.ended = true;
        match code {
            Code::Ok => self.meters.issued.increment(1),
            _ => grpc!(counter, HANDLED, "grpc_code" => name(code)).increment(1),
        }
        self.meters.seconds.record(self.begin.elapsed().as_secs_f64());
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.meters.in_flight.decrement(1.0);
        if !self.ended {
            let Progress { cluster, by, caller, identity, step, .. } = &self.progress;
            tracing::info!(step, identity, cluster, by, caller, "the caller went away");
            self.end(Code::Cancelled);
        }
    }
}
