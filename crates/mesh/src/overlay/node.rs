//! YAML and JSON whose maps keep their order.

use std::collections::{HashMap, HashSet};
use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

/// A value of a document.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Node {
    /// `null`, or nothing at all.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map.
    Map(Map),
}

/// A number. What has no fraction is an integer, however it was written: `1e6` is 1000000.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Number(Digits);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Digits {
    Unsigned(u64),
    Negative(i64),
    Float(f64),
}

/// A map in the order in which its keys were written.
#[derive(Debug, Clone, Default)]
pub struct Map(Vec<(String, Node)>);

/// Why a text is no document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NodeError(String);

impl Node {
    /// The documents of a YAML stream, empty ones left out; JSON is YAML.
    ///
    /// # Errors
    /// It is no YAML, repeats a key, is nested deeper than 64 levels or has more than 250 000 values.
    pub fn documents(text: &str) -> Result<Vec<Self>, NodeError> {
        let failed = |error: serde_saphyr::Error| NodeError(error.to_string().trim_end().to_owned());
        // Kubernetes reads YAML 1.1: `defaultMode: 0644` is a number with the base 8 there.
        let options = serde_saphyr::options! { legacy_octal_numbers: true };
        serde_saphyr::from_multiple_with_options(text, options).map_err(failed)
    }

    /// The one document of a text.
    ///
    /// # Errors
    /// As [`Node::documents`]; or there is none, or more than one.
    pub fn document(text: &str) -> Result<Self, NodeError> {
        let documents = Self::documents(text)?;
        let found = documents.len();
        let one = documents.into_iter().next().filter(|_| found == 1);
        one.ok_or_else(|| NodeError(format!("one document was expected, and there are {found}")))
    }

    /// The document as YAML, ending in a line feed.
    ///
    /// # Errors
    /// None for what [`Node::documents`] gave.
    pub fn to_yaml(&self) -> Result<String, NodeError> {
        // Long arguments stay on one line, where people search for them. Texts that YAML 1.1 reads as something else,
        // such as `yes`, are quoted.
        let options = serde_saphyr::ser_options! { folded_wrap_chars: usize::MAX };
        serde_saphyr::to_string_with_options(self, options).map_err(|error| NodeError(error.to_string()))
    }

    /// A map of these entries.
    pub fn map<const N: usize>(entries: [(&str, Node); N]) -> Self {
        Self::Map(Map(entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()))
    }

    /// The value below these keys, if there is one.
    pub fn at(&self, keys: &[&str]) -> Option<&Self> {
        keys.iter().try_fold(self, |node, key| match node {
            Self::Map(map) => map.get(key),
            _ => None,
        })
    }

    /// The value below these keys, to be changed.
    pub fn at_mut(&mut self, keys: &[&str]) -> Option<&mut Self> {
        keys.iter().try_fold(self, |node, key| match node {
            Self::Map(map) => map.get_mut(key),
            _ => None,
        })
    }

    /// The text, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The elements, if it is a list.
    pub fn as_list(&self) -> Option<&[Self]> {
        match self {
            Self::List(list) => Some(list),
            _ => None,
        }
    }

    /// What a scalar is printed as; nothing for lists and maps.
    pub fn scalar(&self) -> Option<String> {
        match self {
            Self::Null => Some("null".to_owned()),
            Self::Bool(value) => Some(value.to_string()),
            Self::Number(number) => Some(number.to_string()),
            Self::Text(text) => Some(text.clone()),
            Self::List(_) | Self::Map(_) => None,
        }
    }

    /// What kind of value it is.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Number(_) => "number",
            Self::Text(_) => "text",
            Self::List(_) => "list",
            Self::Map(_) => "map",
        }
    }
}

impl From<&str> for Node {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Node {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Node {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u64> for Node {
    fn from(value: u64) -> Self {
        Self::Number(Number(Digits::Unsigned(value)))
    }
}

impl Map {
    /// The value at a key.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// The value at a key, to be changed.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Node> {
        self.0.iter_mut().find(|(name, _)| name == key).map(|(_, value)| value)
    }

    /// Puts a value at a key: in the place of the one that is there, or at the end.
    pub fn insert(&mut self, key: &str, value: Node) {
        match self.get_mut(key) {
            Some(place) => *place = value,
            None => self.0.push((key.to_owned(), value)),
        }
    }

    /// Takes the value at a key out.
    pub fn remove(&mut self, key: &str) -> Option<Node> {
        let at = self.0.iter().position(|(name, _)| name == key)?;
        Some(self.0.remove(at).1)
    }

