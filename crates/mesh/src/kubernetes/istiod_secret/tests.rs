//! The decisions, on certificates of a CA made for the occasion.

use chancery_issuance::{Certificate, TrustDomain};
use chancery_testkit::ca::Ca;

use super::*;

const HOUR: u64 = 3600;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_780_000_000 + seconds).expect("an instant")
}

struct Authority {
    ca: Ca,
    roots: Roots,
}

fn ca(name: &str) -> Authority {
    let ca = Ca::root(name, || at(0));
    let roots = Roots { pem: ca.pem(), certificates: vec![ca.certificate().clone()] };
    Authority { ca, roots }
}

fn wanted(names: &[&str]) -> IstiodSecret {
    let domain = TrustDomain::new("cluster.local").expect("a trust domain");
    let revisions: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    IstiodSecret {
        namespace: "istio-system".into(),
        names: IstiodNames::new(&domain, "istio-system", &revisions, &[]).expect("names"),
        duration: Duration::from_secs(HOUR),
        renew_before: Duration::from_secs(HOUR / 2),
        key: KeyAlgorithm::Ecdsa(256),
    }
}

fn signed(wanted: &IstiodSecret, ca: &Authority, life: Duration) -> TlsSecret {
    let key = PrivateKey::generate(KeySpec::Ec(Curve::P256)).expect("a key");
    let names = RequestedNames {
        alt_names: wanted.names.dns_names.clone(),
        uri_sans: vec![wanted.names.uri.clone()],
        ..RequestedNames::default()
    };
    let request = CsrRequest { names, critical_names: true, ..CsrRequest::default() };
    let csr = create_csr(&request, &key).expect("a CSR");
    let mut secret = TlsSecret::new(SECRET);
    let leaf = ca.ca.sign(&csr.pem, life);
    secret.data.insert(CERTIFICATE.into(), Datum::new(leaf.pem()));
    secret.data.insert(KEY.into(), Datum::new(&key.to_pem(KeyForm::Traditional)));
    secret.data.insert(ROOTS.into(), Datum::new(&ca.roots.pem));
    secret
}

fn reason(action: Action) -> String {
    match action {
        Action::Issue(reason, _) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_good_certificate_is_kept_until_it_is_due() {
    let (ca, wanted) = (ca("root"), wanted(&[]));
    let secret = signed(&wanted, &ca, wanted.duration);
    let decided = |now| wanted.decide(Some(secret.clone()), None, &ca.roots, at(now));
    assert!(matches!(decided(60), Action::Keep(due) if due == at(1800)));
    assert!(matches!(decided(1799), Action::Keep(_)));
    assert_eq!(reason(decided(1800)), "it is due");
    assert_eq!(reason(decided(3600)), "the certificate is not valid now");
    assert_eq!(reason(wanted.decide(None, None, &ca.roots, at(0))), "there is none");
}

#[test]
fn a_certificate_that_lives_less_than_asked_for_is_not_renewed_at_once() {
    let (ca, wanted) = (ca("root"), wanted(&[]));
    let secret = signed(&wanted, &ca, Duration::from_secs(1200));
    // A process that did not issue it itself goes by its dates.
    // It begins half a minute before it was signed; the last third of its life is 410 seconds.
    assert!(
        matches!(wanted.decide(Some(secret), None, &ca.roots, at(60)), Action::Keep(due) if due == at(790))
    );
}

#[test]
fn a_certificate_that_begins_in_the_past_counts_from_when_it_was_issued() {
    let (ca, wanted) = (ca("root"), IstiodSecret { renew_before: Duration::from_secs(1215), ..wanted(&[]) });
    let secret = signed(&wanted, &ca, Duration::from_secs(1200));
    assert_eq!(reason(wanted.decide(Some(secret.clone()), None, &ca.roots, at(0))), "it is due");
    let leaf =
        Certificate::from_pem(&secret.text(CERTIFICATE).expect("a certificate")).expect("a certificate");
    let issued = Issued { serial_number: leaf.serial_number(), at: at(0) };
    let decided = |now| wanted.decide(Some(secret.clone()), Some(&issued), &ca.roots, at(now));
    assert!(matches!(decided(0), Action::Keep(due) if due == at(800)));
    assert_eq!(reason(decided(800)), "it is due");
}

#[test]
fn what_does_not_fit_is_issued_anew() {
    let (ca, other, plain) = (ca("root"), ca("other root"), wanted(&[]));
    let good = signed(&plain, &ca, plain.duration);
    let without = |key: &str| {
        let mut secret = good.clone();
        secret.data.remove(key);
        secret
    };
    let swapped = {
        let mut secret = good.clone();
        let foreign = signed(&plain, &ca, plain.duration);
        secret.data.insert(KEY.into(), foreign.data[KEY].clone());
        secret
    };
    let decided = |secret: TlsSecret| reason(plain.decide(Some(secret), None, &ca.roots, at(60)));
    assert_eq!(decided(without(KEY)), "tls.key is missing or not text");
    assert_eq!(decided(without(CERTIFICATE)), "tls.crt is missing or not text");
    assert_eq!(decided(swapped), "the certificate is for another key");
    let moved = reason(plain.decide(Some(good.clone()), None, &other.roots, at(60)));
    assert_eq!(moved, "the chain does not lead to a root of the mesh");
    let more = reason(wanted(&["default", "canary"]).decide(Some(good.clone()), None, &ca.roots, at(60)));
    assert_eq!(more, "the certificate lacks the name istiod-canary.istio-system.svc");
    let rsa = IstiodSecret { key: KeyAlgorithm::Rsa(2048), ..plain };
    assert_eq!(reason(rsa.decide(Some(good), None, &ca.roots, at(60))), "its key is of another kind");
}

#[test]
fn new_roots_are_written_without_a_new_certificate() {
    let (ca, other, wanted) = (ca("root"), ca("other root"), wanted(&[]));
    let secret = signed(&wanted, &ca, wanted.duration);
    let certificate = secret.data[CERTIFICATE].clone();
    let mut roots = ca.roots.clone();
    roots.certificates.extend(other.roots.certificates);
    roots.pem.push_str(&other.roots.pem);
    let Action::Roots(updated) = wanted.decide(Some(secret), None, &roots, at(60)) else {
        panic!("no new roots")
    };
    assert_eq!(updated.data[CERTIFICATE], certificate);
    assert!(matches!(wanted.decide(Some(*updated), None, &roots, at(60)), Action::Keep(_)));
}

#[test]
fn a_secret_of_cert_manager_is_left_alone() {
    let (ca, wanted) = (ca("root"), wanted(&[]));
    let mut secret = TlsSecret::new(SECRET);
    secret.metadata.annotations = Some([(CERT_MANAGERS.to_owned(), "istiod".to_owned())].into());
    assert!(matches!(wanted.decide(Some(secret), None, &ca.roots, at(0)), Action::Foreign));
}

#[test]
fn secrets_are_not_printed() {
    let (ca, wanted) = (ca("root"), wanted(&[]));
    let secret = format!("{:?}", signed(&wanted, &ca, wanted.duration));
    assert!(secret.contains("[redacted]") && !secret.contains("LS0tLS1"), "{secret}");
}
