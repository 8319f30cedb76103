//! Roles that allow more than their author may have meant.

use std::rc::Rc;

use chancery_client::Value;

use super::{Finding, Findings, Settings, Status, UNABLE, ok};
use crate::command::Failure;
use crate::pki::health::facts::{Facts, Fetched, Gap};

/// Names and settings of the roles, and findings about what cannot be read.
struct Roles {
    roles: Vec<(String, Rc<Fetched>)>,
    findings: Vec<Finding>,
}

/// Reads all roles, or says why not.
fn roles(facts: &mut Facts<'_>) -> Result<Result<Roles, Vec<Finding>>, Failure> {
    let endpoint = facts.path("roles");
    let names = match facts.list("roles")? {
        Ok(names) => names,
        Err(Gap::Nothing) => Vec::new(),
        Err(Gap::Unsupported) => return Ok(Err(vec![Finding::too_old(endpoint, "1.11+")])),
        Err(Gap::Refused) => {
            return Ok(Err(vec![facts.refused(
                &endpoint,
                "This token",
                "No token available and so this health check",
                "lacks permission either to list the roles. This restricts the ability to fully execute this health \
                 check.",
            )]));
        }
    };
    let mut found = Roles { roles: Vec::new(), findings: Vec::new() };
    for name in names {
        let path = format!("roles/{name}");
        let role = facts.read(&path)?;
        match &*role {
            Fetched::Data(_) => found.roles.push((name, role)),
            Fetched::Unsupported => return Ok(Err(vec![Finding::too_old(endpoint, "1.11+")])),
            Fetched::Refused => found.findings.push(facts.refused(
                &facts.path(&path),
                "This token lacks permission the endpoint for this mount.",
                "No token available so unable for the endpoint for this mount.",
                UNABLE,
            )),
            Fetched::Nothing | Fetched::Missing => {}
        }
    }
    Ok(Ok(found))
}

impl Roles {
    /// All that was found, or that all is well.
    fn finish(self, facts: &Facts<'_>, well: &str) -> Vec<Finding> {
        let Self { roles, mut findings } = self;
        if findings.is_empty() && !roles.is_empty() {
            findings.push(ok(facts.path("roles"), well));
        }
        findings
    }
}

fn is_on(role: &Fetched, field: &str) -> bool {
    role.field(field).and_then(Value::as_bool).unwrap_or_default()
}

fn allowed_domains(role: &Fetched) -> Vec<&str> {
    let domains = role.field("allowed_domains").and_then(Value::as_array).unwrap_or_default();
    domains.iter().filter_map(Value::as_str).collect()
}

/// Roles for other hosts that allow `localhost` too.
pub(super) fn allows_localhost(facts: &mut Facts<'_>, _: &Settings) -> Findings {
    let mut roles = match roles(facts)? {
        Ok(roles) => roles,
        Err(findings) => return Ok(findings),
    };
    for (name, role) in &roles.roles {
        let domains = allowed_domains(role);
        if is_on(role, "allow_localhost") && !domains.is_empty() {
            roles.findings.push(Finding::new(
                Status::Warning,
                facts.path(&format!("roles/{name}")),
                format!(
                    "Role currently allows localhost issuance with a non-empty allowed_domains ([{}]): this role is \
                     intended for issuing other hostnames and the allow_localhost=true option may be overlooked by \
                     operators. If this role is intended to issue certificates valid for localhost, consider setting \
                     allow_localhost=false and explicitly adding localhost to the list of allowed domains.",
                    domains.join(" ")
                ),
            ));
        }
    }
    Ok(roles.finish(facts, "Roles follow best practices regarding allowing issuance for localhost domains."))
}

/// Roles whose globs may become wildcards.
pub(super) fn allows_glob_wildcards(facts: &mut Facts<'_>, _: &Settings) -> Findings {
    let mut roles = match roles(facts)? {
        Ok(roles) => roles,
        Err(findings) => return Ok(findings),
    };
    for (name, role) in &roles.roles {
        if role.field("allow_wildcard_certificates").is_none() {
            let versions = "with allow_wildcard_certificates (Vault 1.8.9+, 1.9.4+, or 1.10.0+)";
            return Ok(vec![Finding::new(
                Status::InvalidVersion,
                facts.path("roles"),
                format!(
                    "This health check requires a version of Vault {versions}, but an earlier version of Vault Server \
                     was contacted, preventing this health check from running."
                ),
            )]);
        }
        let domains = allowed_domains(role);
        let both = is_on(role, "allow_wildcard_certificates") && is_on(role, "allow_glob_domains");
        if both && domains.iter().any(|domain| domain.contains('*')) {
            roles.findings.push(Finding::new(
                Status::Warning,
                facts.path(&format!("roles/{name}")),
                format!(
                    "Role currently allows wildcard issuance while allowing globs in allowed_domains ([{}]). Because \
                     globs can expand to one or more wildcard character, including wildcards under additional \
                     subdomains, these options are dangerous to enable together. If glob domains are required to be \
                     enabled, it is suggested to either disable wildcard issuance if not desired, or create two \
                     separate roles -- one with wildcard issuance for specified domains and one with glob matching \
                     enabled for concrete domain identifiers.",
                    domains.join(" ")
                ),
            ));
        }
    }
    let well = "Roles follow best practices regarding restricting wildcard certificate issuance in roles.";
    Ok(roles.finish(facts, well))
}

/// Roles that store every certificate.
pub(super) fn no_store_false(facts: &mut Facts<'_>, settings: &Settings) -> Findings {
    let mut roles = match roles(facts)? {
        Ok(roles) => roles,
        Err(findings) => return Ok(findings),
    };
    let config = facts.read("config/crl")?;
    if *config == Fetched::Refused {
        roles.findings.push(facts.refused(
            &facts.path("config/crl"),
            "This token lacks so permission to read the CRL configuration for this mount.",
            "No token available so unable read authenticated CRL configuration for this mount.",
            "This prevents the health check from seeing if the CRL is set to auto_rebuild=true and lowering the \
             severity of check results appropriately.",
        ));
    }
    let (status, message) = match is_on(&config, "auto_rebuild") {
        false => (
            Status::Warning,
            "Role currently stores every issued certificate (no_store=false). Too many issued and/or revoked \
             certificates can exceed the server's storage limits and make operations slow. It is encouraged to enable \
             auto-rebuild of CRLs to prevent every revocation from creating a new CRL and to limit the number of \
             certificates issued under roles with no_store=false: use shorter lifetimes and/or BYOC revocation instead.",
        ),
        true => (
            Status::Informational,
            "Role currently stores every issued certificate (no_store=false). With auto-rebuild CRL enabled, less \
             performance impact occur on CRL rebuilding, but note that too many issued and/or revoked certificates can \
             exceed the server's storage limits and make operations slow. It is suggested to limit the number of \
             certificates issued under roles with no_store=false: use shorter lifetimes to avoid revocation and/or BYOC \
             revocation instead.",
        ),
    };
    for (name, role) in &roles.roles {
        if !is_on(role, "no_store") && !settings.holds("allowed_roles", name) {
            roles.findings.push(Finding::new(status, facts.path(&format!("roles/{name}")), message));
        }
    }
    Ok(roles.finish(facts, "Roles follow best practices regarding certificate storage."))
}
