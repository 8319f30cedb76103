//! Whether a certificate leads to a trusted one.

use chancery_issuance::{Certificate, KeyUsage};
use jiff::Timestamp;

/// Why a certificate leads to no trusted one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// There is no certificate.
    #[error("there is no certificate")]
    Empty,
    /// Nothing is trusted.
    #[error("there is no trusted certificate")]
    NothingTrusted,
    /// It is not valid now.
    #[error("{0} is not valid now")]
    NotValidNow(String),
    /// Nobody here signed it.
    #[error("nobody here signed {0}")]
    NoIssuer(String),
    /// Who signed it may not.
    #[error("{0} is no authority that may sign certificates here")]
    NotAnAuthority(String),
}

/// No chain has more.
const DEPTH: usize = 10;

/// Nobody who means well sends more.
const MOST: usize = 50;

/// How often a way may be gone on: certificates that sign each other in circles make very many.
const STEPS: usize = 200;

/// Follows the signatures from the first certificate of `chain` over the others, in whatever order they are, to one of
/// `trusted`, which need not be self-signed (RFC 5280, 6.1: lifetimes, names, authority, key usage, path length; policies
/// and name constraints are not looked at). Gives the certificates on the way, the trusted one last.
///
/// # Errors
/// There is no way; the reason is that of the way that led farthest.
pub fn verify_chain(
    chain: &[Certificate],
    trusted: &[Certificate],
    now: Timestamp,
) -> Result<Vec<Certificate>, ChainError> {
    let Some((leaf, others)) = chain.split_first() else { return Err(ChainError::Empty) };
    if trusted.is_empty() {
        return Err(ChainError::NothingTrusted);
    }
    valid(leaf, now)?;
    let mut search =
        Search { others: unique(others), trusted: unique(trusted), now, steps: 0, failure: None };
    // A trusted leaf is trusted.
    let mut way = vec![leaf.clone()];
    if trusted.contains(leaf) || search.follow(&mut way) {
        return Ok(way);
    }
    let (_, reason) = search.failure.take().unwrap_or_else(|| (0, ChainError::NoIssuer(called(leaf))));
    Err(reason)
}

fn unique(certificates: &[Certificate]) -> Vec<Certificate> {
    let mut unique: Vec<Certificate> = Vec::new();
    for certificate in certificates {
        if unique.len() < MOST && !unique.contains(certificate) {
            unique.push(certificate.clone());
        }
    }
    unique
}

struct Search {
    others: Vec<Certificate>,
    trusted: Vec<Certificate>,
    now: Timestamp,
    steps: usize,
    /// How far that way led, and what ended it.
    failure: Option<(usize, ChainError)>,
}

impl Search {
    /// Goes on from the last certificate of the way.
    fn follow(&mut self, way: &mut Vec<Certificate>) -> bool {
        let Some(last) = way.last().cloned() else { return false };
        let signed =
            |issuer: &&Certificate| issuer.subject_der() == last.issuer_der() && last.is_signed_by(issuer);
        let anchors: Vec<Certificate> = self.trusted.iter().filter(signed).cloned().collect();
        let mut found = !anchors.is_empty();
        for anchor in anchors {
            match may_sign(&anchor, way.len(), self.now) {
                Ok(()) => {
                    way.push(anchor);
                    return true;
                }
                Err(reason) => self.fail(way.len(), reason),
            }
        }
        self.steps += 1;
        if way.len() >= DEPTH || self.steps > STEPS {
            return false;
        }
        let steps: Vec<Certificate> = self.others.iter().filter(signed).cloned().collect();
        for step in steps {
            if way.contains(&step) {
                continue;
            }
            found = true;
            if let Err(reason) = may_sign(&step, way.len(), self.now) {
                self.fail(way.len(), reason);
                continue;
            }
            way.push(step);
            if self.follow(way) {
                return true;
            }
            way.pop();
        }
        if !found {
            self.fail(way.len(), ChainError::NoIssuer(called(&last)));
        }
        false
    }

    fn fail(&mut self, length: usize, reason: ChainError) {
        if self.failure.as_ref().is_none_or(|(farthest, _)| length > *farthest) {
            self.failure = Some((length, reason));
        }
    }
}

/// Whether an authority may sign at this place of a way, with `below` certificates below it.
fn may_sign(issuer: &Certificate, below: usize, now: Timestamp) -> Result<(), ChainError> {
    valid(issuer, now)?;
    let sign = KeyUsage::from_names(&["CertSign"]);
    let usage = issuer.key_usage().is_none_or(|usage| usage.contains(sign));
    // RFC 5280, 4.2.1.9: the leaf does not count.
    let deep =
        issuer.path_length().is_none_or(|most| usize::try_from(most).is_ok_and(|most| below <= most + 1));
    if issuer.is_ca() && usage && deep { Ok(()) } else { Err(ChainError::NotAnAuthority(called(issuer))) }
}

fn valid(certificate: &Certificate, now: Timestamp) -> Result<(), ChainError> {
    let (begin, end) = (certificate.not_before().to_timestamp(), certificate.not_after().to_timestamp());
    if begin <= now && now <= end { Ok(()) } else { Err(ChainError::NotValidNow(called(certificate))) }
}

/// What people know a certificate by: its SPIFFE ID, its subject, or its serial number.
pub(super) fn called(certificate: &Certificate) -> String {
    let uri =
        certificate.sans().and_then(|sans| sans.uri.into_iter().find(|uri| uri.starts_with("spiffe://")));
    let subject = certificate.subject_name().map(|subject| subject.to_string());
    let subject = subject.filter(|subject| !subject.is_empty());
    uri.or(subject).unwrap_or_else(|| format!("the certificate {}", certificate.serial_number()))
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
