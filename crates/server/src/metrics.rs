//! What is measured, under the names that Vault's dashboards look for.
//!
//! All crates name what they measure as the peer does, with points: `core.handle_request`. The recorder
//! that is installed here puts the operator's prefix before them. Prometheus gets them with underscores,
//! JSON as they are.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use chancery_api::{Clock, SystemClock};
use chancery_secrets::Response;
use hyper::StatusCode;
use jiff::Timestamp;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use serde_json::{Map, Value, json};

/// The recorder is the process's; several servers in one process share it.
static RECORDED: OnceLock<Recorded> = OnceLock::new();

/// Everything that was recorded.
#[derive(Clone)]
struct Recorded {
    handle: PrometheusHandle,
    names: Names,
    process: Arc<Process>,
}

/// Names as Prometheus has them, to what they were.
type Names = Arc<Mutex<BTreeMap<String, String>>>;

/// Records under names with a prefix.
struct Prefixed {
    prefix: String,
    inner: PrometheusRecorder,
    names: Names,
}

impl Prefixed {
    fn new(prefix: &str) -> Self {
        let inner = PrometheusBuilder::new().build_recorder();
        Self { prefix: prefix.to_owned(), inner, names: Names::default() }
    }

    fn name(&self, name: &str) -> String {
        // What every process has is known to Prometheus without a prefix.
        if name.starts_with("process_") {
            return name.to_owned();
        }
        let name = format!("{}.{name}", self.prefix);
        let written: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() || c == ':' { c } else { '_' }).collect();
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(written, name.clone());
        name
    }

    fn key(&self, key: &Key) -> Key {
        let labels: Vec<Label> = key.labels().cloned().collect();
        Key::from_parts(self.name(key.name()), labels)
    }
}

