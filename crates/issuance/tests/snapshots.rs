//! Every kind of certificate, byte for byte: fixed keys, serial numbers and clock.
//!
//! The issuers' key is Ed25519, whose signatures are the same each time. What is written down is
//! the structure as `openssl asn1parse` would show it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail loudly"
)]

mod common;

use std::fmt::Write;

use chancery_issuance::{
    CaRequest, CsrRequest, IssuanceRequest, IssuerOptions, PolicyIdentifier, Profile, ProfileConfig,
    RequestedNames, Subject, SubjectKey, create_csr, prepare, prepare_intermediate, prepare_root,
    prepare_self_issued,
};
use common::{LIMITS, csr, hours, issuer, issuer_of, key, now, root, serial, urls};

fn text(text: &str) -> String {
    text.to_owned()
}

fn texts(values: &[&str]) -> Vec<String> {
    values.iter().copied().map(str::to_owned).collect()
}

/// One line per element, indented by depth.
fn dump(der: &[u8]) -> String {
    let mut out = String::new();
    dump_into(&mut out, der, 0);
    out
}

fn dump_into(out: &mut String, mut der: &[u8], depth: usize) {
    while let [tag, first, rest @ ..] = der {
        let (length, rest) = match first {
            0x81 => (usize::from(rest[0]), &rest[1..]),
            0x82 => (usize::from(rest[0]) << 8 | usize::from(rest[1]), &rest[2..]),
            length => (usize::from(*length), rest),
        };
        let (content, after) = rest.split_at(length);
        let indent = "  ".repeat(depth);
        let hex = data_encoding::HEXLOWER.encode(content);
        match tag {
            0x30 | 0x31 | 0xa0..=0xbf => {
                let name = match tag {
                    0x30 => text("sequence"),
                    0x31 => text("set"),
                    tag => format!("[{}]", tag & 0x1f),
                };
                writeln!(out, "{indent}{name}").unwrap();
                dump_into(out, content, depth + 1);
            }
            6 => {
                let oid = const_oid::ObjectIdentifier::from_bytes(content).unwrap();
                let known = const_oid::db::DB.by_oid(&oid).map_or_else(|| oid.to_string(), str::to_owned);
                writeln!(out, "{indent}{known}").unwrap();
            }
            0x0c | 0x13 | 0x16 | 0x17 | 0x18 | 0x81 | 0x82 | 0x86
                if content.is_ascii() && !content.is_empty() =>
            {
                writeln!(out, "{indent}{tag:02x} {:?}", String::from_utf8_lossy(content)).unwrap();
            }
            // The value of an extension is DER once more; a key identifier's own bytes are not.
            4 if matches!(content.first(), Some(0x30 | 0x03 | 0x04 | 0x0c)) => {
                writeln!(out, "{indent}octets of").unwrap();
                dump_into(out, content, depth + 1);
            }
            tag => writeln!(out, "{indent}{tag:02x} {hex}").unwrap(),
        }
        der = after;
    }
}

fn leaf(config: ProfileConfig, names: &RequestedNames, csr_name: &str, options: IssuerOptions) -> String {
    let csr = csr(csr_name);
    let profile = Profile::new(config).unwrap();
    let issuer = issuer_of(&root("ed25519"), "ed25519", options);
    let mut request = IssuanceRequest::new(names, Some(&csr), &profile, LIMITS).unwrap();
    request.ttl = hours(1);
    let prepared = prepare(&request, &SubjectKey::from(&csr), &profile, &issuer, serial(3), now()).unwrap();
    dump(&prepared.sign().unwrap().der)
}

#[test]
fn a_mesh_workload_has_its_spiffe_id_and_nothing_else() {
    let config = ProfileConfig {
        allowed_uri_sans: texts(&["spiffe://cluster.local/*"]),
        require_cn: false,
        use_csr_sans: false,
        key_type: text("any"),
        ..ProfileConfig::default()
    };
    let names = RequestedNames {
        uri_sans: texts(&["spiffe://cluster.local/ns/a/sa/b"]),
        ..RequestedNames::default()
    };
    insta::assert_snapshot!(leaf(config, &names, "no_subject_and_no_attributes", IssuerOptions::default()));
}

#[test]
fn a_leaf_with_everything_a_role_can_ask_for() {
    let config = ProfileConfig {
        allow_any_name: true,
        allowed_uri_sans: texts(&["*"]),
        allowed_other_sans: texts(&["*"]),
        allowed_serial_numbers: texts(&["*"]),
        allowed_user_ids: texts(&["*"]),
        key_type: text("any"),
        key_usage: texts(&["CRLSign", "decipheronly", " ContentCommitment ", "bogus"]),
        ext_key_usage: texts(&["timestamping", "bogus", "ServerAuth"]),
        ext_key_usage_oids: texts(&["1.2.3.4", "2.5.29.37.0"]),
        code_signing_flag: true,
        email_protection_flag: true,
        policy_identifiers: vec![
            PolicyIdentifier { oid: text("1.2.3"), notice: text("hello"), cps: text("http://cps") },
            PolicyIdentifier { oid: text("1.2.4"), ..PolicyIdentifier::default() },
        ],
        basic_constraints_valid_for_non_ca: true,
        organization: texts(&["Müller", "a&b"]),
        ou: texts(&["b", "a", "b"]),
        ..ProfileConfig::default()
    };
    let options = IssuerOptions { urls: urls(), ..IssuerOptions::default() };
    insta::assert_snapshot!(leaf(config, &RequestedNames::default(), "all_kinds_of_names", options));
}

