//! One patch: at a path, a value, or nothing any more.

use regex::{Regex, RegexBuilder};

use super::path::{Element, Index, Path, PathError};
use super::{Map, Node};

/// What to put where.
#[derive(Debug, Clone, PartialEq)]
pub struct Patch {
    /// Where, in the grammar of [`Path`].
    pub path: String,
    /// What. [`Node::Null`] takes away what is there.
    pub value: Node,
}

/// How closely Istio's own engine is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compatibility {
    /// As this module documents it.
    #[default]
    Exact,
    /// With what surprises in Istio's: paths are cleaned like those of files, an index into a missing list makes a map
    /// with the key `[0]`, what is deleted is made first, texts that look like YAML become maps, `\:` stays as it is.
    /// Errors are errors here too.
    Upstream,
}

/// Why a patch could not be carried out. The object is then as it was before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("path {path}: {fault}")]
pub struct PatchError {
    /// The path, as it was written.
    pub path: String,
    /// What is wrong.
    pub fault: PatchFault,
}

/// What is wrong with a patch, or with the object for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatchFault {
    /// The path is none.
    #[error(transparent)]
    Path(#[from] PathError),
    /// No element of the list is meant by it.
    #[error("element {0} not found")]
    NotFound(String),
    /// The list has maps or lists, and this names no map.
    #[error("{0} is not a valid key:value path element")]
    NotKeyValue(String),
    /// The path goes on, and what is here has no parts.
    #[error("leaf type {kind} in non-leaf Node {element}")]
    Leaf {
        /// What is here.
        kind: &'static str,
        /// The element of the path that asks for a part of it.
        element: String,
    },
    /// The key of a map, and here is a list.
    #[error("{0} is a key, and the list needs [N], [key:value] or [value]")]
    KeyInList(String),
    /// An element of a list, and here is a map.
    #[error("{0} is an element of a list, and a map is here")]
    ElementInMap(String),
    /// There is no element to delete at this index.
    #[error("there is nothing at {element} to delete: the list has {length} elements")]
    NothingThere {
        /// The element of the path.
        element: String,
        /// How long the list is.
        length: usize,
    },
    /// No regular expression, or one that is too large.
    #[error("{0} is no regular expression")]
    Pattern(String),
}

impl Patch {
    /// Carries the patch out on an object. Maps on the way are made where they are missing, and lists where an index asks
    /// for one; a value replaces what was there, as a whole.
    ///
    /// # Errors
    /// The path is none, or the object is not as the path supposes; then nothing has changed.
    pub fn apply(&self, object: &mut Node, compatibility: Compatibility) -> Result<(), PatchError> {
        let failed = |fault: PatchFault| PatchError { path: self.path.clone(), fault };
        let path = Path::parse(&self.path, compatibility).map_err(|error| failed(error.into()))?;
        let steps = Steps { compatibility };
        let done = match &self.value {
            Node::Null => steps.delete(object, path.elements()),
            value => steps.set(object, path.elements(), &steps.meant(value)),
        };
        done.map_err(failed)
    }
}

#[derive(Clone, Copy)]
struct Steps {
    compatibility: Compatibility,
}

impl Steps {
    fn upstream(self) -> bool {
        self.compatibility == Compatibility::Upstream
    }

    fn meant(self, value: &Node) -> Node {
        match value {
            Node::Text(text) if self.upstream() => yaml_within(text).unwrap_or_else(|| value.clone()),
            _ => value.clone(),
        }
    }

    /// Puts the value where `elements` lead to. Nothing changes before all that could fail has been done.
    fn set(self, node: &mut Node, elements: &[Element], value: &Node) -> Result<(), PatchFault> {
        let Some((element, rest)) = elements.split_first() else {
            *node = value.clone();
            return Ok(());
        };
        match (&mut *node, element) {
            (Node::Null, Element::Index(_)) if self.upstream() => {
                Err(PatchFault::Leaf { kind: node.kind(), element: element.to_string() })
            }
            (Node::Null, _) => {
                *node = self.made(elements, value)?;
                Ok(())
            }
            (Node::Map(map), _) => {
                let key = self.key(element)?;
                match map.get_mut(&key) {
                    // Nothing is as good as a key that is missing, also for a list that is to come.
                    Some(child) if rest.is_empty() || *child != Node::Null || self.upstream() => {
                        self.set(child, rest, value)
                    }
                    _ => {
                        let made = self.made(rest, value)?;
                        map.insert(&key, made);
                        Ok(())
                    }
                }
            }
            (Node::List(list), Element::Index(index)) => match (*index, list.len()) {
                (Index::At(at), length) if at < length => match list.get_mut(at) {
                    Some(child) => self.set(child, rest, value),
                    None => Err(PatchFault::NotFound(element.to_string())),
                },
                _ => {
                    list.push(self.made(rest, value)?);
                    Ok(())
                }
            },
            (Node::List(list), _) => {
                let at = find(list, element)?;
                match list.get_mut(at) {
                    Some(child) => self.set(child, rest, value),
                    None => Err(PatchFault::NotFound(element.to_string())),
                }
            }
            (leaf, _) => Err(PatchFault::Leaf { kind: leaf.kind(), element: element.to_string() }),
        }
    }

