use chancery_issuance::Time;
use data_encoding::BASE64;

use super::*;

const WORKLOAD: &str = include_str!("../../tests/data/inspect/workload.pem");
const INTERMEDIATE: &str = include_str!("../../tests/data/inspect/intermediate.pem");
const ROOT: &str = include_str!("../../tests/data/inspect/root.pem");
const OTHER_ROOT: &str = include_str!("../../tests/data/inspect/other-root.pem");
const REAL: &str = include_str!("../../tests/data/inspect/envoy-1.40-config-dump.json");

fn now() -> Timestamp {
    "2027-01-01T00:00:00Z".parse().expect("a time")
}

fn dump(chain: &[&str], roots: &[&str]) -> Dump {
    let bytes = |pems: &[&str]| BASE64.encode(pems.concat().as_bytes());
    let text = format!(
        r#"{{"dynamicActiveSecrets": [
            {{"name": "default", "secret": {{"tlsCertificate": {{"certificateChain": {{"inlineBytes": "{}"}}}}}}}},
            {{"name": "ROOTCA", "secret": {{"validationContext": {{"trustedCa": {{"inlineBytes": "{}"}}}}}}}}]}}"#,
        bytes(chain),
        bytes(roots)
    );
    Dump::parse(&text).expect("a dump")
}

fn found_at(dump: &Dump, now: Timestamp, roots: Option<&[Certificate]>) -> Vec<String> {
    let all = findings(dump, &Expectations { now, roots, least_left: 20 });
    let word = |finding: &Finding| if finding.severity == Severity::Fault { "fault" } else { "note" };
    all.iter().map(|finding| format!("{} {} {}", word(finding), finding.secret, finding.rule)).collect()
}

fn found(dump: &Dump) -> Vec<String> {
    found_at(dump, now(), None)
}

fn certificates(pems: &[&str]) -> Vec<Certificate> {
    Certificate::all_from_pem(&pems.concat()).expect("certificates")
}

/// Vault's intermediates name no trust domain, and need not.
const SIGNER: &str = "note default spiffe_signer_id";

#[test]
fn what_istio_gives_out_is_in_order() {
    assert_eq!(found(&dump(&[WORKLOAD, INTERMEDIATE], &[ROOT])), [SIGNER]);
    assert_eq!(
        found(&dump(&[WORKLOAD, INTERMEDIATE, ROOT], &[ROOT])),
        ["note default root_in_chain", SIGNER]
    );
    assert_eq!(found(&dump(&[WORKLOAD, INTERMEDIATE], &[OTHER_ROOT, ROOT])), [SIGNER]);
}

#[test]
fn a_chain_that_is_not_one_is_told() {
    let trust = "fault default not_trusted";
    for (chain, roots, expected) in [
        (&[WORKLOAD][..], &[ROOT][..], &[trust][..]),
        (&[WORKLOAD, INTERMEDIATE], &[OTHER_ROOT], &[trust]),
        (
            &[WORKLOAD, ROOT, INTERMEDIATE],
            &[ROOT],
            &["fault default chain_order", "fault default chain_order", "note default root_in_chain", SIGNER],
        ),
        // An intermediate published as the root: it comes twice, and the root never.
        (
            &[WORKLOAD, INTERMEDIATE, INTERMEDIATE],
            &[INTERMEDIATE],
            &["note default repeated", "fault ROOTCA root_not_self_signed", SIGNER],
        ),
        (&[WORKLOAD, INTERMEDIATE], &[ROOT, WORKLOAD], &["fault ROOTCA root_not_ca"]),
    ] {
        assert_eq!(found(&dump(chain, roots)), expected);
    }
}

#[test]
fn a_leaf_that_is_no_svid_is_told() {
    let found = found(&dump(&[ROOT], &[ROOT]));
    assert_eq!(found, ["fault default spiffe_id", "fault default spiffe_leaf_ca"]);
}

