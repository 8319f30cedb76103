use chancery_issuance::Time;

use super::*;

const REAL: &str = include_str!("../../tests/data/inspect/envoy-1.40-config-dump.json");

/// A moment within the lifetime of the test certificates.
fn now() -> Timestamp {
    "2027-01-01T00:00:00Z".parse().expect("a time")
}

fn lines(text: &str, now: Timestamp, with_static: bool) -> Vec<String> {
    let dump = Dump::parse(text).expect("a dump");
    dump.table(now, with_static).lines().map(str::to_owned).collect()
}

#[test]
fn the_table_is_that_of_the_original() {
    // The serial numbers and times are those of the fixture: it is the form that is looked at here.
    assert_eq!(
        Dump::parse(REAL).expect("a dump").table(now(), false),
        include_str!("../../tests/data/inspect/table.txt")
    );
    assert_eq!(
        Dump::parse(REAL).expect("a dump").table(now(), true),
        include_str!("../../tests/data/inspect/table-with-static.txt")
    );
}

#[test]
fn nothing_is_said_to_be_nothing() {
    assert_eq!(lines("{}", now(), false), ["No active or warming secrets found."]);
    let only_static = r#"{"staticSecrets": [{"name": "a"}]}"#;
    assert_eq!(lines(only_static, now(), false), ["No active or warming secrets found."]);
    assert_eq!(lines(only_static, now(), true).len(), 2);
}

#[test]
fn a_secret_without_certificates_has_empty_cells_and_is_not_valid() {
    let text = r#"{"dynamicActiveSecrets": [{"name": "a", "secret": {"validationContext": {"trustedCa": {"inlineBytes": "AAAA"}}}}]}"#;
    // Each cell but the last is padded, also if it is empty.
    let head =
        "RESOURCE NAME     TYPE     STATUS     VALID CERT     SERIAL NUMBER     NOT AFTER     NOT BEFORE";
    let row = format!("{:<18}{:<9}{:<11}{:<15}{:<18}{:<14}", "a", "", "ACTIVE", "false", "", "");
    assert_eq!(lines(text, now(), false), [head.to_owned(), row]);
}

#[test]
fn the_trust_domain_is_shown_if_every_row_has_one() {
    let dump = Dump::parse(REAL).expect("a dump").to_json();
    let section: serde_json::Value = serde_json::from_str(&dump).expect("JSON");
    let named = |names: &[&str]| {
        let all = section["dynamicActiveSecrets"].as_array().expect("a list").iter();
        let some: Vec<_> =
            all.filter(|secret| names.contains(&secret["name"].as_str().expect("a name"))).collect();
        lines(&serde_json::json!({ "dynamicActiveSecrets": some }).to_string(), now(), false)
    };
    let both = named(&["default", "spiffe"]);
    assert!(both[0].ends_with("NOT BEFORE               TRUST DOMAIN"), "{}", both[0]);
    let domains: Vec<_> = both[1..].iter().map(|row| row.rsplit(' ').next().expect("a cell")).collect();
    assert_eq!(domains, ["cluster.local", "cluster.local", "other.example"]);
    assert!(named(&["default", "ROOTCA"])[0].ends_with("NOT BEFORE"));
}

#[test]
fn a_certificate_is_valid_between_its_first_and_its_last_moment() {
    let certificate =
        Certificate::from_pem(include_str!("../../tests/data/inspect/root.pem")).expect("a certificate");
    let (begin, end) = (certificate.not_before(), certificate.not_after());
    let at = |time: Time| is_valid(&certificate, time.to_timestamp());
    let second = |time: Time, by: i64| Time::from_second(time.as_second() + by);
    assert_eq!([at(begin), at(second(begin, 1)), at(second(end, -1)), at(end)], [false, true, true, false]);
}
