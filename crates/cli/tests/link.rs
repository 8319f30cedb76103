//! What the release is linked with first, by name, is still called so.

use std::collections::BTreeSet;

/// The crate that a line of `agent.names` is about, if it says so: `_ZN2h25codec*` and `_ZN*_$LT$h2..codec..*` are of h2.
fn named_crate(line: &str) -> Option<&str> {
    let name = line.strip_prefix("unlikely.").unwrap_or(line).strip_prefix("_ZN")?;
    if let Some(rest) = name.strip_prefix("*_$LT$") {
        return rest.split_once("..").map(|(first, _)| first).filter(|first| is_crate(first));
    }
    let digits = name.find(|character: char| !character.is_ascii_digit())?;
    let (length, rest) = name.split_at(digits);
    rest.get(..length.parse().ok()?).filter(|first| is_crate(first))
}

fn is_crate(name: &str) -> bool {
    name.chars()
        .all(|character| character.is_ascii_lowercase() || character.is_ascii_digit() || character == '_')
}

#[test]
fn every_crate_that_is_linked_first_is_a_part_of_the_program() {
    let mut parts: BTreeSet<String> = include_str!("../../../Cargo.lock")
        .lines()
        .filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'))
        .map(|name| name.replace('-', "_"))
        .collect();
    // The toolchain's, and libraries with other names than their packages.
    parts.extend(["alloc", "core", "std", "chancery_cli", "webpki"].map(str::to_owned));
    let names = include_str!("../link/agent.names");
    let named: BTreeSet<&str> = names.lines().filter_map(named_crate).collect();
    let unknown: Vec<&&str> = named.iter().filter(|name| !parts.contains(**name)).collect();
    assert!(unknown.is_empty(), "no such crates: {unknown:?}; crates/cli/link/order.py makes the list anew");
    for needed in ["chancery_mesh", "chancery_issuance", "h2", "rustls", "tokio"] {
        assert!(named.contains(needed), "{needed} is not linked first");
    }
}