    /// The entries, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The entries, in order, their values to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&str, &mut Node)> {
        self.0.iter_mut().map(|(key, value)| (key.as_str(), value))
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(String, Node)> for Map {
    /// Of several values at one key the last one counts, in the place of the first.
    fn from_iter<T: IntoIterator<Item = (String, Node)>>(entries: T) -> Self {
        let mut map = Self::default();
        let mut places = HashMap::new();
        for (key, value) in entries {
            let place = *places.entry(key.clone()).or_insert(map.0.len());
            match map.0.get_mut(place) {
                Some((_, there)) => *there = value,
                None => map.0.push((key, value)),
            }
        }
        map
    }
}

impl IntoIterator for Map {
    type Item = (String, Node);
    type IntoIter = std::vec::IntoIter<(String, Node)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// Two maps are the same whatever the order of their keys.
impl PartialEq for Map {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.iter().all(|(key, value)| other.get(key) == Some(value))
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Digits::Unsigned(number) => number.fmt(f),
            Digits::Negative(number) => number.fmt(f),
            Digits::Float(number) => number.fmt(f),
        }
    }
}

impl Number {
    fn from_float(number: f64) -> Option<Self> {
        // Up to here a double tells every integer from its neighbours.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if !number.is_finite() {
            return None;
        }
        if number.fract() == 0.0 && number.abs() <= EXACT {
            #[expect(clippy::cast_possible_truncation, reason = "whole, and within the range")]
            return Some(Self::from_integer(number as i64));
        }
        Some(Self(Digits::Float(number)))
    }

    fn from_integer(number: i64) -> Self {
        Self(u64::try_from(number).map_or(Digits::Negative(number), Digits::Unsigned))
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(Number(Digits::Unsigned(number))) => serializer.serialize_u64(*number),
            Self::Number(Number(Digits::Negative(number))) => serializer.serialize_i64(*number),
            Self::Number(Number(Digits::Float(number))) => serializer.serialize_f64(*number),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(list) => list.serialize(serializer),
            Self::Map(map) => {
                let mut entries = serializer.serialize_map(Some(map.0.len()))?;
                for (key, value) in map.iter() {
                    entries.serialize_entry(key, value)?;
                }
                entries.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Anything)
    }
}

struct Anything;

impl<'de> Visitor<'de> for Anything {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Node, E> {
        Ok(Node::Number(Number::from_integer(number)))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
        Ok(Node::Number(Number(Digits::Unsigned(number))))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Node, E> {
        let number = Number::from_float(number);
        number.map(Node::Number).ok_or_else(|| E::custom("a number that is not finite"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> Result<Node, E> {
        Ok(Node::Text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element()? {
            list.push(element);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        let mut keys = HashSet::new();
        while let Some(key) = entries.next_key::<Node>()? {
            // YAML has keys such as `8080:`; in JSON, and so in Kubernetes, they are texts.
            let Some(key) = key.scalar() else {
                return Err(de::Error::custom("a key of a map must be a scalar"));
            };
            if !keys.insert(key.clone()) {
                return Err(de::Error::custom(format_args!("the key {key:?} stands twice in a map")));
            }
            map.push((key, entries.next_value()?));
        }
        Ok(Node::Map(Map(map)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_keep_their_order_and_integers_stay_integers() {
        let text = "zulu: 1\nalpha:\n- yes\n- 1e6\n- 1.5\n- -3\n- 0644\nmap: {}\nlist: []\nnothing: null\n";
        let node = Node::document(text).expect("YAML");
        assert_eq!(
            node.to_yaml().expect("YAML"),
            "zulu: 1\nalpha:\n- true\n- 1000000\n- 1.5\n- -3\n- 420\nmap: {}\nlist: []\nnothing: null\n"
        );
    }

    #[test]
    fn texts_that_look_like_something_else_are_quoted() {
        for text in [
            "false",
            "yes",
            "on",
            "1",
            "0644",
            "1e3",
            "null",
            "~",
            "",
            " x",
            "a: b",
            "a #b",
            "- x",
            "*",
            "2026-11-24",
            "{}",
        ] {
            let node = Node::map([("k", Node::from(text))]);
            let yaml = node.to_yaml().expect("YAML");
            assert_eq!(Node::document(&yaml), Ok(node), "{yaml}");
            assert!(!yaml.starts_with(&format!("k: {text}\n")) || text == "0", "{yaml}");
        }
    }

    #[test]
    fn texts_of_several_lines_and_long_ones_survive() {
        for text in
            ["a\nb\n", "a\n\n  b", "\n", "a\n\n\n", &"word ".repeat(50), "tab\there", "trailing \nspace"]
        {
            let node = Node::map([("k", Node::List(vec![Node::from(text)]))]);
            let yaml = node.to_yaml().expect("YAML");
            assert_eq!(Node::document(&yaml), Ok(node), "{yaml}");
        }
    }

    #[test]
    fn what_is_no_document_is_refused() {
        let deep = "[".repeat(200);
        for text in ["a: [", "a: 1\na: 2", "? [a]\n: b", "a: .nan", "%", &deep, "1\n---\n2", ""] {
            assert!(Node::document(text).is_err(), "{text}");
        }
        assert_eq!(Node::documents("---\na: 1\n---\n---\nb: 2\n").map(|all| all.len()), Ok(2));
    }
}