#[test]
fn lifetimes_are_told() {
    let good = dump(&[WORKLOAD, INTERMEDIATE], &[ROOT]);
    let leaf = &certificates(&[WORKLOAD])[0];
    let early = Time::from_second(leaf.not_before().as_second() - 86_400).to_timestamp();
    let rules = found_at(&good, early, None);
    assert_eq!(rules.iter().filter(|rule| rule.ends_with("not_yet_valid")).count(), 3, "{rules:?}");
    assert!(rules.contains(&"fault default not_trusted".to_owned()));
    let late = Time::from_second(leaf.not_after().as_second() + 86_400).to_timestamp();
    assert_eq!(found_at(&good, late, None).iter().filter(|rule| rule.ends_with("expired")).count(), 3);
    let length = leaf.not_after().as_second() - leaf.not_before().as_second();
    let soon = Time::from_second(leaf.not_after().as_second() - length / 10).to_timestamp();
    let note = |secret: &str| format!("note {secret} little_life_left");
    assert_eq!(
        found_at(&good, soon, None),
        ["fault default little_life_left", &note("default"), &note("ROOTCA"), SIGNER]
    );
}

#[test]
fn the_mesh_s_roots_are_compared() {
    let good = dump(&[WORKLOAD, INTERMEDIATE], &[ROOT]);
    let with = |dump: &Dump, roots: &[&str]| found_at(dump, now(), Some(&certificates(roots)));
    assert_eq!(with(&good, &[ROOT]), [SIGNER]);
    assert_eq!(with(&good, &[OTHER_ROOT]), [SIGNER, "fault ROOTCA root_missing", "note ROOTCA root_unknown"]);
    assert_eq!(with(&good, &[ROOT, OTHER_ROOT]), [SIGNER, "fault ROOTCA root_missing"]);
    assert_eq!(
        with(&dump(&[WORKLOAD, INTERMEDIATE], &[ROOT, OTHER_ROOT]), &[ROOT]),
        [SIGNER, "note ROOTCA root_unknown"]
    );
}

#[test]
fn the_state_of_secrets_is_told() {
    let real = Dump::parse(REAL).expect("a dump");
    assert_eq!(
        found(&real),
        ["fault missing warming", "note default root_in_chain", "note static-files elsewhere", SIGNER]
    );
    let text = r#"{"dynamicActiveSecrets": [
        {"name": "ROOTCA", "secret": {"validationContext": {"trustedCa": {"inlineBytes": "*"}}}},
        {"name": "x", "clientStatus": "NACKED"},
        {"name": "y", "errorState": {"details": "bad", "lastUpdateAttempt": "2026-01-01T00:00:00Z"}}]}"#;
    let all = findings(
        &Dump::parse(text).expect("a dump"),
        &Expectations { now: now(), roots: None, least_left: 0 },
    );
    let told: Vec<String> = all.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "fault: ROOTCA: it is no base64 (unreadable)",
            "fault: x: the last update ended as NACKED (error_state)",
            "fault: y: the last update was refused at 2026-01-01T00:00:00Z: bad (error_state)",
            "fault: default: there is ROOTCA, but no default (missing)",
        ]
    );
}

#[test]
fn a_spiffe_validator_s_bundle_of_the_own_trust_domain_counts() {
    let text = |domain: &str| {
        let bytes = |pem: &str| BASE64.encode(pem.as_bytes());
        let chain = bytes(&[WORKLOAD, INTERMEDIATE].concat());
        format!(
            r#"{{"dynamicActiveSecrets": [
            {{"name": "default", "secret": {{"tlsCertificate": {{"certificateChain": {{"inlineBytes": "{chain}"}}}}}}}},
            {{"name": "ROOTCA", "secret": {{"validationContext": {{"customValidatorConfig": {{"typedConfig":
                {{"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig",
                "trustDomains": [{{"name": "{domain}", "trustBundle": {{"inlineBytes": "{}"}}}},
                {{"name": "other", "trustBundle": {{"inlineBytes": "{}"}}}}]}}}}}}}}}}]}}"#,
            bytes(ROOT),
            bytes(OTHER_ROOT)
        )
    };
    let of = |domain: &str| Dump::parse(&text(domain)).expect("a dump");
    assert_eq!(found(&of("cluster.local")), [SIGNER]);
    // The root is there, but for another trust domain.
    assert_eq!(trusted(&of("elsewhere"), Some("cluster.local")), []);
    assert_eq!(found(&of("elsewhere")), ["fault default not_trusted"]);
    assert_eq!(
        super::super::common_roots(&of("cluster.local"), &dump(&[], &[OTHER_ROOT])).map(|all| all.len()),
        Ok(1)
    );
}

