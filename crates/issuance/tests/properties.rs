//! Whatever is accepted is signed and reads back; names outside the role never appear.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail loudly"
)]

mod common;

use chancery_issuance::{
    Certificate, IssuanceRequest, Issuer, KeyPolicy, Profile, ProfileConfig, Refusal, RequestedNames, SanSet,
    SerialNumber, SubjectKey, Time, VerifiedCsr, prepare,
};
use common::{LIMITS, csr, issuer, now, serial};
use der::Decode;
use proptest::prelude::*;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// Names near the edge of `*.example.com`, and far from it.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-zA-Z0-9*._@-]{0,12}",
        "[a-z*]{0,4}(\\.[a-z*]{0,4}){0,2}\\.?example\\.com\\.?",
        "[a-zA-Z]{1,4}@([a-z*]{1,4}\\.)?example\\.com",
        "\\PC{0,20}",
        Just("localhost".to_owned()),
        Just("evil.org\0.example.com".to_owned()),
    ]
}

fn rules() -> impl Strategy<Value = ProfileConfig> {
    (any::<[bool; 8]>(), prop_oneof![Just("example.com"), Just("*.example.com"), Just("")]).prop_map(
        |([bare, subdomains, globs, wildcards, localhost, hostnames, require_cn, disabled], domain)| {
            ProfileConfig {
                allowed_domains: vec![domain.to_owned()],
                allow_bare_domains: bare,
                allow_subdomains: subdomains,
                allow_glob_domains: globs,
                allow_wildcard_certificates: wildcards,
                allow_localhost: localhost,
                enforce_hostnames: hostnames,
                require_cn,
                allowed_uri_sans: vec!["spiffe://cluster.local/*".to_owned()],
                cn_validations: if disabled {
                    vec!["disabled".to_owned()]
                } else {
                    ProfileConfig::default().cn_validations
                },
                key_type: "any".to_owned(),
                ..ProfileConfig::default()
            }
        },
    )
}

fn sign(issuer: &Issuer, profile: &Profile, names: &RequestedNames) -> Result<(SanSet, Vec<u8>), Refusal> {
    let request = IssuanceRequest::new(names, None, profile, LIMITS)?;
    let key = SubjectKey::from(&csr("key_p256"));
    let prepared = prepare(&request, &key, profile, issuer, serial(9), now())?;
    Ok((request.sans().clone(), prepared.sign().expect("what was prepared must be signable").der))
}

/// What a second parser finds in the certificate.
fn names_in(der: &[u8]) -> Vec<GeneralName> {
    let certificate = x509_cert::Certificate::from_der(der).unwrap();
    let names = certificate.tbs_certificate().get_extension::<SubjectAltName>().unwrap();
    names.map_or(Vec::new(), |(_, names)| names.0)
}

fn is_in_role(name: &str) -> bool {
    let host = name.rsplit('@').next().unwrap().to_ascii_lowercase();
    host == "example.com"
        || host.ends_with(".example.com")
        || ["localhost", "localdomain"]
            .iter()
            .any(|local| host == *local || host.ends_with(&format!(".{local}")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn names_outside_the_role_never_appear(
        config in rules(),
        common_name in name(),
        alt_names in proptest::collection::vec(name(), 0..4),
        uri in prop_oneof![Just(String::new()), "spiffe://cluster\\.local/[ -~]{0,8}", "[ -~]{0,20}"],
        exclude_cn_from_sans in any::<bool>(),
    ) {
        let issuer = issuer("ed25519");
        let profile = Profile::new(config).unwrap();
        let uri_sans = if uri.is_empty() { Vec::new() } else { vec![uri] };
        let names = RequestedNames { common_name, alt_names, uri_sans, exclude_cn_from_sans, ..RequestedNames::default() };
        let Ok((_, der)) = sign(&issuer, &profile, &names) else { return Ok(()) };
        for name in names_in(&der) {
            match name {
                GeneralName::DnsName(name) => prop_assert!(is_in_role(name.as_str()), "{}", name.as_str()),
                GeneralName::Rfc822Name(name) => prop_assert!(is_in_role(name.as_str()), "{}", name.as_str()),
                GeneralName::UniformResourceIdentifier(uri) => {
                    prop_assert!(uri.as_str().starts_with("spiffe://cluster.local/"), "{}", uri.as_str());
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
        if profile.config().cn_validations != ["disabled"] && !names.common_name.is_empty() {
            prop_assert!(is_in_role(&names.common_name), "{}", names.common_name);
        }
    }

    #[test]
    fn any_name_that_is_accepted_reads_back(common_name in name(), alt_names in proptest::collection::vec(name(), 0..4), ou in "\\PC{0,40}") {
        let config = ProfileConfig {
            allow_any_name: true,
            enforce_hostnames: false,
            require_cn: false,
            cn_validations: vec!["disabled".to_owned()],
            key_type: "any".to_owned(),
            ou: vec![ou],
            ..ProfileConfig::default()
        };
        let profile = Profile::new(config).unwrap();
        let names = RequestedNames { common_name: common_name.clone(), alt_names, ..RequestedNames::default() };
        let Ok((sans, der)) = sign(&issuer("ed25519"), &profile, &names) else { return Ok(()) };
        prop_assert_eq!(names_in(&der).len(), sans.dns.len() + sans.email.len());
        let ours = Certificate::from_der(&der).unwrap();
        prop_assert_eq!(ours.common_name().unwrap_or_default(), common_name);
        prop_assert!(ours.is_signed_by(issuer("ed25519").certificate()));
    }

    #[test]
    fn reading_damaged_der_never_panics(name in prop_oneof![Just("all_kinds_of_names"), Just("key_rsa2048")], at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let path = format!("{}/testdata/csr/{name}.pem", env!("CARGO_MANIFEST_DIR"));
        let pem = std::fs::read_to_string(path).unwrap();
        let body: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let mut der = data_encoding::BASE64.decode(body.as_bytes()).unwrap();
        let at = at.index(der.len());
        let changed = der[at] != byte;
        der[at] = byte;
        let read = VerifiedCsr::from_der(&der, &KeyPolicy::any());
        prop_assert!(read.is_err() || !changed, "a changed byte must break the structure or the signature");
        let _ = Certificate::from_der(&der);
        let _ = VerifiedCsr::from_der(&der[..cut.index(der.len())], &KeyPolicy::any());
    }

    #[test]
    fn serial_numbers_sort_by_time_and_read_back(first in 1_099_511_627_776_i64..200_000_000_000_000, later in 1_i64..1_000_000, random in any::<[u8; 14]>()) {
        let at = |millis| jiff::Timestamp::from_millisecond(millis).unwrap();
        let one = SerialNumber::generate(at(first), random);
        let two = SerialNumber::generate(at(first + later), [0; 14]);
        if first + later < 1 << 47 {
            prop_assert!(one < two);
            prop_assert!(one.order() <= two.order());
        }
        prop_assert_eq!(one.to_string().parse(), Ok(one));
        prop_assert_eq!(one.as_bytes().len(), 20);
        prop_assert!((0x01..0x80).contains(&one.as_bytes()[0]));
    }

    #[test]
    fn every_second_reads_back_as_text(second in -62_167_219_200_i64..=253_402_300_799) {
        let time = Time::from_second(second);
        prop_assert_eq!(Time::parse(&time.to_string()), Ok(time));
        if let Ok(timestamp) = jiff::Timestamp::from_second(second) && second >= 0 {
            prop_assert_eq!(time.to_string(), timestamp.to_string());
        }
    }
}
