//! What is counted, and the page that says it.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt::{Display, Write as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chancery_kubernetes::cert_manager::{
    CLUSTER_ISSUER, Certificate, ConditionStatus, ISSUER, READY, Time, condition,
};
use hyper::body::{Body, Frame};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::Key;
use crate::context::Context;
use crate::issuer::IssuerKey;

/// Gauge 0/1: `name, namespace, condition, issuer_name, issuer_kind, issuer_group`.
pub const CERTIFICATE_READY: &str = "certmanager_certificate_ready_status";
/// Gauge, seconds since 1970; 0: unknown.
pub const CERTIFICATE_EXPIRATION: &str = "certmanager_certificate_expiration_timestamp_seconds";
/// Gauge, seconds since 1970; 0: unknown.
pub const CERTIFICATE_NOT_AFTER: &str = "certmanager_certificate_not_after_timestamp_seconds";
/// Gauge, seconds since 1970; 0: unknown.
pub const CERTIFICATE_NOT_BEFORE: &str = "certmanager_certificate_not_before_timestamp_seconds";
/// Gauge, seconds since 1970; 0: unknown.
pub const CERTIFICATE_RENEWAL: &str = "certmanager_certificate_renewal_timestamp_seconds";
/// Gauge 0/1: `name, namespace, condition`.
pub const ISSUER_READY: &str = "certmanager_issuer_ready_status";
/// Gauge 0/1: `name, condition`.
pub const CLUSTER_ISSUER_READY: &str = "certmanager_clusterissuer_ready_status";
/// Counter: `controller`.
pub const SYNC_CALLS: &str = "certmanager_controller_sync_call_count";
/// Counter: `controller`.
pub const SYNC_ERRORS: &str = "certmanager_controller_sync_error_count";
/// Gauge, seconds since 1970.
pub const CLOCK: &str = "certmanager_clock_time_seconds_gauge";

/// Histogram, seconds: `issuer`, `outcome`.
pub const SIGN_SECONDS: &str = "chancery_controller_sign_seconds";
/// Gauge: `controller`. How many keys wait to be worked on now.
pub const QUEUE_LENGTH: &str = "chancery_controller_queue_length";
/// Gauge 0/1: whether this replica works.
pub const LEADS: &str = "chancery_controller_leads";

/// Bounds of histograms, in seconds: from a signature nearby to one that took as long as a request may.
const BOUNDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0];

/// The recorder is the process's; several controllers in one process (in tests) share it.
static RECORDED: OnceLock<PrometheusHandle> = OnceLock::new();

/// What is counted. What the cache knows is not: it is read when somebody asks.
#[derive(Debug, Default)]
pub struct Metrics {}

impl Metrics {
    /// Installs the process's recorder, unless that has been done.
    pub(crate) fn install(&self) -> PrometheusHandle {
        let made = RECORDED.get_or_init(|| {
            // Only an empty list of bounds is refused.
            let builder = PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BOUNDS)
                .unwrap_or_else(|_| PrometheusBuilder::new());
            let recorder = builder.build_recorder();
            let handle = recorder.handle();
            if let Err(error) = metrics::set_global_recorder(recorder) {
                tracing::warn!(%error, "metrics are recorded elsewhere in this process");
            }
            metrics::describe_counter!(SYNC_CALLS, "How often keys were worked on, by controller");
            metrics::describe_counter!(SYNC_ERRORS, "How often that failed, by controller");
            metrics::describe_histogram!(SIGN_SECONDS, "How long signatures took, by issuer and outcome");
            handle
        });
        made.clone()
    }

    /// A key was worked on.
    pub fn synced(&self, controller: &'static str, is_error: bool) {
        metrics::counter!(SYNC_CALLS, "controller" => controller).increment(1);
        // It is there from the first call on, so that a rate can be made of it.
        metrics::counter!(SYNC_ERRORS, "controller" => controller).increment(u64::from(is_error));
    }

    /// An issuer was asked for a signature; it ended like this (`ok`, `refused`, `unavailable`).
    pub fn signed(&self, issuer: &IssuerKey, outcome: &'static str, took: Duration) {
        let issuer = label(issuer);
        metrics::histogram!(SIGN_SECONDS, "issuer" => issuer, "outcome" => outcome).record(took);
    }
}

