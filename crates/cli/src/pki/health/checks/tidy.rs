//! Whether what has expired is cleared away.

use std::time::Duration;

use chancery_client::{Value, format_duration};
use chancery_issuance::Time;

use super::{Finding, Findings, Settings, Status, UNABLE, ok};
use crate::command::Failure;
use crate::pki::health::facts::{Facts, Fetched};
use crate::pki::health::settings::{duration, flag};
use crate::pki::told;

/// Whether auto-tidy is on, and does not take its time.
pub(super) fn enable_auto_tidy(facts: &mut Facts<'_>, settings: &Settings) -> Findings {
    let endpoint = facts.path("config/auto-tidy");
    let config = facts.read("config/auto-tidy")?;
    match &*config {
        Fetched::Data(_) => {}
        Fetched::Unsupported => return Ok(vec![Finding::too_old(endpoint, "1.12+,")]),
        Fetched::Refused => {
            return Ok(vec![facts.refused(
                &endpoint,
                "This token lacks permission to read the auto-tidy configuration for this mount.",
                "No token available so unable read authenticated auto-tidy configuration for this mount.",
                "This prevents the health check from functioning at all, as it cannot .",
            )]);
        }
        Fetched::Nothing | Fetched::Missing => return Ok(Vec::new()),
    }
    let field = |name: &str| config.field(name).unwrap_or(&Value::Null);
    let unreadable = |name: &str, reason: String| {
        Failure::Local(format!("error parsing API response from server for {name}: {reason}"))
    };
    let enabled = flag(field("enabled")).map_err(|reason| unreadable("enabled", reason))?;
    if !enabled {
        return Ok(vec![Finding::new(
            Status::Informational,
            endpoint,
            "Auto-tidy is currently disabled; consider enabling auto-tidy to execute tidy operations periodically. \
             This helps the health and performance of a mount.",
        )]);
    }
    let mut findings = Vec::new();
    for name in ["interval_duration", "pause_duration"] {
        let value = duration(field(name)).map_err(|reason| unreadable(name, reason))?;
        let status = match value {
            value if value >= settings.duration(&format!("{name}_critical")) => Status::Critical,
            value if value >= settings.duration(&format!("{name}_warning")) => Status::Warning,
            _ => continue,
        };
        let message = format!(
            "Auto-tidy is configured with too long of a value for {name} ({}); this could impact performance as tidies \
             run too infrequently or take too long to execute.",
            format_duration(value)
        );
        findings.push(Finding::new(status, endpoint.clone(), message));
    }
    if findings.is_empty() {
        findings.push(ok(endpoint, "Auto-tidy is enabled and configured appropriately."));
    }
    Ok(findings)
}

/// Whether tidy has run lately.
pub(super) fn last_run(facts: &mut Facts<'_>, settings: &Settings) -> Findings {
    let endpoint = facts.path("tidy-status");
    let status = facts.read("tidy-status").map_err(|failure| {
        told(failure, |text| format!("failed to fetch mount's tidy-status value: {text}"))
    })?;
    let finished = match &*status {
        Fetched::Data(data) => data.get("time_finished").unwrap_or(&Value::Null),
        Fetched::Unsupported => return Ok(vec![Finding::too_old(endpoint, "1.10+")]),
        Fetched::Refused => {
            return Ok(vec![facts.refused(
                &endpoint,
                "This token lacks permission to read the tidy status endpoint for this mount.",
                "No token available so unable read tidy status endpoint for this mount.",
                UNABLE,
            )]);
        }
        Fetched::Nothing | Fetched::Missing => return Ok(Vec::new()),
    };
    if finished.is_null() {
        return Ok(vec![Finding::new(
            Status::Critical,
            endpoint,
            "Tidy hasn't run since this mount was created; this can point to problems with the mount's auto-tidy \
             configuration or an external tidy executor; this can impact PKI's and the server's performance if not run \
             regularly. It is suggested to enable auto-tidy on this mount.",
        )]);
    }
    let finished = moment(finished).ok_or_else(|| {
        Failure::Local(format!("error parsing time value ({})", crate::output::plain(&finished.into())))
    })?;
    let older = |limit: Duration| finished < facts.now.minus(limit);
    let (critical, warning) = (settings.duration("last_run_critical"), settings.duration("last_run_warning"));
    let (status, limit) = match () {
        () if older(critical) => (Status::Critical, critical),
        () if older(warning) => (Status::Warning, warning),
        () => return Ok(vec![ok(endpoint, "Tidy has run recently on this mount.")]),
    };
    let message = format!(
        "Tidy hasn't run in the last {}; this can point to problems with the mount's auto-tidy configuration or an \
         external tidy executor; this can impact PKI's and the server's performance if not run regularly.",
        format_duration(limit)
    );
    Ok(vec![Finding::new(status, endpoint, message)])
}

/// A time as Unix seconds or in RFC 3339.
fn moment(value: &Value) -> Option<Time> {
    match value {
        Value::Number(_) => value.as_i64().map(Time::from_second),
        Value::String(text) => Time::parse(text).ok().or_else(|| text.parse().ok().map(Time::from_second)),
        _ => None,
    }
}
