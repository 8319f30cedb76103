//! What happens to an object on its way into the store: names, versions, `status` apart, finalizers.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::apply;
use super::definition;
use super::kind::Kind;
use super::schema;
use super::status::{self, Failure};
use super::store::{Store, text};

/// Which part of an object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All but the status, if that is written elsewhere.
    Object,
    /// The status only.
    Status,
}

/// Who is written down as the owner of fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fields {
    /// Nobody: what is there stays.
    Kept,
    /// This manager, for what it changed.
    Changed(String),
    /// The object says it already.
    Given,
}

/// How an object is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct How {
    pub(super) part: Part,
    pub(super) dry: bool,
    pub(super) fields: Fields,
}

impl How {
    pub(super) fn plain(part: Part) -> Self {
        Self { part, dry: false, fields: Fields::Kept }
    }
}

impl Store {
    pub(super) fn create(
        &mut self,
        kind: &Kind,
        namespace: &str,
        mut object: Value,
        how: &How,
    ) -> Result<Arc<Value>, Failure> {
        check_form(&object)?;
        let name = match text(&object, "name") {
            "" => match text(&object, "generateName") {
                "" => return Err(Failure::name_required(kind)),
                prefix => {
                    let prefix = prefix.to_owned();
                    format!("{prefix}{}", self.suffix())
                }
            },
            name => name.to_owned(),
        };
        if kind.namespaced {
            let Some(home) = self.find("namespaces", &(String::new(), namespace.into())) else {
                let namespaces = Kind { group: String::new(), plural: "namespaces".into(), ..kind.clone() };
                return Err(Failure::not_found(&namespaces, namespace));
            };
            if home["status"]["phase"] == "Terminating" {
                return Err(Failure::terminating(kind, &name, namespace));
            }
        }
        if self.get(kind, namespace, &name).is_ok() {
            return Err(Failure::already_exists(kind, &name));
        }
        if !text(&object, "resourceVersion").is_empty() {
            return Err(Failure::new(
                500,
                "InternalError",
                "Internal error occurred: resourceVersion should not be set on objects to be created",
                None,
            ));
        }
        if kind.status && kind.custom {
            remove(&mut object, "status");
        }
        if kind.plural == "namespaces" {
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name.clone().into();
            object["spec"]["finalizers"] = json!(["kubernetes"]);
            if object["status"]["phase"].is_null() {
                object["status"]["phase"] = "Active".into();
            }
        }
        if kind.namespaced {
            object["metadata"]["namespace"] = namespace.into();
        } else {
            remove(&mut object["metadata"], "namespace");
        }
        object["metadata"]["name"] = name.clone().into();
        object["metadata"]["uid"] = uuid::Uuid::new_v4().to_string().into();
        object["metadata"]["creationTimestamp"] = now().into();
        remove(&mut object["metadata"], "deletionTimestamp");
        if kind.custom {
            object["metadata"]["generation"] = 1.into();
        }
        object["apiVersion"] = kind.api_version().into();
        object["kind"] = kind.kind.clone().into();
        if kind.plural == "customresourcedefinitions" {
            definition::establish(&mut object);
        }
        schema::check(kind, &mut object)?;
        if let Fields::Changed(manager) = &how.fields {
            remove(&mut object["metadata"], "managedFields");
            apply::record_update(None, &mut object, manager, how.part);
        }
        Ok(self.commit(kind, (namespace.to_owned(), name), Some(object), how.dry))
    }