    /// What stands at a place where nothing was: the value, below all that the elements name.
    fn made(self, elements: &[Element], value: &Node) -> Result<Node, PatchFault> {
        let Some((element, rest)) = elements.split_first() else { return Ok(value.clone()) };
        match element {
            Element::Index(_) if !self.upstream() => Ok(Node::List(vec![self.made(rest, value)?])),
            Element::KeyValue { .. } | Element::Value(_) if !self.upstream() => {
                Err(PatchFault::NotFound(element.to_string()))
            }
            _ => {
                let mut map = Map::default();
                map.insert(&self.key(element)?, self.made(rest, value)?);
                Ok(Node::Map(map))
            }
        }
    }

    /// The key that an element is in a map.
    fn key(self, element: &Element) -> Result<String, PatchFault> {
        match element {
            Element::Key(key) => Ok(key.clone()),
            element if self.upstream() => Ok(element.to_string()),
            element => Err(PatchFault::ElementInMap(element.to_string())),
        }
    }

    /// Takes away what `elements` lead to. What is not there needs no taking away, except from lists, where somebody
    /// thought that it was.
    fn delete(self, node: &mut Node, elements: &[Element]) -> Result<(), PatchFault> {
        let Some((element, rest)) = elements.split_first() else { return Ok(()) };
        match (&mut *node, element) {
            (Node::Null, _) => {
                if self.upstream() && !rest.is_empty() {
                    *node = self.parents(elements)?;
                }
                Ok(())
            }
            (Node::Map(map), _) => {
                let key = self.key(element)?;
                match map.get_mut(&key) {
                    Some(_) if rest.is_empty() => {
                        map.remove(&key);
                        Ok(())
                    }
                    Some(child) => self.delete(child, rest),
                    None if self.upstream() && !rest.is_empty() => {
                        let made = self.parents(rest)?;
                        map.insert(&key, made);
                        Ok(())
                    }
                    None => Ok(()),
                }
            }
            (Node::List(list), element) => {
                let at = match element {
                    Element::Index(Index::At(at)) if *at < list.len() => *at,
                    Element::Index(_) => {
                        let (element, length) = (element.to_string(), list.len());
                        return Err(PatchFault::NothingThere { element, length });
                    }
                    _ => find(list, element)?,
                };
                match list.get_mut(at) {
                    Some(_) if rest.is_empty() => drop(list.remove(at)),
                    Some(child) => self.delete(child, rest)?,
                    None => {}
                }
                Ok(())
            }
            (leaf, _) => Err(PatchFault::Leaf { kind: leaf.kind(), element: element.to_string() }),
        }
    }

    /// The maps that upstream makes on the way to what it deletes.
    fn parents(self, elements: &[Element]) -> Result<Node, PatchFault> {
        match elements.split_last() {
            Some((_, parents)) => self.made(parents, &Node::Map(Map::default())),
            None => Ok(Node::Null),
        }
    }
}

/// The index of the element of a list that is meant.
pub(super) fn find(list: &[Node], element: &Element) -> Result<usize, PatchFault> {
    let not_found = || PatchFault::NotFound(element.to_string());
    let has_parts = list.iter().any(|item| matches!(item, Node::Map(_) | Node::List(_)));
    let (key, value, content) = match element {
        Element::KeyValue { key, value, content } => (key, value, content),
        Element::Value(pattern) if !has_parts => {
            return matching(list, pattern)?.next().ok_or_else(not_found);
        }
        Element::Value(_) => return Err(PatchFault::NotKeyValue(element.to_string())),
        Element::Index(_) => return Err(not_found()),
        Element::Key(key) => return Err(PatchFault::KeyInList(key.clone())),
    };
    if !has_parts {
        return matching(list, content)?.next().ok_or_else(not_found);
    }
    let is_meant = |item: &Node| item.at(&[key]).and_then(Node::scalar).is_some_and(|text| text == *value);
    list.iter().position(is_meant).ok_or_else(not_found)
}

/// The indexes of all scalars that the regular expression matches somewhere.
pub(super) fn matching<'a>(
    list: &'a [Node],
    pattern: &str,
) -> Result<impl Iterator<Item = usize> + use<'a>, PatchFault> {
    // What is written in an overlay must not cost more memory than the manifest does.
    let compiled: Result<Regex, _> = RegexBuilder::new(pattern).size_limit(1 << 20).build();
    let regex = compiled.map_err(|_| PatchFault::Pattern(pattern.to_owned()))?;
    let matches = move |item: &Node| item.scalar().is_some_and(|text| regex.is_match(&text));
    Ok(list.iter().enumerate().filter(move |(_, item)| matches(item)).map(|(at, _)| at))
}

/// The map that upstream takes a text for.
pub(super) fn yaml_within(text: &str) -> Option<Node> {
    let several_lines = text.trim_end_matches('\n').contains('\n');
    let looks_so = if several_lines { text.contains(':') } else { text.contains(": ") };
    if !looks_so || text.trim_start().starts_with('{') {
        return None;
    }
    Node::document(text).ok().filter(|node| matches!(node, Node::Map(_)))
}

#[cfg(test)]
#[path = "patch_tests.rs"]
mod tests;
