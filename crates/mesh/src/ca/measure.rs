//! What is measured, under the names that upstream's dashboards look for, and a few of our own.

use std::sync::OnceLock;
use std::time::Duration;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

const TLS_PROVIDER_REQUESTS: &str = "cert_manager_istio_csr_tls_provider_certificate_requests";
const STARTED: &str = "cert_manager_istio_csr_grpc_server_started_total";
const RECEIVED: &str = "cert_manager_istio_csr_grpc_server_msg_received_total";
const SENT: &str = "cert_manager_istio_csr_grpc_server_msg_sent_total";
const HANDLED: &str = "cert_manager_istio_csr_grpc_server_handled_total";
const HANDLING: &str = "cert_manager_istio_csr_grpc_server_handling_seconds";
const IN_FLIGHT: &str = "chancery_mesh_ca_in_flight_requests";

/// The bounds of upstream's histograms, in seconds.
const BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The recorder is the process's; several services in one process share it.
static RECORDED: OnceLock<PrometheusHandle> = OnceLock::new();

/// Installs the process's recorder, unless that has been done.
pub fn install() -> PrometheusHandle {
    let made = RECORDED.get_or_init(|| {
        let suffixes = ["_seconds"].map(|suffix| Matcher::Suffix(suffix.to_owned()));
        let mut builder = PrometheusBuilder::new();
        for suffix in suffixes {
            // Only an empty list of bounds is refused.
            builder =
                builder.set_buckets_for_metric(suffix, BUCKETS).unwrap_or_else(|_| PrometheusBuilder::new());
        }
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        if let Err(error) = metrics::set_global_recorder(recorder) {
            tracing::warn!(%error, "metrics are recorded elsewhere in this process");
        }
        describe();
        handle
    });
    made.clone()
}

fn describe() {
    metrics::describe_counter!(TLS_PROVIDER_REQUESTS, "Requests for the serving certificate, by success");
    metrics::describe_counter!(STARTED, "Calls begun");
    metrics::describe_counter!(RECEIVED, "Messages received");
    metrics::describe_counter!(SENT, "Messages sent");
    metrics::describe_counter!(HANDLED, "Calls answered, by code");
    metrics::describe_histogram!(HANDLING, "How long calls took");
    metrics::describe_gauge!(IN_FLIGHT, "Calls that are being answered");
    metrics::describe_histogram!("chancery_mesh_ca_signing_seconds", "How long the signer took, by outcome");
    metrics::describe_gauge!("chancery_mesh_ca_roots", "How many roots the mesh has");
    metrics::describe_gauge!("chancery_mesh_ca_root_expiry_timestamp_seconds", "When the first root expires");
    metrics::describe_counter!(
        "chancery_mesh_ca_root_reload_failures_total",
        "Root bundles that were not taken"
    );
    metrics::describe_gauge!(
        "chancery_mesh_ca_serving_certificate_expiry_timestamp_seconds",
        "When the service's own certificate expires"
    );
    metrics::describe_gauge!("chancery_mesh_ca_connections", "Open connections");
    metrics::describe_counter!("chancery_mesh_ca_tls_handshake_failures_total", "Handshakes that failed");
}

/// Seconds since 1970 as metrics have them.
#[expect(clippy::cast_precision_loss, reason = "moments are far below 2^52 seconds")]
pub(crate) fn seconds(moment: i64) -> f64 {
    moment as f64
}

/// A serving certificate was had, or not.
pub(crate) fn serving_certificate(success: bool) {
    metrics::counter!(TLS_PROVIDER_REQUESTS, "success" => if success { "1" } else { "0" }).increment(1);
}

/// A call that is being answered. Dropped without an answer, it was cancelled.
pub(crate) struct Handling {
    answered: bool,
}

/// Labels of all of upstream's metrics of calls.
macro_rules! labelled {
    ($kind:ident, $name:expr $(, $key:literal => $value:expr)*) => {
        metrics::$kind!(
            $name,
            "grpc_type" => "unary",
            "grpc_service" => crate::proto::istio::istio_certificate_service_server::SERVICE_NAME,
            "grpc_method" => "CreateCertificate"
            $(, $key => $value)*
        )
    };
}

impl Handling {
    pub(crate) fn begin() -> Self {
        labelled!(counter, STARTED).increment(1);
        labelled!(counter, RECEIVED).increment(1);
        metrics::gauge!(IN_FLIGHT).increment(1.0);
        Self { answered: false }
    }

    /// With gRPC's code as a number.
    pub(crate) fn end(mut self, code: i32, took: Duration) {
        self.answered = true;
        if code == 0 {
            labelled!(counter, SENT).increment(1);
        }
        labelled!(counter, HANDLED, "grpc_code" => name(code)).increment(1);
        labelled!(histogram, HANDLING).record(took);
    }
}

impl Drop for Handling {
    fn drop(&mut self) {
        metrics::gauge!(IN_FLIGHT).decrement(1.0);
        if !self.answered {
            labelled!(counter, HANDLED, "grpc_code" => name(1)).increment(1);
        }
    }
}

/// The names of gRPC's codes as its Go library writes them.
fn name(code: i32) -> &'static str {
    match code {
        0 => "OK",
        1 => "Canceled",
        3 => "InvalidArgument",
        4 => "DeadlineExceeded",
        5 => "NotFound",
        7 => "PermissionDenied",
        8 => "ResourceExhausted",
        9 => "FailedPrecondition",
        10 => "Aborted",
        11 => "OutOfRange",
        12 => "Unimplemented",
        13 => "Internal",
        14 => "Unavailable",
        15 => "DataLoss",
        16 => "Unauthenticated",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_carries_upstreams_names_and_labels() {
        let recorded = install();
        serving_certificate(true);
        serving_certificate(false);
        Handling::begin().end(0, Duration::from_millis(3));
        Handling::begin().end(16, Duration::from_millis(3));
        drop(Handling::begin());
        let text = recorded.render();
        let labels = "grpc_type=\"unary\",grpc_service=\"istio.v1.auth.IstioCertificateService\",\
                      grpc_method=\"CreateCertificate\"";
        for line in [
            "cert_manager_istio_csr_tls_provider_certificate_requests{success=\"0\"} 1".to_owned(),
            "cert_manager_istio_csr_tls_provider_certificate_requests{success=\"1\"} 1".to_owned(),
            format!("cert_manager_istio_csr_grpc_server_started_total{{{labels}}} 3"),
            format!("cert_manager_istio_csr_grpc_server_msg_sent_total{{{labels}}} 1"),
            format!("cert_manager_istio_csr_grpc_server_handled_total{{{labels},grpc_code=\"OK\"}} 1"),
            format!(
                "cert_manager_istio_csr_grpc_server_handled_total{{{labels},grpc_code=\"Unauthenticated\"}} 1"
            ),
            format!("cert_manager_istio_csr_grpc_server_handled_total{{{labels},grpc_code=\"Canceled\"}} 1"),
            format!("cert_manager_istio_csr_grpc_server_handling_seconds_bucket{{{labels},le=\"0.005\"}} 2"),
            "chancery_mesh_ca_in_flight_requests 0".to_owned(),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
