//! The OpenAPI document, from the tables that answer the requests.

use std::sync::Arc;

use chancery_api::{Field, Kind, fields};
use serde_json::{Map, Value, json};

use super::{API_VERSION, Sys};
use crate::engine::{Call, Class};
use crate::error::Error;
use crate::mounts::MountPoint;
use crate::request::Operation;
use crate::response::Response;
use crate::route::{OperationSchema, RouteSchema, Routes};

/// The path of this family.
pub(super) fn routes(routes: Routes<Sys>) -> Routes<Sys> {
    routes.route("internal/specs/openapi", |r| {
        r.read(Sys::openapi, "Every path that the caller may know of, as an OpenAPI document.")
            .update(Sys::openapi, "Every path that the caller may know of, as an OpenAPI document.")
            .public()
    })
}

fields! {
    /// How the document shall look.
    #[derive(Debug)]
    pub(super) struct OpenApiRequest {
        body {
            /// Accepted for compatibility.
            context: String = String::new(),
            /// Mounts are named by their kind, `{pki_mount_path}`, instead of by their path.
            generic_mount_paths: bool = false,
        }
    }
}

impl Sys {
    async fn openapi(self: Arc<Self>, call: Call, body: OpenApiRequest) -> Result<Response, Error> {
        let acl = self.presented_acl(&call).await?;
        let mut paths = Map::new();
        for (path, point) in self.active()?.mounts.all() {
            // The server's own paths are no secret; what else is mounted is for those who may use it.
            let provided = matches!(path.as_str(), "sys/" | "cubbyhole/" | "auth/token/");
            if provided || acl.as_ref().is_some_and(|acl| acl.reaches(&path)) {
                let prefix = if body.generic_mount_paths && !provided { generic(&point) } else { path };
                add(&mut paths, &prefix, &point, &point.engine.describe());
            }
        }
        Response::data(&document(paths)).map(Response::bare)
    }
}

/// The document of some routes of one mount.
pub(crate) fn of(point: &MountPoint, routes: &[RouteSchema]) -> Value {
    let mut paths = Map::new();
    add(&mut paths, &point.entry.path, point, routes);
    document(paths)
}

fn add(paths: &mut Map<String, Value>, prefix: &str, point: &MountPoint, routes: &[RouteSchema]) {
    for route in routes {
        paths.insert(format!("/{prefix}{}", template(route.pattern)), describe(point, route));
    }
}

/// A document over `paths`.
fn document(paths: Map<String, Value>) -> Value {
    json!({
        "openapi": "3.0.2",
        "info": {
            "title": "Chancery API",
            "description": "The whole HTTP API. Every path stands below `/v1/`.",
            "version": API_VERSION,
            "license": { "name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0" },
        },
        "paths": paths,
        "components": { "schemas": {} },
    })
}

/// A mount's path by its kind.
fn generic(point: &MountPoint) -> String {
    let name = format!("{{{}_mount_path}}/", point.entry.kind);
    match point.entry.class {
        Class::Secret => name,
        Class::Auth => format!("auth/{name}"),
    }
}

/// A pattern of ours as OpenAPI writes it: captures without their kind.
fn template(pattern: &str) -> String {
    let segments = pattern.split('/').map(|segment| match segment.split_once(':') {
        Some((name, _)) => format!("{name}}}"),
        None => segment.to_owned(),
    });
    segments.collect::<Vec<_>>().join("/")
}

