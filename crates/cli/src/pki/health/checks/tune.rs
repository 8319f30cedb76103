//! The settings of the mount itself: what the audit log shows, and which headers pass.

use chancery_client::Value;

use super::{Finding, Findings, Settings, Status, UNABLE, ok};
use crate::command::Failure;
use crate::pki::health::facts::{Facts, Fetched};
use crate::pki::health::settings::names;

/// What is no secret in requests and in answers, and had better be seen in the audit log.
const VISIBLE: [(&str, &[&str]); 2] = [
    (
        "audit_non_hmac_request_keys",
        &[
            "csr",
            "certificate",
            "issuer_ref",
            "common_name",
            "alt_names",
            "other_sans",
            "ip_sans",
            "uri_sans",
            "ttl",
            "not_after",
            "serial_number",
            "key_type",
            "private_key_format",
            "managed_key_name",
            "managed_key_id",
            "ou",
            "organization",
            "country",
            "locality",
            "province",
            "street_address",
            "postal_code",
            "permitted_dns_domains",
            "policy_identifiers",
            "ext_key_usage_oids",
        ],
    ),
    ("audit_non_hmac_response_keys", &["certificate", "issuing_ca", "serial_number", "error", "ca_chain"]),
];

/// What is secret in both.
const HIDDEN: [&str; 2] = ["private_key", "pem_bundle"];

/// The mount's settings, or why they are not to be had.
fn tune(facts: &mut Facts<'_>, version: &str) -> Result<Result<std::rc::Rc<Fetched>, Finding>, Failure> {
    let endpoint = facts.tune_path();
    let tune = facts.tune().map_err(|failure| {
        crate::pki::told(failure, |text| format!("failed to fetch mount tune information: {text}"))
    })?;
    Ok(match &*tune {
        Fetched::Unsupported => Err(Finding::too_old(endpoint, version)),
        Fetched::Refused => Err(facts.refused(
            &endpoint,
            "This token lacks permission to read the tune endpoint for this mount.",
            "No token available so unable read the tune endpoint for this mount.",
            UNABLE,
        )),
        _ => Ok(tune),
    })
}

/// A list among the settings.
pub(super) fn list(tune: &Fetched, field: &str) -> Result<Vec<String>, Failure> {
    let unreadable =
        |reason| Failure::Local(format!("unable to parse value from server for {field}: {reason}"));
    names(tune.field(field).unwrap_or(&Value::Null)).map_err(unreadable)
}

/// Whether the audit log shows what it may, and hides what it must.
pub(super) fn audit_visibility(facts: &mut Facts<'_>, settings: &Settings) -> Findings {
    let tune = match tune(facts, "1.9+")? {
        Ok(tune) => tune,
        Err(finding) => return Ok(vec![finding]),
    };
    let endpoint = facts.tune_path();
    let ignored = |name: &str| settings.holds("ignored_parameters", name);
    let mut findings = Vec::new();
    for (field, visible) in VISIBLE {
        let shown = list(&tune, field)?;
        for name in visible.iter().filter(|name| !ignored(name) && !shown.iter().any(|shown| shown == *name))
        {
            let message = format!(
                "Mount currently HMACs {name} because it is not in {field}; as this is not a sensitive security \
                 parameter, it is encouraged to disable HMACing to allow better auditing of the PKI engine."
            );
            findings.push(Finding::new(Status::Informational, endpoint.clone(), message));
        }
    }
    for (field, _) in VISIBLE {
        let shown = list(&tune, field)?;
        for name in HIDDEN.iter().filter(|name| !ignored(name) && shown.iter().any(|shown| shown == *name)) {
            let message = format!(
                "Mount currently doesn't HMAC {name} because it is in {field}; as this is a sensitive security \
                 parameter it is encouraged to HMAC it in the Audit logs."
            );
            findings.push(Finding::new(Status::Warning, endpoint.clone(), message));
        }
    }
    if findings.is_empty() {
        findings.push(ok(endpoint, "Mount audit information is configured appropriately."));
    }
    Ok(findings)
}

/// Whether clients can ask for CAs and CRLs only when they have changed.
pub(super) fn allow_if_modified_since(facts: &mut Facts<'_>, _: &Settings) -> Findings {
    let tune = match tune(facts, "1.12+")? {
        Ok(tune) => tune,
        Err(finding) => return Ok(vec![finding]),
    };
    let has = |field: &str, header: &str| -> Result<bool, Failure> {
        Ok(list(&tune, field)?.iter().any(|name| name.eq_ignore_ascii_case(header)))
    };
    let both = has("passthrough_request_headers", "If-Modified-Since")?
        && has("allowed_response_headers", "Last-Modified")?;
    let endpoint = facts.tune_path();
    Ok(vec![match both {
        true => ok(
            endpoint,
            "Mount allows the If-Modified-Since request header and Last-Modified response header.",
        ),
        false => Finding::new(
            Status::Informational,
            endpoint,
            "Mount hasn't enabled If-Modified-Since Request or Last-Modified Response headers; consider enabling these \
             headers to allow clients to fetch CAs and CRLs only when they've changed, reducing total bandwidth.",
        ),
    }])
}