impl Recorder for Prefixed {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.inner.describe_counter(self.name(key.as_str()).into(), unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.inner.describe_gauge(self.name(key.as_str()).into(), unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.inner.describe_histogram(self.name(key.as_str()).into(), unit, description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.inner.register_counter(&self.key(key), metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.inner.register_gauge(&self.key(key), metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.inner.register_histogram(&self.key(key), metadata)
    }
}

/// Handles that are made once, so that a request only adds numbers.
pub(crate) struct Metrics {
    recorded: Recorded,
    by_class: [Counter; 6],
    in_flight: Arc<Gauge>,
    unsealed: Gauge,
    active: Gauge,
}

impl Metrics {
    /// Installs the process's recorder, unless that has been done: then its prefix stays.
    pub(crate) fn install(prefix: &str) -> Self {
        let recorded = RECORDED.get_or_init(|| {
            let recorder = Prefixed::new(prefix);
            let (handle, names) = (recorder.inner.handle(), Arc::clone(&recorder.names));
            // If somebody else in this process records already, ours shows nothing.
            if let Err(error) = metrics::set_global_recorder(recorder) {
                tracing::warn!(%error, "metrics are recorded elsewhere in this process");
            }
            Recorded { handle, names, process: Arc::new(Process::new(SystemClock.now())) }
        });
        Self::new(recorded.clone())
    }

    fn new(recorded: Recorded) -> Self {
        metrics::describe_counter!("http.responses", "Responses by class of status");
        metrics::describe_gauge!("core.in_flight_requests", "Requests that are being answered");
        metrics::describe_gauge!("core.unsealed", "1 while the server is unsealed");
        metrics::describe_gauge!("core.active", "1 while the server answers requests");
        Self {
            recorded,
            by_class: std::array::from_fn(
                |class| metrics::counter!("http.responses", "class" => format!("{class}xx")),
            ),
            in_flight: Arc::new(metrics::gauge!("core.in_flight_requests")),
            unsealed: metrics::gauge!("core.unsealed"),
            active: metrics::gauge!("core.active"),
        }
    }

    /// Counts a request as long as the value lives.
    pub(crate) fn in_flight(&self) -> InFlight {
        self.in_flight.increment(1);
        InFlight(Arc::clone(&self.in_flight))
    }

    /// A request was answered.
    pub(crate) fn answered(&self, status: StatusCode) {
        if let Some(counter) = self.by_class.get(usize::from(status.as_u16() / 100)) {
            counter.increment(1);
        }
    }

    /// Folds what was recorded into its summaries; without this they would grow.
    pub(crate) fn upkeep(&self, sealed: bool) {
        let open = if sealed { 0.0 } else { 1.0 };
        self.unsealed.set(open);
        self.active.set(open);
        self.recorded.handle.run_upkeep();
    }

    /// Writes everything down in the format of that name: Prometheus' own if it is switched on, or JSON.
    pub(crate) fn rendered(&self, prometheus: bool) -> impl Fn(&str) -> Response + Send + Sync + 'static {
        let recorded = self.recorded.clone();
        move |format| match format {
            "prometheus" if prometheus => {
                Response::raw("text/plain; version=0.0.4; charset=utf-8", recorded.text())
            }
            "prometheus" => Response::raw("text/plain", "prometheus is not enabled").status(400),
            "" => Response::raw("application/json", recorded.json(SystemClock.now()).to_string()),
            other => {
                let message = format!("metric response format {other:?} unknown");
                Response::raw("text/plain", message).status(400)
            }
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

/// What Prometheus' libraries measure of every process.
struct Process {
    resident: Gauge,
    files: Gauge,
}

impl Process {
    fn new(now: Timestamp) -> Self {
        metrics::describe_gauge!("process_start_time_seconds", "Start of the process since the epoch");
        metrics::gauge!("process_start_time_seconds").set(now.as_duration().as_secs_f64());
        metrics::describe_gauge!("process_resident_memory_bytes", "Memory in use");
        metrics::describe_gauge!("process_open_fds", "Open files and connections");
        Self {
            resident: metrics::gauge!("process_resident_memory_bytes"),
            files: metrics::gauge!("process_open_fds"),
        }
    }

    /// Where the system tells; elsewhere they stay at 0.
    fn look(&self) {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = resident.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u32>().ok());
        if let Some(kibibytes) = kibibytes {
            self.resident.set(f64::from(kibibytes) * 1024.0);
        }
        if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
            self.files.set(u32::try_from(files.count()).map_or(0.0, f64::from));
        }
    }
}

impl Recorded {
    fn text(&self) -> String {
        self.process.look();
        self.handle.render()
    }

    /// The JSON that Vault's clients know: gauges, counters and samples, by their names with points.
    fn json(&self, now: Timestamp) -> Value {
        let text = self.text();
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let name = |written: &str| names.get(written).map_or(written, String::as_str).to_owned();
        let (mut gauges, mut counters) = (Vec::new(), Vec::new());
        let mut samples: BTreeMap<(String, String), Sample> = BTreeMap::new();
        let mut kind = "";
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                kind = rest.rsplit(' ').next().unwrap_or("");
                continue;
            }
            let Some(series) = Series::parse(line) else { continue };
            match kind {
                "counter" => {
                    counters.push(json!({
                        "Name": name(series.name), "Count": series.value, "Labels": series.labels,
                    }));
                }
                "gauge" => {
                    gauges.push(json!({
                        "Name": name(series.name), "Value": series.value, "Labels": series.labels,
                    }));
                }
                _ => {
                    let (written, part) = series.part();
                    let labels = Value::Object(series.labels);
                    let sample = samples.entry((name(written), labels.to_string())).or_default();
                    sample.labels = labels;
                    sample.take(part, series.value);
                }
            }
        }
        let samples: Vec<Value> = samples.into_iter().map(|((name, _), sample)| sample.json(&name)).collect();
        let timestamp = now.strftime("%Y-%m-%d %H:%M:%S +0000 UTC").to_string();
        json!({
            "Timestamp": timestamp, "Counters": counters, "Gauges": gauges, "Points": [], "Samples": samples,
        })
    }
}

/// One line of the text format.
struct Series<'a> {
    name: &'a str,
    labels: Map<String, Value>,
    quantile: Option<String>,
    value: f64,
}

/// What a line of a summary says.
enum Part {
    Count,
    Sum,
    Least,
    Most,
    Between,
}

impl<'a> Series<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (series, value) = line.rsplit_once(' ').filter(|_| !line.starts_with('#'))?;
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.trim_end_matches('}')),
            None => (series, ""),
        };
        let mut labels: Map<String, Value> = labels
            .split("\",")
            .filter_map(|pair| pair.split_once("=\""))
            .map(|(name, value)| (name.to_owned(), value.trim_end_matches('"').into()))
            .collect();
        let quantile = labels.remove("quantile").and_then(|value| value.as_str().map(str::to_owned));
        Some(Self { name, labels, quantile, value: value.parse().unwrap_or(0.0) })
    }

    /// The summary's name, and which part of it this is.
    fn part(&self) -> (&'a str, Part) {
        match (&self.quantile, self.name.strip_suffix("_count"), self.name.strip_suffix("_sum")) {
            (Some(quantile), ..) => (
                self.name,
                match quantile.as_str() {
                    "0" => Part::Least,
                    "1" => Part::Most,
                    _ => Part::Between,
                },
            ),
            (None, Some(name), _) => (name, Part::Count),
            (None, None, Some(name)) => (name, Part::Sum),
            (None, None, None) => (self.name, Part::Between),
        }
    }
}

