//! Server-side apply: which manager owns which fields, and what an application changes.
//!
//! Sets of fields have the form of `FieldsV1`: a tree whose steps are `f:NAME`, `k:{KEYS}` for the item of a list that
//! has keys, `v:VALUE` for the item of a list that is a set; `.` is the item itself.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::kind::Kind;
use super::patch::merge_key;
use super::status::Failure;
use super::store::text;
use super::write::{Part, now, remove};

type Tree = Map<String, Value>;
type Path = Vec<String>;

/// Who applies, and how.
#[derive(Debug)]
pub(super) struct Application<'a> {
    pub(super) manager: &'a str,
    pub(super) force: bool,
    pub(super) part: Part,
}

/// What an object is after an application; `current` is null if there is none yet.
pub(super) fn apply(
    current: &Value,
    wanted: &Value,
    how: &Application<'_>,
    kind: &Kind,
) -> Result<Value, Failure> {
    let mut wanted = wanted.clone();
    remove(&mut wanted["metadata"], "managedFields");
    let mine = fields_of(&wanted, how.part, kind);
    let mut entries = current["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let mut previous = Tree::new();
    let mut since = None;
    entries.retain(|entry| {
        let is_mine = is_of(entry, how.manager, "Apply", how.part);
        if is_mine {
            previous = entry["fieldsV1"].as_object().cloned().unwrap_or_default();
            since = Some(entry["time"].clone());
        }
        !is_mine
    });
    // Others' fields that would change.
    let mut conflicts = Vec::new();
    for path in leaves(&mine) {
        if at(current, &path) == at(&wanted, &path) {
            continue;
        }
        for entry in &mut entries {
            let Some(tree) = entry["fieldsV1"].as_object_mut() else { continue };
            if !has(tree, &path) {
                continue;
            }
            drop_path(tree, &path);
            conflicts.push((entry.clone(), path.clone()));
        }
    }
    if !conflicts.is_empty() && !how.force {
        return Err(conflict(&conflicts));
    }
    let mut object = if current.is_null() { json!({}) } else { current.clone() };
    // What I applied before and do not any more, goes, unless somebody else wants it too.
    let mut gone: Vec<Path> = leaves(&previous).into_iter().filter(|path| !holds(&mine, path)).collect();
    gone.sort_by_key(|path| path.last().is_none_or(|last| last != "."));
    for path in gone {
        let is_others = entries.iter().any(|entry| match entry["fieldsV1"].as_object() {
            Some(tree) if path.last().is_some_and(|last| last == ".") => holds(tree, &path[..path.len() - 1]),
            Some(tree) => holds(tree, &path),
            None => false,
        });
        if !is_others {
            take(&mut object, &path);
        }
    }
    merge(&mut object, &wanted, how.part);
    let is_same = previous == mine;
    entries.retain(|entry| entry["fieldsV1"].as_object().is_none_or(|tree| !tree.is_empty()));
    if !mine.is_empty() {
        let mut entry = entry(how.manager, "Apply", kind.api_version(), mine, how.part);
        if let (true, Some(since)) = (is_same, since) {
            entry["time"] = since;
        }
        entries.push(entry);
    }
    // Always in the same order, so that an application of the same changes nothing.
    entries.sort_by_key(|entry| {
        let field = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        (field("operation"), field("manager"), field("subresource"))
    });
    object["metadata"]["managedFields"] = entries.into();
    Ok(object)
}

/// Writes down that a manager changed by a plain write what differs.
pub(super) fn record_update(before: Option<&Value>, after: &mut Value, manager: &str, part: Part) {
    let nothing = Value::Null;
    let before = before.unwrap_or(&nothing);
    let api_version = after["apiVersion"].as_str().unwrap_or_default().to_owned();
    let mut entries = before["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let all = tree_of(after, Scope::Everything);
    let changed: Vec<Path> =
        leaves(&all).into_iter().filter(|path| at(before, path) != at(after, path)).collect();
    let mut mine = Tree::new();
    entries.retain_mut(|entry| {
        if let Some(tree) = entry["fieldsV1"].as_object_mut() {
            for path in leaves(tree) {
                if at(after, &path).is_none() || changed.contains(&path) {
                    drop_path(tree, &path);
                }
            }
            if tree.is_empty() {
                return false;
            }
        }
        let is_mine = is_of(entry, manager, "Update", part);
        if is_mine {
            mine = entry["fieldsV1"].as_object().cloned().unwrap_or_default();
        }
        !is_mine
    });
    for path in &changed {
        add_path(&mut mine, path);
    }
    if !mine.is_empty() {
        entries.push(entry(manager, "Update", api_version, mine, part));
    }
    after["metadata"]["managedFields"] = entries.into();
}

fn entry(manager: &str, operation: &str, api_version: String, tree: Tree, part: Part) -> Value {
    let mut entry = json!({
        "manager": manager, "operation": operation, "apiVersion": api_version, "time": now(),
        "fieldsType": "FieldsV1", "fieldsV1": tree,
    });
    if part == Part::Status {
        entry["subresource"] = "status".into();
    }
    entry
}

fn is_of(entry: &Value, manager: &str, operation: &str, part: Part) -> bool {
    let subresource = if part == Part::Status { "status" } else { "" };
    entry["manager"] == manager
        && entry["operation"] == operation
        && entry["subresource"].as_str().unwrap_or_default() == subresource
}

fn conflict(conflicts: &[(Value, Path)]) -> Failure {
    let mut message = format!(
        "Apply failed with {} conflict{}: ",
        conflicts.len(),
        if conflicts.len() == 1 { "" } else { "s" }
    );
    let mut causes = Vec::new();
    let mut by_manager: Vec<(String, Vec<String>)> = Vec::new();
    for (entry, path) in conflicts {
        let mut who = format!("conflict with {:?}", entry["manager"].as_str().unwrap_or_default());
        if let Some(subresource) = entry["subresource"].as_str() {
            let _ = write!(who, " with subresource {subresource:?}");
        }
        if entry["operation"] == "Update" {
            let _ = write!(who, " using {}", entry["apiVersion"].as_str().unwrap_or_default());
        }
        let field = shown(path);
        causes.push(json!({ "reason": "FieldManagerConflict", "message": who, "field": field }));
        match by_manager.iter_mut().find(|(one, _)| *one == who) {
            Some((_, fields)) => fields.push(field),
            None => by_manager.push((who, vec![field])),
        }
    }
    let parts: Vec<String> = by_manager
        .into_iter()
        .map(|(who, fields)| match &fields[..] {
            [field] => format!("{who}: {field}"),
            fields => format!("{}:\n- {}", who.replacen("conflict ", "conflicts ", 1), fields.join("\n- ")),
        })
        .collect();
    message.push_str(&parts.join("\n"));
    Failure::new(409, "Conflict", message, Some(json!({ "causes": causes })))
}

/// `.spec.names[type="x"].y`, as refusals name fields.
fn shown(path: &[String]) -> String {
    let mut text = String::new();
    for step in path {
        if let Some(name) = step.strip_prefix("f:") {
            let _ = write!(text, ".{name}");
        } else if let Some(keys) = step.strip_prefix("k:") {
            let keys: Tree = serde_json::from_str(keys).unwrap_or_default();
            let keys: Vec<_> = keys.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let _ = write!(text, "[{}]", keys.join(","));
        } else if let Some(value) = step.strip_prefix("v:") {
            let _ = write!(text, "[={value}]");
        }
    }
    text
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Everything,
    NoStatus,
    OnlyStatus,
}

/// What an application to a part of an object names.
fn fields_of(wanted: &Value, part: Part, kind: &Kind) -> Tree {
    match part {
        Part::Status => tree_of(wanted, Scope::OnlyStatus),
        Part::Object if kind.status => tree_of(wanted, Scope::NoStatus),
        Part::Object => tree_of(wanted, Scope::Everything),
    }
}

/// The fields of an object, without those that the server itself writes.
fn tree_of(object: &Value, scope: Scope) -> Tree {
    let mut tree = Tree::new();
    for (name, value) in object.as_object().into_iter().flatten() {
        let is_in = match (scope, name.as_str()) {
            (_, "apiVersion" | "kind") => false,
            (Scope::OnlyStatus, name) => name == "status",
            (Scope::NoStatus, "status") => false,
            _ => true,
        };
        if !is_in {
            continue;
        }
        let mut below = branch(name, value);
        if name == "metadata"
            && let Some(fields) = below.as_object_mut()
        {
            fields.retain(|step, _| {
                matches!(
                    step.as_str(),
                    "f:labels" | "f:annotations" | "f:finalizers" | "f:ownerReferences" | "f:generateName"
                )
            });
            if fields.is_empty() {
                continue;
            }
        }
        tree.insert(format!("f:{name}"), below);
    }
    tree
}

fn branch(field: &str, value: &Value) -> Value {
    let mut tree = Tree::new();
    match (value, merge_key(field)) {
        (Value::Object(fields), _) => {
            for (name, value) in fields {
                tree.insert(format!("f:{name}"), branch(name, value));
            }
        }
        (Value::Array(items), Some(key)) => {
            for item in items.iter().filter(|item| !item[key].is_null()) {
                let mut below = branch("", item);
                below["."] = json!({});
                tree.insert(format!("k:{}", json!({ key: item[key] })), below);
            }
        }
        (Value::Array(items), None) if field == "finalizers" => {
            for item in items {
                tree.insert(format!("v:{item}"), json!({}));
            }
        }
        _ => {}
    }
    Value::Object(tree)
}

fn leaves(tree: &Tree) -> Vec<Path> {
    fn walk(tree: &Tree, path: &mut Path, found: &mut Vec<Path>) {
        for (step, below) in tree {
            path.push(step.clone());
            match below.as_object() {
                Some(below) if !below.is_empty() => walk(below, path, found),
                _ => found.push(path.clone()),
            }
            path.pop();
        }
    }
    let mut found = Vec::new();
    walk(tree, &mut Vec::new(), &mut found);
    found
}

/// Whether a path is in a set: as a leaf, or as something above leaves.
fn holds(tree: &Tree, path: &[String]) -> bool {
    let mut tree = tree;
    for step in path {
        match tree.get(step).and_then(Value::as_object) {
            Some(below) => tree = below,
            None => return false,
        }
    }
    true
}

/// Whether a path is in a set as a leaf: who owns items of a list or a map does not own it as an empty one.
fn has(tree: &Tree, path: &[String]) -> bool {
    let Some((last, above)) = path.split_last() else { return false };
    let parent = above.iter().try_fold(tree, |tree, step| tree.get(step).and_then(Value::as_object));
    parent.and_then(|parent| parent.get(last)).and_then(Value::as_object).is_some_and(Map::is_empty)
}

fn add_path(tree: &mut Tree, path: &[String]) {
    if let Some((first, rest)) = path.split_first() {
        let below = tree.entry(first).or_insert_with(|| json!({}));
        if let Some(below) = below.as_object_mut() {
            add_path(below, rest);
        }
    }
}

fn drop_path(tree: &mut Tree, path: &[String]) {
    let Some((first, rest)) = path.split_first() else { return };
    let Some(below) = tree.get_mut(first).and_then(Value::as_object_mut) else { return };
    drop_path(below, rest);
    if rest.is_empty() || below.is_empty() {
        tree.remove(first);
    }
}

fn item_at(items: &[Value], step: &str) -> Option<usize> {
    if let Some(keys) = step.strip_prefix("k:") {
        let keys: Tree = serde_json::from_str(keys).ok()?;
        return items.iter().position(|item| keys.iter().all(|(key, value)| item[key] == *value));
    }
    let value: Value = serde_json::from_str(step.strip_prefix("v:")?).ok()?;
    items.iter().position(|item| *item == value)
}

fn at<'a>(object: &'a Value, path: &[String]) -> Option<&'a Value> {
    const ITEM: &Value = &Value::Bool(true);
    let mut value = object;
    for step in path {
        value = match step.strip_prefix("f:") {
            Some(name) => value.get(name)?,
            // That the item is there is all that there is to own of it.
            None if step == "." => return Some(ITEM),
            None => {
                let items = value.as_array()?;
                &items[item_at(items, step)?]
            }
        };
    }
    Some(value)
}

