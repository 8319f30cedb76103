//! Our route tables beside the operations that the peer has, and the parameters of those below `/pki/`.

use std::collections::BTreeMap;
use std::fmt::Write;

use chancery_api::{Field, Kind};
use serde_json::Value;

use crate::auth::approle::AppRole;
use crate::engine::Engine;
use crate::engine::pki::Pki;
use crate::request::Operation;
use crate::route::Routes;
use crate::sys::Sys;
use crate::token::TokenEngine;

const OPERATIONS: &str = include_str!("../tests/peer-operations.txt");
/// By operation and name: a type, or a type and a default. From the peer's own OpenAPI document.
const PARAMETERS: &str = include_str!("../tests/peer-pki-parameters.json");
const DIFFERENCES: &str = include_str!("../tests/peer-pki-differences.txt");
const DIVERGENCES: &str = include_str!("../../../docs/divergences.md");

/// Whether one of the routes has the operation at `path`, a template of the peer's.
fn has<E: Engine>(path: &str, method: &str) -> bool {
    fields::<E>(path, method).is_some()
}

/// The fields of that operation, if there is one.
fn fields<E: Engine>(path: &str, method: &str) -> Option<Vec<Field>> {
    let routes: &Routes<E> = E::routes();
    let matched = routes.matching(&filled_in(path))?;
    // `cert/crl` is no certificate whose serial number is "crl".
    let taken_for_a_name = path
        .split('/')
        .zip(matched.pattern.split('/'))
        .any(|(theirs, ours)| !theirs.starts_with('{') && ours.starts_with('{') && !ours.ends_with(":rest}"));
    if taken_for_a_name {
        return None;
    }
    let wanted: &[Operation] = match method {
        "GET" => &[Operation::Read, Operation::List],
        "POST" => &[Operation::Update],
        "PATCH" => &[Operation::Patch],
        "DELETE" => &[Operation::Delete],
        _ => &[],
    };
    let described = routes.describe();
    let route = described.iter().find(|route| route.pattern == matched.pattern)?;
    let (_, schema) = route.operations.iter().find(|(operation, _)| wanted.contains(operation))?;
    Some(schema.fields.clone())
}

/// What the peer's document calls a type.
fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::String | Kind::Time => "string",
        Kind::Integer => "integer",
        Kind::Boolean => "boolean",
        Kind::Duration => "seconds",
        Kind::Strings => "array",
        Kind::Map => "object",
        Kind::Any => "any",
    }
}

/// A default that says nothing is no default.
fn meaning(default: Option<&Value>) -> Option<String> {
    let default = default.filter(|value| {
        !matches!(value, Value::Null | Value::Bool(false))
            && value.as_i64() != Some(0)
            && value.as_str() != Some("")
            && !value.as_array().is_some_and(Vec::is_empty)
    });
    default.map(ToString::to_string)
}

/// What differs in one parameter: it is missing, or has another type or default.
fn difference(theirs: &Value, ours: Option<&Field>) -> Option<String> {
    let Some(ours) = ours else { return Some("missing".to_owned()) };
    let (kind, default) = match theirs {
        Value::Array(both) => (both.first().and_then(Value::as_str), both.get(1)),
        kind => (kind.as_str(), None),
    };
    let kind = kind.expect("a type");
    let name = type_name(ours.kind);
    if kind != name {
        return Some(format!("type {name} instead of {kind}"));
    }
    let (mine, other) = (meaning(ours.default.as_ref()), meaning(default));
    let shown = |default: Option<String>| default.unwrap_or_else(|| "none".to_owned());
    (mine != other).then(|| format!("default {} instead of {}", shown(mine), shown(other)))
}

#[test]
fn every_pki_parameter_of_the_peer_is_here_or_docs_divergences_says_why_not() {
    let peer: BTreeMap<String, BTreeMap<String, Value>> =
        serde_json::from_str(PARAMETERS).expect("a fixture");
    let not_here: Vec<&str> = OPERATIONS.lines().filter_map(|line| Some(line.split_once(" : ")?.0)).collect();
    let known: Vec<(&str, &str)> = DIFFERENCES
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| line.split_once(" :: ").expect("`difference :: words`"))
        .collect();
    let mut wrong = String::new();
    let mut used = vec![false; known.len()];
    for (operation, parameters) in &peer {
        if not_here.contains(&operation.as_str()) {
            continue;
        }
        let (method, path) = operation.split_once(" /pki/").expect("`METHOD /pki/path`");
        let ours = fields::<Pki>(path, method).unwrap_or_default();
        for (name, theirs) in parameters {
            let ours = ours.iter().find(|field| field.name == name);
            let Some(difference) = difference(theirs, ours) else { continue };
            let whole = format!("{operation} {name}: {difference}");
            match known.iter().position(|(pattern, _)| covers(pattern, &whole)) {
                Some(index) => used[index] = true,
                None => writeln!(wrong, "{whole}").expect("a string takes it"),
            }
        }
    }
    for ((pattern, words), used) in known.iter().zip(used) {
        if !used {
            writeln!(wrong, "{pattern}: differs no longer").expect("a string takes it");
        }
        if !DIVERGENCES.contains(words) {
            writeln!(wrong, "{pattern}: docs/divergences.md does not say {words:?}")
                .expect("a string takes it");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Whether a pattern with `*` for anything is this text.
fn covers(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, between)) = parts.split_last() else { return rest.is_empty() };
    for part in between {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(last)
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