/// A summary: the count and sum since the start, the bounds of the last minute.
#[derive(Default)]
struct Sample {
    labels: Value,
    count: f64,
    sum: f64,
    least: f64,
    most: f64,
}

impl Sample {
    fn take(&mut self, part: Part, value: f64) {
        match part {
            Part::Count => self.count = value,
            Part::Sum => self.sum = value,
            Part::Least => self.least = value,
            Part::Most => self.most = value,
            Part::Between => {}
        }
    }

    fn json(self, name: &str) -> Value {
        let Self { labels, count, sum, least, most } = self;
        let mean = if count > 0.0 { sum / count } else { 0.0 };
        json!({
            "Name": name, "Count": count, "Sum": sum, "Mean": mean, "Min": least, "Max": most, "Labels": labels,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `measure` leaves behind under the prefix `test`.
    fn recorded(measure: impl FnOnce(&Metrics)) -> Recorded {
        let recorder = Prefixed::new("test");
        let (handle, names) = (recorder.inner.handle(), Arc::clone(&recorder.names));
        metrics::with_local_recorder(&recorder, || {
            let recorded = Recorded { handle, names, process: Arc::new(Process::new(Timestamp::UNIX_EPOCH)) };
            measure(&Metrics::new(recorded.clone()));
            recorded
        })
    }

    #[test]
    fn requests_are_counted_while_under_way_and_by_class() {
        let recorded = recorded(|metrics| {
            let in_flight = metrics.in_flight();
            metrics.answered(StatusCode::OK);
            metrics.answered(StatusCode::NOT_FOUND);
            metrics.upkeep(false);
            let text = metrics.recorded.text();
            for line in [
                "test_http_responses{class=\"2xx\"} 1",
                "test_http_responses{class=\"4xx\"} 1",
                "test_core_in_flight_requests 1",
                "test_core_unsealed 1",
                "test_core_active 1",
            ] {
                assert!(text.lines().any(|found| found == line), "{line} in {text}");
            }
            drop(in_flight);
            metrics.upkeep(true);
        });
        let text = recorded.text();
        for line in ["test_core_in_flight_requests 0", "test_core_unsealed 0"] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        assert!(text.contains("\nprocess_start_time_seconds "), "{text}");
    }

    #[test]
    fn json_has_names_with_points_and_whole_samples() {
        let recorded = recorded(|_| {
            metrics::counter!("a.b-c", "class" => "2xx", "path" => "x,y/").increment(3);
            metrics::gauge!("d.e_f").set(1.5);
            let times = metrics::histogram!("g.h");
            times.record(2.0);
            times.record(4.0);
        });
        let shown = recorded.json("2026-06-01T12:00:00Z".parse().expect("an instant"));
        let find = |list: &str, name: &str| {
            let all = shown.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
            all.into_iter().find(|entry| entry["Name"] == name).unwrap_or_default()
        };
        assert_eq!(shown["Timestamp"], "2026-06-01 12:00:00 +0000 UTC");
        assert_eq!(
            find("Counters", "test.a.b-c"),
            json!({ "Name": "test.a.b-c", "Count": 3.0, "Labels": { "class": "2xx", "path": "x,y/" } })
        );
        assert_eq!(find("Gauges", "test.d.e_f"), json!({ "Name": "test.d.e_f", "Value": 1.5, "Labels": {} }));
        let sample = find("Samples", "test.g.h");
        assert_eq!(
            (&sample["Count"], &sample["Sum"], &sample["Mean"]),
            (&json!(2.0), &json!(6.0), &json!(3.0))
        );
        assert_eq!(find("Gauges", "process_open_fds")["Name"], "process_open_fds");
    }

    #[test]
    fn a_format_that_is_not_there_is_refused_in_plain_text() {
        recorded(|metrics| {
            let status = |prometheus: bool, format: &str| metrics.rendered(prometheus)(format).status;
            assert_eq!(status(true, "prometheus"), None);
            assert_eq!(status(false, "prometheus"), Some(400));
            assert_eq!(status(false, ""), None);
            assert_eq!(status(true, "x"), Some(400));
        });
    }
}