    /// Replaces an object, as PUT does.
    pub(super) fn replace(
        &mut self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        mut object: Value,
        how: &How,
    ) -> Result<Arc<Value>, Failure> {
        check_form(&object)?;
        let current = Arc::clone(self.get(kind, namespace, name)?);
        match text(&object, "resourceVersion") {
            "" if kind.needs_version() => return Err(Failure::version_required(kind, name)),
            "" => {}
            version if version == text(&current, "resourceVersion") => {}
            _ => return Err(Failure::conflict(kind, name)),
        }
        let uid = text(&object, "uid");
        if !uid.is_empty() && uid != text(&current, "uid") {
            return Err(Failure::precondition(kind, name, "UID", uid, text(&current, "uid")));
        }
        if how.part == Part::Status {
            let (status, fields) = (object["status"].take(), object["metadata"]["managedFields"].take());
            object = Value::clone(&current);
            match status {
                Value::Null => remove(&mut object, "status"),
                status => object["status"] = status,
            }
            object["metadata"]["managedFields"] = fields;
        } else if kind.status && kind.plural != "customresourcedefinitions" {
            match current.get("status") {
                Some(status) => object["status"] = status.clone(),
                None => remove(&mut object, "status"),
            }
        }
        for kept in ["name", "namespace", "uid", "creationTimestamp", "generation", "deletionTimestamp"] {
            keep(&mut object, &current, kept);
        }
        if how.fields != Fields::Given {
            keep(&mut object, &current, "managedFields");
        }
        object["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"].clone();
        object["apiVersion"] = current["apiVersion"].clone();
        object["kind"] = current["kind"].clone();
        if kind.plural == "customresourcedefinitions" {
            definition::establish(&mut object);
        }
        schema::check(kind, &mut object)?;
        if object == *current {
            return Ok(current); // Nothing changes: no version, no event.
        }
        if kind.custom && how.part == Part::Object && is_changed(&object, &current) {
            object["metadata"]["generation"] =
                (current["metadata"]["generation"].as_u64().unwrap_or(1) + 1).into();
        }
        if let Fields::Changed(manager) = &how.fields {
            apply::record_update(Some(&current), &mut object, manager, how.part);
        }
        let place = (namespace.to_owned(), name.to_owned());
        if !object["metadata"]["deletionTimestamp"].is_null() && finalizers(&object).is_empty() {
            self.commit(kind, place, None, how.dry);
            return Ok(Arc::new(object));
        }
        Ok(self.commit(kind, place, Some(object), how.dry))
    }

    /// Deletes an object, or marks it, if finalizers hold it. Answers what the API server answers.
    pub(super) fn delete(
        &mut self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        options: &Value,
    ) -> Result<Arc<Value>, Failure> {
        let current = Arc::clone(self.get(kind, namespace, name)?);
        let dry = options["dryRun"].as_array().is_some_and(|dry| !dry.is_empty());
        for (field, what) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
            if let Some(wanted) = options["preconditions"][field].as_str()
                && wanted != text(&current, field)
            {
                return Err(Failure::precondition(kind, name, what, wanted, text(&current, field)));
            }
        }
        if options["propagationPolicy"] == "Orphan" && !dry {
            self.dependents.remove(text(&current, "uid"));
        }
        let place = (namespace.to_owned(), name.to_owned());
        if kind.plural == "namespaces" || !finalizers(&current).is_empty() {
            if !current["metadata"]["deletionTimestamp"].is_null() {
                return Ok(current);
            }
            let mut object = Value::clone(&current);
            object["metadata"]["deletionTimestamp"] = now().into();
            object["metadata"]["deletionGracePeriodSeconds"] = 0.into();
            if let Some(generation) = current["metadata"]["generation"].as_u64() {
                object["metadata"]["generation"] = (generation + 1).into();
            }
            if kind.plural == "namespaces" {
                object["status"]["phase"] = "Terminating".into();
            }
            return Ok(self.commit(kind, place, Some(object), dry));
        }
        let answer = status::deleted(kind, name, text(&current, "uid"));
        self.commit(kind, place, None, dry);
        Ok(Arc::new(answer))
    }

    /// Removes an object without further questions.
    pub(super) fn remove(&mut self, kind: &Kind, namespace: &str, name: &str) {
        if self.get(kind, namespace, name).is_ok() {
            self.commit(kind, (namespace.to_owned(), name.to_owned()), None, false);
        }
    }
}

/// Only objects have metadata.
fn check_form(object: &Value) -> Result<(), Failure> {
    if object.is_object() && (object["metadata"].is_null() || object["metadata"].is_object()) {
        Ok(())
    } else {
        Err(Failure::bad_request("the object provided is unrecognized (must be of type Object)"))
    }
}

/// Whether anything changed that counts as a new generation: all but metadata and status.
fn is_changed(object: &Value, current: &Value) -> bool {
    let counted = |object: &'_ Value| -> Map<String, Value> {
        let fields = object.as_object().into_iter().flatten();
        let fields = fields.filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status"));
        fields.map(|(name, value)| (name.clone(), value.clone())).collect()
    };
    object.get("spec") != current.get("spec") || counted(object) != counted(current)
}

fn keep(object: &mut Value, current: &Value, field: &str) {
    match current["metadata"].get(field) {
        Some(value) => object["metadata"][field] = value.clone(),
        None => remove(&mut object["metadata"], field),
    }
}

pub(super) fn finalizers(object: &Value) -> &[Value] {
    object["metadata"]["finalizers"].as_array().map_or(&[], Vec::as_slice)
}

pub(super) fn remove(object: &mut Value, field: &str) {
    object.as_object_mut().map(|object| object.remove(field));
}

/// Whole seconds, as in metadata.
#[expect(clippy::disallowed_methods, reason = "the double is an edge: nobody hands it a clock")]
pub(super) fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
