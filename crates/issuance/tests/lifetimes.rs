//! From when until when, and what is said when that is not possible. The sentences are the peer's.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail loudly"
)]

mod common;

use std::time::Duration;

use chancery_issuance::{
    CaRequest, IssuanceRequest, IssuedCertificate, Issuer, IssuerOptions, LeafNotAfter, Profile,
    ProfileConfig, Refusal, RequestedNames, SubjectKey, prepare, prepare_intermediate,
};
use common::{LIMITS, csr, hours, issuer, issuer_of, now, root, serial};

fn config() -> ProfileConfig {
    ProfileConfig { allow_any_name: true, key_type: "any".to_owned(), ..ProfileConfig::default() }
}

struct Asked {
    ttl: Option<Duration>,
    not_before: &'static str,
    not_after: &'static str,
}

const NOTHING: Asked = Asked { ttl: None, not_before: "", not_after: "" };

fn sign(config: ProfileConfig, issuer: &Issuer, asked: Asked) -> Result<IssuedCertificate, Refusal> {
    let csr = csr("key_p256");
    let profile = Profile::new(config).unwrap();
    let mut request = IssuanceRequest::new(&RequestedNames::default(), Some(&csr), &profile, LIMITS)?;
    request.ttl = asked.ttl;
    asked.not_before.clone_into(&mut request.not_before);
    asked.not_after.clone_into(&mut request.not_after);
    Ok(prepare(&request, &csr.key(), &profile, issuer, serial(3), now())?.sign().unwrap())
}

/// `from / until / warnings`, or the refusal.
fn answer(config: ProfileConfig, asked: Asked) -> String {
    match sign(config, &issuer("ed25519"), asked) {
        Ok(certificate) => {
            let warnings: Vec<_> = certificate.warnings.iter().map(ToString::to_string).collect();
            format!("{} / {} / {}", certificate.not_before, certificate.not_after, warnings.join(", "))
        }
        Err(refusal) => refusal.to_string(),
    }
}

#[test]
fn a_leaf_begins_30_seconds_back_and_lasts_as_long_as_its_role_says() {
    let ttl = ProfileConfig { ttl: Duration::from_secs(3600), ..config() };
    assert_eq!(answer(ttl.clone(), NOTHING), "2026-11-18T11:06:10Z / 2026-11-18T12:06:40Z / ");
    assert_eq!(
        answer(ttl, Asked { ttl: Some(Duration::from_secs(60)), ..NOTHING }),
        "2026-11-18T11:06:10Z / 2026-11-18T11:07:40Z / "
    );
    assert_eq!(answer(config(), NOTHING), "2026-11-18T11:06:10Z / 2026-12-20T11:06:40Z / ");
    let back = ProfileConfig { not_before_duration: Duration::from_secs(7200), ..config() };
    assert_eq!(answer(back, NOTHING), "2026-11-18T09:06:40Z / 2026-12-20T11:06:40Z / ");
    let zero = ProfileConfig { not_before_duration: Duration::ZERO, ..config() };
    assert_eq!(answer(zero, NOTHING), "2026-11-18T11:06:10Z / 2026-12-20T11:06:40Z / ");
}

#[test]
fn a_ttl_above_the_maximum_is_shortened_with_a_warning() {
    let max = ProfileConfig { max_ttl: Duration::from_secs(7200), ..config() };
    assert_eq!(
        answer(max.clone(), Asked { ttl: hours(3), ..NOTHING }),
        "2026-11-18T11:06:10Z / 2026-11-18T13:06:40Z / TTL \"3h0m0s\" is longer than permitted maxTTL \"2h0m0s\", so maxTTL is being used"
    );
    assert_eq!(
        answer(max, NOTHING),
        "2026-11-18T11:06:10Z / 2026-11-18T13:06:40Z / TTL \"768h0m0s\" is longer than permitted maxTTL \"2h0m0s\", so maxTTL is being used"
    );
}

#[test]
fn an_end_beyond_the_issuers_is_refused_shortened_or_permitted_as_the_issuer_says() {
    let asked = || Asked { ttl: hours(9000), ..NOTHING };
    let with = |leaf_not_after| {
        let options = IssuerOptions { leaf_not_after, ..IssuerOptions::default() };
        sign(config(), &issuer_of(&root("ed25519"), "ed25519", options), asked())
    };
    assert_eq!(
        with(LeafNotAfter::Err).unwrap_err().to_string(),
        "cannot satisfy request, as TTL would result in notAfter of 2027-11-28T11:06:40Z that is beyond the expiration of the CA certificate at 2027-11-18T11:06:40Z"
    );
    assert_eq!(with(LeafNotAfter::Truncate).unwrap().not_after.to_string(), "2027-11-18T11:06:40Z");
    assert_eq!(with(LeafNotAfter::Permit).unwrap().not_after.to_string(), "2027-11-28T11:06:40Z");
}

