//! Stored certificates: who issued them, and how many there are.

use chancery_issuance::Certificate;

use super::{Finding, Findings, Settings, Status, UNABLE, ok};
use crate::pki::health::facts::{Facts, Fetched, Gap};
use crate::pki::issuer::{is_root, signed};

/// Roots that issue leaves themselves.
pub(super) fn root_issued_leaves(facts: &mut Facts<'_>, settings: &Settings) -> Findings {
    let too_old = vec![Finding::too_old(facts.path("issuers"), "1.11+")];
    let ids = match facts.issuers()? {
        Ok(ids) => ids,
        Err(Gap::Unsupported) => return Ok(too_old),
        Err(_) => return Ok(Vec::new()),
    };
    let (mut roots, mut refused) = (Vec::new(), Vec::new());
    for id in &ids {
        let path = format!("issuer/{id}");
        match facts.issuer(id)? {
            Ok(certificate) if is_root(&certificate) => roots.push((path, certificate)),
            Err(fetched) if *fetched == Fetched::Unsupported => return Ok(too_old),
            Err(fetched) if *fetched == Fetched::Refused => refused.push(format!("{path}/json")),
            Ok(_) | Err(_) => {}
        }
    }
    let serials = match facts.list("certs")? {
        Ok(serials) => serials,
        Err(Gap::Unsupported) => return Ok(too_old),
        Err(Gap::Refused) => {
            roots.clear();
            refused = ids.iter().map(|_| "certs".to_owned()).collect();
            Vec::new()
        }
        Err(Gap::Nothing) => Vec::new(),
    };
    let Some(leaves) = leaves(facts, serials, settings.number("certs_to_fetch"))? else { return Ok(too_old) };
    let mut findings: Vec<Finding> = refused
        .into_iter()
        .map(|path| {
            facts.refused(
                &facts.path(&path),
                "This token lacks permission for the endpoint for this mount.",
                "No token available so unable for the endpoint for this mount.",
                UNABLE,
            )
        })
        .collect();
    let has_roots = !roots.is_empty();
    for (path, root) in roots {
        let issued =
            leaves.iter().find(|(_, leaf)| leaf.issuer_der() == root.subject_der() && signed(&root, leaf));
        if let Some((serial, _)) = issued {
            findings.push(Finding::new(
                Status::Warning,
                facts.path(&path),
                format!(
                    "Root issuer has directly issued non-CA leaf certificates ({serial}) instead of via an \
                     intermediate CA. This can make rotating the root CA harder as direct cross-signing of the roots \
                     must be used, rather than cross-signing of the intermediates. It is encouraged to set up and use \
                     an intermediate CA and tidy the mount when all directly issued leaves have expired."
                ),
            ));
        }
    }
    if findings.is_empty() && has_roots {
        findings.push(ok(
            facts.path("certs"),
            "Root certificate(s) in this mount have not directly issued non-CA leaf certificates.",
        ));
    }
    Ok(findings)
}

/// The first so many certificates that are no authorities'; `None` if the server has no such path.
fn leaves(
    facts: &mut Facts<'_>,
    serials: Vec<String>,
    most: i64,
) -> Result<Option<Vec<(String, Certificate)>>, crate::command::Failure> {
    let most = usize::try_from(most).unwrap_or_default();
    let mut leaves = Vec::new();
    for serial in serials {
        if leaves.len() >= most {
            break;
        }
        match facts.certificate(&format!("cert/{serial}"), &format!("leaf {serial}"))? {
            Ok(certificate) if !certificate.is_ca() => leaves.push((serial, certificate)),
            Err(fetched) if *fetched == Fetched::Unsupported => return Ok(None),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(Some(leaves))
}

/// More certificates than the storage likes.
pub(super) fn too_many_certs(facts: &mut Facts<'_>, settings: &Settings) -> Findings {
    let endpoint = facts.path("certs");
    let count = match facts.list("certs")? {
        Ok(serials) => i64::try_from(serials.len()).unwrap_or(i64::MAX),
        Err(Gap::Nothing) => 0,
        Err(Gap::Unsupported) => return Ok(vec![Finding::too_old(endpoint, "1.11+")]),
        Err(Gap::Refused) => {
            return Ok(vec![facts.refused(
                &endpoint,
                "This token lacks permission to list the endpoint for this mount.",
                "No token available so unable to list the endpoint for this mount.",
                UNABLE,
            )]);
        }
    };
    let status = match count {
        count if count >= settings.number("count_critical") => Status::Critical,
        count if count >= settings.number("count_warning") => Status::Warning,
        _ => return Ok(vec![ok(endpoint, "This mount has an OK number of stored certificates.")]),
    };
    let message = format!(
        "This PKI mount has {count} outstanding stored certificates; consider using no_store=false on roles, running \
         tidy operations periodically, and using shorter certificate lifetimes to reduce the storage pressure on this \
         mount."
    );
    Ok(vec![Finding::new(status, endpoint, message)])
}
