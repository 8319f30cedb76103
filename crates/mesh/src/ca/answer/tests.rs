//! Answers, each with its fault.

use chancery_issuance::{PrivateKey, Signer as _};

use super::*;
use crate::testing::{
    Authority, HOUR, ME, NOW, Template, basic_constraints, extended_key_usage, key_usage, names, new_key,
    uris,
};

fn roots(authorities: &[&Authority]) -> Arc<Roots> {
    let certificates: Vec<_> = authorities.iter().map(|authority| authority.certificate.clone()).collect();
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

    fn answer_at(&self, chain: &SignedChain, roots: &Arc<Roots>, now: i64) -> Result<Answer, AnswerError> {
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
    // The leaf names the authority, and its signature is broken.
    let mut forged = authority.sign(&Template::leaf(&[ME]), &mesh.key).der().to_vec();
    *forged.last_mut().expect("a signature") ^= 1;
    let forged = Certificate::from_der(&forged).expect("still a certificate");
    let forged = signed(&[&forged, &authority.certificate]);
    assert_eq!(at(&forged, &trusted, NOW).expect_err("refused"), "answer_chain");
    // A leaf that does not stand first is found, and nothing wrong is remembered.
    stray.chain = format!("{}{}", authority.pem(), authority.sign(&Template::leaf(&[ME]), &mesh.key).pem());
    assert_eq!(at(&stray, &trusted, NOW).expect("verified").cert_chain[1..], second[1..]);
    assert!(Arc::ptr_eq(&above, &answers.above.load_full().expect("remembered")));
}
