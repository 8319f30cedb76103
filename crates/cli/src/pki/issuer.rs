//! An issuer as its mount shows it, and what it is to another one.

use chancery_api::{Clock, SystemClock};
use chancery_client::{Answer, Request, Value};
use chancery_issuance::{Certificate, KeyUsage, Time};

use super::told;
use crate::command::{Call, Failure};

/// An issuer that was read.
#[derive(Debug)]
pub(super) struct KnownIssuer {
    pub(super) certificate: Certificate,
    pub(super) chain: Vec<Certificate>,
    /// Empty if its key is not there.
    pub(super) key_id: String,
}

/// Reads the issuer at `path`.
///
/// # Errors
/// It cannot be read, or is no issuer.
pub(super) fn read_issuer(call: &mut Call<'_>, path: &str) -> Result<KnownIssuer, Failure> {
    let answer = call.answer(&Request::read(path)).map_err(|failure| told(failure, str::to_owned))?;
    issuer_of(answer.as_ref(), path).map_err(Failure::Local)
}

fn issuer_of(answer: Option<&Answer>, path: &str) -> Result<KnownIssuer, String> {
    let data = answer.filter(|answer| answer.data.is_some());
    let answer = data.ok_or("nil response received, certificate field unavailable")?;
    let pem = match answer.field("certificate") {
        None => return Err("response did not contain field: certificate".to_owned()),
        Some(Value::String(pem)) if !pem.is_empty() => pem,
        Some(_) => return Err("field certificate value was blank or not a string".to_owned()),
    };
    let certificate = Certificate::from_pem(pem)
        .map_err(|error| format!("unable to parse issuer {path}'s certificate: {error}"))?;
    let chain = match answer.field("ca_chain") {
        None => {
            return Err(format!(
                "unable to parse issuer {path}'s CA chain: response did not contain field: ca_chain"
            ));
        }
        Some(Value::Array(chain)) => chain.iter().filter_map(Value::as_str).collect(),
        Some(_) => Vec::new(),
    };
    let chain = chain.into_iter().filter(|pem| !pem.trim().is_empty()).map(Certificate::from_pem);
    let chain = chain.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    let key_id = answer.text("key_id").unwrap_or_default().to_owned();
    Ok(KnownIssuer { certificate, chain, key_id })
}

/// Whether `parent`'s key signed `child`, and `parent` is an authority that may sign certificates.
pub(super) fn signed(parent: &Certificate, child: &Certificate) -> bool {
    let sign = KeyUsage::from_names(&["CertSign"]);
    parent.is_ca()
        && parent.key_usage().is_none_or(|usage| usage.contains(sign))
        && child.is_signed_by(parent)
}

/// Whether the certificate is a root: its own issuer by name and by signature.
pub(super) fn is_root(certificate: &Certificate) -> bool {
    certificate.is_self_issued() && signed(certificate, certificate)
}

/// What an issuer is to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Relation {
    /// The child names the parent's name as its issuer's.
    pub(super) subject: bool,
    /// The parent is in the child's chain.
    pub(super) path: bool,
    /// Who trusts the parent can trust the child.
    pub(super) trust: bool,
    /// The child names the parent's key as its issuer's.
    pub(super) key_id: bool,
    /// The parent's key signed the child.
    pub(super) signature: bool,
}

impl Relation {
    /// Compares `child` with `parent`, at the moment `now`.
    ///
    /// # Errors
    /// The child cannot be trusted by anybody now, or the parent may not sign for its names.
    pub(super) fn between(parent: &Certificate, child: &KnownIssuer, now: Time) -> Result<Self, String> {
        let certificate = &child.certificate;
        Ok(Self {
            subject: parent.subject_der() == certificate.issuer_der(),
            path: child.chain.contains(parent),
            trust: is_trusted(parent, certificate, now)?,
            key_id: parent.subject_key_id().unwrap_or_default()
                == certificate.authority_key_id().unwrap_or_default(),
            signature: signed(parent, certificate),
        })
    }