/// `Issuer/NAMESPACE/NAME` or `ClusterIssuer/NAME`.
fn label(issuer: &IssuerKey) -> String {
    match issuer {
        IssuerKey::Namespaced { namespace, name } => format!("{ISSUER}/{namespace}/{name}"),
        IssuerKey::Cluster { name } => format!("{CLUSTER_ISSUER}/{name}"),
    }
}

/// What is said of one certificate.
struct Row {
    /// Its labels as they are written, without braces.
    labels: String,
    name: String,
    ready: Option<ConditionStatus>,
    not_before: i64,
    not_after: i64,
    renewal: i64,
}

/// What pages that are written at the same time have in common: of ten thousand certificates the rows have some MB.
#[derive(Default)]
pub(crate) struct SharedRows(Mutex<Option<(Instant, Weak<Vec<Row>>)>>);

/// How old rows may be that are shared.
const FRESH: Duration = Duration::from_secs(10);

impl SharedRows {
    fn get(&self, make: impl FnOnce() -> Vec<Row>) -> Arc<Vec<Row>> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made, rows)) = &*last
            && made.elapsed() < FRESH
            && let Some(rows) = rows.upgrade()
        {
            return rows;
        }
        let rows = Arc::new(make());
        *last = Some((Instant::now(), Arc::downgrade(&rows)));
        rows
    }
}

/// The page of metrics. It is written piece by piece: of ten thousand Certificates it has 15 MB.
pub(crate) fn page(context: &Context, shared: &SharedRows) -> Page {
    let handle = context.metrics.install();
    handle.run_upkeep();
    let mut head = handle.render();
    let queues = &context.queues;
    let lengths = [
        ("issuers", queues.issuers.len()),
        ("certificaterequests", queues.requests.len()),
        ("certificates", queues.certificates.len()),
    ];
    begin(&mut head, QUEUE_LENGTH, "Keys that wait to be worked on");
    for (controller, length) in lengths {
        line(&mut head, QUEUE_LENGTH, &format!("controller=\"{controller}\""), length);
    }
    begin(&mut head, CLOCK, "The time, in seconds since 1970");
    line(&mut head, CLOCK, "", context.clock.now().as_second());
    let (mut issuers, mut cluster_issuers) = (String::new(), String::new());
    for (key, issuer) in context.cache.issuers.all() {
        let ready = condition(issuer.conditions(), READY).map(|ready| ready.status);
        match key {
            IssuerKey::Namespaced { namespace, name } => {
                let labels = format!("name=\"{}\",namespace=\"{}\"", escaped(&name), escaped(&namespace));
                statuses(&mut issuers, ISSUER_READY, &labels, ready);
            }
            IssuerKey::Cluster { name } => {
                let labels = format!("name=\"{}\"", escaped(&name));
                statuses(&mut cluster_issuers, CLUSTER_ISSUER_READY, &labels, ready);
            }
        }
    }
    begin(&mut head, ISSUER_READY, "Whether an Issuer is ready");
    head.push_str(&issuers);
    begin(&mut head, CLUSTER_ISSUER_READY, "Whether a ClusterIssuer is ready");
    head.push_str(&cluster_issuers);
    let rows = || context.cache.certificates.all().map(|(key, certificate)| Row::new(&key, &certificate));
    Page { next: Some(head), rows: shared.get(|| rows().collect()), family: 0, at: 0 }
}

impl Row {
    fn new(key: &Key, certificate: &Certificate) -> Self {
        let issuer = &certificate.spec.issuer_ref;
        let status = certificate.status.as_ref();
        let seconds = |time: Option<Time>| time.map_or(0, |time| time.0.as_second());
        Self {
            name: format!("name=\"{}\",namespace=\"{}\"", escaped(&key.name), escaped(&key.namespace)),
            labels: format!(
                "issuer_name=\"{}\",issuer_kind=\"{}\",issuer_group=\"{}\"",
                escaped(&issuer.name),
                escaped(issuer.kind()),
                escaped(issuer.group())
            ),
            ready: condition(certificate.conditions(), READY).map(|ready| ready.status),
            not_before: seconds(status.and_then(|status| status.not_before)),
            not_after: seconds(status.and_then(|status| status.not_after)),
            renewal: seconds(status.and_then(|status| status.renewal_time)),
        }
    }
}

