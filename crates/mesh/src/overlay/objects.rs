//! Overlays: patches for the objects of a manifest.

use std::fmt;

use super::{Compatibility, Node, NodeError, Patch, PatchError};

/// Patches for the objects of one kind and name.
#[derive(Debug, Clone, PartialEq)]
pub struct Overlay {
    /// The objects' group and version: for the reader, and not compared.
    pub api_version: String,
    /// The objects' kind.
    pub kind: String,
    /// The objects' name.
    pub name: String,
    /// The patches, in order.
    pub patches: Vec<Patch>,
}

/// What becomes of an overlay that no object is meant by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MatchPolicy {
    /// It is an error.
    #[default]
    Must,
    /// It is passed over.
    May,
}

/// What went wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct OverlayError {
    /// Which overlay, from one.
    pub overlay: usize,
    /// Which of its patches, from one.
    pub patch: Option<usize>,
    /// What is wrong.
    pub fault: OverlayFault,
}

/// What is wrong with an overlay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OverlayFault {
    /// It has not the form of one.
    #[error("{0}")]
    Form(String),
    /// No object has its kind and name.
    #[error("no object is a {kind} {name}; there are: {available}")]
    Unmatched {
        /// The kind.
        kind: String,
        /// The name.
        name: String,
        /// The objects that there are.
        available: String,
    },
    /// One of its patches.
    #[error(transparent)]
    Patch(#[from] PatchError),
}

impl fmt::Display for OverlayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { overlay, patch, fault } = self;
        match patch {
            Some(patch) => write!(f, "overlay {overlay}, patch {patch}: {fault}"),
            None => write!(f, "overlay {overlay}: {fault}"),
        }
    }
}

impl Overlay {
    /// Reads a list of overlays.
    ///
    /// A field that no overlay has is refused: with `vaule` for `value`, a patch would delete what it was to set.
    ///
    /// # Errors
    /// Each overlay that is none.
    pub fn list(node: &Node) -> Result<Vec<Self>, Vec<OverlayError>> {
        let at =
            |overlay, text: String| OverlayError { overlay, patch: None, fault: OverlayFault::Form(text) };
        let list = match node {
            Node::Null => return Ok(Vec::new()),
            Node::List(list) => list,
            other => return Err(vec![at(1, format!("overlays are a list, not a {}", other.kind()))]),
        };
        let read =
            list.iter().enumerate().map(|(index, node)| Self::read(node).map_err(|text| at(index + 1, text)));
        let (read, failed): (Vec<_>, Vec<_>) = read.partition(Result::is_ok);
        if failed.is_empty() {
            return Ok(read.into_iter().filter_map(Result::ok).collect());
        }
        Err(failed.into_iter().filter_map(Result::err).collect())
    }

    fn read(node: &Node) -> Result<Self, String> {
        fields(node, &["apiVersion", "kind", "name", "patches"])?;
        let text = |key: &str| match node.at(&[key]) {
            Some(Node::Text(text)) => Ok(text.clone()),
            None | Some(Node::Null) => Ok(String::new()),
            Some(other) => Err(format!("{key} is a {}, not a text", other.kind())),
        };
        let (kind, name) = (text("kind")?, text("name")?);
        if kind.is_empty() || name.is_empty() {
            return Err("kind and name say which object is meant, and must not be empty".to_owned());
        }
        let patches = match node.at(&["patches"]) {
            None | Some(Node::Null) => &[][..],
            Some(Node::List(list)) => list,
            Some(other) => return Err(format!("patches are a list, not a {}", other.kind())),
        };
        let mut read = Vec::new();
        for (at, patch) in patches.iter().enumerate() {
            let place = |text: String| format!("patch {}: {text}", at + 1);
            fields(patch, &["path", "value"]).map_err(place)?;
            let path = patch.at(&["path"]).and_then(Node::as_text);
            let path = path.ok_or_else(|| place("it has no path".to_owned()))?.to_owned();
            read.push(Patch { path, value: patch.at(&["value"]).cloned().unwrap_or_default() });
        }
        Ok(Self { api_version: text("apiVersion")?, kind, name, patches: read })
    }

    /// Whether an object is meant: kind and name decide.
    pub fn means(&self, object: &Node) -> bool {
        let is = |keys: &[&str], text: &str| object.at(keys).and_then(Node::as_text) == Some(text);
        is(&["kind"], &self.kind) && is(&["metadata", "name"], &self.name)
    }
}

fn fields(node: &Node, known: &[&str]) -> Result<(), String> {
    let Node::Map(map) = node else { return Err(format!("it is a {}, not a map", node.kind())) };
    match map.iter().find(|(key, _)| !known.contains(key)) {
        Some((key, _)) => Err(format!("there is no field {key:?}; there are {}", known.join(", "))),
        None => Ok(()),
    }
}

/// The objects of a manifest: what a `List` holds, as `kubectl get` prints several, stands for itself.
///
/// # Errors
/// As [`Node::documents`].
pub fn manifest(text: &str) -> Result<Vec<Node>, NodeError> {
    let mut objects = Vec::new();
    for document in Node::documents(text)? {
        let is_list = document.at(&["kind"]).and_then(Node::as_text) == Some("List");
        match document.at(&["items"]) {
            Some(Node::List(items)) if is_list => objects.extend(items.iter().cloned()),
            _ => objects.push(document),
        }
    }
    Ok(objects)
}

