//! Patches: RFC 7386, RFC 6902, and as much of the strategic merge as clients use.

use serde_json::{Map, Value};

use super::write::remove;

/// RFC 7386.
pub(super) fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        object.clone_from(patch);
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    for (key, value) in patch {
        if value.is_null() {
            remove(object, key);
        } else {
            merge(&mut object[key], value);
        }
    }
}

/// What the items of a list are told apart by, if the list is merged and not replaced.
pub(super) fn merge_key(field: &str) -> Option<&'static str> {
    match field {
        "conditions" => Some("type"),
        "ownerReferences" => Some("uid"),
        "containers" | "initContainers" | "volumes" | "env" | "imagePullSecrets" => Some("name"),
        "volumeMounts" => Some("mountPath"),
        "webhooks" => Some("name"),
        _ => None,
    }
}

/// `application/strategic-merge-patch+json`.
pub(super) fn merge_strategically(object: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        object.clone_from(patch);
        return;
    };
    if fields.get("$patch").and_then(Value::as_str) == Some("replace") {
        *object = patch.clone();
        remove(object, "$patch");
        return;
    }
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    for (field, value) in fields {
        if field.starts_with('$') {
            if let Some(list) = field.strip_prefix("$deleteFromPrimitiveList/")
                && let Some(items) = object[list].as_array_mut()
            {
                let gone = value.as_array().cloned().unwrap_or_default();
                items.retain(|item| !gone.contains(item));
            }
            continue;
        }
        match (value, merge_key(field)) {
            (Value::Null, _) => remove(object, field),
            (Value::Array(items), Some(key)) => merge_items(&mut object[field], items, key),
            (Value::Array(items), None) if field == "finalizers" => {
                let mut all = object[field].as_array().cloned().unwrap_or_default();
                all.extend(items.iter().filter(|item| !all.contains(item)).cloned().collect::<Vec<_>>());
                object[field] = all.into();
            }
            _ => merge_strategically(&mut object[field], value),
        }
    }
}

fn merge_items(list: &mut Value, patches: &[Value], key: &str) {
    let mut items = list.as_array().cloned().unwrap_or_default();
    for patch in patches {
        let found = items.iter().position(|item| item[key] == patch[key]);
        match (patch["$patch"] == "delete", found) {
            (true, Some(at)) => {
                items.remove(at);
            }
            (true, None) => {}
            (false, Some(at)) => merge_strategically(&mut items[at], patch),
            (false, None) => items.push(patch.clone()),
        }
    }
    *list = items.into();
}

/// RFC 6902.
pub(super) fn apply_operations(object: &mut Value, operations: &Value) -> Result<(), String> {
    let operations = operations.as_array().ok_or("a JSON patch is a list of operations")?;
    for operation in operations {
        let path = operation["path"].as_str().ok_or("an operation without a path")?;
        let from = || operation["from"].as_str().ok_or("an operation without \"from\"".to_owned());
        let value = || operation.get("value").cloned().ok_or("an operation without a value".to_owned());
        let missing =
            |path: &str| format!("{} operation does not apply: doc is missing path: {path}", operation["op"]);
        match operation["op"].as_str().unwrap_or_default() {
            "add" => insert(object, path, value()?)?,
            "replace" => {
                *object.pointer_mut(path).ok_or_else(|| missing(path))? = value()?;
            }
            "remove" => {
                take(object, path)?;
            }
            "move" => {
                let moved = take(object, from()?)?;
                insert(object, path, moved)?;
            }
            "copy" => {
                let copied = object.pointer(from()?).cloned().ok_or_else(|| missing(path))?;
                insert(object, path, copied)?;
            }
            "test" if object.pointer(path) == Some(&value()?) => {}
            "test" => return Err(format!("testing path {path} failed")),
            other => return Err(format!("unexpected kind: {other}")),
        }
    }
    Ok(())
}

fn split(path: &str) -> Result<(&str, String), String> {
    let (parent, last) = path.rsplit_once('/').ok_or(format!("not a pointer: {path}"))?;
    Ok((parent, last.replace("~1", "/").replace("~0", "~")))
}

fn insert(object: &mut Value, path: &str, value: Value) -> Result<(), String> {
    if path.is_empty() {
        *object = value;
        return Ok(());
    }
    let (parent, last) = split(path)?;
    match object.pointer_mut(parent) {
        Some(Value::Object(fields)) => {
            fields.insert(last, value);
        }
        Some(Value::Array(items)) if last == "-" => items.push(value),
        Some(Value::Array(items)) => match last.parse() {
            Ok(at) if at <= items.len() => items.insert(at, value),
            _ => return Err(format!("add operation does not apply: invalid index {last}")),
        },
        _ => return Err(format!("add operation does not apply: doc is missing path: {path}")),
    }
    Ok(())
}

fn take(object: &mut Value, path: &str) -> Result<Value, String> {
    let missing = || format!("remove operation does not apply: doc is missing path: {path}");
    let (parent, last) = split(path)?;
    match object.pointer_mut(parent) {
        Some(Value::Object(fields)) => fields.remove(&last).ok_or_else(missing),
        Some(Value::Array(items)) => match last.parse::<usize>() {
            Ok(at) if at < items.len() => Ok(items.remove(at)),
            _ => Err(missing()),
        },
        _ => Err(missing()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{apply_operations, merge, merge_strategically};

    #[test]
    fn patches_merge_and_null_removes() {
        let mut object = json!({ "a": { "b": 1, "c": 2 }, "l": [1] });
        merge(&mut object, &json!({ "a": { "b": null, "d": 3 }, "l": [2] }));
        assert_eq!(object, json!({ "a": { "c": 2, "d": 3 }, "l": [2] }));
    }

    #[test]
    fn operations_are_done_in_order_or_refused() {
        let mut object = json!({ "a": { "b/c": 1 }, "l": [1, 2] });
        let done = json!([
            { "op": "test", "path": "/a/b~1c", "value": 1 },
            { "op": "add", "path": "/l/-", "value": 3 },
            { "op": "add", "path": "/l/0", "value": 0 },
            { "op": "remove", "path": "/l/1" },
            { "op": "replace", "path": "/a/b~1c", "value": 2 },
            { "op": "copy", "from": "/a", "path": "/d" },
            { "op": "move", "from": "/a/b~1c", "path": "/e" },
        ]);
        apply_operations(&mut object, &done).expect("done");
        assert_eq!(object, json!({ "a": {}, "d": { "b/c": 2 }, "e": 2, "l": [0, 2, 3] }));
        for refused in [
            json!([{ "op": "test", "path": "/e", "value": 1 }]),
            json!([{ "op": "remove", "path": "/absent" }]),
            json!([{ "op": "replace", "path": "/absent", "value": 1 }]),
            json!([{ "op": "add", "path": "/absent/deep", "value": 1 }]),
            json!({}),
        ] {
            assert!(apply_operations(&mut object, &refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn a_strategic_merge_merges_lists_by_their_keys() {
        let mut object =
            json!({ "status": { "conditions": [{ "type": "A", "status": "True" }, { "type": "B" }] } });
        let patch = json!({ "status": { "conditions": [
            { "type": "A", "reason": "x" }, { "type": "B", "$patch": "delete" }, { "type": "C" },
        ], "$setElementOrder/conditions": [] } });
        merge_strategically(&mut object, &patch);
        let expected = json!([{ "type": "A", "status": "True", "reason": "x" }, { "type": "C" }]);
        assert_eq!(object, json!({ "status": { "conditions": expected } }));
    }
}
