//! What an overlay says and most likely does not mean.

use std::fmt;

use super::patch::{find, matching, yaml_within};
use super::path::{Element, Index, Path};
use super::{Compatibility, Node, Overlay, Patch};

/// What is wrong, or may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rule {
    /// The patch cannot be carried out.
    Fails,
    /// No object has the overlay's kind and name.
    UnmatchedOverlay,
    /// More than one object has them; each is patched.
    SeveralObjects,
    /// What a fixed index does depends on how long the list is.
    FixedIndex,
    /// A fixed index replaces an element that is there.
    IndexHitsElement,
    /// An index asks for a list that is missing: Istio's engine makes a map of it.
    MissingList,
    /// Something else takes the place of a list.
    ListReplacedByScalar,
    /// A list takes the place of one with other elements.
    ListReplaced,
    /// A value takes the place of a map with other keys.
    MapReplaced,
    /// The regular expression matches more scalars than the one that is meant by it.
    FirstOfSeveral,
    /// What is appended is in the list already.
    AlreadyThere,
    /// There is nothing to take away.
    DeletesNothing,
    /// A text that Istio's engine reads as YAML.
    YamlInText,
}

impl Rule {
    /// The name in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fails => "fails",
            Self::UnmatchedOverlay => "unmatched_overlay",
            Self::SeveralObjects => "several_objects",
            Self::FixedIndex => "fixed_index",
            Self::IndexHitsElement => "index_hits_element",
            Self::MissingList => "missing_list",
            Self::ListReplacedByScalar => "list_replaced_by_scalar",
            Self::ListReplaced => "list_replaced",
            Self::MapReplaced => "map_replaced",
            Self::FirstOfSeveral => "first_of_several",
            Self::AlreadyThere => "already_there",
            Self::DeletesNothing => "deletes_nothing",
            Self::YamlInText => "yaml_in_text",
        }
    }
}

/// A rule that an overlay breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lint {
    /// Which overlay, from one.
    pub overlay: usize,
    /// Which of its patches, from one.
    pub patch: Option<usize>,
    /// The rule.
    pub rule: Rule,
    /// What breaks it.
    pub says: String,
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { overlay, patch, rule, says } = self;
        match patch {
            Some(patch) => write!(f, "overlay {overlay}, patch {patch}: {says} ({})", rule.name()),
            None => write!(f, "overlay {overlay}: {says} ({})", rule.name()),
        }
    }
}

/// Holds overlays against the objects that they are for, each as those before it have left them. Without objects, only
/// what the overlays themselves tell is found.
pub fn lint(overlays: &[Overlay], objects: Option<&[Node]>) -> Vec<Lint> {
    let mut lints = Vec::new();
    let mut objects = objects.map(<[Node]>::to_vec);
    for (index, overlay) in overlays.iter().enumerate() {
        let mut report = |patch: Option<usize>, rule, says| {
            lints.push(Lint { overlay: index + 1, patch, rule, says });
        };
        let Some(objects) = &mut objects else {
            for (at, patch) in overlay.patches.iter().enumerate() {
                alone(patch, &mut |rule, says| report(Some(at + 1), rule, says));
            }
            continue;
        };
        let matches = objects.iter().filter(|object| overlay.means(object)).count();
        if matches == 0 {
            report(None, Rule::UnmatchedOverlay, overlay.unmatched(objects).to_string());
        } else if matches > 1 {
            let says =
                format!("{matches} objects are a {} {}, and each is patched", overlay.kind, overlay.name);
            report(None, Rule::SeveralObjects, says);
        }
        for object in objects.iter_mut().filter(|object| overlay.means(object)) {
            for (at, patch) in overlay.patches.iter().enumerate() {
                held_against(patch, object, &mut |rule, says| report(Some(at + 1), rule, says));
            }
        }
    }
    lints
}

/// What a patch tells without its object.
fn alone(patch: &Patch, report: &mut dyn FnMut(Rule, String)) {
    let path = match Path::parse(&patch.path, Compatibility::Exact) {
        Ok(path) => path,
        Err(error) => return report(Rule::Fails, format!("path {}: {error}", patch.path)),
    };
    if let (Some(Element::Index(Index::At(at))), false) = (path.elements().last(), patch.value == Node::Null)
    {
        let says = format!("{path}: whether [{at}] replaces an element depends on the list; [-1] appends");
        report(Rule::FixedIndex, says);
    }
    text_like_yaml(patch, report);
}

fn text_like_yaml(patch: &Patch, report: &mut dyn FnMut(Rule, String)) {
    if let Node::Text(text) = &patch.value
        && yaml_within(text).is_some()
    {
        report(Rule::YamlInText, format!("{}: Istio's engine reads this text as a map", patch.path));
    }
}

