//! Whether two workloads can trust each other.

use chancery_issuance::Certificate;

use super::dump::Dump;

/// The certificates that the secret `ROOTCA` of both has, byte for byte; those of SPIFFE validators too. One is enough for
/// each to accept the other.
///
/// # Errors
/// One of them has no such secret, or one without certificates that can be read; the sentence says which.
pub fn common_roots(one: &Dump, other: &Dump) -> Result<Vec<Certificate>, String> {
    let one = roots(one).map_err(|text| format!("the first: {text}"))?;
    let other = roots(other).map_err(|text| format!("the second: {text}"))?;
    Ok(one.into_iter().filter(|certificate| other.contains(certificate)).collect())
}

/// The certificates of `ROOTCA`.
fn roots(dump: &Dump) -> Result<Vec<Certificate>, String> {
    let secret = dump.secret("ROOTCA").ok_or("it has no secret ROOTCA")?;
    let mut all = Vec::new();
    for (_, bundle) in secret.content.bundles() {
        let certificates = bundle.certificates();
        all.extend(certificates.map_err(|error| format!("its ROOTCA cannot be read: {error}"))?);
    }
    if all.is_empty() {
        return Err("its ROOTCA holds no certificate".to_owned());
    }
    Ok(all)
}
