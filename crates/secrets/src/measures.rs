//! What is measured here, under the names that Vault's dashboards know.
//!
//! Names are the peer's, with points and without the prefix that operators choose: whoever installs a
//! recorder puts it before them, and writes them as its format wants. Handles are made once, with the
//! core or with a mount, so that a request only adds numbers. Times are in milliseconds, as the peer's.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, Histogram, Unit};

use crate::engine::Class;
use crate::request::Operation;

/// A histogram of times.
pub(crate) fn times(name: &'static str, of: &'static str) -> Histogram {
    metrics::describe_histogram!(name, Unit::Milliseconds, of);
    metrics::histogram!(name)
}

/// A counter.
pub(crate) fn counter(name: &'static str, of: &'static str) -> Counter {
    metrics::describe_counter!(name, of);
    metrics::counter!(name)
}

/// A gauge.
pub(crate) fn gauge(name: &'static str, of: &'static str) -> Gauge {
    metrics::describe_gauge!(name, of);
    metrics::gauge!(name)
}

/// Records the time from its making to its end.
pub(crate) struct Timer<'a> {
    times: &'a Histogram,
    start: Instant,
}

impl<'a> Timer<'a> {
    /// Starts now.
    pub(crate) fn start(times: &'a Histogram) -> Self {
        Self { times, start: Instant::now() }
    }
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        self.times.record(millis(self.start.elapsed()));
    }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// What the pipeline measures of every request.
pub(crate) struct RequestMeasures {
    with_token: Histogram,
    without_token: Histogram,
    check_token: Histogram,
}

impl RequestMeasures {
    pub(crate) fn new() -> Self {
        Self {
            with_token: times("core.handle_request", "Time to answer a request that needs a token"),
            without_token: times("core.handle_login_request", "Time to answer a request without a token"),
            check_token: times("core.check_token", "Time to look up a token and ask its policies"),
        }
    }

    /// Times a request, from the door to its answer's audit record.
    pub(crate) fn request(&self, public: bool) -> Timer<'_> {
        Timer::start(if public { &self.without_token } else { &self.with_token })
    }

    /// Times the look at a token.
    pub(crate) fn check_token(&self) -> Timer<'_> {
        Timer::start(&self.check_token)
    }
}

/// What is measured of one mount.
pub(crate) struct MountMeasures {
    kind: String,
    path: String,
    /// A series for each operation that ever came, as the peer has it.
    operations: [OnceLock<Histogram>; Operation::COUNT],
    /// What the engine's routes are counted under.
    deeds: Vec<Deed>,
    /// Tokens made: service, batch.
    tokens: [OnceLock<Counter>; 2],
}

/// Something that an engine does at the request of others, such as signing.
struct Deed {
    name: &'static str,
    /// From the first on: a summary is many series, and most mounts do not do everything.
    done: OnceLock<Histogram>,
    /// There before the first, so that an alert sees it come.
    failed: Counter,
}

impl MountMeasures {
    /// Those of the mount at `path`, with the names that its engine's routes are counted under.
    pub(crate) fn new(kind: &str, path: &str, counted: &[&'static str]) -> Self {
        let deeds = counted
            .iter()
            .map(|&name| {
                let failure = format!("{name}.failure");
                metrics::describe_counter!(failure.clone(), "Those that were refused or failed");
                Deed {
                    name,
                    done: OnceLock::new(),
                    failed: metrics::counter!(failure, "mount_point" => path.to_owned()),
                }
            })
            .collect();
        Self {
            kind: kind.to_owned(),
            path: path.to_owned(),
            operations: std::array::from_fn(|_| OnceLock::new()),
            deeds,
            tokens: std::array::from_fn(|_| OnceLock::new()),
        }
    }

    /// A request was dispatched to the engine.
    pub(crate) fn dispatched(
        &self,
        operation: Operation,
        counted: Option<&'static str>,
        succeeded: bool,
        time: Duration,
    ) {
        let time = millis(time);
        if let Some(times) = self.operations.get(operation as usize) {
            times.get_or_init(|| self.of_operation(operation)).record(time);
        }
        let Some(deed) = counted.and_then(|name| self.deeds.iter().find(|deed| deed.name == name)) else {
            return;
        };
        if succeeded {
            deed.done.get_or_init(|| self.of_deed(deed.name)).record(time);
        } else {
            deed.failed.increment(1);
        }
    }

    /// A token was made at this mount.
    pub(crate) fn token_made(&self, token_type: &str) {
        let (place, kind) = if token_type == "batch" { (1, "batch") } else { (0, "service") };
        if let Some(made) = self.tokens.get(place) {
            made.get_or_init(|| self.of_tokens(kind)).increment(1);
        }
    }

    /// `route.update.pki-`: the mount's path stands in the name, with hyphens for slashes.
    fn of_operation(&self, operation: Operation) -> Histogram {
        let name = format!("route.{operation}.{}", self.path.replace('/', "-"));
        metrics::describe_histogram!(name.clone(), Unit::Milliseconds, "Time in the engine of a mount");
        metrics::histogram!(name)
    }

    fn of_deed(&self, name: &'static str) -> Histogram {
        metrics::describe_histogram!(name, Unit::Milliseconds, "Time of those that succeeded");
        metrics::histogram!(name, "mount_point" => self.path.clone())
    }

    fn of_tokens(&self, token_type: &'static str) -> Counter {
        metrics::describe_counter!("token.creation", "Tokens made");
        metrics::counter!(
            "token.creation",
            "auth_method" => self.kind.clone(),
            "mount_point" => self.path.clone(),
            "token_type" => token_type,
        )
    }
}

/// What the audit log measures of itself.
pub(crate) struct AuditMeasures {
    request: Histogram,
    request_failure: Counter,
    response: Histogram,
    response_failure: Counter,
}

impl AuditMeasures {
    pub(crate) fn new() -> Self {
        Self {
            request: times("audit.log_request", "Time to record a request"),
            request_failure: counter("audit.log_request_failure", "Requests that no device recorded"),
            response: times("audit.log_response", "Time to record an answer"),
            response_failure: counter("audit.log_response_failure", "Answers that no device recorded"),
        }
    }

