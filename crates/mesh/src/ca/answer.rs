//! What the signer sent becomes the answer, if it is what was asked for and the mesh will believe it.

use std::collections::HashSet;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use chancery_issuance::{Certificate, CertificateError, KeyUsage, PublicKey, Time};

use super::der::{self, oid};
use super::roots::Roots;
use super::signer::SignedChain;

/// How many certificates a signer may send. No chain is that long.
pub const MAX_CERTIFICATES: usize = 100;

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
    /// When all of them and the root are valid.
    from: Time,
    /// Until when.
    until: Time,
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
            && let Ok(leaf) = Certificate::from_pem(first)
            && issued(&leaf, &above.issuer)
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
    let found = text.matches("-----BEGIN ").count();
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
    let identifiers_agree = match (child.authority_key_id(), parent.subject_key_id()) {
        (Some(authority), Some(subject)) => authority == subject,
        _ => true,
    };
    child.issuer_der() == parent.subject_der() && identifiers_agree && child.is_signed_by(parent)
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
    Ok(Above { text: text.to_owned(), roots: Arc::clone(roots), authorities, issuer, from, until })
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
mod tests {
    use chancery_issuance::{PrivateKey, Signer as _};

    use super::*;
    use crate::testing::{
        Authority, HOUR, ME, NOW, Template, basic_constraints, extended_key_usage, key_usage, names, new_key,
        uris,
    };

    fn roots(authorities: &[&Authority]) -> Arc<Roots> {
        let certificates: Vec<_> =
            authorities.iter().map(|authority| authority.certificate.clone()).collect();
        let pem = certificates.iter().map(Certificate::pem).collect();
        Arc::new(Roots { certificates, pem })
    }

    fn signed(certificates: &[&Certificate]) -> SignedChain {
        SignedChain { chain: certificates.iter().map(|one| one.pem()).collect(), root: None }
    }

    /// Always the same key: `finish` is asked for it.
    struct Mesh {
        root: Authority,
        intermediate: Authority,
        key: PrivateKey,
    }

    impl Mesh {
        fn new() -> Self {
            let root = Authority::root("root");
            let intermediate = root.intermediate("intermediate");
            Self { root, intermediate, key: new_key() }
        }

        fn leaf(&self) -> Certificate {
            self.intermediate.sign(&Template::leaf(&[ME]), &self.key)
        }

        fn answer_at(
            &self,
            chain: &SignedChain,
            roots: &Arc<Roots>,
            now: i64,
        ) -> Result<Answer, AnswerError> {
            let identities = [ME.to_owned()];
            let wanted = Wanted { public_key: self.key.public_key(), identities: &identities };
            Answers::default().answer(chain, wanted, roots, Time::from_second(now))
        }

        fn answer(&self, chain: &[&Certificate]) -> Result<Answer, AnswerError> {
            self.answer_at(&signed(chain), &roots(&[&self.root]), NOW)
        }

