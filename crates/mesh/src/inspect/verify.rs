//! Whether the workload, the ConfigMap and the CA agree.

use chancery_issuance::Certificate;
use jiff::Timestamp;

use super::chain::{called, verify_chain};
use super::dump::Dump;
use super::findings::{DEFAULT, Expectations, ROOTCA, Severity, findings, trusted, workload_chain};
use super::table::{columns, trust_domain};

/// What the CA says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Authority {
    /// The issuer's certificate first, then what the CA has above it.
    pub chain: Vec<Certificate>,
}

/// One thing that must be so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What must be so.
    pub what: &'static str,
    /// Whether it is.
    pub verdict: Verdict,
    /// Why, or why not.
    pub reason: String,
}

/// Whether it is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is.
    Ok,
    /// It is not.
    Fail,
    /// Nobody said what to compare with.
    Skipped,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fail => "FAIL",
            Self::Skipped => "-",
        }
    }
}

impl Check {
    fn new(what: &'static str, outcome: Result<String, String>) -> Self {
        match outcome {
            Ok(reason) => Self { what, verdict: Verdict::Ok, reason },
            Err(reason) => Self { what, verdict: Verdict::Fail, reason },
        }
    }

    fn skipped(what: &'static str, reason: &str) -> Self {
        Self { what, verdict: Verdict::Skipped, reason: reason.to_owned() }
    }

    /// Checks in a table; ends in a line feed.
    pub fn table(checks: &[Self]) -> String {
        let mut rows = vec![vec!["CHECK".to_owned(), "RESULT".to_owned(), "REASON".to_owned()]];
        let row =
            |check: &Self| vec![check.what.to_owned(), check.verdict.name().to_owned(), check.reason.clone()];
        rows.extend(checks.iter().map(row));
        columns(&rows)
    }
}

const CERTIFICATE: &str = "the workload has a certificate";
const SPIFFE: &str = "it is an X.509-SVID that is valid now";
const TRUSTS: &str = "it leads to ROOTCA";
const GOOD: &str = "ROOTCA holds good roots";
const STATE: &str = "no secret waits or was refused";
const MESH: &str = "ROOTCA is the mesh's root";
const ROOT: &str = "the mesh's root is a root";
const ISSUED: &str = "the CA issued the certificate";
const CHAIN: &str = "the CA leads to the mesh's root";

/// Compares the secrets of a workload with the mesh's roots and with the CA, as far as these are given.
pub fn verify(
    dump: &Dump,
    roots: Option<&[Certificate]>,
    authority: Option<&Authority>,
    now: Timestamp,
) -> Vec<Check> {
    let chain = workload_chain(dump);
    let mut checks = of_the_workload(dump, &chain, now);
    match roots {
        Some(roots) => {
            checks.push(Check::new(MESH, same_roots(dump, roots)));
            checks.push(Check::new(ROOT, are_roots(roots, now)));
        }
        None => checks.extend([MESH, ROOT].map(|what| Check::skipped(what, "no root was given"))),
    }
    let Some(authority) = authority else {
        checks.extend([ISSUED, CHAIN].map(|what| Check::skipped(what, "no CA was asked")));
        return checks;
    };
    checks.push(Check::new(ISSUED, issued(&chain, authority)));
    checks.push(match roots {
        Some(roots) => Check::new(CHAIN, leads(&authority.chain, roots, now)),
        None => Check::skipped(CHAIN, "no root was given"),
    });
    checks
}