#[test]
fn a_secret_in_use_that_holds_nothing_is_told() {
    let text = |list: &str, default: &str, roots: &str| {
        let text = format!(
            r#"{{"{list}": [{{"name": "default", "secret": {default}}}, {{"name": "ROOTCA", "secret": {roots}}}]}}"#
        );
        Dump::parse(&text).expect("a dump")
    };
    let empty = ["fault default no_certificate", "fault ROOTCA no_certificate"];
    let active = "dynamicActiveSecrets";
    assert_eq!(found(&text(active, "{}", "{}")), empty);
    let (certificate, context) = (r#"{"tlsCertificate": {}}"#, r#"{"validationContext": {}}"#);
    assert_eq!(found(&text(active, certificate, context)), empty);
    let spiffe = r#"{"validationContext": {"customValidatorConfig": {"typedConfig": {
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig"}}}}"#;
    assert_eq!(found(&text(active, certificate, spiffe)), empty);
    // What is waited for is told as that.
    assert_eq!(
        found(&text("dynamicWarmingSecrets", "{}", "{}")),
        ["fault default warming", "fault ROOTCA warming"]
    );
}

#[test]
fn a_leaf_for_servers_only_is_told() {
    use chancery_issuance::{
        AiaUrls, CaRequest, CsrRequest, IssuanceRequest, Issuer, IssuerOptions, KeyPolicy, KeySpec,
        MountLimits, PrivateKey, Profile, ProfileConfig, RequestedNames, SerialNumber, Signer, VerifiedCsr,
        create_csr, prepare, prepare_root,
    };

    let day = std::time::Duration::from_secs(86_400);
    let limits = MountLimits { default_ttl: day, max_ttl: day };
    let serial = |byte| SerialNumber::generate(now(), [byte; 14]);
    let key = || PrivateKey::generate(KeySpec::new("ec", 256).expect("a key")).expect("a key");
    let root_key: std::sync::Arc<dyn Signer> = std::sync::Arc::new(key());
    let root =
        prepare_root(&CaRequest::new("root", limits), &root_key, &AiaUrls::default(), serial(1), now());
    let root = root.expect("a root").sign().expect("a root").certificate().expect("a root");
    let root_pem = root.pem().to_owned();
    let issuer = Issuer::new(root, root_key, IssuerOptions::default()).expect("an issuer");
    let leaf = |client_flag| {
        let names =
            RequestedNames { uri_sans: vec!["spiffe://d/ns/a/sa/b".to_owned()], ..Default::default() };
        let csr = create_csr(&CsrRequest { names, ..CsrRequest::default() }, &key()).expect("a CSR");
        let csr = VerifiedCsr::from_pem(&csr.pem, &KeyPolicy::any()).expect("a CSR");
        let profile = Profile::new(ProfileConfig {
            require_cn: false,
            server_flag: true,
            client_flag,
            use_csr_values: false,
            ..ProfileConfig::verbatim()
        });
        let profile = profile.expect("a profile");
        let request = IssuanceRequest::new(&RequestedNames::default(), Some(&csr), &profile, limits);
        let request = request.expect("a request");
        let leaf = prepare(&request, &csr.key(), &profile, &issuer, serial(2), now());
        leaf.expect("a leaf").sign().expect("a leaf").pem
    };
    let rule = "fault default spiffe_ext_key_usage".to_owned();
    assert!(found(&dump(&[&leaf(false)], &[&root_pem])).contains(&rule));
    assert!(!found(&dump(&[&leaf(true)], &[&root_pem])).contains(&rule));
}

#[test]
fn two_workloads_with_a_common_root_can_trust_each_other() {
    let common = |one: &[&str], other: &[&str]| {
        super::super::common_roots(&dump(&[], one), &dump(&[], other)).map(|all| all.len())
    };
    assert_eq!(common(&[ROOT], &[OTHER_ROOT, ROOT]), Ok(1));
    assert_eq!(common(&[ROOT], &[OTHER_ROOT]), Ok(0));
    assert_eq!(common(&[], &[ROOT]), Err("the first: its ROOTCA holds no certificate".to_owned()));
    let none = Dump::parse("{}").expect("a dump");
    let error = super::super::common_roots(&dump(&[], &[ROOT]), &none);
    assert_eq!(error, Err("the second: it has no secret ROOTCA".to_owned()));
}
