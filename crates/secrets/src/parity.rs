//! Our route tables beside the operations that the peer has.

use std::fmt::Write;

use crate::auth::approle::AppRole;
use crate::engine::Engine;
use crate::engine::pki::Pki;
use crate::request::Operation;
use crate::route::Routes;
use crate::sys::Sys;
use crate::token::TokenEngine;

const OPERATIONS: &str = include_str!("../tests/peer-operations.txt");

/// Whether one of the routes has the operation at `path`, a template of the peer's.
fn has<E: Engine>(path: &str, method: &str) -> bool {
    let routes: &Routes<E> = E::routes();
    let Some(matched) = routes.matching(&filled_in(path)) else { return false };
    // `cert/crl` is no certificate whose serial number is "crl".
    let taken_for_a_name = path
        .split('/')
        .zip(matched.pattern.split('/'))
        .any(|(theirs, ours)| !theirs.starts_with('{') && ours.starts_with('{') && !ours.ends_with(":rest}"));
    if taken_for_a_name {
        return false;
    }
    let wanted: &[Operation] = match method {
        "GET" => &[Operation::Read, Operation::List],
        "POST" => &[Operation::Update],
        "PATCH" => &[Operation::Patch],
        "DELETE" => &[Operation::Delete],
        _ => &[],
    };
    let described = routes.describe();
    let route = described.iter().find(|route| route.pattern == matched.pattern);
    route.is_some_and(|route| route.operations.iter().any(|(operation, _)| wanted.contains(operation)))
}

/// A path of the peer's document with every capture filled in.
fn filled_in(path: &str) -> String {
    let segments = path.split('/').map(|segment| if segment.starts_with('{') { "x" } else { segment });
    segments.collect::<Vec<_>>().join("/")
}

#[test]
fn every_operation_of_the_peer_is_here_or_has_a_reason_not_to_be() {
    let mut wrong = String::new();
    for line in OPERATIONS.lines().filter(|line| !line.starts_with('#')) {
        let (operation, reason) = match line.split_once(" : ") {
            Some((operation, reason)) => (operation, Some(reason)),
            None => (line, None),
        };
        let (method, path) = operation.split_once(" /").expect("`METHOD /path`");
        let here = if let Some(rest) = path.strip_prefix("sys/") {
            has::<Sys>(rest, method)
        } else if let Some(rest) = path.strip_prefix("pki/") {
            has::<Pki>(rest, method)
        } else if let Some(rest) = path.strip_prefix("auth/approle/") {
            has::<AppRole>(rest, method)
        } else {
            has::<TokenEngine>(path.strip_prefix("auth/token/").expect("one of four mounts"), method)
        };
        match (here, reason) {
            (true, None) | (false, Some(_)) => {}
            (true, Some(_)) => writeln!(wrong, "{line}: is here by now").expect("a string takes it"),
            (false, None) => writeln!(wrong, "{line}: is missing").expect("a string takes it"),
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
