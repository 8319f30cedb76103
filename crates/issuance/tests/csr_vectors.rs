//! CSRs named after the fault they carry, each with the sentence that refuses it or the names it
//! yields. `testdata/make_csrs.py` makes them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail loudly"
)]

use std::path::Path;

use chancery_issuance::{KeyPolicy, VerifiedCsr};

const HOST: &str = r#"cn="host.example.com""#;

/// (file, answer); an answer beginning with `cn=` is an accepted one.
#[rustfmt::skip]
const VECTORS: &[(&str, &str)] = &[
    ("all_kinds_of_names", r#"cn="host.example.com" serial="sn-1" uid=["user-1"] dns=["host.example.com"] email=["me@example.com"] ip=[10.1.2.3, fd00::1] uri=["spiffe://cluster.local/ns/a/sa/b"] other=["1.3.6.1.4.1.311.20.2.3;me@corp"] usage=["DigitalSignature", "CertSign"] ca=true"#),
    ("basic_constraints_negative", "certificate request could not be parsed: a path length that is negative or too large"),
    ("cut_short", "certificate request could not be parsed: the encoding ends early"),
    ("extension_boolean_not_der", "certificate request could not be parsed: a boolean that is neither true nor false"),
    ("extension_twice", "certificate request could not be parsed: certificate request contains duplicate requested extensions"),
    ("extensions_in_two_attributes", "certificate request could not be parsed: certificate request contains duplicate requested extensions"),
    ("key_bits_unused", "certificate request could not be parsed: a bit string with unused bits"),
    ("key_ed25519", HOST),
    ("key_ed448", "Refusing to sign CSR with empty PublicKey. This usually means the SubjectPublicKeyInfo field has an OID not recognized, such as 1.2.840.113549.1.1.10 for rsaPSS."),
    ("key_k256", "certificate request could not be parsed: x509: unsupported elliptic curve"),
    ("key_p224", HOST),
    ("key_p256", HOST),
    ("key_p384", HOST),
    ("key_p521", HOST),
    ("key_point_compressed", "certificate request could not be parsed: x509: failed to unmarshal elliptic curve point"),
    ("key_point_off_curve", "request signature invalid"),
    ("key_rsa1024", "RSA keys < 2048 bits are unsafe and not supported"),
    ("key_rsa2048", HOST),
    ("key_rsa2056", HOST),
    ("label_new", HOST),
    ("length_indefinite", "certificate request could not be parsed: an indefinite or oversized length"),
    ("length_not_minimal", "certificate request could not be parsed: a length that is not minimal"),
    ("no_subject_and_no_attributes", r#"cn="""#),
    ("not_a_request", "certificate request could not be parsed: an unexpected tag"),
    ("other_attribute", HOST),
    ("san_directory_name", "certificate request could not be parsed: a subject alternative name of an unsupported kind"),
    ("san_dns_empty", "certificate request could not be parsed: an empty subject alternative name"),
    ("san_dns_nul", "certificate request could not be parsed: x509: SAN dNSName is malformed"),
    ("san_dns_utf8", "certificate request could not be parsed: x509: SAN dNSName is malformed"),
    ("san_email_newline", "certificate request could not be parsed: x509: SAN rfc822Name is malformed"),
    ("san_ip_five_bytes", "certificate request could not be parsed: an iPAddress of neither 4 nor 16 bytes"),
    ("san_ip_mapped", "certificate request could not be parsed: x509: SAN iPAddress contains IPv4-mapped IPv6 address"),
    ("san_not_a_sequence", "certificate request could not be parsed: an unexpected tag"),
    ("san_other_name_bad_utf8", "certificate request could not be parsed: an otherName that is not UTF-8"),
    ("san_other_name_ia5", "could not parse requested other SAN: no UTF-8 string found in OtherName"),
    ("san_registered_id", "certificate request could not be parsed: a subject alternative name of an unsupported kind"),
    ("san_trailing_bytes", "certificate request could not be parsed: asn1: syntax error: trailing data"),
    ("san_unknown_tag", "certificate request could not be parsed: a subject alternative name of an unsupported kind"),
    ("san_uri_blank_in_host", "certificate request could not be parsed: x509: cannot parse URI"),
    ("san_uri_empty_label", "certificate request could not be parsed: x509: cannot parse URI"),
    ("san_uri_scheme_in_capitals", r#"cn="host.example.com" uri=["http://Foo/Bar"]"#),
    ("signature_broken", "request signature invalid"),
    ("signed_by_another_key", "request signature invalid"),
    ("signed_p256_sha1", HOST),
    ("signed_p256_sha224", "request signature invalid"),
    ("signed_p256_sha384", HOST),
    ("signed_p256_sha512", HOST),
    ("signed_pss_salt_20", "request signature invalid"),
    ("signed_pss_salt_32", HOST),
    ("signed_rsa_md5", "request signature invalid"),
    ("signed_rsa_sha1", HOST),
    ("signed_rsa_sha224", "request signature invalid"),
    ("signed_rsa_sha384", HOST),
    ("signed_rsa_sha512", HOST),
    ("subject_bad_utf8", "certificate request could not be parsed: a string whose bytes are not of its type"),
    ("subject_bmp_string", r#"cn="höst""#),
    ("subject_not_a_string", "certificate request could not be parsed: a value that is not a string"),
    ("subject_nul", "certificate request could not be parsed: a NUL in the subject"),
    ("subject_teletex_string", r#"cn="höst""#),
    ("trailing_bytes", "certificate request could not be parsed: asn1: syntax error: trailing data"),
    ("trailing_bytes_inside", "certificate request could not be parsed: asn1: syntax error: trailing data"),
];

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/csr"))
}

fn pem(name: &str) -> String {
    std::fs::read_to_string(folder().join(format!("{name}.pem"))).unwrap()
}

fn answer(pem: &str) -> String {
    let csr = match VerifiedCsr::from_pem(pem, &KeyPolicy::any()) {
        Ok(csr) => csr,
        Err(refusal) => return refusal.to_string(),
    };
    let (subject, sans) = (csr.subject(), csr.sans());
    let mut text = format!("cn={:?}", subject.common_name);
    if !subject.serial_number.is_empty() {
        text += &format!(" serial={:?}", subject.serial_number);
    }
    let mut list = |name: &str, values: String| {
        if values != "[]" {
            text += &format!(" {name}={values}");
        }
    };
    list("uid", format!("{:?}", subject.user_ids));
    list("dns", format!("{:?}", sans.dns));
    list("email", format!("{:?}", sans.email));
    list("ip", format!("{:?}", sans.ip));
    list("uri", format!("{:?}", sans.uri));
    let other: Vec<_> = sans.other.iter().map(|name| format!("{};{}", name.oid, name.value)).collect();
    list("other", format!("{other:?}"));
    list(
        "usage",
        format!("{:?}", csr.key_usage().into_iter().flat_map(|usage| usage.names()).collect::<Vec<_>>()),
    );
    if let Some(ca) = csr.asks_for_ca() {
        text += &format!(" ca={ca}");
    }
    text
}

#[test]
fn every_csr_is_accepted_or_refused_for_the_fault_it_is_named_after() {
    let mut wrong = Vec::new();
    for (name, expected) in VECTORS {
        let got = answer(&pem(name));
        if got != *expected {
            wrong.push(format!("{name}\n  expected: {expected}\n  got:      {got}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_vector_is_without_an_expected_answer() {
    for entry in std::fs::read_dir(folder()).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let name = file.strip_suffix(".pem").unwrap();
        assert!(VECTORS.iter().any(|(known, _)| *known == name), "{name}");
    }
}

#[test]
fn a_csr_is_found_in_whatever_text_clients_send() {
    let good = pem("key_p256");
    let body: String = good.lines().filter(|line| !line.starts_with("-----")).collect();
    for text in [
        good.trim_end().to_owned(),
        format!("leading text\n{good}trailing text"),
        good.replace('\n', "\r\n"),
        good.replace("CERTIFICATE REQUEST", "ANYTHING"),
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{body}\n-----END CERTIFICATE REQUEST-----"),
        format!(
            "-----BEGIN CERTIFICATE REQUEST-----\nName: value\n\n{body}\n-----END CERTIFICATE REQUEST-----\n"
        ),
        format!("{good}{}", pem("signature_broken")),
    ] {
        assert_eq!(answer(&text), HOST, "{text}");
    }
    for (text, refusal) in [
        ("", "\"csr\" is empty"),
        ("nonsense", "csr contains no data"),
        (body.as_str(), "csr contains no data"),
        (good.replace('\n', " ").as_str(), "csr contains no data"),
        (good.replace('\n', "\\n").as_str(), "csr contains no data"),
        (good.replace("-----BEGIN", "  -----BEGIN").as_str(), "csr contains no data"),
    ] {
        assert_eq!(answer(text), refusal, "{text}");
    }
}

#[test]
fn the_key_policy_is_the_roles() {
    for (csr, key_type, bits, expected) in [
        ("key_rsa2048", "rsa", 0, ""),
        ("key_rsa2056", "rsa", 2048, ""),
        ("key_rsa2048", "rsa", 4096, "role requires a minimum of a 4096-bit key, but CSR's key is 2048 bits"),
        ("key_rsa1024", "rsa", 0, "role requires a minimum of a 2048-bit key, but CSR's key is 1024 bits"),
        ("key_p256", "rsa", 0, "role requires keys of type rsa"),
        ("key_p384", "ec", 256, ""),
        ("key_p224", "ec", 0, "role requires a minimum of a 256-bit key, but CSR's key is 224 bits"),
        ("key_p224", "ec", 224, ""),
        ("key_ed25519", "ec", 0, "role requires keys of type ec"),
        ("key_ed25519", "ed25519", 0, ""),
        ("key_p256", "ed25519", 0, "role requires keys of type ed25519"),
        ("key_p224", "any", 521, ""),
    ] {
        let policy = KeyPolicy::new(key_type, bits).unwrap();
        let refusal = VerifiedCsr::from_pem(&pem(csr), &policy).err().map(|refusal| refusal.to_string());
        assert_eq!(refusal.unwrap_or_default(), expected, "{csr} {key_type} {bits}");
    }
}