/// A metric's name, what it says, and its value; `None`: one line for each status.
type Family = (&'static str, &'static str, fn(&Row) -> Option<i64>);

/// Families of metrics of certificates: all lines of one stand together in Prometheus' format.
const FAMILIES: [Family; 5] = [
    (CERTIFICATE_READY, "Whether a certificate is ready", |_| None),
    (CERTIFICATE_EXPIRATION, "When a certificate ends, in seconds since 1970", |row| Some(row.not_after)),
    (CERTIFICATE_NOT_AFTER, "When a certificate ends, in seconds since 1970", |row| Some(row.not_after)),
    (CERTIFICATE_NOT_BEFORE, "When a certificate begins, in seconds since 1970", |row| Some(row.not_before)),
    (CERTIFICATE_RENEWAL, "When a certificate is renewed, in seconds since 1970", |row| Some(row.renewal)),
];

/// So many certificates are written at once.
const PIECE: usize = 256;

/// The page as a body.
pub(crate) struct Page {
    next: Option<String>,
    rows: Arc<Vec<Row>>,
    family: usize,
    at: usize,
}

impl Page {
    fn piece(&mut self) -> Option<String> {
        if let Some(next) = self.next.take() {
            return Some(next);
        }
        let (name, help, value) = FAMILIES.get(self.family)?;
        let mut text = String::new();
        if self.at == 0 {
            begin(&mut text, name, help);
        }
        for row in self.rows.iter().skip(self.at).take(PIECE) {
            let Row { labels, name: whose, ready, .. } = row;
            match value(row) {
                Some(value) => line(&mut text, name, &format!("{whose},{labels}"), value),
                None => {
                    for (word, is_so) in words(*ready) {
                        let labels = format!("{whose},condition=\"{word}\",{labels}");
                        line(&mut text, name, &labels, u8::from(is_so));
                    }
                }
            }
        }
        self.at += PIECE;
        if self.at >= self.rows.len() {
            (self.family, self.at) = (self.family + 1, 0);
        }
        Some(text)
    }
}

impl Body for Page {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.piece().map(|text| Ok(Frame::data(Bytes::from(text)))))
    }
}

fn begin(text: &mut String, name: &str, help: &str) {
    // Writing to a string cannot fail, here and below.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
}

fn line(text: &mut String, name: &str, labels: &str, value: impl Display) {
    let _ = match labels {
        "" => writeln!(text, "{name} {value}"),
        labels => writeln!(text, "{name}{{{labels}}} {value}"),
    };
}

/// Each status, and whether it is that one; what is not said is unknown.
fn words(ready: Option<ConditionStatus>) -> [(&'static str, bool); 3] {
    let is_true = ready == Some(ConditionStatus::True);
    let is_false = ready == Some(ConditionStatus::False);
    [("True", is_true), ("False", is_false), ("Unknown", !is_true && !is_false)]
}

fn statuses(text: &mut String, name: &str, labels: &str, ready: Option<ConditionStatus>) {
    for (word, is_so) in words(ready) {
        line(text, name, &format!("{labels},condition=\"{word}\""), u8::from(is_so));
    }
}

/// A value as it may stand between quotation marks. Names of objects have nothing to escape; names in references may.
fn escaped(value: &str) -> Cow<'_, str> {
    if value.contains(['\\', '"', '\n']) {
        Cow::Owned(value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
    } else {
        Cow::Borrowed(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_are_written_at_the_same_time_share_their_rows() {
        let shared = SharedRows::default();
        let one = shared.get(Vec::new);
        assert!(Arc::ptr_eq(&one, &shared.get(Vec::new)));
        let before = Arc::downgrade(&one);
        drop(one);
        let fresh = shared.get(Vec::new);
        assert!(
            before.upgrade().is_none() && Arc::strong_count(&fresh) == 1,
            "nothing is kept between pages"
        );
    }
}
