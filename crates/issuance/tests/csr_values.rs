//! Certificates that take from their CSR what it says: sign-verbatim and `use_csr_values`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail loudly"
)]

mod common;

use chancery_issuance::{
    CaRequest, CsrRequest, IssuanceRequest, KeyPolicy, Profile, ProfileConfig, RequestedNames, SanSet,
    VerifiedCsr, create_csr, prepare, prepare_intermediate,
};
use common::{LIMITS, csr, hours, issuer, key, now, openssl, serial};

fn list(values: &[&str]) -> Vec<String> {
    values.iter().copied().map(str::to_owned).collect()
}

/// A CSR with names in an order, and with repetitions, that no role would leave alone.
fn unsorted() -> VerifiedCsr {
    let config = "[req]\ndistinguished_name=dn\nreq_extensions=v3\nprompt=no\n[dn]\nCN=cn.example.com\n[v3]\n\
                  subjectAltName=email:b@x,DNS:z,DNS:a,email:a@x,DNS:z,IP:10.0.0.1\n";
    let key = format!("{}/../testkit/testdata/keys/p256.pem", env!("CARGO_MANIFEST_DIR"));
    match openssl(&["req", "-new", "-key", &key, "-config", "/dev/stdin"], config.as_bytes()) {
        Some(pem) => VerifiedCsr::from_pem(&pem, &KeyPolicy::any()).unwrap(),
        None => csr("all_kinds_of_names"),
    }
}

fn verbatim(csr: &VerifiedCsr, names: &RequestedNames) -> (IssuanceRequest, String) {
    let profile = Profile::new(ProfileConfig::verbatim()).unwrap();
    let request = IssuanceRequest::new(names, Some(csr), &profile, LIMITS).unwrap();
    let issuer = issuer("ed25519");
    let signed = prepare(&request, &csr.key(), &profile, &issuer, serial(3), now()).unwrap().sign().unwrap();
    (request, signed.pem)
}

#[test]
fn a_csr_without_sans_yields_a_certificate_without_them() {
    let (request, _) = verbatim(&csr("key_p256"), &RequestedNames::default());
    assert_eq!(request.sans(), &SanSet::default());
}

#[test]
fn sans_keep_their_order_and_repetitions() {
    let csr = unsorted();
    let (request, _) = verbatim(&csr, &RequestedNames::default());
    assert_eq!(request.sans(), csr.sans());
}

#[test]
fn the_common_name_must_be_one_that_could_stand_among_the_names() {
    let csr = csr("no_subject_and_no_attributes");
    let profile = Profile::new(ProfileConfig::verbatim()).unwrap();
    let asked = |common_name: &str| {
        let names = RequestedNames { common_name: common_name.to_owned(), ..RequestedNames::default() };
        let request = IssuanceRequest::new(&names, Some(&csr), &profile, LIMITS)?;
        prepare(&request, &csr.key(), &profile, &issuer("ed25519"), serial(3), now()).map(drop)
    };
    assert_eq!(asked("a b"), Ok(()));
    assert_eq!(asked("a..example.com").unwrap_err().to_string(), "idna: invalid label \"a..example.com\"");
    assert_eq!(
        asked("user@*.example.com").unwrap_err().to_string(),
        "email address user@*.example.com not allowed by this role"
    );
}

#[test]
fn other_names_of_the_body_are_added_to_those_of_the_csr() {
    let names = RequestedNames { other_sans: list(&["1.2.3.4;UTF8:x"]), ..RequestedNames::default() };
    let csr = csr("all_kinds_of_names");
    let (request, _) = verbatim(&csr, &names);
    assert_eq!(request.sans().other.len(), 2);
    assert_eq!(request.sans().dns, csr.sans().dns);

    let request = CaRequest { names, ttl: hours(1), use_csr_values: true, ..CaRequest::new("", LIMITS) };
    let issuer = issuer("ed25519");
    let signed = prepare_intermediate(&request, &csr, &issuer, serial(2), now()).unwrap().sign().unwrap();
    assert!(signed.certificate().unwrap().is_ca());
}

#[test]
fn an_intermediate_takes_the_names_of_its_csr_as_they_stand() {
    let request = CaRequest { ttl: hours(1), use_csr_values: true, ..CaRequest::new("ignored", LIMITS) };
    let issuer = issuer("ed25519");
    let signed =
        prepare_intermediate(&request, &unsorted(), &issuer, serial(2), now()).unwrap().sign().unwrap();
    assert_ne!(signed.certificate().unwrap().common_name(), Some("ignored"));
}

