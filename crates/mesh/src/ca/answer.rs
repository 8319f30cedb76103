//! What the signer sent becomes the answer, if it is what was asked for and the mesh will believe it.

use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use chancery_issuance::{Certificate, CertificateError, KeyUsage, PublicKey, Time, VerifyingKey};

use super::der::{self, oid};
use super::roots::Roots;
use super::signer::SignedChain;

/// How many certificates a signer may send. No chain is that long.
pub const MAX_CERTIFICATES: usize = 100;

/// How every PEM block begins.
const BEGIN: &str = "-----BEGIN ";

/// How far the signer's clock may be ahead of ours.
const LEEWAY: std::time::Duration = std::time::Duration::from_secs(60);

/// Why what came back is not passed on. The caller itself learns nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// Not certificates in PEM.
    #[error("signer's answer: {0}")]
    Certificate(#[from] CertificateError),
    /// PEM blocks that are no certificates, or do not decode.
    #[error("signer's answer has {found} PEM blocks, of which {certificates} are certificates")]
    OtherBlocks {
        /// How many begin.
        found: usize,
        /// How many are certificates.
        certificates: usize,
    },
    /// Too many.
    #[error("signer's answer has {0} certificates, more than {MAX_CERTIFICATES}")]
    TooMany(usize),
    /// There is not one way from one leaf up through all of them.
    #[error("signer's certificates are not one chain: {0}")]
    NotOneChain(&'static str),
    /// One that issued another must not.
    #[error("the authority at position {position} of the chain {what}")]
    Authority {
        /// Its place; the leaf's is 0.
        position: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// Nobody whom the mesh trusts issued it.
    #[error("the chain does not lead to a root of the mesh that is valid now")]
    NoRoot,
    /// Another key than the CSR's.
    #[error("the certificate is for another key than the CSR's")]
    OtherKey,
    /// Other names than were asked for.
    #[error("the certificate's names are not exactly {0:?}")]
    OtherNames(Vec<String>),
    /// Something else about the leaf.
    #[error("the certificate {0}")]
    Leaf(&'static str),
}

impl AnswerError {
    /// A word for metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Certificate(_) | Self::OtherBlocks { .. } | Self::TooMany(_) => "answer_malformed",
            Self::NotOneChain(_) => "answer_chain",
            Self::Authority { .. } => "answer_authority",
            Self::NoRoot => "answer_root",
            Self::OtherKey => "answer_key",
            Self::OtherNames(_) => "answer_names",
            Self::Leaf(_) => "answer_leaf",
        }
    }
}

/// What was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The CSR's key.
    pub public_key: &'a PublicKey,
    /// The names.
    pub identities: &'a [String],
}

/// What the caller gets.
#[derive(Debug, Clone)]
pub struct Answer {
    /// PEM: one certificate each, the leaf first, no root among them; then once more all the mesh's roots. At least two.
    pub cert_chain: Vec<String>,
    /// The leaf.
    pub leaf: Certificate,
}

/// Verifies answers. What stands above the leaves is mostly the same, and is verified once.
#[derive(Debug, Default)]
pub struct Answers {
    above: ArcSwapOption<Above>,
}

/// What stood above a leaf, verified.
#[derive(Debug)]
struct Above {
    /// The text behind the leaf's.
    text: String,
    /// Against these.
    roots: Arc<Roots>,
    /// From the leaf's issuer up, without roots.
    authorities: Vec<Certificate>,
    /// Who issued the leaf: the first of them, or a root.
    issuer: Certificate,
    /// Its key, taken apart once; `None` for a kind that the library cannot keep so.
    key: Option<VerifyingKey>,
    /// When all of them and the root are valid.
    from: Time,
    /// Until when.
    until: Time,
}

impl Above {
    /// Whether another leaf is from the same issuer, as [`issued`] has it.
    fn issued(&self, leaf: &Certificate) -> bool {
        match &self.key {
            Some(key) => names_as_issuer(leaf, &self.issuer) && leaf.is_verified_by(key),
            None => issued(leaf, &self.issuer),
        }
    }
}

