//! Garbage collection: dependents go when their owners have gone, as with propagation in the background.

use serde_json::{Value, json};

use super::kind::Kind;
use super::store::{Place, Store, text};

impl Store {
    /// Keeps in mind who depends on whom.
    pub(super) fn index_owners(
        &mut self,
        qualified: &str,
        place: &Place,
        before: Option<&Value>,
        after: Option<&Value>,
    ) {
        if before.map(owners) == after.map(owners) {
            return; // Nearly always.
        }
        for uid in before.into_iter().flat_map(owners) {
            if let Some(dependents) = self.dependents.get_mut(uid) {
                dependents.remove(&(qualified.to_owned(), place.clone()));
                if dependents.is_empty() {
                    self.dependents.remove(uid);
                }
            }
        }
        for uid in after.into_iter().flat_map(owners) {
            let dependent = (qualified.to_owned(), place.clone());
            self.dependents.entry(uid.to_owned()).or_default().insert(dependent);
        }
        match (before, after) {
            (Some(before), None) => self.gone.push_back(text(before, "uid").to_owned()),
            (_, Some(after)) if !owners(after).is_empty() => {
                self.arrived.push_back((qualified.to_owned(), place.clone()));
            }
            _ => {}
        }
    }

    /// Lets go what nobody owns any more.
    pub(super) fn collect(&mut self) {
        if !self.collects_garbage {
            self.gone.clear();
            self.arrived.clear();
            return;
        }
        loop {
            while let Some(uid) = self.gone.pop_front() {
                let dependents = self.dependents.get(&uid).cloned().unwrap_or_default();
                self.arrived.extend(dependents);
            }
            let Some((qualified, place)) = self.arrived.pop_front() else { return };
            self.look_after(&qualified, &place);
        }
    }

    /// Lets a dependent go if none of its owners is left; takes from it the references to those that are not.
    fn look_after(&mut self, qualified: &str, place: &Place) {
        let Some(object) = self.find(qualified, place).cloned() else { return };
        let references = object["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
        let is_there = |reference: &Value| self.is_owner_there(reference, &place.0);
        let left: Vec<Value> = references.iter().filter(|one| is_there(one)).cloned().collect();
        if left.len() == references.len() {
            return;
        }
        let Some(kind) = self.kinds.iter().find(|kind| kind.qualified() == qualified).cloned() else {
            return;
        };
        if left.is_empty() {
            let _ = self.delete(&kind, &place.0, &place.1, &json!({}));
        } else {
            let mut object = Value::clone(&object);
            object["metadata"]["ownerReferences"] = left.into();
            self.commit(&kind, place.clone(), Some(object), false);
        }
    }

    /// Owners of kinds that are not known here are taken to be there.
    fn is_owner_there(&self, reference: &Value, namespace: &str) -> bool {
        let field = |name: &str| reference[name].as_str().unwrap_or_default();
        let fits = |kind: &&std::sync::Arc<Kind>| {
            kind.kind == field("kind") && kind.api_version() == field("apiVersion")
        };
        let Some(kind) = self.kinds.iter().find(fits) else { return true };
        let home = if kind.namespaced { namespace } else { "" };
        self.get(kind, home, field("name")).is_ok_and(|owner| text(owner, "uid") == field("uid"))
    }
}

fn owners(object: &Value) -> Vec<&str> {
    let references = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
    references.filter_map(|reference| reference["uid"].as_str()).collect()
}