    /// The names and values, in the order of tables.
    pub(super) fn rows(self) -> [(&'static str, bool); 5] {
        [
            ("subject_match", self.subject),
            ("path_match", self.path),
            ("trust_match", self.trust),
            ("key_id_match", self.key_id),
            ("signature_match", self.signature),
        ]
    }
}

/// Whether a chain of `child` and `parent`, or of `child` alone if they are one, is valid now (RFC 5280, 6.1).
fn is_trusted(parent: &Certificate, child: &Certificate, now: Time) -> Result<bool, String> {
    valid_now(child, now)?;
    if child == parent {
        return Ok(true);
    }
    if parent.subject_der() != child.issuer_der() || !signed(parent, child) {
        return Ok(false);
    }
    valid_now(parent, now)?;
    permitted(parent, child)?;
    Ok(true)
}

fn valid_now(certificate: &Certificate, now: Time) -> Result<(), String> {
    let (start, end) = (certificate.not_before(), certificate.not_after());
    let (word, limit) = match () {
        () if now < start => ("before", start),
        () if now > end => ("after", end),
        () => return Ok(()),
    };
    Err(format!("x509: certificate has expired or is not yet valid: current time {now} is {word} {limit}"))
}

/// Name constraints for DNS names (RFC 5280, 4.2.1.10).
fn permitted(parent: &Certificate, child: &Certificate) -> Result<(), String> {
    let domains = parent.permitted_dns_domains().unwrap_or_default();
    if domains.is_empty() {
        return Ok(());
    }
    let names = child.sans().unwrap_or_default().dns;
    match names.iter().find(|name| !domains.iter().any(|domain| is_within(name, domain))) {
        None => Ok(()),
        Some(name) => Err(format!(
            "x509: a root or intermediate certificate is not authorized to sign for this name: DNS name {name:?} is \
             not permitted by any constraint"
        )),
    }
}

/// A domain permits itself and what is below it; one that begins with a dot only what is below it.
fn is_within(name: &str, domain: &str) -> bool {
    let (name, domain) = (name.to_ascii_lowercase(), domain.to_ascii_lowercase());
    match name.strip_suffix(domain.as_str()) {
        Some("") => true,
        Some(rest) => domain.is_empty() || domain.starts_with('.') || rest.ends_with('.'),
        None => false,
    }
}

/// The clock, for certificates.
pub(super) fn now() -> Time {
    Time::from_second(SystemClock.now().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = include_str!("../../tests/data/pki/root.pem");
    const INTERMEDIATE: &str = include_str!("../../tests/data/pki/intermediate.pem");
    const LEAF: &str = include_str!("../../tests/data/pki/leaf.pem");

    fn certificate(pem: &str) -> Certificate {
        Certificate::from_pem(pem).expect("a certificate")
    }

    fn known(pem: &str, chain: &[&str]) -> KnownIssuer {
        let chain = chain.iter().map(|pem| certificate(pem)).collect();
        KnownIssuer { certificate: certificate(pem), chain, key_id: String::new() }
    }

    fn between(parent: &str, child: &KnownIssuer, now: &str) -> Result<[bool; 5], String> {
        let now = Time::parse(now).expect("a time");
        Relation::between(&certificate(parent), child, now)
            .map(|relation| relation.rows().map(|(_, holds)| holds))
    }

    const NOW: &str = "2026-11-27T17:00:00Z";

    #[test]
    fn an_issuer_is_compared_in_five_ways() {
        let child = known(INTERMEDIATE, &[INTERMEDIATE, ROOT]);
        assert_eq!(between(ROOT, &child, NOW), Ok([true; 5]));
        assert_eq!(
            between(ROOT, &known(INTERMEDIATE, &[INTERMEDIATE]), NOW),
            Ok([true, false, true, true, true])
        );
        // The intermediate is no issuer of its own, but who trusts it trusts it.
        assert_eq!(between(INTERMEDIATE, &child, NOW), Ok([false, true, true, false, false]));
        assert_eq!(between(INTERMEDIATE, &known(ROOT, &[ROOT]), NOW), Ok([false; 5]));
        assert!(!signed(&certificate(LEAF), &certificate(LEAF)) && is_root(&certificate(ROOT)));
    }

    #[test]
    fn nobody_trusts_what_is_not_valid_now() {
        let child = known(LEAF, &[]);
        for (now, part) in [
            ("2026-11-01T00:00:00Z", "current time 2026-11-01T00:00:00Z is before 2026-11-26T"),
            ("2027-01-01T00:00:00Z", "current time 2027-01-01T00:00:00Z is after 2026-11-30T"),
        ] {
            let refused = between(ROOT, &child, now).expect_err("refused");
            assert!(refused.contains(part), "{refused}");
        }
    }

    #[test]
    fn a_permitted_domain_permits_itself_and_what_is_below() {
        for (name, domain, within) in [
            ("a.example", "a.example", true),
            ("x.A.example", "a.EXAMPLE", true),
            ("xa.example", "a.example", false),
            ("a.example", ".a.example", false),
            ("x.a.example", ".a.example", true),
            ("example", "a.example", false),
            ("any", "", true),
        ] {
            assert_eq!(is_within(name, domain), within, "{name} {domain}");
        }
        let root = certificate(ROOT);
        assert_eq!(root.permitted_dns_domains(), Some(vec!["ca.example".into(), "b.example".into()]));
        assert_eq!(permitted(&root, &certificate(INTERMEDIATE)), Ok(()));
    }

    #[test]
    fn what_is_no_issuer_is_told_as_the_peer_tells_it() {
        let answer = |json: &str| {
            let data = Value::parse(json).expect("JSON").as_object().cloned();
            issuer_of(Some(&Answer { data, ..Answer::default() }), "p").expect_err("refused")
        };
        assert_eq!(answer("{}"), "response did not contain field: certificate");
        assert_eq!(answer(r#"{"certificate":""}"#), "field certificate value was blank or not a string");
        assert!(answer(r#"{"certificate":"x"}"#).starts_with("unable to parse issuer p's certificate: "));
        let nothing = issuer_of(None, "p").expect_err("refused");
        assert_eq!(nothing, "nil response received, certificate field unavailable");
    }
}