impl Answers {
    /// Turns what the signer sent into the answer.
    ///
    /// # Errors
    /// It is not one chain, not what was asked for, or not from a root of the mesh.
    pub fn answer(
        &self,
        signed: &SignedChain,
        wanted: Wanted<'_>,
        roots: &Arc<Roots>,
        now: Time,
    ) -> Result<Answer, AnswerError> {
        let (first, rest) = split(&signed.chain);
        if let Some(above) = self.above.load_full()
            && above.text == rest
            && Arc::ptr_eq(&above.roots, roots)
            && (above.from..=above.until).contains(&now)
            && first.matches(BEGIN).count() == 1
            && let Ok(leaf) = Certificate::from_pem(first)
            && above.issued(&leaf)
        {
            return finish(leaf, &above.authorities, wanted, roots, now);
        }
        let (leaf, authorities) = one_chain(read(&signed.chain)?)?;
        let above = above(&leaf, authorities, rest, roots, now)?;
        let answer = finish(leaf, &above.authorities, wanted, roots, now)?;
        // Only if the leaf stood first is the text behind it what stands above it.
        if Certificate::from_pem(first).is_ok_and(|leaf| leaf == answer.leaf) {
            self.above.store(Some(Arc::new(above)));
        }
        Ok(answer)
    }
}

/// The text up to the end of its first block, and the rest.
fn split(text: &str) -> (&str, &str) {
    const END: &str = "-----END CERTIFICATE-----";
    text.find(END).map_or((text, ""), |at| text.split_at(at + END.len()))
}

fn read(text: &str) -> Result<Vec<Certificate>, AnswerError> {
    // Blocks that do not decode would otherwise be passed over.
    let found = text.matches(BEGIN).count();
    if found > MAX_CERTIFICATES {
        return Err(AnswerError::TooMany(found));
    }
    let certificates = Certificate::all_from_pem(text)?;
    if certificates.is_empty() {
        return Err(CertificateError::Missing.into());
    }
    if certificates.len() != found {
        return Err(AnswerError::OtherBlocks { found, certificates: certificates.len() });
    }
    Ok(certificates)
}

/// Whether one issued the other, by names, key identifiers and signature.
fn issued(child: &Certificate, parent: &Certificate) -> bool {
    names_as_issuer(child, parent) && child.is_signed_by(parent)
}

/// Whether one says that the other issued it.
fn names_as_issuer(child: &Certificate, parent: &Certificate) -> bool {
    let identifiers_agree = match (child.authority_key_id(), parent.subject_key_id()) {
        (Some(authority), Some(subject)) => authority == subject,
        _ => true,
    };
    child.issuer_der() == parent.subject_der() && identifiers_agree
}

/// Orders certificates from the leaf up: each once, roots left out. All must be on the one way up.
fn one_chain(certificates: Vec<Certificate>) -> Result<(Certificate, Vec<Certificate>), AnswerError> {
    let several = certificates.len() > 1;
    let mut seen = HashSet::new();
    let mut left: Vec<Certificate> = certificates
        .into_iter()
        .filter(|one| seen.insert(one.der().to_vec()))
        // A workload has the roots from elsewhere.
        .filter(|one| !several || !one.is_self_signed())
        .collect();
    let is_issuer = |one: &Certificate| left.iter().any(|other| other != one && issued(other, one));
    let mut leaves = left.iter().enumerate().filter(|(_, one)| !is_issuer(one)).map(|(index, _)| index);
    let leaf = leaves.next().ok_or(AnswerError::NotOneChain("it has no leaf"))?;
    if leaves.next().is_some() {
        return Err(AnswerError::NotOneChain("it has several ends, or a link is missing"));
    }
    let leaf = left.swap_remove(leaf);
    let mut authorities: Vec<Certificate> = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let top = authorities.last().unwrap_or(&leaf);
        let mut issuers = left.iter().enumerate().filter(|(_, one)| issued(top, one)).map(|(index, _)| index);
        let next = issuers.next().ok_or(AnswerError::NotOneChain("a link is missing"))?;
        if issuers.next().is_some() {
            return Err(AnswerError::NotOneChain("it has several ways up"));
        }
        authorities.push(left.swap_remove(next));
    }
    Ok((leaf, authorities))
}

/// Holds what stands above a leaf against the rules of RFC 5280, 6.1.4, up to a root of the mesh.
fn above(
    leaf: &Certificate,
    authorities: Vec<Certificate>,
    text: &str,
    roots: &Arc<Roots>,
    now: Time,
) -> Result<Above, AnswerError> {
    let (mut from, mut until) = (Time::from_second(i64::MIN), Time::end_of_time());
    // How many authorities stand below; those that were issued to themselves do not count.
    let mut below = 0;
    let mut anchor = None;
    for (position, one) in std::iter::once(leaf).chain(&authorities).enumerate() {
        if position > 0 {
            if let Some(what) = unfit(one, below, now) {
                return Err(AnswerError::Authority { position, what });
            }
            (from, until) = (from.max(one.not_before()), until.min(one.not_after()));
            below += u32::from(!one.is_self_issued());
        }
        if anchor.is_none() {
            let issued_it = |root: &&Certificate| issued(one, root) && unfit(root, below, now).is_none();
            // An authority may also be trusted itself.
            let is_it = |root: &&Certificate| position > 0 && *root == one;
            anchor = roots.certificates.iter().find(|root| is_it(root) || issued_it(root));
        }
    }
    let root = anchor.ok_or(AnswerError::NoRoot)?;
    (from, until) = (from.max(root.not_before()), until.min(root.not_after()));
    let issuer = authorities.first().unwrap_or(root).clone();
    let key = leaf.key_of_issuer(&issuer);
    Ok(Above { text: text.to_owned(), roots: Arc::clone(roots), authorities, issuer, key, from, until })
}

