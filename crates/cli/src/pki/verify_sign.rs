//! `pki verify-sign`: what one issuer is to another.

use super::issuer::{Relation, read_issuer};
use super::{print, ready, told, warn_of_late_flags};
use crate::command::{Call, Failure, Outcome};
use crate::output::{Doc, table};

pub(super) fn run(call: &mut Call<'_>) -> Outcome {
    let wrong = match call.args.len() {
        0 => "Not enough arguments (expected potential issuer and issued, got nothing)".to_owned(),
        1 => "Not enough arguments (expected both potential issuer and issued, got only one)".to_owned(),
        2 => String::new(),
        got => format!("Too many arguments (expected only potential issuer and issued, got {got} arguments)"),
    };
    if !wrong.is_empty() {
        call.ui.error(&wrong);
        if call.args.len() > 2 {
            warn_of_late_flags(call);
        }
        return Ok(1);
    }
    let (parent, child) = (call.path(0), call.path(1));
    ready(call)?;
    let known = read_issuer(call, &parent)
        .map_err(|failure| told(failure, |text| format!("Failed to read issuer: {parent}: {text}")))?;
    let relation = relation(call, &known.certificate, &child)
        .map_err(|failure| told(failure, |text| format!("Failed to run verification: {text}")))?;
    let printed = print(call, &doc(relation), |call| {
        call.ui.output(&format!("issuer:{parent}\nissued:{child}\n"));
        call.ui.output(&format!("{}\n\n", rows(relation)));
    });
    printed.map_err(|failure| told(failure, |text| format!("Failed to output results: {text}")))?;
    Ok(0)
}

/// Reads the issuer at `path` and compares it with `parent`.
///
/// # Errors
/// It cannot be read, or not be compared.
pub(super) fn relation(
    call: &mut Call<'_>,
    parent: &chancery_issuance::Certificate,
    path: &str,
) -> Result<Relation, Failure> {
    let child = read_issuer(call, path)
        .map_err(|failure| told(failure, |text| format!("error: unable to fetch issuer {path}: {text}")))?;
    Relation::between(parent, &child, super::issuer::now()).map_err(Failure::Local)
}

fn doc(relation: Relation) -> Doc {
    let mut rows = relation.rows();
    rows.sort_unstable();
    Doc::Object(rows.into_iter().map(|(name, value)| (name.to_owned(), Doc::from(value))).collect())
}

fn rows(relation: Relation) -> String {
    let head = vec!["field".to_owned(), "value".to_owned()];
    let rows = relation.rows().map(|(name, value)| vec![name.to_owned(), value.to_string()]);
    table(&std::iter::once(head).chain(rows).collect::<Vec<_>>())
}
