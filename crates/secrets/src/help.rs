//! The help of paths, from the same tables that answer them.

use std::fmt::Write;

use chancery_api::{Field, Kind};
use serde_json::{Value, json};

use crate::error::Error;
use crate::mounts::MountPoint;
use crate::response::Response;
use crate::route::{Matched, RouteSchema};
use crate::sys::openapi;

/// What an engine is for: its paths, one line each.
pub(crate) fn of_engine(point: &MountPoint) -> Result<Response, Error> {
    let mut routes = point.engine.describe();
    routes.sort_by_key(|route| route.pattern);
    let mut text = String::from(
        "## PATHS\n\nThese paths are supported here. Ask for the help of any path that matches a pattern for its \
         parameters; whether a token may use it is up to its policies.\n\n",
    );
    for route in &routes {
        line(&mut text, &format!("    {}\n        {}\n\n", route.pattern, synopsis(route)));
    }
    answer(text, &openapi::of(point, &routes))
}

/// What one path is for: its operations and parameters.
pub(crate) fn of_route(point: &MountPoint, path: &str, matched: &Matched) -> Result<Response, Error> {
    let mut routes = point.engine.describe();
    routes.retain(|route| route.pattern == matched.pattern);
    let Some(route) = routes.first() else {
        return Err(Error::unsupported_path());
    };
    let mut text =
        format!("Request:        {path}\nMatching Route: {}\n\n{}\n", route.pattern, synopsis(route));

    text.push_str("\n## OPERATIONS\n\n");
    for (operation, schema) in &route.operations {
        line(&mut text, &format!("    {:<8}{}\n", operation.name(), schema.summary));
    }

    let mut fields: Vec<&Field> = route.operations.iter().flat_map(|(_, schema)| &schema.fields).collect();
    fields.sort_by_key(|field| field.name);
    fields.dedup_by_key(|field| field.name);
    if !fields.is_empty() {
        text.push_str("\n## PARAMETERS\n");
    }
    for field in fields {
        let default = match &field.default {
            Some(value) if !value.is_null() && value != "" && value != &json!([]) && value != &json!({}) => {
                format!(" [default: {value}]")
            }
            _ => String::new(),
        };
        line(
            &mut text,
            &format!(
                "\n    {} ({})\n        {}{default}\n",
                field.name,
                kind_name(field.kind),
                field.description
            ),
        );
    }

    if !route.help.is_empty() {
        line(&mut text, &format!("\n## DESCRIPTION\n\n{}\n", route.help));
    }
    answer(text, &openapi::of(point, &routes))
}

fn synopsis(route: &RouteSchema) -> &'static str {
    route.operations.first().map_or(route.help, |(_, schema)| schema.summary)
}

const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::String => "string",
        Kind::Integer => "int",
        Kind::Boolean => "bool",
        Kind::Duration => "duration (sec)",
        Kind::Strings => "slice",
        Kind::Map => "map",
        Kind::Time => "time",
        Kind::Any => "any",
    }
}

fn line(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _ = text.write_str(line);
}

/// The text for people, the document for programs.
fn answer(text: String, document: &Value) -> Result<Response, Error> {
    Ok(Response::data(&json!({ "help": text, "see_also": null, "openapi": document }))?.bare())
}