fn describe(point: &MountPoint, route: &RouteSchema) -> Value {
    let mut item = Map::new();
    let summary = route.operations.first().map_or("", |(_, operation)| operation.summary);
    item.insert("description".to_owned(), if route.help.is_empty() { summary } else { route.help }.into());
    if route.flags.public {
        item.insert("x-vault-unauthenticated".to_owned(), true.into());
    }
    if route.flags.sudo {
        item.insert("x-vault-sudo".to_owned(), true.into());
    }
    if route.existence {
        item.insert("x-vault-createSupported".to_owned(), true.into());
    }
    let fields = route.operations.iter().flat_map(|(_, operation)| &operation.fields);
    let mut captures: Vec<&Field> = fields.filter(|field| field.in_path).collect();
    captures.sort_by_key(|field| field.name);
    captures.dedup_by_key(|field| field.name);
    if !captures.is_empty() {
        let parameters: Vec<Value> = captures
            .into_iter()
            .map(|field| {
                json!({
                    "name": field.name, "description": field.description, "in": "path", "required": true,
                    "schema": { "type": type_name(field.kind) },
                })
            })
            .collect();
        item.insert("parameters".to_owned(), parameters.into());
    }
    for (operation, schema) in &route.operations {
        let Some(method) = method(*operation) else { continue };
        let lists = *operation == Operation::List;
        let entry = item.entry(method).or_insert_with(|| described(point, route, *operation, schema));
        if let (true, Some(entry)) = (lists, entry.as_object_mut()) {
            let only = route.operations.iter().all(|(operation, _)| *operation != Operation::Read);
            let list = json!({
                "name": "list", "in": "query", "required": only,
                "description": "Must be set to `true` to list.", "schema": { "type": "string", "enum": ["true"] },
            });
            entry.insert("parameters".to_owned(), json!([list]));
        }
    }
    Value::Object(item)
}

fn described(
    point: &MountPoint,
    route: &RouteSchema,
    operation: Operation,
    schema: &OperationSchema,
) -> Value {
    let tag = match (point.entry.kind.as_str(), point.entry.class) {
        ("system", _) => "system",
        (_, Class::Auth) => "auth",
        (_, Class::Secret) => "secrets",
    };
    let words: Vec<&str> =
        route.pattern.split(['/', '{', '}', ':', '_']).filter(|word| !word.is_empty()).collect();
    let mut described = json!({
        "summary": schema.summary,
        "operationId": format!("{}-{}-{}", point.entry.kind, operation.name(), words.join("-")),
        "tags": [tag],
        "responses": { "200": { "description": "OK" }, "204": { "description": "No Content" } },
    });
    let body: Vec<&Field> = schema.fields.iter().filter(|field| !field.in_path).collect();
    let writes = matches!(operation, Operation::Update | Operation::Patch);
    if let (true, false, Some(described)) = (writes, body.is_empty(), described.as_object_mut()) {
        let properties: Map<String, Value> =
            body.into_iter().map(|field| (field.name.to_owned(), property(field))).collect();
        let content =
            json!({ "application/json": { "schema": { "type": "object", "properties": properties } } });
        described.insert("requestBody".to_owned(), json!({ "required": true, "content": content }));
    }
    described
}

fn property(field: &Field) -> Value {
    let mut property = json!({ "type": type_name(field.kind), "description": field.description });
    if let Some(object) = property.as_object_mut() {
        if field.kind == Kind::Strings {
            object.insert("items".to_owned(), json!({ "type": "string" }));
        }
        if let Some(format) = match field.kind {
            Kind::Duration => Some("duration"),
            Kind::Time => Some("date-time"),
            Kind::Map => Some("kvpairs"),
            _ => None,
        } {
            object.insert("format".to_owned(), format.into());
        }
        if let Some(default) = field.default.as_ref().filter(|default| !default.is_null()) {
            object.insert("default".to_owned(), default.clone());
        }
    }
    property
}

/// The type's name in OpenAPI.
const fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::String | Kind::Duration | Kind::Time => "string",
        Kind::Integer => "integer",
        Kind::Boolean => "boolean",
        Kind::Strings => "array",
        Kind::Map | Kind::Any => "object",
    }
}

/// The verb; a listing is a GET with a parameter.
const fn method(operation: Operation) -> Option<&'static str> {
    match operation {
        Operation::Read | Operation::List => Some("get"),
        Operation::Update | Operation::Create => Some("post"),
        Operation::Patch => Some("patch"),
        Operation::Delete => Some("delete"),
        Operation::Scan | Operation::Help => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_are_written_without_their_kind() {
        for (pattern, expected) in [
            ("roles", "roles"),
            ("roles/{name}/sign", "roles/{name}/sign"),
            ("cert/{serial:any}", "cert/{serial}"),
            ("data/{path:rest}", "data/{path}"),
        ] {
            assert_eq!(template(pattern), expected);
        }
    }
}