/// Removes what is at a path, and what is empty then.
fn take(object: &mut Value, path: &[String]) {
    let [first, rest @ ..] = path else { return };
    if let Some(name) = first.strip_prefix("f:") {
        let Some(fields) = object.as_object_mut() else { return };
        let Some(below) = fields.get_mut(name) else { return };
        if !rest.is_empty() {
            take(below, rest);
        }
        let is_empty =
            below.as_object().is_some_and(Map::is_empty) || below.as_array().is_some_and(Vec::is_empty);
        if rest.is_empty() || is_empty {
            fields.remove(name);
        }
    } else if let Some(items) = object.as_array_mut()
        && let Some(at) = item_at(items, first)
    {
        if rest.is_empty() || rest == ["."] {
            items.remove(at);
        } else {
            take(&mut items[at], rest);
        }
    }
}

fn merge(object: &mut Value, wanted: &Value, part: Part) {
    for (name, value) in wanted.as_object().into_iter().flatten() {
        if part == Part::Object || name == "status" {
            merge_field(&mut object[name], name, value);
        } else if name == "metadata" {
            // Preconditions.
            for field in ["uid", "resourceVersion"] {
                if !text(wanted, field).is_empty() {
                    object["metadata"][field] = text(wanted, field).into();
                }
            }
        }
    }
}

fn merge_field(object: &mut Value, field: &str, wanted: &Value) {
    match (wanted, merge_key(field)) {
        (Value::Object(fields), _) => {
            if !object.is_object() {
                *object = json!({});
            }
            for (name, value) in fields {
                merge_field(&mut object[name], name, value);
            }
        }
        (Value::Array(items), Some(key)) => {
            let mut all = object.as_array().cloned().unwrap_or_default();
            for item in items {
                match all.iter_mut().find(|one| one[key] == item[key]) {
                    Some(found) => merge_field(found, "", item),
                    None => all.push(item.clone()),
                }
            }
            *object = all.into();
        }
        (Value::Array(items), None) if field == "finalizers" => {
            let mut all = object.as_array().cloned().unwrap_or_default();
            for item in items {
                if !all.contains(item) {
                    all.push(item.clone());
                }
            }
            *object = all.into();
        }
        _ => object.clone_from(wanted),
    }
}
