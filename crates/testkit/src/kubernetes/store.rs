//! The objects, their versions, and what happened to them.

use std::collections::{BTreeMap, VecDeque};

use serde_json::{Map, Value, json};

use super::kind::Kind;
use super::selector::Selectors;
use super::status::{self, Failure};

/// Where an object lives: its kind by qualified name, its namespace (empty: none), its name.
pub(super) type Key = (String, String, String);

/// One change: what was, and what is since.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) revision: u64,
    pub(super) key: Key,
    pub(super) before: Option<Value>,
    pub(super) after: Option<Value>,
}

#[derive(Debug)]
pub(super) struct Store {
    pub(super) revision: u64,
    /// Nobody can resume behind a version before this one.
    pub(super) compacted: u64,
    pub(super) objects: BTreeMap<Key, Value>,
    pub(super) log: VecDeque<Change>,
    born: u64,
}

/// How an object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All but the status, if that is written elsewhere.
    Object,
    /// The status only.
    Status,
}

impl Store {
    pub(super) fn new() -> Self {
        Self { revision: 100, compacted: 0, objects: BTreeMap::new(), log: VecDeque::new(), born: 0 }
    }

    pub(super) fn key(kind: &Kind, namespace: &str, name: &str) -> Key {
        (kind.qualified(), namespace.to_owned(), name.to_owned())
    }

    pub(super) fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Result<&Value, Failure> {
        self.objects.get(&Self::key(kind, namespace, name)).ok_or_else(|| Failure::not_found(kind, name))
    }

    /// The objects of a kind; of one namespace, if one is named.
    pub(super) fn list(&self, kind: &Kind, namespace: Option<&str>, selectors: &Selectors) -> Vec<Value> {
        let qualified = kind.qualified();
        let here = |key: &Key| key.0 == qualified && namespace.is_none_or(|namespace| key.1 == namespace);
        let found = self.objects.iter().filter(|(key, object)| here(key) && selectors.matches(object));
        found.map(|(_, object)| object.clone()).collect()
    }

    pub(super) fn create(
        &mut self,
        kind: &Kind,
        namespace: &str,
        mut object: Value,
        dry: bool,
    ) -> Result<Value, Failure> {
        if !object.is_object() || !(object["metadata"].is_null() || object["metadata"].is_object()) {
            return Err(Failure::bad_request("the object provided is unrecognized (must be of type Object)"));
        }
        let name = match text(&object, "name") {
            "" => match text(&object, "generateName") {
                "" => return Err(Failure::name_required(kind)),
                prefix => format!("{prefix}{}", self.suffix()),
            },
            name => name.to_owned(),
        };
        if kind.namespaced {
            let Some(home) = self.objects.get(&("namespaces".into(), String::new(), namespace.into())) else {
                let namespaces = Kind { group: String::new(), plural: "namespaces".into(), ..kind.clone() };
                return Err(Failure::not_found(&namespaces, namespace));
            };
            if home["status"]["phase"] == "Terminating" {
                return Err(Failure::terminating(kind, &name, namespace));
            }
        }
        if self.objects.contains_key(&Self::key(kind, namespace, &name)) {
            return Err(Failure::already_exists(kind, &name));
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
        }
        object["metadata"]["name"] = name.clone().into();
        object["metadata"]["uid"] = uuid::Uuid::new_v4().to_string().into();
        object["metadata"]["creationTimestamp"] = now().into();
        if kind.custom {
            object["metadata"]["generation"] = 1.into();
        }
        object["apiVersion"] = kind.api_version().into();
        object["kind"] = kind.kind.clone().into();
        Ok(self.commit(Self::key(kind, namespace, &name), Some(object), dry))
    }