#[test]
fn an_intermediate_may_outlive_its_issuer_with_a_warning() {
    let request =
        CaRequest { not_after: "9999-12-31T23:59:59Z".to_owned(), ..CaRequest::new("Intermediate", LIMITS) };
    let issuer = issuer("ed25519");
    let signed =
        prepare_intermediate(&request, &csr("key_p256"), &issuer, serial(2), now()).unwrap().sign().unwrap();
    assert_eq!(signed.not_after.as_second(), 253_402_300_799);
    assert_eq!(signed.certificate().unwrap().not_after(), signed.not_after);
    assert_eq!(
        signed.warnings[0].to_string(),
        "The expiration time for the signed certificate is after the CA's expiration time. If the new certificate is not treated as a root, validation paths with the certificate past the issuing CA's expiration time will fail."
    );
}

#[test]
fn absolute_times_are_taken_at_their_word() {
    assert_eq!(
        answer(config(), Asked { not_after: "2027-01-01T00:00:00.5+02:00", ..NOTHING }),
        "2026-11-18T11:06:10Z / 2026-12-31T22:00:00Z / "
    );
    assert_eq!(
        answer(config(), Asked { not_before: "2026-01-01T00:00:00Z", ..NOTHING }),
        "2026-01-01T00:00:00Z / 2026-12-20T11:06:40Z / "
    );
    let fixed = ProfileConfig {
        not_before: "2026-06-01T00:00:00Z".to_owned(),
        not_after: "2027-01-01T00:00:00Z".to_owned(),
        ..config()
    };
    let asked = Asked { not_before: "2026-01-01T00:00:00Z", not_after: "2026-12-01T00:00:00Z", ..NOTHING };
    assert_eq!(answer(fixed.clone(), asked), "2026-06-01T00:00:00Z / 2027-01-01T00:00:00Z / ");
    assert_eq!(
        answer(fixed, Asked { ttl: hours(1), ..NOTHING }),
        "Either ttl or not_after should be provided. Both should not be provided in the same request."
    );
}

#[test]
fn times_that_make_no_sense_are_refused() {
    let after = |not_after| answer(config(), Asked { not_after, ..NOTHING });
    assert_eq!(
        after("bogus"),
        r#"parsing time "bogus" as "2006-01-02T15:04:05Z07:00": cannot parse "bogus" as "2006""#
    );
    assert_eq!(
        after("2020-01-01T00:00:00Z"),
        "The certificate's Not Before (2026-11-18T11:06:10Z) is later than the certificate's Not After (2020-01-01T00:00:00Z)"
    );
    assert_eq!(
        after("2026-11-18T11:06:10Z"),
        "The certificate's Not Before (2026-11-18T11:06:10Z) is equal to the certificate's Not After (2026-11-18T11:06:10Z)"
    );
    let both = Asked { ttl: hours(1), not_after: "2027-01-01T00:00:00Z", ..NOTHING };
    assert_eq!(
        answer(config(), both),
        "Either ttl or not_after should be provided. Both should not be provided in the same request."
    );
}

#[test]
fn nothing_begins_or_ends_before_1970() {
    let early =
        "cannot satisfy request, as not_before of 1969-12-31T23:59:59Z is before 1970-01-01T00:00:00Z";
    let before = |not_before| answer(config(), Asked { not_before, ..NOTHING });
    assert_eq!(before("1969-12-31T23:59:59Z"), early);
    assert_eq!(before("1970-01-01T00:00:00Z"), "1970-01-01T00:00:00Z / 2026-12-20T11:06:40Z / ");
    let both = Asked { not_before: "1969-12-31T23:59:59Z", not_after: "1970-01-01T00:00:00Z", ..NOTHING };
    assert_eq!(answer(config(), both), early);
    let fixed = ProfileConfig { not_before: "1969-12-31T23:59:59Z".to_owned(), ..config() };
    assert_eq!(answer(fixed, NOTHING), early);
    let far_back = ProfileConfig { not_before_duration: Duration::from_secs(60 * 366 * 86_400), ..config() };
    assert!(answer(far_back, NOTHING).ends_with("is before 1970-01-01T00:00:00Z"));
}

#[test]
fn bounds_hold_the_client_back() {
    let bounds = |not_before: &str, not_after: &str| ProfileConfig {
        not_before_bound: not_before.to_owned(),
        not_after_bound: not_after.to_owned(),
        not_before_duration: Duration::from_secs(3600),
        ttl: Duration::from_secs(86_400),
        ..config()
    };
    let before = |bound, not_before| answer(bounds(bound, "permit"), Asked { not_before, ..NOTHING });
    let after = |bound, not_after| answer(bounds("permit", bound), Asked { not_after, ..NOTHING });
    assert_eq!(
        before("forbid", "2026-01-01T00:00:00Z"),
        "not_before_bound is set to forbid. not_before cannot be provided."
    );
    assert_eq!(
        before("duration", "2026-01-01T00:00:00Z"),
        "not_before_bound is set to duration. Cannot satisfy request as it would result in notBefore of 2026-01-01T00:00:00Z that is older than the allowed not_before_duration of 1h0m0s"
    );
    assert_eq!(before("duration", "2026-11-18T10:30:00Z"), "2026-11-18T10:30:00Z / 2026-11-19T11:06:40Z / ");
    assert_eq!(
        after("forbid", "2026-12-01T00:00:00Z"),
        "not_after_bound is set to forbid. not_after cannot be provided."
    );
    assert_eq!(
        after("ttl-limited", "2027-02-01T00:00:00Z"),
        "not_after_bound is set to ttl-limited. Cannot satisfy request as that would result in notAfter of 2027-02-01T00:00:00Z that is beyond the TTL of 24h0m0s"
    );
    assert_eq!(
        after("ttl-limited", "2026-11-19T00:00:00Z"),
        "2026-11-18T10:06:40Z / 2026-11-19T00:00:00Z / "
    );
    assert_eq!(
        after("2026-12-01T00:00:00Z", "2026-12-01T00:00:01Z"),
        "not_after_bound is set to 2026-12-01T00:00:00Z. Cannot statisfy request as that would result in notAfter of 2026-12-01T00:00:01Z that is beyond the maximum timestamp of 2026-12-01T00:00:00Z"
    );
    assert_eq!(after("2026-12-01T00:00:00Z", ""), "2026-11-18T10:06:40Z / 2026-11-19T11:06:40Z / ");
}