    /// Records a request with `write`.
    pub(crate) fn request<T, E>(&self, write: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        recorded(&self.request, &self.request_failure, write)
    }

    /// Records an answer with `write`.
    pub(crate) fn response<T, E>(&self, write: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        recorded(&self.response, &self.response_failure, write)
    }
}

fn recorded<T, E>(
    times: &Histogram,
    failures: &Counter,
    write: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    let outcome = {
        let _timer = Timer::start(times);
        write()
    };
    failures.increment(outcome.is_err().into());
    outcome
}

/// How many mounts there are.
pub(crate) fn count_mounts(class: Class, count: usize) {
    let table = match class {
        Class::Secret => "logical",
        Class::Auth => "auth",
    };
    metrics::describe_gauge!("core.mount_table.num_entries", "Mounts");
    metrics::gauge!("core.mount_table.num_entries", "type" => table).set(precise(count));
}

/// A count as a gauge has it; exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "nobody has that many")]
pub(crate) fn precise(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `measure` leaves behind, in Prometheus' text format.
    fn measured(measure: impl FnOnce()) -> String {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, measure);
        recorder.handle().render()
    }

    #[test]
    fn what_a_mount_does_is_told_apart_by_outcome() {
        let text = measured(|| {
            let mount = MountMeasures::new("pki", "istioca/", &["pki.sign"]);
            let time = Duration::from_millis(3);
            mount.dispatched(Operation::Update, Some("pki.sign"), true, time);
            mount.dispatched(Operation::Update, Some("pki.sign"), false, time);
            mount.dispatched(Operation::Read, None, true, time);
            mount.token_made("service");
            mount.token_made("batch");
            mount.token_made("batch");
        });
        for line in [
            "pki_sign_count{mount_point=\"istioca/\"} 1",
            "pki_sign_failure{mount_point=\"istioca/\"} 1",
            "route_update_istioca__count 2",
            "route_read_istioca__count 1",
            "token_creation{auth_method=\"pki\",mount_point=\"istioca/\",token_type=\"service\"} 1",
            "token_creation{auth_method=\"pki\",mount_point=\"istioca/\",token_type=\"batch\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        assert!(!text.contains("route_delete"), "a series begins with the first request: {text}");
    }

    #[test]
    fn audit_failures_are_counted_and_the_series_is_there_before_the_first() {
        let none = measured(|| drop(AuditMeasures::new()));
        assert!(none.contains("audit_log_request_failure 0"), "{none}");
        let some = measured(|| {
            let audit = AuditMeasures::new();
            let _ = audit.request(|| Ok::<_, ()>(()));
            let _ = audit.request(|| Err::<(), _>(()));
            let _ = audit.response(|| Ok::<_, ()>(()));
        });
        for line in [
            "audit_log_request_count 2",
            "audit_log_request_failure 1",
            "audit_log_response_count 1",
            "audit_log_response_failure 0",
        ] {
            assert!(some.lines().any(|found| found == line), "{line} in {some}");
        }
    }
}
