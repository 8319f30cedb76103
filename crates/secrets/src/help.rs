//! The help of paths, from the same tables that answer them.

use std::fmt::Write;

use chancery_api::{Field, Kind};
use serde_json::json;

use crate::engine::AnyEngine;
use crate::error::Error;
use crate::response::Response;
use crate::route::{Matched, RouteSchema};

/// What an engine is for: its paths, one line each.
pub(crate) fn of_engine(engine: &dyn AnyEngine) -> Result<Response, Error> {
    let mut routes = engine.describe();
    routes.sort_by_key(|route| route.pattern);
    let mut text = String::from(
        "## PATHS\n\nThese paths are supported here. Ask for the help of any path that matches a pattern for its \
         parameters; whether a token may use it is up to its policies.\n\n",
    );
    for route in &routes {
        line(&mut text, &format!("    {}\n        {}\n\n", route.pattern, synopsis(route)));
    }
    answer(text)
}

/// What one path is for: its operations and parameters.
pub(crate) fn of_route(engine: &dyn AnyEngine, path: &str, matched: &Matched) -> Result<Response, Error> {
    let routes = engine.describe();
    let Some(route) = routes.iter().find(|route| route.pattern == matched.pattern) else {
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
    answer(text)
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

fn answer(text: String) -> Result<Response, Error> {
    Ok(Response::data(&json!({ "help": text, "see_also": null, "openapi": null }))?.bare())
}