/// Works through overlays, each on what those before it have left, and gives all errors. A patch that fails leaves the
/// object as it was, and the next one is tried.
///
/// Where several objects have the kind and the name, as in different namespaces, each is patched.
pub fn apply(
    overlays: &[Overlay],
    objects: &mut [Node],
    policy: MatchPolicy,
    compatibility: Compatibility,
) -> Vec<OverlayError> {
    let mut errors = Vec::new();
    for (index, overlay) in overlays.iter().enumerate() {
        let error = |patch, fault| OverlayError { overlay: index + 1, patch, fault };
        let mut matched = false;
        for object in objects.iter_mut().filter(|object| overlay.means(object)) {
            matched = true;
            for (at, patch) in overlay.patches.iter().enumerate() {
                if let Err(fault) = patch.apply(object, compatibility) {
                    errors.push(error(Some(at + 1), fault.into()));
                }
            }
        }
        if !matched && policy == MatchPolicy::Must {
            errors.push(error(None, overlay.unmatched(objects)));
        }
    }
    errors
}

impl Overlay {
    pub(super) fn unmatched(&self, objects: &[Node]) -> OverlayFault {
        let name = |object: &Node| {
            let text = |keys: &[&str]| object.at(keys).and_then(Node::as_text).unwrap_or("?").to_owned();
            format!("{} {}", text(&["kind"]), text(&["metadata", "name"]))
        };
        let mut names: Vec<String> = objects.iter().map(name).collect();
        names.sort();
        names.dedup();
        let available = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        OverlayFault::Unmatched { kind: self.kind.clone(), name: self.name.clone(), available }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "
apiVersion: v1
kind: Service
metadata: {name: gateway}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: gateway, namespace: a}
spec: {replicas: 1}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: gateway, namespace: b}
spec: {replicas: 1}
";

    fn applied(overlays: &str, policy: MatchPolicy) -> (Vec<Node>, Vec<String>) {
        let mut objects = Node::documents(MANIFEST).expect("YAML");
        let overlays = Overlay::list(&Node::document(overlays).expect("YAML")).expect("overlays");
        let errors = apply(&overlays, &mut objects, policy, Compatibility::Exact);
        (objects, errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn kind_and_name_choose_the_objects_and_overlays_build_on_each_other() {
        let (objects, errors) = applied(
            "- {kind: Deployment, name: gateway, patches: [{path: 'spec.list[-1]', value: 1}]}\n\
             - {apiVersion: whatever, kind: Deployment, name: gateway, patches: [{path: 'spec.list[-1]', value: 2}]}",
            MatchPolicy::Must,
        );
        assert_eq!(errors, Vec::<String>::new());
        let lists: Vec<_> = objects.iter().map(|object| object.at(&["spec", "list"]).cloned()).collect();
        let both = Some(Node::List(vec![Node::from(1), Node::from(2)]));
        assert_eq!(lists, [None, both.clone(), both]);
    }

    #[test]
    fn the_items_of_a_list_are_objects() {
        let text = "kind: List\nitems: [{kind: A}, {kind: B}]\n---\nkind: C\n---\nkind: List\n";
        let kinds = manifest(text).expect("YAML");
        let kinds: Vec<_> = kinds.iter().map(|object| object.at(&["kind"]).and_then(Node::as_text)).collect();
        assert_eq!(kinds, [Some("A"), Some("B"), Some("C"), Some("List")]);
    }

    #[test]
    fn every_error_is_told_with_its_place() {
        let (objects, errors) = applied(
            "- {kind: Service, name: gateway, patches: [{path: 'kind.x', value: 1}, {path: a, value: 2}, {path: '', value: 3}]}\n\
             - {kind: ConfigMap, name: none}",
            MatchPolicy::Must,
        );
        assert_eq!(
            errors,
            [
                "overlay 1, patch 1: path kind.x: leaf type text in non-leaf Node x",
                "overlay 1, patch 3: path : the path is empty",
                "overlay 2: no object is a ConfigMap none; there are: Deployment gateway, Service gateway",
            ]
        );
        assert_eq!(objects[0].at(&["a"]), Some(&Node::from(2)));
        let (_, errors) = applied("[{kind: ConfigMap, name: none}]", MatchPolicy::May);
        assert!(errors.is_empty());
    }

    #[test]
    fn what_is_no_overlay_is_refused() {
        for (text, reason) in [
            ("{}", "overlay 1: overlays are a list, not a map"),
            ("[1]", "overlay 1: it is a number, not a map"),
            ("[{kind: a}]", "overlay 1: kind and name say which object is meant, and must not be empty"),
            ("[{kind: a, name: [b]}]", "overlay 1: name is a list, not a text"),
            ("[{kind: a, name: b, patches: {}}]", "overlay 1: patches are a list, not a map"),
            ("[{kind: a, name: b, patches: [{value: 1}]}]", "overlay 1: patch 1: it has no path"),
            (
                "[{kind: a, name: b, patches: [{path: c, vaule: 1}]}]",
                "overlay 1: patch 1: there is no field \"vaule\"; there are path, value",
            ),
        ] {
            let errors = Overlay::list(&Node::document(text).expect("YAML")).expect_err(text);
            assert_eq!(errors[0].to_string(), reason);
        }
    }
}
