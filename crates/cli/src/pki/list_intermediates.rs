//! `pki list-intermediates`: which issuers a parent has signed.

use std::collections::BTreeMap;

use chancery_client::{Request, Value};

use super::issuer::{Relation, read_issuer};
use super::verify_sign::relation;
use super::{print, ready, told, warn_of_late_flags};
use crate::command::{Call, Failure, Outcome};
use crate::flags::{Flag, Flags, Kind};
use crate::output::{Doc, table};

pub(super) const FLAGS: &[Flag] = &[
    Flag::new("direct_sign", Kind::Bool, "The parent's key must have signed the child.").default("true"),
    Flag::new("indirect_sign", Kind::Bool, "Trusting the parent must be enough to trust the child.")
        .default("true"),
    Flag::new("key_id_match", Kind::Bool, "The child must name the parent's key identifier as its issuer's.")
        .default("true"),
    Flag::new("path_match", Kind::Bool, "The parent must be in the child's ca_chain.").default("false"),
    Flag::new("subject_match", Kind::Bool, "The child must name the parent's subject as its issuer's.")
        .default("true"),
    Flag::new("use_names", Kind::Bool, "Show issuers by their names, where they have one.").default("false"),
];

pub(super) fn run(call: &mut Call<'_>) -> Outcome {
    match call.args.len() {
        0 => {
            let sentence = "Not enough arguments (expected potential parent, got nothing)";
            return Err(Failure::Local(sentence.to_owned()));
        }
        1 | 2 => {}
        _ => warn_of_late_flags(call),
    }
    ready(call)?;
    let parent = call.path(0);
    let children = children(call)?;
    let known = read_issuer(call, &parent).map_err(|failure| {
        told(failure, |text| format!("Failed to read parent issuer on path {parent}: {text}"))
    })?;
    let mut found = BTreeMap::new();
    for path in children {
        let relation = relation(call, &known.certificate, &path).map_err(|failure| {
            told(failure, |text| format!("Failed to run verification on path {path}: {text}"))
        })?;
        let matches = is_wanted(relation, &call.flags);
        found.insert(path, matches);
    }
    let doc = found.iter().map(|(path, matches)| (path.clone(), Doc::from(*matches))).collect();
    print(call, &Doc::Object(doc), |call| {
        let head = vec!["intermediate".to_owned(), "match?".to_owned()];
        let rows = found.iter().map(|(path, matches)| vec![path.clone(), matches.to_string()]);
        let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
        call.ui.output(&format!("{}\n\n", table(&rows)));
    })?;
    Ok(0)
}

/// Whether all is true that the flags ask for.
fn is_wanted(relation: Relation, flags: &Flags) -> bool {
    [
        ("direct_sign", relation.signature),
        ("indirect_sign", relation.trust),
        ("key_id_match", relation.key_id),
        ("path_match", relation.path),
        ("subject_match", relation.subject),
    ]
    .into_iter()
    .all(|(flag, holds)| holds || !flags.on(flag))
}

/// The paths of the issuers that are meant.
fn children(call: &mut Call<'_>) -> Result<Vec<String>, Failure> {
    let mut paths = Vec::new();
    if call.args.len() < 2 {
        for mount in pki_mounts(call)? {
            paths.extend(issuers(call, &mount)?);
        }
        return Ok(paths);
    }
    for index in 1..call.args.len() {
        let path = call.path(index);
        if ["/issuer/", "/certs/", "/revoked/"].iter().any(|part| path.contains(part)) {
            paths.push(path);
        } else if !path.is_empty() {
            paths.extend(issuers(call, &path)?);
        }
    }
    Ok(paths)
}

fn pki_mounts(call: &mut Call<'_>) -> Result<Vec<String>, Failure> {
    let answer = call.answer(&Request::read("sys/mounts")).map_err(|failure| {
        told(failure, |text| format!("Failed to Read List of Mounts With Potential Issuers: {text}"))
    })?;
    let mounts = answer.and_then(|answer| answer.data).unwrap_or_default();
    let is_pki = |mount: &Value| mount.field("type").and_then(Value::as_str) == Some("pki");
    let mounts = mounts.into_iter().filter(|(_, mount)| is_pki(mount));
    Ok(mounts.map(|(path, _)| path.trim_matches('/').to_owned()).collect())
}

/// The paths of a mount's issuers; none for an empty mount.
fn issuers(call: &mut Call<'_>, mount: &str) -> Result<Vec<String>, Failure> {
    let answer = call.answer(&Request::list(format!("{mount}/issuers"))).map_err(|failure| {
        told(failure, |text| format!("failed to read list of issuers within mount {mount}: {text}"))
    })?;
    let keys = answer.as_ref().and_then(|answer| answer.field("keys")).and_then(Value::as_array);
    let ids: Vec<String> =
        keys.unwrap_or_default().iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let mut paths = Vec::new();
    for id in ids {
        let path = format!("{mount}/issuer/{id}");
        let name = if call.flags.on("use_names") { name_of(call, &path)? } else { None };
        paths.push(name.map_or(path, |name| format!("{mount}/issuer/{name}")));
    }
    Ok(paths)
}

fn name_of(call: &mut Call<'_>, path: &str) -> Result<Option<String>, Failure> {
    match call.answer(&Request::read(path)) {
        Ok(answer) => {
            let name = answer.as_ref().and_then(|answer| answer.text("issuer_name"));
            Ok(name.filter(|name| !name.is_empty()).map(str::to_owned))
        }
        Err(Failure::Done(code)) => Err(Failure::Done(code)),
        Err(_) => {
            call.ui.warn(&format!("Unable to Fetch Issuer to Recover Name at: {path}"));
            Ok(None)
        }
    }
}
