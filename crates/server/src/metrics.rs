//! What is measured, under the names that Vault's dashboards look for.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::HeaderValue;
use metrics::{Counter, Gauge, Histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use serde_json::{Value, json};

use crate::http::HttpResponse;
use crate::http::answer::{errors, response};

/// The recorder is the process's; several servers in one process share it.
static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Handles that are made once, so that a request only adds numbers.
pub(crate) struct Metrics {
    recorder: PrometheusHandle,
    requests: Histogram,
    by_class: [Counter; 6],
    in_flight: Arc<Gauge>,
    unsealed: Gauge,
    prometheus: bool,
}

impl Metrics {
    /// Names begin with `prefix` and an underscore.
    pub(crate) fn new(prefix: &str, prometheus: bool) -> Self {
        let recorder = RECORDER.get_or_init(|| match PrometheusBuilder::new().install_recorder() {
            Ok(handle) => handle,
            // Somebody else in this process records already; then ours shows nothing, and says so.
            Err(error) => {
                tracing::warn!(%error, "metrics are recorded elsewhere in this process");
                PrometheusBuilder::new().build_recorder().handle()
            }
        });
        let name = |name: &str| format!("{prefix}_{name}");
        let requests = name("core_handle_request");
        metrics::describe_histogram!(
            requests.clone(),
            metrics::Unit::Milliseconds,
            "Time to answer a request"
        );
        let answers = name("http_responses");
        metrics::describe_counter!(answers.clone(), "Responses by class of status");
        let in_flight = name("core_in_flight_requests");
        metrics::describe_gauge!(in_flight.clone(), "Requests that are being answered");
        let unsealed = name("core_unsealed");
        metrics::describe_gauge!(unsealed.clone(), "1 while the server is unsealed");
        Self {
            recorder: recorder.clone(),
            requests: metrics::histogram!(requests),
            by_class: std::array::from_fn(
                |class| metrics::counter!(answers.clone(), "class" => format!("{class}xx")),
            ),
            in_flight: Arc::new(metrics::gauge!(in_flight)),
            unsealed: metrics::gauge!(unsealed),
            prometheus,
        }
    }

    /// Counts a request as long as the value lives.
    pub(crate) fn in_flight(&self) -> InFlight {
        self.in_flight.increment(1);
        InFlight(Arc::clone(&self.in_flight))
    }

    /// A request was answered.
    pub(crate) fn answered(&self, status: StatusCode, after: Duration) {
        self.requests.record(after.as_secs_f64() * 1000.0);
        if let Some(counter) = self.by_class.get(usize::from(status.as_u16() / 100)) {
            counter.increment(1);
        }
    }

    /// Folds what was recorded into its summaries; without this they would grow.
    pub(crate) fn upkeep(&self, sealed: bool) {
        self.unsealed.set(if sealed { 0.0 } else { 1.0 });
        self.recorder.run_upkeep();
    }

    /// Everything, in Prometheus' text format or as JSON.
    pub(crate) fn render(&self, format: &str) -> HttpResponse {
        match format {
            "prometheus" if self.prometheus => response(
                StatusCode::OK,
                HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
                self.recorder.render(),
            ),
            "prometheus" => errors(StatusCode::BAD_REQUEST, &["prometheus is not enabled"]),
            "" => response(
                StatusCode::OK,
                HeaderValue::from_static("application/json"),
                as_json(&self.recorder.render()).to_string(),
            ),
            other => response(
                StatusCode::BAD_REQUEST,
                HeaderValue::from_static("text/plain"),
                format!("metric response format {other:?} unknown\n"),
            ),
        }
    }
}

/// A request that is being answered.
pub(crate) struct InFlight(Arc<Gauge>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.decrement(1);
    }
}

/// The text format as the JSON that Vault's clients know: gauges, counters and samples. Vault writes the
/// first underscores of a name as points; which ones is not in the text, so names stay as they are.
fn as_json(text: &str) -> Value {
    let (mut gauges, mut counters, mut samples) = (Vec::new(), Vec::new(), Vec::new());
    let mut kind = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            kind = rest.rsplit(' ').next().unwrap_or("");
            continue;
        }
        if line.starts_with('#') {
            continue;
        }
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.trim_end_matches('}')),
            None => (series, ""),
        };
        let labels: serde_json::Map<String, Value> = labels
            .split(',')
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.trim_matches('"').into()))
            .collect();
        let value: f64 = value.parse().unwrap_or(0.0);
        match kind {
            "counter" => counters.push(json!({ "Name": name, "Count": value, "Labels": labels })),
            "gauge" => gauges.push(json!({ "Name": name, "Value": value, "Labels": labels })),
            _ => samples.push(json!({ "Name": name, "Value": value, "Labels": labels })),
        }
    }
    json!({ "Counters": counters, "Gauges": gauges, "Points": [], "Samples": samples })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_format_becomes_json() {
        let text = "# TYPE a_b counter\na_b{class=\"2xx\",x=\"y\"} 3\n\n# TYPE c gauge\nc 1.5\n# TYPE d summary\nd{quantile=\"0.5\"} 2\nd_sum 4\n";
        let expected = json!({
            "Counters": [{"Name": "a_b", "Count": 3.0, "Labels": {"class": "2xx", "x": "y"}}],
            "Gauges": [{"Name": "c", "Value": 1.5, "Labels": {}}],
            "Points": [],
            "Samples": [
                {"Name": "d", "Value": 2.0, "Labels": {"quantile": "0.5"}},
                {"Name": "d_sum", "Value": 4.0, "Labels": {}},
            ],
        });
        assert_eq!(as_json(text), expected);
    }

    #[test]
    fn requests_are_counted_by_class_and_time() {
        let metrics = Metrics::new("test_metrics", true);
        let in_flight = metrics.in_flight();
        metrics.answered(StatusCode::OK, Duration::from_millis(5));
        metrics.answered(StatusCode::NOT_FOUND, Duration::from_millis(5));
        metrics.upkeep(false);
        let text = metrics.recorder.render();
        for line in [
            "test_metrics_http_responses{class=\"2xx\"} 1",
            "test_metrics_http_responses{class=\"4xx\"} 1",
            "test_metrics_core_in_flight_requests 1",
            "test_metrics_core_unsealed 1",
            "test_metrics_core_handle_request_count 2",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        drop(in_flight);
        assert!(metrics.recorder.render().contains("test_metrics_core_in_flight_requests 0"));
        assert_eq!(metrics.render("prometheus").status(), StatusCode::OK);
        assert_eq!(metrics.render("x").status(), StatusCode::BAD_REQUEST);
        assert_eq!(
            Metrics::new("test_metrics", false).render("prometheus").status(),
            StatusCode::BAD_REQUEST
        );
    }
}
