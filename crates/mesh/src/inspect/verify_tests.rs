use super::*;

const REAL: &str = include_str!("../../tests/data/inspect/envoy-1.40-masked.json");

fn certificates(pem: &str) -> Vec<Certificate> {
    Certificate::all_from_pem(pem).expect("certificates")
}

fn root() -> Vec<Certificate> {
    certificates(include_str!("../../tests/data/inspect/root.pem"))
}

fn other_root() -> Vec<Certificate> {
    certificates(include_str!("../../tests/data/inspect/other-root.pem"))
}

fn intermediate() -> Vec<Certificate> {
    certificates(include_str!("../../tests/data/inspect/intermediate.pem"))
}

/// The real Envoy's secrets without the one that it waits for.
fn dump() -> Dump {
    let mut text: serde_json::Value = serde_json::from_str(REAL).expect("JSON");
    text["configs"][0]["dynamic_warming_secrets"] = serde_json::Value::Null;
    Dump::parse(&text.to_string()).expect("a dump")
}

fn verdicts(
    dump: &Dump,
    roots: Option<&[Certificate]>,
    authority: Option<Vec<Certificate>>,
) -> Vec<(Verdict, String)> {
    let authority = authority.map(|chain| Authority { chain });
    let now = "2027-01-01T00:00:00Z".parse().expect("a time");
    let checks = verify(dump, roots, authority.as_ref(), now);
    assert_eq!(checks.len(), 9);
    checks.into_iter().map(|check| (check.verdict, check.reason)).collect()
}

#[test]
fn workload_config_map_and_ca_agree() {
    let chain = [intermediate(), root()].concat();
    let now = "2027-01-01T00:00:00Z".parse().expect("a time");
    let checks = verify(&dump(), Some(&root()), Some(&Authority { chain }), now);
    assert!(checks.iter().all(|check| check.verdict == Verdict::Ok), "{}", Check::table(&checks));
    assert_eq!(Check::table(&checks), include_str!("../../tests/data/inspect/verify.txt"));
}

#[test]
fn what_is_not_given_is_not_compared() {
    let verdicts = verdicts(&dump(), None, None);
    let skipped: Vec<_> = verdicts.iter().map(|(verdict, _)| *verdict == Verdict::Skipped).collect();
    assert_eq!(skipped, [false, false, false, false, false, true, true, true, true]);
    assert!(verdicts.iter().all(|(verdict, _)| *verdict != Verdict::Fail));
}

#[test]
fn each_disagreement_fails_its_own_check() {
    let failed = |roots: &[Certificate], authority: Vec<Certificate>| -> Vec<String> {
        let all = verdicts(&dump(), Some(roots), Some(authority));
        all.into_iter().filter(|(verdict, _)| *verdict == Verdict::Fail).map(|(_, reason)| reason).collect()
    };
    assert_eq!(
        failed(&other_root(), intermediate()),
        [
            "the mesh's root CN=other-root,O=test is not in it; CN=root,O=test is in it, and no root of the mesh",
            "nobody here signed CN=intermediate,O=test",
        ]
    );
    assert_eq!(failed(&root(), root()), ["signed by CN=intermediate,O=test, and not by CN=root,O=test"]);
    assert_eq!(
        failed(&intermediate(), intermediate()),
        [
            "the mesh's root CN=intermediate,O=test is not in it; CN=root,O=test is in it, and no root of the mesh",
            "CN=intermediate,O=test is not self-signed, but an intermediate",
        ]
    );
    assert_eq!(failed(&root(), Vec::new()), ["the CA gave no certificate", "there is no certificate"]);
}

#[test]
fn a_workload_without_certificate_fails() {
    let empty = Dump::parse("{}").expect("a dump");
    let verdicts = verdicts(&empty, Some(&root()), Some(intermediate()));
    assert_eq!(verdicts[0], (Verdict::Fail, "there is no secret default".to_owned()));
    assert_eq!(verdicts[3], (Verdict::Fail, "there is no secret ROOTCA".to_owned()));
    assert_eq!(verdicts[5], (Verdict::Fail, "there is no secret ROOTCA".to_owned()));
    let waiting = Dump::parse(REAL).expect("a dump");
    let reasons = verify(&waiting, None, None, "2027-01-01T00:00:00Z".parse().expect("a time"));
    assert_eq!(reasons[4].verdict, Verdict::Fail);
    assert_eq!(reasons[4].reason, "missing: it is waited for, and connections that need it with it");
}

#[test]
fn what_is_wrong_with_rootca_fails_a_check_of_its_own() {
    let text = |pem: &str| {
        let bytes = |pem: &str| data_encoding::BASE64.encode(pem.as_bytes());
        let chain = bytes(include_str!("../../tests/data/inspect/chain.pem"));
        format!(
            r#"{{"dynamicActiveSecrets": [
            {{"name": "default", "secret": {{"tlsCertificate": {{"certificateChain": {{"inlineBytes": "{chain}"}}}}}}}},
            {{"name": "ROOTCA", "secret": {{"validationContext": {{"trustedCa": {{"inlineBytes": "{}"}}}}}}}}]}}"#,
            bytes(pem)
        )
    };
    let (root, leaf) = (
        include_str!("../../tests/data/inspect/root.pem"),
        include_str!("../../tests/data/inspect/workload.pem"),
    );
    let good = |pem: &str| {
        let dump = Dump::parse(&text(pem)).expect("a dump");
        let checks = verify(&dump, None, None, "2027-01-01T00:00:00Z".parse().expect("a time"));
        assert_eq!(checks[2].verdict, Verdict::Ok, "{}", Check::table(&checks));
        (checks[3].verdict, checks[3].reason.clone())
    };
    assert_eq!(good(root), (Verdict::Ok, "CN=root,O=test".to_owned()));
    let (verdict, reason) = good(&format!("{root}{leaf}"));
    assert_eq!(verdict, Verdict::Fail);
    assert!(reason.contains("no authority"), "{reason}");
}