        fn reason(&self, chain: &[&Certificate]) -> &'static str {
            self.answer(chain).expect_err("refused").reason()
        }
    }

    #[test]
    fn the_leaf_comes_first_and_the_roots_last_whatever_the_order() {
        let mesh = Mesh::new();
        let second = mesh.intermediate.intermediate("second");
        let leaf = second.sign(&Template::leaf(&[ME]), &mesh.key);
        let (a, b, root) = (&mesh.intermediate.certificate, &second.certificate, &mesh.root.certificate);
        for chain in [
            &[&leaf, b, a][..],
            &[&leaf, a, b],
            &[a, b, &leaf],
            &[root, a, &leaf, b, root],
            &[&leaf, b, b, a, &leaf, a, root],
        ] {
            let answer = mesh.answer(chain).expect("one chain");
            assert_eq!(answer.cert_chain, [leaf.pem(), b.pem(), a.pem(), root.pem()]);
            assert_eq!(answer.leaf, leaf);
        }
    }

    #[test]
    fn a_leaf_right_below_the_root_has_two_elements() {
        let mesh = Mesh::new();
        let leaf = mesh.root.sign(&Template::leaf(&[ME]), &mesh.key);
        for chain in [&[&leaf][..], &[&leaf, &mesh.root.certificate]] {
            assert_eq!(mesh.answer(chain).expect("a chain").cert_chain, [leaf.pem(), mesh.root.pem()]);
        }
    }

    #[test]
    fn all_roots_are_in_the_last_element() {
        let mesh = Mesh::new();
        let (other, leaf) = (Authority::root("other"), mesh.leaf());
        let chain = signed(&[&leaf, &mesh.intermediate.certificate]);
        let roots = roots(&[&other, &mesh.root]);
        let answer = mesh.answer_at(&chain, &roots, NOW).expect("a chain");
        assert_eq!(answer.cert_chain.len(), 3);
        assert_eq!(answer.cert_chain[2], format!("{}{}", other.pem(), mesh.root.pem()));
        assert!(answer.cert_chain.iter().all(|element| element.ends_with("-----END CERTIFICATE-----\n")));
    }

    #[test]
    fn what_is_not_certificates_is_refused() {
        let mesh = Mesh::new();
        let leaf = mesh.leaf();
        let chain = signed(&[&leaf, &mesh.intermediate.certificate]).chain;
        let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let broken = "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n";
        let malformed = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for text in [
            String::new(),
            "garbage".to_owned(),
            format!("{chain}{key}"),
            format!("{chain}{broken}"),
            format!("{chain}{malformed}"),
            leaf.pem().repeat(MAX_CERTIFICATES + 1),
        ] {
            let error = mesh.answer_at(&SignedChain { chain: text, root: None }, &roots(&[&mesh.root]), NOW);
            assert_eq!(error.expect_err("refused").reason(), "answer_malformed");
        }
    }

    #[test]
    fn several_chains_and_missing_links_are_refused() {
        let mesh = Mesh::new();
        let leaf = mesh.leaf();
        let stranger = mesh.root.intermediate("stranger");
        let second = mesh.root.sign(&Template::leaf(&[ME]), &mesh.key);
        let deep = mesh.intermediate.intermediate("deep");
        let below_deep = deep.sign(&Template::leaf(&[ME]), &mesh.key);
        let intermediate = &mesh.intermediate.certificate;
        assert_eq!(mesh.reason(&[&leaf, intermediate, &stranger.certificate]), "answer_chain");
        assert_eq!(mesh.reason(&[&leaf, intermediate, &second]), "answer_chain");
        assert_eq!(mesh.reason(&[&below_deep, intermediate]), "answer_chain");
        assert_eq!(mesh.reason(&[&leaf]), "answer_root");
        // The same authority, certified twice: two ways up.
        let again = mesh
            .root
            .sign(&Template { serial: 2, ..Template::authority("intermediate") }, &mesh.intermediate.key);
        assert_eq!(mesh.reason(&[&leaf, intermediate, &again]), "answer_chain");
    }

    #[test]
    fn only_the_current_roots_count() {
        let mesh = Mesh::new();
        let chain = signed(&[&mesh.leaf(), &mesh.intermediate.certificate, &mesh.root.certificate]);
        // Even one of the same name.
        let namesake = Authority::root("root");
        for roots in [roots(&[]), roots(&[&namesake])] {
            let error = mesh.answer_at(&chain, &roots, NOW).expect_err("refused");
            assert_eq!(error, AnswerError::NoRoot);
        }
        // An intermediate that is trusted itself is enough.
        let trusted = roots(&[&mesh.intermediate]);
        assert_eq!(mesh.answer_at(&chain, &trusted, NOW).expect("a chain").cert_chain.len(), 3);
    }

    #[test]
    fn expired_roots_and_authorities_are_refused() {
        let mesh = Mesh::new();
        let brief = |name: &str| Template { not_after: NOW - 1, ..Template::authority(name) };
        let root = Authority::root_with(brief("brief"));
        let leaf = root.sign(&Template::leaf(&[ME]), &mesh.key);
        let error = mesh.answer_at(&signed(&[&leaf]), &roots(&[&root]), NOW).expect_err("refused");
        assert_eq!(error, AnswerError::NoRoot);
        let expired = mesh.root.below(&brief("expired"));
        let leaf = expired.sign(&Template::leaf(&[ME]), &mesh.key);
        assert_eq!(mesh.reason(&[&leaf, &expired.certificate]), "answer_authority");
    }

    #[test]
    fn authorities_are_authorities() {
        let mesh = Mesh::new();
        let with = |extensions: Vec<Vec<u8>>| {
            let authority = mesh.root.below(&Template { extensions, ..Template::authority("odd") });
            let leaf = authority.sign(&Template::leaf(&[ME]), &mesh.key);
            mesh.answer(&[&leaf, &authority.certificate]).map(|_| ()).map_err(|error| error.reason())
        };
        let ca = || basic_constraints(true, None);
        assert_eq!(with(vec![ca(), key_usage(1, &[0x06])]), Ok(()));
        assert_eq!(with(vec![ca()]), Ok(()));
        assert_eq!(with(vec![ca(), extended_key_usage(&[1, 2])]), Ok(()));
        assert_eq!(with(vec![key_usage(1, &[0x06])]), Err("answer_authority"));
        assert_eq!(with(vec![basic_constraints(false, None)]), Err("answer_authority"));
        assert_eq!(with(vec![ca(), key_usage(1, &[0x02])]), Err("answer_authority"));
        assert_eq!(with(vec![ca(), extended_key_usage(&[1])]), Err("answer_authority"));
    }

    #[test]
    fn path_lengths_count_the_authorities_below() {
        let limited = |length| {
            let extensions = vec![basic_constraints(true, Some(length)), key_usage(1, &[0x06])];
            move |name: &str| Template { extensions: extensions.clone(), ..Template::authority(name) }
        };
        let mesh = Mesh::new();
        let first = mesh.root.below(&limited(0)("first"));
        let leaf = first.sign(&Template::leaf(&[ME]), &mesh.key);
        assert!(mesh.answer(&[&leaf, &first.certificate]).is_ok());
        let second = first.intermediate("second");
        let leaf = second.sign(&Template::leaf(&[ME]), &mesh.key);
        assert_eq!(mesh.reason(&[&leaf, &second.certificate, &first.certificate]), "answer_authority");
        // The root's counts as well.
        let root = Authority::root_with(limited(0)("limited"));
        let below = root.intermediate("below");
        let leaf = below.sign(&Template::leaf(&[ME]), &mesh.key);
        let error = mesh.answer_at(&signed(&[&leaf, &below.certificate]), &roots(&[&root]), NOW);
        assert_eq!(error.expect_err("refused"), AnswerError::NoRoot);
    }

    #[test]
    fn the_leaf_is_what_was_asked_for() {
        let mesh = Mesh::new();
        let with = |template: Template| {
            let leaf = mesh.intermediate.sign(&template, &mesh.key);
            let answer = mesh.answer(&[&leaf, &mesh.intermediate.certificate]);
            answer.map(|_| ()).map_err(|error| error.reason())
        };
        let good = || Template::leaf(&[ME]);
        let extensions = |extensions| Template { extensions, ..good() };
        let (usage, purposes) = (|| key_usage(5, &[0xa0]), || extended_key_usage(&[1, 2]));
        assert_eq!(with(good()), Ok(()));
        assert_eq!(with(Template { not_before: NOW + 30, ..good() }), Ok(()));
        let not_ca = basic_constraints(false, None);
        assert_eq!(with(extensions(vec![not_ca, usage(), purposes(), uris(&[ME])])), Ok(()));
        assert_eq!(with(extensions(vec![usage(), uris(&[ME])])), Ok(()));

        for other in [&["spiffe://cluster.local/ns/a/sa/b"][..], &[ME, ME], &[ME, "spiffe://d/x"], &[]] {
            assert_eq!(with(Template::leaf(other)), Err("answer_names"), "{other:?}");
        }
        let dns = names(&[(6, ME.as_bytes()), (2, b"example.com")]);
        assert_eq!(with(extensions(vec![usage(), purposes(), dns])), Err("answer_names"));
        assert_eq!(with(extensions(vec![usage(), purposes()])), Err("answer_names"));

        let ca = basic_constraints(true, None);
        assert_eq!(with(extensions(vec![ca, usage(), purposes(), uris(&[ME])])), Err("answer_leaf"));
        assert_eq!(with(extensions(vec![purposes(), uris(&[ME])])), Err("answer_leaf"));
        for (unused, bits) in [(5, 0x20), (2, 0x84), (1, 0x82)] {
            let wrong = vec![key_usage(unused, &[bits]), purposes(), uris(&[ME])];
            assert_eq!(with(extensions(wrong)), Err("answer_leaf"), "{bits}");
        }
        for wrong in [&[1][..], &[2], &[]] {
            let wrong = vec![usage(), extended_key_usage(wrong), uris(&[ME])];
            assert_eq!(with(extensions(wrong)), Err("answer_leaf"));
        }
        assert_eq!(with(Template { not_after: NOW, ..good() }), Err("answer_leaf"));
        assert_eq!(with(Template { not_before: NOW + 61, ..good() }), Err("answer_leaf"));
        assert_eq!(with(Template { not_after: NOW - 61, ..good() }), Err("answer_leaf"));

        let other_key = mesh.intermediate.sign(&good(), &new_key());
        assert_eq!(mesh.reason(&[&other_key, &mesh.intermediate.certificate]), "answer_key");
    }

    #[test]
    fn what_was_verified_once_is_taken_again_only_while_it_holds() {
        let mesh = Mesh::new();
        let answers = Answers::default();
        let identities = [ME.to_owned()];
        let wanted = Wanted { public_key: mesh.key.public_key(), identities: &identities };
        let trusted = roots(&[&mesh.root]);
        let at = |chain: &SignedChain, roots: &Arc<Roots>, now: i64| {
            answers.answer(chain, wanted, roots, Time::from_second(now)).map_err(|error| error.reason())
        };
        let short = Template { not_after: NOW + HOUR, ..Template::authority("short") };
        let authority = mesh.root.below(&short);
        let issue = |until| {
            let leaf = authority.sign(&Template { not_after: until, ..Template::leaf(&[ME]) }, &mesh.key);
            signed(&[&leaf, &authority.certificate])
        };
        let first = at(&issue(NOW + 10 * HOUR), &trusted, NOW).expect("verified").cert_chain;
        let above = answers.above.load_full().expect("remembered");
        let second = at(&issue(NOW + 9 * HOUR), &trusted, NOW + 1).expect("verified again").cert_chain;
        assert!(Arc::ptr_eq(&above, &answers.above.load_full().expect("remembered")));
        assert_eq!(first[1..], second[1..]);
        assert_ne!(first[0], second[0]);
        // The authority expires.
        assert_eq!(
            at(&issue(NOW + 9 * HOUR), &trusted, NOW + HOUR + 1).expect_err("refused"),
            "answer_authority"
        );
        // The roots change.
        let other = roots(&[&Authority::root("root")]);
        assert_eq!(at(&issue(NOW + HOUR), &other, NOW).expect_err("refused"), "answer_root");
        // The leaf is another authority's.
        let mut stray = signed(&[&mesh.leaf(), &authority.certificate]);
        assert_eq!(at(&stray, &trusted, NOW).expect_err("refused"), "answer_chain");
        // A leaf that does not stand first is found, and nothing wrong is remembered.
        stray.chain =
            format!("{}{}", authority.pem(), authority.sign(&Template::leaf(&[ME]), &mesh.key).pem());
        assert_eq!(at(&stray, &trusted, NOW).expect("verified").cert_chain[1..], second[1..]);
        assert!(Arc::ptr_eq(&above, &answers.above.load_full().expect("remembered")));
    }
}
