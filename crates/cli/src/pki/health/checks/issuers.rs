//! Issuers: how long they and their CRLs live, and where their keys are.

use std::time::Duration;

use chancery_client::{Value, format_duration};
use chancery_issuance::{CrlTimes, Time};

use super::{Finding, Findings, Settings, Status, UNABLE, ok};
use crate::pki::health::facts::{Facts, Fetched, Gap};
use crate::pki::issuer::is_root;

const DAY: u64 = 86_400;

/// Issuers that will expire before a new one could take their place.
pub(super) fn ca_validity_period(facts: &mut Facts<'_>, settings: &Settings) -> Findings {
    let endpoint = facts.path("issuers");
    let ids = match facts.issuers()? {
        Ok(ids) => ids,
        Err(Gap::Unsupported) => return Ok(vec![Finding::too_old(endpoint, "1.11+")]),
        Err(_) => return Ok(Vec::new()),
    };
    let mut findings = Vec::new();
    for id in ids {
        let certificate = match facts.issuer(&id)? {
            Ok(certificate) => certificate,
            Err(fetched) if *fetched == Fetched::Unsupported => {
                return Ok(vec![Finding::too_old(endpoint, "1.11+")]);
            }
            Err(_) => continue,
        };
        let kind = if is_root(&certificate) { "root" } else { "intermediate" };
        let (status, message) = expiry(certificate.not_after(), facts.now, kind, settings);
        findings.push(Finding::new(status, facts.path(&format!("issuer/{id}")), message));
    }
    Ok(findings)
}

fn expiry(end: Time, now: Time, kind: &str, settings: &Settings) -> (Status, String) {
    for (status, word) in [
        (Status::Critical, "critical"),
        (Status::Warning, "warning"),
        (Status::Informational, "informational"),
    ] {
        let window = settings.duration(&format!("{kind}_expiry_{word}"));
        let limit = now.plus(window);
        if end < limit {
            let message = format!(
                "Issuer's validity is outside of the suggested rotation window: issuer is valid until {} but expires \
                 within {} (ending on {}). It is suggested to start rotating this issuer to new key material to avoid \
                 future downtime caused by this current issuer expiring.",
                date(end),
                long(window),
                date(limit)
            );
            return (status, message);
        }
    }
    (Status::Ok, format!("Issuer's validity ({}) is OK", date(end)))
}

fn date(time: Time) -> String {
    time.to_string().split('T').next().unwrap_or_default().to_owned()
}

/// A long time, its smallest unit first, as the peer writes it: a unit counts from more than one of it on, so that
/// 365 days are `5d12mo`, and what is left of a day follows Go's notation.
fn long(duration: Duration) -> String {
    let mut rest = duration;
    let mut text = String::new();
    for (days, name) in [(365, "y"), (30, "mo"), (7, "w"), (1, "d")] {
        let unit = Duration::from_secs(days * DAY);
        if rest > unit {
            let count = rest.as_secs() / unit.as_secs();
            text.insert_str(0, &format!("{count}{name}"));
            rest -= Duration::from_secs(count * unit.as_secs());
        }
    }
    if text.is_empty() || !rest.is_zero() {
        text.insert_str(0, &format_duration(rest));
    }
    text
}

/// CRLs that will go stale before the next one is out.
pub(super) fn crl_validity_period(facts: &mut Facts<'_>, settings: &Settings) -> Findings {
    let endpoint = facts.path("issuers");
    let ids = match facts.issuers()? {
        Ok(ids) => ids,
        Err(Gap::Unsupported) => return Ok(vec![Finding::too_old(endpoint, "1.11+")]),
        Err(_) => return Ok(Vec::new()),
    };
    let (mut complete, mut deltas, mut no_deltas) = (Vec::new(), Vec::new(), false);
    for id in ids {
        match facts.crl(&id, false)? {
            Ok(times) => complete.push((format!("issuer/{id}/crl"), times)),
            Err(fetched) if *fetched == Fetched::Unsupported => {
                return Ok(vec![Finding::too_old(endpoint, "1.11+")]);
            }
            Err(_) => continue,
        }
        match facts.crl(&id, true)? {
            Ok(times) => deltas.push((format!("issuer/{id}/crl/delta"), times)),
            Err(fetched) => no_deltas |= *fetched == Fetched::Unsupported,
        }
    }
    let config = facts.read("config/crl")?;
    let disabled = config.field("disable").and_then(Value::as_bool).unwrap_or_default();
    let mut findings = Vec::new();
    if *config == Fetched::Refused {
        findings.push(facts.refused(
            &facts.path("config/crl"),
            "This token lacks permission to read the CRL configuration for this mount.",
            "No token available so unable read authenticated CRL configuration for this mount.",
            "This prevents the health check from seeing if the CRL is disabled and dropping the severity of this \
             check accordingly.",
        ));
    }
    if no_deltas && deltas.is_empty() {
        findings.push(Finding::new(
            Status::InvalidVersion,
            facts.path("issuer/*/crl/delta"),
            "This health check validates Delta CRLs on Vault 1.12+, but an earlier version of Vault was used. No \
             results about delta CRL validity will be returned.",
        ));
    }
    for (lists, name, parameter) in
        [(complete, "CRL", "crl_expiry_pct_critical"), (deltas, "Delta CRL", "delta_crl_expiry_pct_critical")]
    {
        for (path, times) in lists {
            let (status, message) = staleness(times, facts.now, name, settings.number(parameter), disabled);
            findings.push(Finding::new(status, facts.path(&path), message));
        }
    }
    Ok(findings)
}