/// What a patch will do to its object; then it is done.
fn held_against(patch: &Patch, object: &mut Node, report: &mut dyn FnMut(Rule, String)) {
    let mut found = Vec::new();
    if let Ok(path) = Path::parse(&patch.path, Compatibility::Exact) {
        let mut look = Look { path: &path, value: &patch.value, found: &mut found };
        look.at(object, path.elements());
    }
    match patch.apply(object, Compatibility::Exact) {
        // What cannot be done does no harm beside that.
        Err(error) => report(Rule::Fails, error.to_string()),
        Ok(()) => found.into_iter().for_each(|(rule, says)| report(rule, says)),
    }
    text_like_yaml(patch, report);
}

struct Look<'a> {
    path: &'a Path,
    value: &'a Node,
    found: &'a mut Vec<(Rule, String)>,
}

impl Look<'_> {
    fn report(&mut self, rule: Rule, says: fmt::Arguments<'_>) {
        self.found.push((rule, format!("{}: {says}", self.path)));
    }

    fn deletes(&self) -> bool {
        *self.value == Node::Null
    }

    fn at(&mut self, node: &Node, elements: &[Element]) {
        let Some((element, rest)) = elements.split_first() else { return self.target(node) };
        match (node, element) {
            (Node::Map(map), Element::Key(key)) => match map.get(key) {
                Some(child) if rest.is_empty() || *child != Node::Null => self.at(child, rest),
                _ => self.missing(rest),
            },
            (Node::Null, _) => self.missing(elements),
            (Node::List(list), Element::Index(index)) => match index {
                Index::At(at) if *at < list.len() => self.element(list, *at, rest),
                _ if rest.is_empty() => self.appended(list),
                _ => self.missing(rest),
            },
            (Node::List(list), element) => {
                if let Element::Value(pattern) | Element::KeyValue { content: pattern, .. } = element
                    && !list.iter().any(|item| matches!(item, Node::Map(_) | Node::List(_)))
                    && let Ok(matches) = matching(list, pattern).map(Iterator::count)
                    && matches > 1
                {
                    let says = format_args!("{element} matches {matches} elements, and the first is meant");
                    self.report(Rule::FirstOfSeveral, says);
                }
                if let Ok(at) = find(list, element)
                    && let Some(child) = list.get(at)
                {
                    self.at(child, rest);
                }
            }
            // The patch will fail, and say so.
            _ => {}
        }
    }

    fn element(&mut self, list: &[Node], at: usize, rest: &[Element]) {
        let Some(child) = list.get(at) else { return };
        if rest.is_empty() && !self.deletes() {
            let says = format_args!("[{at}] replaces the element {}; [-1] appends", shown(child));
            return self.report(Rule::IndexHitsElement, says);
        }
        self.at(child, rest);
    }

    /// Nothing stands where these elements go on.
    fn missing(&mut self, rest: &[Element]) {
        if self.deletes() {
            return self.report(Rule::DeletesNothing, format_args!("there is nothing to delete"));
        }
        if rest.iter().any(|element| matches!(element, Element::Index(_))) {
            let says = format_args!("the list is missing; Istio's engine makes a map in its place");
            self.report(Rule::MissingList, says);
        }
    }

    fn appended(&mut self, list: &[Node]) {
        if let Some(there) = list.iter().find(|there| is_same(there, self.value)) {
            self.report(Rule::AlreadyThere, format_args!("the list has {} already", shown(there)));
        }
    }

    /// The value is about to take this place.
    fn target(&mut self, there: &Node) {
        if self.deletes() {
            return;
        }
        match (there, self.value) {
            (Node::List(list), Node::List(new)) => {
                let is_lost = |item: &&Node| !new.iter().any(|other| is_same(item, other));
                let lost: Vec<String> = list.iter().filter(is_lost).map(shown).collect();
                if !lost.is_empty() {
                    let says = format_args!("the list is replaced as a whole, and loses {}", lost.join(", "));
                    self.report(Rule::ListReplaced, says);
                }
            }
            (Node::List(_), other) => {
                let says = format_args!("a {} takes the place of a list", other.kind());
                self.report(Rule::ListReplacedByScalar, says);
            }
            (Node::Map(map), new) => {
                let is_lost = |key: &str| !matches!(new, Node::Map(new) if new.get(key).is_some());
                let lost: Vec<&str> = map.iter().map(|(key, _)| key).filter(|key| is_lost(key)).collect();
                if !lost.is_empty() {
                    let says = format_args!("the map is replaced as a whole, and loses {}", lost.join(", "));
                    self.report(Rule::MapReplaced, says);
                }
            }
            _ => {}
        }
    }
}

