//! ACME: whether it is on, can be reached, and its headers get through.

use super::tune::list;
use super::{Finding, Findings, Settings, Status, UNABLE, ok};
use crate::command::Failure;
use crate::pki::health::facts::{Facts, Fetched, Question};
use crate::pki::health::settings::flag;
use crate::pki::issuer::is_root;
use crate::pki::told;

fn refused(facts: &Facts<'_>, endpoint: &str, so: &str) -> Finding {
    facts.refused(
        endpoint,
        "Token lacks permission to read the tune endpoint for this mount.",
        "No token available, unable to read the tune endpoint for this mount.",
        so,
    )
}

fn is_enabled(config: &Fetched) -> Result<bool, Failure> {
    let missing = || Failure::Local("enabled configuration field missing from acme config".to_owned());
    let enabled = config.field("enabled").ok_or_else(missing)?;
    flag(enabled).map_err(|reason| {
        Failure::Local(format!("failed parsing 'enabled' field from ACME config: {reason}"))
    })
}

/// Whether ACME is on where it would help, and works where it is on.
pub(super) fn enable_acme_issuance(facts: &mut Facts<'_>, _: &Settings) -> Findings {
    let (endpoint, cluster_endpoint) = (facts.path("config/acme"), facts.path("config/cluster"));
    let config = facts.read("config/acme")?;
    let cluster = facts.read("config/cluster")?;
    let (total, roots) = count_issuers(facts)?;
    if [&config, &cluster].iter().any(|fetched| ***fetched == Fetched::Unsupported) {
        return Ok(vec![Finding::too_old(endpoint, "1.14+")]);
    }
    if *config == Fetched::Refused {
        return Ok(vec![refused(facts, &endpoint, UNABLE)]);
    }
    if !is_enabled(&config)? {
        let (status, message) = match () {
            () if total == 0 => (Status::NotApplicable, "No issuers in mount, ACME is not required."),
            () if total == roots => {
                (Status::NotApplicable, "Mount contains only root issuers, ACME is not required.")
            }
            () => (
                Status::Informational,
                "Consider enabling ACME support to support a self-rotating PKI infrastructure.",
            ),
        };
        return Ok(vec![Finding::new(status, endpoint, message)]);
    }
    if *cluster == Fetched::Refused {
        return Ok(vec![refused(facts, &cluster_endpoint, UNABLE)]);
    }
    Ok(vec![match reach(facts, &cluster)? {
        None => ok(cluster_endpoint, "ACME enabled and successfully connected to the ACME directory."),
        Some(issue) => Finding::new(
            Status::Warning,
            cluster_endpoint,
            format!("ACME enabled in config but not functional: {issue}"),
        ),
    }])
}

/// How many issuers there are, and how many of them are roots.
fn count_issuers(facts: &mut Facts<'_>) -> Result<(usize, usize), Failure> {
    let (mut total, mut roots) = (0, 0);
    for id in facts.issuers()?.unwrap_or_default() {
        if let Ok(certificate) = facts.issuer(&id)? {
            total += 1;
            roots += usize::from(is_root(&certificate));
        }
    }
    Ok((total, roots))
}

/// Why the directory cannot be reached, if it cannot.
fn reach(facts: &mut Facts<'_>, cluster: &Fetched) -> Result<Option<String>, Failure> {
    let mount = facts.mount.clone();
    let url = match cluster.field("path") {
        None => return Ok(Some("'path' field missing from config".to_owned())),
        Some(path) => path.as_str().unwrap_or_default(),
    };
    if url.is_empty() {
        return Ok(Some(format!("'path' field not configured within /{mount}/config/cluster")));
    }
    if !url.starts_with("https://") {
        return Ok(Some(format!(
            "the configured 'path' field in /{mount}/config/cluster was not using an https scheme"
        )));
    }
    let directory = format!("{}/acme/directory", url.trim_end_matches('/'));
    let asked = match directory.split_once("/v1/") {
        None => Err(Failure::Local("there is no /v1/ in it".to_owned())),
        Some((server, path)) => {
            facts.fetch(Question::Directory { server: server.to_owned(), path: path.to_owned() })
        }
    };
    match asked.map_err(|failure| told(failure, str::to_owned)) {
        Ok(_) => Ok(None),
        Err(Failure::Local(reason)) => Ok(Some(format!(
            "using configured 'path' field ({url:?}) in /{mount}/config/cluster failed to reach the ACME directory: \
             {directory}: {reason}"
        ))),
        Err(other) => Err(other),
    }
}

/// The headers that ACME clients cannot do without.
const HEADERS: [&str; 3] = ["Replay-Nonce", "Link", "Location"];

/// Whether the mount lets ACME's headers through.
pub(super) fn allow_acme_headers(facts: &mut Facts<'_>, _: &Settings) -> Findings {
    let endpoint = facts.path("config/acme");
    let config = facts.read("config/acme")?;
    let tune = facts
        .tune()
        .map_err(|failure| told(failure, |text| format!("failed to fetch mount tune information: {text}")))?;
    if [&config, &tune].iter().any(|fetched| ***fetched == Fetched::Unsupported) {
        return Ok(vec![Finding::too_old(endpoint, "1.14+")]);
    }
    if *config == Fetched::Refused {
        let so = "Without read access to ACME configuration, this health check is unable to function.";
        return Ok(vec![refused(facts, &endpoint, so)]);
    }
    if !is_enabled(&config)? {
        let message = "ACME is not enabled, no additional response headers required.";
        return Ok(vec![Finding::new(Status::NotApplicable, endpoint, message)]);
    }
    let endpoint = facts.tune_path();
    if *tune == Fetched::Refused {
        let so = "Without access to mount tune information, this health check is unable to function.";
        return Ok(vec![refused(facts, &endpoint, so)]);
    }
    let allowed = list(&tune, "allowed_response_headers")?;
    let all = HEADERS.iter().all(|header| allowed.iter().any(|name| name.eq_ignore_ascii_case(header)));
    Ok(vec![match all {
        true => ok(endpoint, "Mount has enabled 'Replay-Nonce', 'Link', 'Location' response headers."),
        false => Finding::new(
            Status::Warning,
            endpoint,
            "Mount hasn't enabled 'Replay-Nonce', 'Link', 'Location' response headers, these are required for ACME to \
             function.",
        ),
    }])
}

#[cfg(test)]
mod tests {
    use chancery_client::Value;

    use super::*;

    #[test]
    fn acme_is_on_in_whatever_form_the_server_says_so() {
        let config = |json: &str| {
            let value = Value::parse(json).expect("JSON");
            Fetched::Data(value.as_object().cloned().unwrap_or_default())
        };
        for (json, wanted) in [(r#"{"enabled":true}"#, true), (r#"{"enabled":"false"}"#, false)] {
            assert_eq!(is_enabled(&config(json)).expect("readable"), wanted);
        }
        assert!(is_enabled(&config("{}")).is_err() && is_enabled(&config(r#"{"enabled":"x"}"#)).is_err());
        assert!(is_enabled(&Fetched::Missing).is_err());
    }
}