fn of_the_workload(dump: &Dump, chain: &[Certificate], now: Timestamp) -> Vec<Check> {
    let expected = Expectations { now, roots: None, least_left: 0 };
    let faults: Vec<_> =
        findings(dump, &expected).into_iter().filter(|finding| finding.severity == Severity::Fault).collect();
    let all = |is_meant: &dyn Fn(&super::Finding) -> bool| -> Option<String> {
        let texts: Vec<&str> =
            faults.iter().filter(|fault| is_meant(fault)).map(|fault| fault.says.as_str()).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    };
    let of_state = |rule: &str| matches!(rule, "warming" | "error_state");
    let state = faults
        .iter()
        .filter(|fault| of_state(fault.rule))
        .map(|fault| format!("{}: {}", fault.secret, fault.says));
    let state: Vec<String> = state.collect();
    let state = if state.is_empty() { Ok(String::new()) } else { Err(state.join("; ")) };
    let state = Check::new(STATE, state.map(|_: String| format!("{} secrets", dump.secrets().len())));
    let good = match dump.secret(ROOTCA).map(|secret| secret.content.bundles()) {
        None => Check::new(GOOD, Err(format!("there is no secret {ROOTCA}"))),
        Some(bundles) => match all(&|fault| fault.secret == ROOTCA && !of_state(fault.rule)) {
            Some(faults) => Check::new(GOOD, Err(faults)),
            None => {
                let roots = bundles.iter().filter_map(|(_, bundle)| bundle.certificates().ok()).flatten();
                let names: Vec<String> = roots.map(|root| called(&root)).collect();
                if names.is_empty() {
                    Check::skipped(GOOD, "they are elsewhere, or waited for")
                } else {
                    Check::new(GOOD, Ok(names.join(", ")))
                }
            }
        },
    };
    let Some(leaf) = chain.first() else {
        let reason = match dump.secret(DEFAULT) {
            None => format!("there is no secret {DEFAULT}"),
            Some(_) => all(&|fault| fault.secret == DEFAULT && fault.rule == "unreadable")
                .unwrap_or_else(|| format!("{DEFAULT} holds no certificate here")),
        };
        let missing = Check::new(CERTIFICATE, Err(reason));
        return vec![missing, Check::skipped(SPIFFE, ""), Check::skipped(TRUSTS, ""), good, state];
    };
    let has_certificate =
        Check::new(CERTIFICATE, Ok(format!("{}, until {}", called(leaf), leaf.not_after())));
    let other = |rule: &str| of_state(rule) || rule == "not_trusted";
    let spiffe = all(&|fault| fault.secret == DEFAULT && !other(fault.rule));
    let spiffe = Check::new(SPIFFE, spiffe.map_or_else(|| Ok(called(leaf)), Err));
    let domain = trust_domain(leaf);
    let trusted = trusted(dump, domain.as_deref());
    let trusts = Check::new(TRUSTS, leads(chain, &trusted, now));
    vec![has_certificate, spiffe, trusts, good, state]
}

/// The way to a trusted certificate, told in names.
fn leads(chain: &[Certificate], trusted: &[Certificate], now: Timestamp) -> Result<String, String> {
    let way = verify_chain(chain, trusted, now).map_err(|error| error.to_string())?;
    let names: Vec<String> = way.iter().skip(1).map(called).collect();
    Ok(if names.is_empty() { "it is trusted itself".to_owned() } else { format!("by {}", names.join(", ")) })
}

fn same_roots(dump: &Dump, roots: &[Certificate]) -> Result<String, String> {
    if dump.secret(ROOTCA).is_none() {
        return Err(format!("there is no secret {ROOTCA}"));
    }
    let expected = Expectations { now: Timestamp::UNIX_EPOCH, roots: Some(roots), least_left: 0 };
    let of_roots = findings(dump, &expected).into_iter();
    let differences: Vec<String> = of_roots
        .filter(|finding| matches!(finding.rule, "root_missing" | "root_unknown"))
        .map(|finding| finding.says)
        .collect();
    if differences.is_empty() {
        let names: Vec<String> = roots.iter().map(called).collect();
        return Ok(names.join(", "));
    }
    Err(differences.join("; "))
}

fn are_roots(roots: &[Certificate], now: Timestamp) -> Result<String, String> {
    let mut wrong = Vec::new();
    for root in roots {
        let name = called(root);
        let (begin, end) = (root.not_before().to_timestamp(), root.not_after().to_timestamp());
        if !root.is_ca() {
            wrong.push(format!("{name} is no authority"));
        } else if !root.is_self_signed() {
            wrong.push(format!("{name} is not self-signed, but an intermediate"));
        }
        if now < begin || now > end {
            wrong.push(format!("{name} is not valid now"));
        }
    }
    if wrong.is_empty() { Ok("self-signed, an authority, valid".to_owned()) } else { Err(wrong.join("; ")) }
}

fn issued(chain: &[Certificate], authority: &Authority) -> Result<String, String> {
    let issuer = authority.chain.first().ok_or("the CA gave no certificate")?;
    let leaf = chain.first().ok_or("there is no certificate to compare with")?;
    if leaf.issuer_der() == issuer.subject_der() && leaf.is_signed_by(issuer) {
        return Ok(format!("signed by {}", called(issuer)));
    }
    let signer = chain.iter().skip(1).find(|other| leaf.is_signed_by(other)).map(called);
    let signer = signer.unwrap_or_else(|| "somebody who is not in the chain".to_owned());
    Err(format!("signed by {signer}, and not by {}", called(issuer)))
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