/// Why a certificate cannot be an authority's above so many others.
fn unfit(authority: &Certificate, below: u32, now: Time) -> Option<&'static str> {
    if !authority.is_ca() {
        return Some("is no authority's: its basic constraints do not say so");
    }
    if authority.key_usage().is_some_and(|usage| !usage.contains(KeyUsage::from_names(&["CertSign"]))) {
        return Some("may not sign certificates: its key usage lacks keyCertSign");
    }
    if authority.path_length().is_some_and(|length| length < below) {
        return Some("has more authorities below it than its path length allows");
    }
    if now < authority.not_before() || now > authority.not_after() {
        return Some("is not valid now");
    }
    if !usages_allow(authority, true) {
        return Some("has extended key usages without serverAuth and clientAuth");
    }
    None
}

/// Whether extended key usages allow both ends of TLS, or do not limit them (SPIFFE X.509-SVID, 4.4).
fn usages_allow(certificate: &Certificate, any_will_do: bool) -> bool {
    let Some((value, _)) = certificate.extension(oid::EXTENDED_KEY_USAGE) else { return true };
    let usages = der::sequence(value).unwrap_or_default();
    let has = |usage: &[u8]| usages.contains(&(der::OID, usage));
    (has(oid::SERVER_AUTH) && has(oid::CLIENT_AUTH)) || (any_will_do && has(oid::ANY_EXTENDED_KEY_USAGE))
}

/// Holds the leaf against what was asked for, and lays the answer out.
fn finish(
    leaf: Certificate,
    authorities: &[Certificate],
    wanted: Wanted<'_>,
    roots: &Roots,
    now: Time,
) -> Result<Answer, AnswerError> {
    if leaf.public_key() != Some(wanted.public_key) {
        return Err(AnswerError::OtherKey);
    }
    if !has_exactly(&leaf, wanted.identities) {
        return Err(AnswerError::OtherNames(wanted.identities.to_vec()));
    }
    if let Some(what) = unfit_leaf(&leaf, now) {
        return Err(AnswerError::Leaf(what));
    }
    let mut cert_chain = Vec::with_capacity(authorities.len() + 2);
    cert_chain.push(leaf.pem().to_owned());
    cert_chain.extend(authorities.iter().map(|one| one.pem().to_owned()));
    cert_chain.push(roots.pem.clone());
    Ok(Answer { cert_chain, leaf })
}

/// Whether a certificate's names are these URIs and nothing else.
fn has_exactly(leaf: &Certificate, identities: &[String]) -> bool {
    let Some((value, _)) = leaf.extension(oid::SUBJECT_ALT_NAME) else { return false };
    let Some(names) = der::sequence(value) else { return false };
    let mut found: Vec<&[u8]> = Vec::with_capacity(names.len());
    for (tag, name) in names {
        if tag != der::URI {
            return false;
        }
        found.push(name);
    }
    let mut wanted: Vec<&[u8]> = identities.iter().map(String::as_bytes).collect();
    found.sort_unstable();
    wanted.sort_unstable();
    found == wanted
}

/// What is wrong with a workload's certificate (SPIFFE X.509-SVID, 4 and 5.2).
fn unfit_leaf(leaf: &Certificate, now: Time) -> Option<&'static str> {
    if leaf.is_ca() {
        return Some("is an authority's");
    }
    let named = |name| KeyUsage::from_names(&[name]);
    let Some(usage) = leaf.key_usage() else { return Some("has no key usage") };
    if !usage.contains(named("DigitalSignature")) {
        return Some("may not sign: its key usage lacks digitalSignature");
    }
    if usage.contains(named("CertSign")) || usage.contains(named("CRLSign")) {
        return Some("has the key usage keyCertSign or cRLSign");
    }
    if !usages_allow(leaf, false) {
        return Some("has extended key usages without serverAuth and clientAuth");
    }
    if leaf.not_after() <= leaf.not_before() {
        return Some("ends before it begins");
    }
    if now.plus(LEEWAY) < leaf.not_before() {
        return Some("is not valid yet");
    }
    if leaf.not_after() <= now {
        return Some("has expired already");
    }
    None
}

#[cfg(test)]
mod tests;
