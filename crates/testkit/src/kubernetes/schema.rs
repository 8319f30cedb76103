//! What a definition demands of its objects: an `openAPIV3Schema`, as far as definitions use it.

use serde_json::{Value, json};

use super::kind::Kind;
use super::status::Failure;
use super::store::text;

/// Sets defaults and refuses what the schema does not allow.
pub(super) fn check(kind: &Kind, object: &mut Value) -> Result<(), Failure> {
    let Some(schema) = &kind.schema else { return Ok(()) };
    let mut causes = Vec::new();
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        if !matches!(name.as_str(), "apiVersion" | "kind" | "metadata")
            && let Some(value) = object.get_mut(name)
        {
            visit(value, schema, name, &mut causes);
        }
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if object.get(name).is_none() {
            causes.push(Cause::new("FieldValueRequired", name, "Required value".into()));
        }
    }
    if causes.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> =
        causes.iter().map(|cause| format!("{}: {}", cause.field, cause.message)).collect();
    let shown = match &shown[..] {
        [one] => one.clone(),
        all => format!("[{}]", all.join(", ")),
    };
    let name = text(object, "name");
    let message = format!("{}.{} {name:?} is invalid: {shown}", kind.kind, kind.group);
    let causes: Vec<Value> = causes
        .into_iter()
        .map(|cause| json!({ "reason": cause.reason, "message": cause.message, "field": cause.field }))
        .collect();
    let details = json!({ "name": name, "group": kind.group, "kind": kind.kind, "causes": causes });
    Err(Failure::new(422, "Invalid", message, Some(details)))
}

struct Cause {
    reason: &'static str,
    field: String,
    message: String,
}

impl Cause {
    fn new(reason: &'static str, field: &str, message: String) -> Self {
        Self { reason, field: field.to_owned(), message }
    }
}

fn visit(value: &mut Value, schema: &Value, field: &str, causes: &mut Vec<Cause>) {
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is_either = schema["x-kubernetes-int-or-string"] == true;
    let mut invalid = |shown: &str, what: String| {
        let message = format!("Invalid value: {shown}: {field} in body {what}");
        causes.push(Cause::new("FieldValueInvalid", field, message));
    };
    match schema["type"].as_str() {
        Some(wanted) if !is_either && wanted != found && !(wanted == "number" && found == "integer") => {
            let what = format!("must be of type {wanted}: {found:?}");
            let message = format!("Invalid value: {found:?}: {field} in body {what}");
            causes.push(Cause::new("FieldValueTypeInvalid", field, message));
            return;
        }
        _ => {}
    }
    match value {
        Value::String(text) => {
            let length = text.chars().count() as u64;
            if let Some(least) = schema["minLength"].as_u64().filter(|least| length < *least) {
                invalid(&format!("{text:?}"), format!("should be at least {least} chars long"));
            }
            if let Some(most) = schema["maxLength"].as_u64().filter(|most| length > *most) {
                let message = format!("Too long: may not be more than {most} bytes");
                causes.push(Cause::new("FieldValueTooLong", field, message));
            }
        }
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or_default();
            if let Some(least) = schema["minimum"].as_f64().filter(|least| number < *least) {
                invalid(&number.to_string(), format!("should be greater than or equal to {least}"));
            }
            if let Some(most) = schema["maximum"].as_f64().filter(|most| number > *most) {
                invalid(&number.to_string(), format!("should be less than or equal to {most}"));
            }
        }
        Value::Array(items) => {
            let length = items.len() as u64;
            if let Some(least) = schema["minItems"].as_u64().filter(|least| length < *least) {
                invalid(&length.to_string(), format!("should have at least {least} items"));
            }
            if let Some(most) = schema["maxItems"].as_u64().filter(|most| length > *most) {
                let message = format!("Too many: {length}: must have at most {most} items");
                causes.push(Cause::new("FieldValueTooMany", field, message));
            }
            for (at, item) in items.iter_mut().enumerate() {
                visit(item, &schema["items"], &format!("{field}[{at}]"), causes);
            }
        }
        Value::Object(fields) => {
            let known = schema["properties"].as_object();
            for (name, below) in known.into_iter().flatten() {
                if !fields.contains_key(name)
                    && let Some(default) = below.get("default")
                {
                    fields.insert(name.clone(), default.clone());
                }
            }
            for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                if !fields.contains_key(name) {
                    let field = format!("{field}.{name}");
                    causes.push(Cause::new("FieldValueRequired", &field, "Required value".into()));
                }
            }
            for (name, value) in fields {
                let below =
                    known.and_then(|known| known.get(name)).unwrap_or(&schema["additionalProperties"]);
                visit(value, below, &format!("{field}.{name}"), causes);
            }
        }
        _ => {}
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
        let message = format!("Unsupported value: {value}: supported values: {}", allowed.join(", "));
        causes.push(Cause::new("FieldValueNotSupported", field, message));
    }
}