    /// Replaces an object, as PUT does.
    pub(super) fn replace(
        &mut self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        mut object: Value,
        part: Part,
        dry: bool,
    ) -> Result<Value, Failure> {
        let current = self.get(kind, namespace, name)?.clone();
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
        if part == Part::Status {
            let status = object["status"].take();
            object = current.clone();
            object["status"] = status;
        } else if kind.status {
            match current.get("status") {
                Some(status) => object["status"] = status.clone(),
                None => remove(&mut object, "status"),
            }
        }
        for kept in ["name", "namespace", "uid", "creationTimestamp", "generation", "deletionTimestamp"] {
            match current["metadata"].get(kept) {
                Some(value) => object["metadata"][kept] = value.clone(),
                None => remove(&mut object["metadata"], kept),
            }
        }
        object["metadata"]["resourceVersion"] = current["metadata"]["resourceVersion"].clone();
        object["apiVersion"] = current["apiVersion"].clone();
        object["kind"] = current["kind"].clone();
        if object == current {
            return Ok(current); // Nothing changes: no version, no event.
        }
        if kind.custom && part == Part::Object && object.get("spec") != current.get("spec") {
            object["metadata"]["generation"] =
                (current["metadata"]["generation"].as_u64().unwrap_or(1) + 1).into();
        }
        let key = Self::key(kind, namespace, name);
        if !object["metadata"]["deletionTimestamp"].is_null() && finalizers(&object).is_empty() {
            self.commit(key, None, dry);
            return Ok(object);
        }
        Ok(self.commit(key, Some(object), dry))
    }

    /// Deletes an object, or marks it, if finalizers hold it. Answers what the API server answers.
    pub(super) fn delete(
        &mut self,
        kind: &Kind,
        namespace: &str,
        name: &str,
        options: &Value,
    ) -> Result<Value, Failure> {
        let mut object = self.get(kind, namespace, name)?.clone();
        let dry = !options["dryRun"].is_null();
        for (wanted, field, what) in
            [("uid", "uid", "UID"), ("resourceVersion", "resourceVersion", "ResourceVersion")]
        {
            if let Some(wanted) = options["preconditions"][wanted].as_str()
                && wanted != text(&object, field)
            {
                return Err(Failure::precondition(kind, name, what, wanted, text(&object, field)));
            }
        }
        let key = Self::key(kind, namespace, name);
        if kind.plural == "namespaces" || !finalizers(&object).is_empty() {
            if object["metadata"]["deletionTimestamp"].is_null() {
                object["metadata"]["deletionTimestamp"] = now().into();
                if kind.plural == "namespaces" {
                    object["status"]["phase"] = "Terminating".into();
                }
                object = self.commit(key, Some(object), dry);
            }
            return Ok(object);
        }
        let answer = status::deleted(kind, name, text(&object, "uid"));
        self.commit(key, None, dry);
        Ok(answer)
    }

    /// Removes an object without further questions.
    pub(super) fn remove(&mut self, key: Key) {
        if self.objects.contains_key(&key) {
            self.commit(key, None, false);
        }
    }

    /// Nobody may begin behind a version of before; watches that are open have seen what was.
    pub(super) fn compact(&mut self) {
        // Something else was written meanwhile, as in a real store.
        self.revision += 1;
        self.compacted = self.revision;
    }

    fn commit(&mut self, key: Key, object: Option<Value>, dry: bool) -> Value {
        let revision = self.revision + 1;
        let before = self.objects.get(&key).cloned();
        let after = object.map(|mut object| {
            object["metadata"]["resourceVersion"] = revision.to_string().into();
            object
        });
        let answer = after.clone().or_else(|| before.clone()).unwrap_or(Value::Null);
        if !dry {
            self.revision = revision;
            match &after {
                Some(object) => self.objects.insert(key.clone(), object.clone()),
                None => self.objects.remove(&key),
            };
            self.log.push_back(Change { revision, key, before, after });
        }
        answer
    }

    /// Five characters, as `generateName` gets them: no vowels, nothing that looks like another.
    fn suffix(&mut self) -> String {
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        self.born += 1;
        // A number in a mixed order, so that names are neither sorted nor repeated.
        let mut number = self.born.wrapping_mul(7_778_777) % 27_u64.pow(5);
        let mut suffix = String::new();
        for _ in 0..5 {
            suffix.push(LETTERS[(number % 27) as usize].into());
            number /= 27;
        }
        suffix
    }
}

