//! Whether a certificate is what istiod needs.

use chancery_issuance::{Certificate, PublicKey};
use jiff::Timestamp;

use crate::ca::der::oid::SUBJECT_ALT_NAME;
use crate::ca::der::{DNS_NAME, URI, sequence};
use crate::ca::roots::Roots;
use crate::kubernetes::istiod::IstiodNames;

/// More certificates than this are no chain of ours.
const LONGEST_CHAIN: usize = 10;

/// A certificate with what stands between it and a root.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) leaf: Certificate,
    /// PEM: the leaf, then its issuers; no root.
    pub(super) pem: String,
}

/// Checks a chain, the leaf first and the rest in any order: it is for this key and these names, it is valid now, and it
/// leads to one of the roots.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check(
    pem: &str,
    key: &PublicKey,
    names: &IstiodNames,
    roots: &Roots,
    now: Timestamp,
) -> Result<Checked, String> {
    let certificates = Certificate::all_from_pem(pem).map_err(|error| format!("not a chain: {error}"))?;
    let (leaf, others) = certificates.split_first().ok_or("no certificate")?;
    if leaf.public_key() != Some(key) {
        return Err("the certificate is for another key".into());
    }
    let found = alternative_names(leaf).ok_or("the alternative names cannot be read")?;
    let wanted = names.dns_names.iter().chain([&names.uri]);
    if let Some(missing) = wanted.into_iter().find(|name| !found.contains(&name.as_str())) {
        return Err(format!("the certificate lacks the name {missing}"));
    }
    if leaf.not_before().to_timestamp() > now || leaf.not_after().to_timestamp() <= now {
        return Err("the certificate is not valid now".into());
    }
    let mut chain = vec![leaf];
    let mut top = leaf;
    while !is_anchored(top, roots) {
        let above = |other: &&Certificate| {
            other.subject_der() == top.issuer_der() && !chain.contains(other) && top.is_signed_by(other)
        };
        top = others.iter().find(above).ok_or("the chain does not lead to a root of the mesh")?;
        chain.push(top);
        if chain.len() > LONGEST_CHAIN {
            return Err("the chain is too long".into());
        }
    }
    // A root is trusted for itself, not for standing in a chain.
    let sent = chain.iter().enumerate().filter(|(at, one)| *at == 0 || !roots.certificates.contains(one));
    let pem = sent.map(|(_, one)| pem_of(one)).collect();
    Ok(Checked { leaf: leaf.clone(), pem })
}

fn is_anchored(certificate: &Certificate, roots: &Roots) -> bool {
    roots.certificates.iter().any(|root| root == certificate || certificate.is_signed_by(root))
}

fn pem_of(certificate: &Certificate) -> String {
    let mut pem = certificate.pem().trim_end().to_owned();
    pem.push('\n');
    pem
}

/// DNS names and URIs of a certificate; `None` if they cannot be read.
fn alternative_names(certificate: &Certificate) -> Option<Vec<&str>> {
    let Some((value, _)) = certificate.extension(SUBJECT_ALT_NAME) else { return Some(Vec::new()) };
    // Both are IA5Strings.
    let names = sequence(value)?.into_iter().filter(|(tag, _)| matches!(*tag, DNS_NAME | URI));
    names.map(|(_, name)| std::str::from_utf8(name).ok()).collect()
}