fn staleness(times: CrlTimes, now: Time, name: &str, percent: i64, disabled: bool) -> (Status, String) {
    let this = times.this_update;
    // A list that does not say when the next one is due is as good as due.
    let next = times.next_update.unwrap_or(this);
    let total = next.as_second() - this.as_second();
    let used = now.as_second() - this.as_second();
    let share = i64::try_from(i128::from(total) * i128::from(percent) / 100).unwrap_or(i64::MAX);
    if used < share {
        return (Status::Ok, format!("{name}'s validity ({} to {}) is OK.", date(this), date(next)));
    }
    let limit = Time::from_second(this.as_second().saturating_add(share));
    let mut message = format!(
        "{name}'s validity is outside of suggested rotation window: {name}'s next update is expected at {}, but expires \
         within {percent}% of validity window (starting on {} and ending on {}). It is suggested to rotate this {name} \
         and start propagating it to hosts to avoid any issues caused by stale CRLs.",
        date(next),
        date(this),
        date(limit)
    );
    if !disabled {
        return (Status::Critical, message);
    }
    message.push_str(" Because the CRL is disabled, this is less of a concern.");
    (Status::Informational, message)
}

/// Roots whose keys are kept by the server itself.
pub(super) fn hardware_backed_root(facts: &mut Facts<'_>, _: &Settings) -> Findings {
    let endpoint = facts.path("issuers");
    let ids = match facts.issuers()? {
        Ok(ids) => ids,
        Err(Gap::Unsupported) => return Ok(vec![Finding::too_old(endpoint, "1.11+")]),
        Err(_) => return Ok(Vec::new()),
    };
    let (mut refused, mut roots) = (Vec::new(), Vec::new());
    for id in ids {
        let path = format!("issuer/{id}");
        let entry = facts.read(&path)?;
        match facts.certificate(&path, &format!("issuer {id}"))? {
            Err(fetched) if *fetched == Fetched::Unsupported => {
                return Ok(vec![Finding::too_old(endpoint, "1.11+")]);
            }
            Err(fetched) if *fetched == Fetched::Refused => refused.push(path),
            Ok(certificate) if is_root(&certificate) => {
                let Some(key) = entry.field("key_id").and_then(Value::as_str).filter(|key| !key.is_empty())
                else {
                    continue;
                };
                let key_path = format!("key/{key}");
                let key = facts.read(&key_path)?;
                match &*key {
                    Fetched::Unsupported => return Ok(vec![Finding::too_old(endpoint, "1.11+")]),
                    Fetched::Refused => refused.push(key_path),
                    key => {
                        let managed = key.field("managed_key_id").and_then(Value::as_str);
                        roots.push((path, managed.map(str::to_owned)));
                    }
                }
            }
            Err(_) | Ok(_) => {}
        }
    }
    let refused = refused.into_iter().map(|path| {
        facts.refused(
            &facts.path(&path),
            "This token lacks permission for the endpoint for this mount.",
            "No token available so unable for the endpoint for this mount.",
            UNABLE,
        )
    });
    let roots = roots.into_iter().map(|(path, managed)| match managed {
        Some(id) => ok(facts.path(&path), format!("Root issuer was backed by a HSM or KMS Managed Key: {id}.")),
        None => Finding::new(
            Status::Informational,
            facts.path(&path),
            "Root issuer was created using Vault-backed software keys; for added safety of long-lived, important root \
             CAs, you may wish to consider using a HSM or KSM Managed Key to store key material for this issuer.",
        ),
    });
    Ok(refused.chain(roots).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_times_are_written_as_the_peer_writes_them() {
        let hour = 3600;
        for (seconds, text) in [
            (180 * DAY, "6mo"),
            (60 * DAY, "2mo"),
            (365 * DAY, "5d12mo"),
            (730 * DAY, "2y"),
            (1000 * DAY, "9mo2y"),
            (45 * DAY, "24h0m0s2w1mo"),
            (400 * DAY, "5d1mo1y"),
            (61 * DAY, "24h0m0s2mo"),
            (366 * DAY, "24h0m0s1y"),
            (395 * DAY, "2d4w1y"),
            (3660 * DAY, "3d1w10y"),
            (36 * hour, "12h0m0s1d"),
            (hour, "1h0m0s"),
            (0, "0s"),
        ] {
            assert_eq!(long(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_list_is_stale_from_its_share_of_the_time_on() {
        let at = |second| Time::from_second(second);
        let times = CrlTimes { this_update: at(0), next_update: Some(at(1000)) };
        let judge = |now, disabled| staleness(times, at(now), "CRL", 95, disabled).0;
        assert_eq!((judge(949, false), judge(950, false)), (Status::Ok, Status::Critical));
        assert_eq!(judge(950, true), Status::Informational);
        let endless = CrlTimes { next_update: None, ..times };
        assert_eq!(staleness(endless, at(0), "CRL", 95, false).0, Status::Critical);
    }
}
