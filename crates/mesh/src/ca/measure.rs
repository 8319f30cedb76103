//! What is measured, under the names that upstream's dashboards look for, and a few of our own.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::metering;

const TLS_PROVIDER_REQUESTS: &str = "cert_manager_istio_csr_tls_provider_certificate_requests";
/// The recorder is the process's; several services in one process share it.
static RECORDED: OnceLock<PrometheusHandle> = OnceLock::new();

/// Installs the process's recorder, unless that has been done.
pub fn install() -> PrometheusHandle {
    let made = RECORDED.get_or_init(|| {
        let suffixes = ["_seconds"].map(|suffix| Matcher::Suffix(suffix.to_owned()));
        let mut builder = PrometheusBuilder::new();
        for suffix in suffixes {
            // Only an empty list of bounds is refused.
            builder = builder
                .set_buckets_for_metric(suffix, &metering::SECONDS_BUCKETS)
                .unwrap_or_else(|_| PrometheusBuilder::new());
        }
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        if let Err(error) = metrics::set_global_recorder(recorder) {
            tracing::warn!(%error, "metrics are recorded elsewhere in this process");
        }
        describe();
        metering::describe();
        handle
    });
    made.clone()
}

fn describe() {
    metrics::describe_counter!(TLS_PROVIDER_REQUESTS, "Requests for the serving certificate, by success");
    metrics::describe_histogram!(
        "cert_manager_istio_csr_signer_seconds",
        "How long the signer took, by outcome"
    );
    metrics::describe_gauge!("cert_manager_istio_csr_roots", "How many roots the mesh has");
    metrics::describe_gauge!(
        "cert_manager_istio_csr_root_expiry_timestamp_seconds",
        "When the first root expires"
    );
    metrics::describe_counter!(
        "cert_manager_istio_csr_root_reload_failures_total",
        "Root bundles that were not taken"
    );
    metrics::describe_gauge!(
        "cert_manager_istio_csr_serving_certificate_expiry_timestamp_seconds",
        "When the service's own certificate expires"
    );
    metrics::describe_gauge!("cert_manager_istio_csr_connections", "Open connections");
    metrics::describe_counter!(
        "cert_manager_istio_csr_tls_handshake_failures_total",
        "Handshakes that failed"
    );
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_for_the_serving_certificate_carry_upstreams_name_and_labels() {
        let recorded = install();
        serving_certificate(true);
        serving_certificate(false);
        metrics::histogram!("cert_manager_istio_csr_signer_seconds").record(0.003);
        let text = recorded.render();
        for line in [
            "cert_manager_istio_csr_tls_provider_certificate_requests{success=\"0\"} 1",
            "cert_manager_istio_csr_tls_provider_certificate_requests{success=\"1\"} 1",
            // Histograms of seconds have upstream's bounds.
            "cert_manager_istio_csr_signer_seconds_bucket{le=\"0.005\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