#[test]
fn a_path_length_of_zero_ends_the_line() {
    let sign = |issuer: &Issuer, max_path_length| {
        let request = CaRequest { max_path_length, ttl: hours(10), ..CaRequest::new("Intermediate", LIMITS) };
        Ok::<_, Refusal>(
            prepare_intermediate(&request, &csr("key_p256"), issuer, serial(2), now())?.sign().unwrap(),
        )
    };
    let unlimited = issuer("ed25519");
    let two = sign(&unlimited, Some(2)).unwrap();
    assert_eq!(two.certificate().unwrap().path_length(), Some(2));
    let two = issuer_of(&two, "p256", IssuerOptions::default());
    let one = sign(&two, None).unwrap();
    assert_eq!(one.certificate().unwrap().path_length(), Some(1));
    let zero = sign(&issuer_of(&one, "p256", IssuerOptions::default()), None).unwrap();
    assert_eq!(zero.certificate().unwrap().path_length(), Some(0));
    assert_eq!(
        zero.warnings[0].to_string(),
        "Max path length of the signed certificate is zero. This certificate cannot be used to issue intermediate CA certificates."
    );
    assert_eq!(
        sign(&issuer_of(&zero, "p256", IssuerOptions::default()), None).unwrap_err().to_string(),
        "signing certificate has a max path length of zero, and cannot issue further CA certificates"
    );
    assert_eq!(
        sign(&unlimited, Some(-5)).unwrap_err().to_string(),
        "invalid max_path_length -5, must be greater or equal to -1"
    );
}

#[test]
fn a_key_is_held_against_the_profile_it_is_certified_under() {
    // Read under a policy that takes any key, then offered to a role that does not.
    let csr = csr("key_p256");
    let profile = Profile::new(ProfileConfig { key_type: "rsa".to_owned(), ..config() }).unwrap();
    let request = IssuanceRequest::new(&RequestedNames::default(), Some(&csr), &profile, LIMITS).unwrap();
    let issuer = issuer("ed25519");
    let refused =
        prepare(&request, &SubjectKey::from(&csr), &profile, &issuer, serial(3), now()).unwrap_err();
    assert_eq!(refused.to_string(), "role requires keys of type rsa");
}

#[test]
fn names_given_beside_a_csr_that_has_its_own_are_passed_over_with_a_warning() {
    let csr = csr("all_kinds_of_names");
    let everything = || vec!["*".to_owned()];
    let profile = Profile::new(ProfileConfig {
        allowed_uri_sans: everything(),
        allowed_other_sans: everything(),
        allowed_serial_numbers: everything(),
        allowed_user_ids: everything(),
        ..config()
    })
    .unwrap();
    let names = RequestedNames {
        common_name: "other.com".to_owned(),
        alt_names: vec!["alt.com".to_owned()],
        ip_sans: vec!["1.2.3.4".to_owned()],
        other_sans: vec!["1.2.3.4;UTF8:x".to_owned()],
        ..RequestedNames::default()
    };
    let request = IssuanceRequest::new(&names, Some(&csr), &profile, LIMITS).unwrap();
    let issuer = issuer("ed25519");
    let prepared = prepare(&request, &csr.key(), &profile, &issuer, serial(3), now()).unwrap();
    let warnings: Vec<_> = prepared.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "the common_name field was provided but the role is set with \"use_csr_common_name\" set to true",
            "the alt_names field was provided but the role is set with \"use_csr_sans\" set to true",
            "specified CSR contained a Basic Constraints extension that was ignored during issuance",
        ]
    );
    let sans = request.sans();
    assert_eq!(sans.dns, ["host.example.com"]);
    assert_eq!(sans.ip.len(), 2);
    // OtherNames of the body come before the CSR's, as on the peer.
    assert_eq!(sans.other.iter().map(|name| name.value.as_str()).collect::<Vec<_>>(), ["x", "me@corp"]);
    assert_eq!(request.subject().user_ids, ["user-1"]);
}
