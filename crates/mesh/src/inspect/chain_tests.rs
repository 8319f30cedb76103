use super::*;

fn certificates(name: &str) -> Vec<Certificate> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/inspect/");
    let text = std::fs::read_to_string(format!("{folder}{name}.pem")).expect("it is there");
    Certificate::all_from_pem(&text).expect("certificates")
}

fn way(chain: &[&str], trusted: &[&str], now: &str) -> Result<usize, ChainError> {
    let all =
        |names: &[&str]| -> Vec<Certificate> { names.iter().flat_map(|name| certificates(name)).collect() };
    verify_chain(&all(chain), &all(trusted), now.parse().expect("a time")).map(|way| way.len())
}

#[test]
fn a_way_to_a_trusted_certificate_is_found_in_any_order() {
    let now = "2027-01-01T00:00:00Z";
    for (chain, trusted, length) in [
        (&["workload", "intermediate"][..], &["root"][..], 3),
        (&["workload", "root", "other-root", "intermediate", "intermediate"], &["other-root", "root"], 3),
        // An intermediate may be trusted.
        (&["workload"], &["intermediate"], 2),
        (&["workload"], &["workload"], 1),
    ] {
        assert_eq!(way(chain, trusted, now), Ok(length));
    }
}

#[test]
fn why_there_is_no_way_is_told() {
    let now = "2027-01-01T00:00:00Z";
    let leaf = "spiffe://cluster.local/ns/foo/sa/sleep".to_owned();
    assert_eq!(way(&[], &["root"], now), Err(ChainError::Empty));
    assert_eq!(way(&["workload"], &[], now), Err(ChainError::NothingTrusted));
    assert_eq!(way(&["workload"], &["root"], now), Err(ChainError::NoIssuer(leaf.clone())));
    let intermediate = "CN=intermediate,O=test".to_owned();
    assert_eq!(
        way(&["workload", "intermediate"], &["other-root"], now),
        Err(ChainError::NoIssuer(intermediate))
    );
    let late = "2200-01-01T00:00:00Z";
    assert_eq!(way(&["workload", "intermediate"], &["root"], late), Err(ChainError::NotValidNow(leaf)));
}