/// Maps are the same if they have the same name, arguments if they set the same flag.
fn is_same(one: &Node, other: &Node) -> bool {
    let name = |node: &Node| node.at(&["name"]).and_then(Node::scalar);
    // Many mounts may show one volume.
    let place = |node: &Node| node.at(&["mountPath"]).and_then(Node::scalar);
    let flag = |node: &Node| {
        let text = node.as_text()?.strip_prefix("--")?;
        text.split_once('=').map(|(name, _)| name.to_owned())
    };
    if let (Some(one), Some(other)) = (place(one), place(other)) {
        return one == other;
    }
    one == other
        || name(one).is_some_and(|text| name(other) == Some(text))
        || flag(one).is_some_and(|text| flag(other) == Some(text))
}

fn shown(node: &Node) -> String {
    let name = node.at(&["name"]).and_then(Node::scalar).map(|name| format!("{{name: {name}}}"));
    node.scalar().map(|text| format!("{text:?}")).or(name).unwrap_or_else(|| format!("a {}", node.kind()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECT: &str = "
kind: Deployment
metadata: {name: istiod}
spec:
  nothing: null
  args: [discovery, --keepaliveMaxServerConnectionAge, 30m, --a=1]
  env: [{name: A, value: a}, {name: B, value: b}]
  mounts: [{name: v, mountPath: /a}]
";

    fn found(path: &str, value: &str) -> Vec<&'static str> {
        let patch =
            format!("[{{kind: Deployment, name: istiod, patches: [{{path: {path:?}, value: {value}}}]}}]");
        let overlays = Overlay::list(&Node::document(&patch).expect("YAML")).expect("overlays");
        let objects = Node::documents(OBJECT).expect("YAML");
        lint(&overlays, Some(&objects)).into_iter().map(|lint| lint.rule.name()).collect()
    }

    #[test]
    fn what_is_most_likely_not_meant_is_told() {
        for (path, value, rule) in [
            ("spec.args[2]", "--tls=on", "index_hits_element"),
            ("spec.args", "--tls=on", "list_replaced_by_scalar"),
            ("spec.args", "{}", "list_replaced_by_scalar"),
            ("spec.env", "[{name: A, value: x}]", "list_replaced"),
            ("spec.env.[name:A]", "{name: A}", "map_replaced"),
            ("spec", "5", "map_replaced"),
            ("spec.args.[--]", "x", "first_of_several"),
            ("spec.args[-1]", "--a=2", "already_there"),
            ("spec.args[9]", "30m", "already_there"),
            ("spec.env[-1]", "{name: B}", "already_there"),
            ("spec.mounts[-1]", "{name: w, mountPath: /a}", "already_there"),
            ("spec.volumes[0]", "{name: x}", "missing_list"),
            ("spec.nothing[0].a", "x", "missing_list"),
            ("spec.volumes.x", "null", "deletes_nothing"),
            ("spec.note", "'a: b'", "yaml_in_text"),
            ("spec.env.[name:C]", "x", "fails"),
            ("spec.env.[name:a.b]", "x", "fails"),
        ] {
            assert_eq!(found(path, value), [rule], "{path} {value}");
        }
    }

    #[test]
    fn what_is_meant_is_not_told() {
        for (path, value) in [
            ("spec.args[-1]", "--b=1"),
            ("spec.args.[^30m$]", "10m"),
            ("spec.env.[name:A].value", "x"),
            ("spec.env", "[{name: A, value: x}, {name: B, value: y}, {name: C}]"),
            ("spec.env[1]", "null"),
            ("spec.env.[name:A]", "{name: A, value: x, more: y}"),
            ("spec.mounts[-1]", "{name: v, mountPath: /b}"),
            ("spec.replicas", "2"),
            ("spec.nothing", "[1]"),
            ("spec.args", "null"),
        ] {
            assert_eq!(found(path, value), Vec::<&str>::new(), "{path} {value}");
        }
    }

    #[test]
    fn without_objects_only_the_overlays_are_looked_at() {
        let text = "[{kind: a, name: b, patches: [{path: 'c[7]', value: x}, {path: 'c.[n:a.b]', value: x}, {path: 'c[7]'}]}]";
        let overlays = Overlay::list(&Node::document(text).expect("YAML")).expect("overlays");
        let lints: Vec<String> = lint(&overlays, None).iter().map(ToString::to_string).collect();
        assert_eq!(
            lints,
            [
                "overlay 1, patch 1: c[7]: whether [7] replaces an element depends on the list; [-1] appends (fixed_index)",
                "overlay 1, patch 2: path c.[n:a.b]: [n:a: the bracket is not closed; within brackets too, a dot is \
                 written \\. (fails)",
            ]
        );
        assert_eq!(lint(&overlays, Some(&[]))[0].rule, Rule::UnmatchedOverlay);
    }
}
