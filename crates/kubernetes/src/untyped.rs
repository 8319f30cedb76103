//! Objects that are read one by one: one that does not fit its type must not spoil a list or a watch.

use kube::api::{ApiResource, DynamicObject};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Objects of this kind, not read as such yet: those of a namespace; without one, all.
pub fn untyped<K: Resource<DynamicType = ()>>(client: Client, namespace: Option<&str>) -> Api<DynamicObject> {
    let kind = ApiResource::erase::<K>(&());
    match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &kind),
        None => Api::all_with(client, &kind),
    }
}

/// An object as one of its kind.
///
/// # Errors
/// It does not fit.
pub fn read<K: DeserializeOwned>(object: DynamicObject) -> Result<K, serde_json::Error> {
    let DynamicObject { metadata, data, .. } = object;
    let mut whole = match data {
        Value::Object(whole) => whole,
        _ => Map::new(),
    };
    whole.insert("metadata".to_owned(), serde_json::to_value(metadata)?);
    K::deserialize(&Value::Object(whole))
}