#[test]
fn a_request_made_here_is_read_here_as_it_was_meant() {
    let request = CsrRequest {
        names: RequestedNames {
            common_name: "host.example.com".to_owned(),
            alt_names: list(&["b.example.com", "a.example.com", "me@example.com"]),
            ip_sans: list(&["10.0.0.1"]),
            uri_sans: list(&["spiffe://cluster.local/ns/a/sa/b"]),
            ..RequestedNames::default()
        },
        add_basic_constraints: true,
        ..CsrRequest::default()
    };
    for name in ["rsa2048", "p224", "p521", "ed25519"] {
        let made = create_csr(&request, key(name).as_ref()).unwrap();
        let read = VerifiedCsr::from_pem(&made.pem, &KeyPolicy::any()).unwrap();
        assert_eq!(read.sans().dns, ["host.example.com", "b.example.com", "a.example.com"]);
        assert_eq!(read.asks_for_ca(), Some(true));
        assert_eq!(read.subject().common_name, "host.example.com");
    }
}

#[test]
fn names_are_critical_in_a_request_that_says_so() {
    let names = RequestedNames { uri_sans: list(&["spiffe://d/ns/a/sa/b"]), ..RequestedNames::default() };
    // The identifier of the subject alternative names, and TRUE behind it.
    let critical = [6, 3, 0x55, 0x1d, 0x11, 1, 1, 0xff];
    for critical_names in [false, true] {
        let request = CsrRequest { names: names.clone(), critical_names, ..CsrRequest::default() };
        let made = create_csr(&request, key("p256").as_ref()).unwrap();
        assert_eq!(made.der.windows(critical.len()).any(|window| window == critical), critical_names);
        let read = VerifiedCsr::from_pem(&made.pem, &KeyPolicy::any()).unwrap();
        assert_eq!(read.sans().uri, ["spiffe://d/ns/a/sa/b"]);
    }
}

#[test]
fn an_authority_carries_the_extended_key_usages_it_is_given() {
    let server_auth = [0x2b, 6, 1, 5, 5, 7, 3, 1];
    for (usages, expected) in [(vec![], false), (list(&["ServerAuth", "nonsense"]), true)] {
        let request = CaRequest { ext_key_usage: usages, ..CaRequest::new("sub", LIMITS) };
        let csr = csr("no_subject_and_no_attributes");
        let issuer = issuer("ed25519");
        let prepared = prepare_intermediate(&request, &csr, &issuer, serial(2), now()).unwrap();
        let signed = prepared.sign().unwrap();
        assert_eq!(signed.der.windows(8).any(|part| part == server_auth), expected);
    }
}

#[test]
fn an_intermediate_takes_no_user_ids_from_its_csr() {
    let names = RequestedNames { user_ids: list(&["jane"]), ..RequestedNames::default() };
    let csr = create_csr(&CsrRequest { names, ..CsrRequest::default() }, key("p256").as_ref()).unwrap();
    let csr = VerifiedCsr::from_pem(&csr.pem, &KeyPolicy::any()).unwrap();
    assert_eq!(csr.subject().user_ids, ["jane"]);
    let request = CaRequest { ttl: hours(1), ..CaRequest::new("sub", LIMITS) };
    let issuer = issuer("ed25519");
    let prepared = prepare_intermediate(&request, &csr, &issuer, serial(2), now()).unwrap();
    let signed = prepared.detached().sign().unwrap();
    assert!(!signed.der.windows(4).any(|part| part == b"jane"));
}

#[test]
fn a_subject_key_id_that_is_not_hexadecimal_is_refused_in_the_peers_words() {
    let csr = csr("no_subject_and_no_attributes");
    let issuer = issuer("ed25519");
    for (skid, reason) in [
        ("nonsense", "encoding/hex: invalid byte: U+006E 'n'"),
        ("ab:cd-ef 0", "encoding/hex: odd length hex string"),
        ("abü", "encoding/hex: invalid byte: U+00C3 'Ã'"),
    ] {
        let request = CaRequest { skid: skid.to_owned(), ..CaRequest::new("sub", LIMITS) };
        let refused = prepare_intermediate(&request, &csr, &issuer, serial(2), now()).unwrap_err();
        assert_eq!(refused.to_string(), format!("cannot parse requested SKID value as hex: {reason}"));
    }
}