/// A field of an object's metadata; empty if it is not there.
pub(super) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

fn finalizers(object: &Value) -> &[Value] {
    object["metadata"]["finalizers"].as_array().map_or(&[], Vec::as_slice)
}

fn remove(object: &mut Value, field: &str) {
    object.as_object_mut().map(|object| object.remove(field));
}

/// Whole seconds, as in metadata.
#[expect(clippy::disallowed_methods, reason = "the double is an edge: nobody hands it a clock")]
fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Part, Store, merge};
    use crate::kubernetes::kind::Kind;

    fn kind(plural: &str) -> Kind {
        Kind::known().into_iter().find(|kind| kind.plural == plural).expect("a known kind")
    }

    fn store() -> Store {
        let mut store = Store::new();
        store
            .create(&kind("namespaces"), "", json!({ "metadata": { "name": "a" } }), false)
            .expect("created");
        store
    }

    #[test]
    fn generated_names_do_not_collide() {
        let mut store = store();
        for _ in 0..500 {
            let object = json!({ "metadata": { "generateName": "x-" } });
            store.create(&kind("configmaps"), "a", object, false).expect("created");
        }
    }

    #[test]
    fn an_update_without_a_change_changes_no_version() {
        let mut store = store();
        let map = json!({ "metadata": { "name": "m" }, "data": { "k": "v" } });
        let made = store.create(&kind("configmaps"), "a", map.clone(), false).expect("created");
        let same = store.replace(&kind("configmaps"), "a", "m", made.clone(), Part::Object, false);
        assert_eq!(same, Ok(made.clone()));
        let mut other = made.clone();
        other["data"]["k"] = "w".into();
        store.replace(&kind("configmaps"), "a", "m", other, Part::Object, false).expect("replaced");
        let stale = store.replace(&kind("configmaps"), "a", "m", made, Part::Object, false);
        assert_eq!(stale.expect_err("a conflict").body["reason"], "Conflict");
    }

    #[test]
    fn the_status_of_a_custom_object_is_written_at_its_own_path_only() {
        let (mut store, kind) = (store(), kind("certificaterequests"));
        let object = json!({ "metadata": { "name": "r" }, "spec": { "x": 1 }, "status": { "ca": "no" } });
        let mut made = store.create(&kind, "a", object, false).expect("created");
        assert!(made.get("status").is_none());
        made["status"] = json!({ "ca": "yes" });
        made["spec"]["x"] = 2.into();
        let made = store.replace(&kind, "a", "r", made, Part::Status, false).expect("replaced");
        assert_eq!((&made["status"]["ca"], &made["spec"]["x"]), (&json!("yes"), &json!(1)));
        let mut unversioned = made.clone();
        unversioned["metadata"]["resourceVersion"] = "".into();
        let refused = store.replace(&kind, "a", "r", unversioned, Part::Object, false).expect_err("refused");
        assert_eq!(refused.code, 422);
    }

    #[test]
    fn finalizers_hold_what_is_deleted() {
        let (mut store, kind) = (store(), kind("configmaps"));
        let object = json!({ "metadata": { "name": "m", "finalizers": ["x"] } });
        store.create(&kind, "a", object, false).expect("created");
        let mut marked = store.delete(&kind, "a", "m", &json!({})).expect("marked");
        assert!(marked["metadata"]["deletionTimestamp"].is_string());
        marked["metadata"]["finalizers"] = json!([]);
        store.replace(&kind, "a", "m", marked, Part::Object, false).expect("released");
        assert!(store.get(&kind, "a", "m").is_err());
    }

    #[test]
    fn patches_merge_and_null_removes() {
        let mut object = json!({ "a": { "b": 1, "c": 2 }, "l": [1] });
        merge(&mut object, &json!({ "a": { "b": null, "d": 3 }, "l": [2] }));
        assert_eq!(object, json!({ "a": { "c": 2, "d": 3 }, "l": [2] }));
    }
}