#[test]
fn sign_verbatim_passes_on_what_the_csr_says() {
    let config = ProfileConfig { key_usage: texts(&["KeyAgreement"]), ..ProfileConfig::verbatim() };
    insta::assert_snapshot!(leaf(
        config,
        &RequestedNames::default(),
        "all_kinds_of_names",
        IssuerOptions::default()
    ));
}

#[test]
fn policies_without_qualifiers_stand_before_the_distribution_points() {
    let config = ProfileConfig {
        allow_any_name: true,
        key_type: text("any"),
        policy_identifiers: vec![PolicyIdentifier { oid: text("1.2.3"), ..PolicyIdentifier::default() }],
        ..ProfileConfig::default()
    };
    let options = IssuerOptions { urls: urls(), ..IssuerOptions::default() };
    insta::assert_snapshot!(leaf(config, &RequestedNames::default(), "key_p256", options));
}

#[test]
fn a_root_with_everything() {
    let request = CaRequest {
        names: RequestedNames {
            common_name: text("Root"),
            alt_names: texts(&["r.com"]),
            ip_sans: texts(&["1.1.1.1"]),
            uri_sans: texts(&["spiffe://x"]),
            other_sans: texts(&["1.2.3.4;UTF8:x"]),
            serial_number: text("5"),
            ..RequestedNames::default()
        },
        subject: Subject { ou: texts(&["x"]), ..Subject::default() },
        max_path_length: Some(0),
        permitted_dns_domains: texts(&["a.com", ".b.com"]),
        key_usage: texts(&["DigitalSignature"]),
        not_after: text("9999-12-31T23:59:59Z"),
        ..CaRequest::new("", LIMITS)
    };
    let prepared = prepare_root(&request, &key("ed25519"), &urls(), serial(1), now()).unwrap();
    let warnings: Vec<_> = prepared.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "Max path length of the generated certificate is zero. This certificate cannot be used to issue intermediate CA certificates."
        ]
    );
    insta::assert_snapshot!(dump(&prepared.sign().unwrap().der));
}

#[test]
fn an_intermediate_without_a_name() {
    let request = CaRequest { ttl: hours(100), ..CaRequest::new("", LIMITS) };
    let csr = csr("no_subject_and_no_attributes");
    let issuer = issuer("ed25519");
    let prepared = prepare_intermediate(&request, &csr, &issuer, serial(2), now()).unwrap();
    insta::assert_snapshot!(dump(&prepared.sign().unwrap().der));
}

#[test]
fn an_intermediate_with_the_values_of_its_csr() {
    let request = CaRequest {
        ttl: hours(100),
        use_csr_values: true,
        max_path_length: Some(2),
        skid: text("01:02:03"),
        ..CaRequest::new("ignored", LIMITS)
    };
    let csr = csr("all_kinds_of_names");
    let issuer = issuer("ed25519");
    let prepared = prepare_intermediate(&request, &csr, &issuer, serial(2), now()).unwrap();
    insta::assert_snapshot!(dump(&prepared.sign().unwrap().der));
}

#[test]
fn a_root_signed_anew_by_another_authority() {
    let other = chancery_issuance::Certificate::from_der(&root("p256").der).unwrap();
    let issuer =
        issuer_of(&root("ed25519"), "ed25519", IssuerOptions { urls: urls(), ..IssuerOptions::default() });
    let signed = prepare_self_issued(&other, &issuer).unwrap().sign().unwrap();
    assert_eq!(signed.serial_number, other.serial_number());
    insta::assert_snapshot!(dump(&signed.der));
}

#[test]
fn a_request_for_an_intermediate() {
    let request = CsrRequest {
        names: RequestedNames {
            common_name: text("host.a.com"),
            alt_names: texts(&["b.com", "x@y.com"]),
            other_sans: texts(&["1.2.3.4;UTF8:x"]),
            ..RequestedNames::default()
        },
        subject: Subject { ou: texts(&["b", "a"]), country: texts(&["DE"]), ..Subject::default() },
        add_basic_constraints: true,
        ..CsrRequest::default()
    };
    insta::assert_snapshot!(dump(&create_csr(&request, key("ed25519").as_ref()).unwrap().der));
}

#[test]
fn a_request_that_says_nothing() {
    insta::assert_snapshot!(dump(&create_csr(&CsrRequest::default(), key("ed25519").as_ref()).unwrap().der));
}
