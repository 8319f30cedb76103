//! HCL, version 1: the language of policies and of the server's configuration.
//!
//! Text goes in, an ordered tree comes out: a [`Body`] is a list of [`Item`]s, an item has one or more
//! keys and a [`Value`], and everything knows its line and column. Nothing is merged, typed or looked up
//! here; a policy and a configuration file read the same tree in their own ways.
//!
//! This is the first version of the language, not the one that Terraform speaks today. Several
//! attributes may stand on a line, commas between them are optional, keys may be quoted, `${` is
//! ordinary text (quotes inside its braces do not end the string), duplicates are kept in order.
//! A text whose first character is `{` is JSON, which is folded into the shape that HCL would have had:
//! `{"path": {"a": {"policy": "read"}}}` is `path "a" { policy = "read" }`.
//!
//! Input is hostile: its length and its nesting are bounded, and no input panics.

mod format;
mod json;
mod lex;
mod parse;

use std::fmt;

pub use format::format;

/// The longest text that is read, in bytes.
pub const MAX_BYTES: usize = 1024 * 1024;

/// The deepest nesting of objects and lists that is read.
pub const MAX_DEPTH: usize = 100;

/// A place in the text; both numbers start at 1, columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Character in the line, from 1.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Why a text is not HCL, and where that was noticed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("At {position}: {message}")]
pub struct Error {
    /// The first place that makes no sense.
    pub position: Position,
    /// What was wrong there.
    pub message: String,
}

impl Error {
    fn new(position: Position, message: impl Into<String>) -> Self {
        Self { position, message: message.into() }
    }
}

/// Byte offsets into the text that was parsed: start and end.
type Span = (usize, usize);

/// The items of a file or of an object, in the order in which they were written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Body {
    /// Attributes and blocks; the same key may come more than once.
    pub items: Vec<Item>,
}

/// `key = value`, or `key "label" … { … }`.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// At least one; the second and later ones are the labels of a block.
    pub keys: Vec<Key>,
    /// What stands behind the keys; always an object if there was no `=`.
    pub value: Value,
    /// Whether the value was given with `=` (or, in JSON, `:`).
    pub assigned: bool,
}

/// One key of an item, quoted or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Without its quotes.
    pub name: String,
    /// Where it starts.
    pub position: Position,
    span: Span,
}

/// A value and where it starts.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// What it is.
    pub kind: ValueKind,
    /// Where it starts.
    pub position: Position,
    span: Span,
}

/// The kinds of value.
#[derive(Debug, Clone, PartialEq)]
pub enum ValueKind {
    /// A number, as it was written; see [`Value::as_i64`] and [`Value::as_f64`].
    Number(String),
    /// `true` or `false`.
    Bool(bool),
    /// A quoted string or a heredoc, decoded.
    String(String),
    /// JSON only.
    Null,
    /// `[ … ]`.
    List(Vec<Value>),
    /// `{ … }`.
    Object(Body),
}

/// Reads a text, in HCL or, if it begins with `{`, in JSON.
///
/// # Errors
/// The first place where the text is neither, or where it is longer or deeper than this module reads.
pub fn parse(text: &str) -> Result<Body, Error> {
    if text.len() > MAX_BYTES {
        let message = format!("text of {} bytes is longer than the {MAX_BYTES} that are read", text.len());
        return Err(Error::new(Position { line: 1, column: 1 }, message));
    }
    if text.trim_start().starts_with('{') { json::parse(text) } else { Ok(parse::parse(text)?.body) }
}

impl Body {
    /// The items whose first key is `name`, in order.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Item> {
        self.items.iter().filter(move |item| item.name() == name)
    }
}

impl Item {
    /// The first key.
    #[must_use]
    pub fn name(&self) -> &str {
        self.keys.first().map_or("", |key| &key.name)
    }

    /// The second key, which is the label of a block.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        self.keys.get(1).map(|key| key.name.as_str())
    }

    /// Where the item starts.
    #[must_use]
    pub fn position(&self) -> Position {
        self.keys.first().map_or(self.value.position, |key| key.position)
    }
}

impl Value {
    /// A string; `None` for anything else.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.kind {
            ValueKind::String(text) => Some(text),
            _ => None,
        }
    }

    /// A string, or a whole number as it was written: where a string is wanted, both are taken.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match &self.kind {
            ValueKind::String(text) => Some(text),
            ValueKind::Number(text) if !is_float(text) => Some(text),
            _ => None,
        }
    }

    /// `true` or `false`, also as strings (`"true"`, `"1"`, …) and the numbers 1 and 0.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match &self.kind {
            ValueKind::Bool(value) => Some(*value),
            ValueKind::String(text) | ValueKind::Number(text) => match text.as_str() {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
                "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
                _ => None,
            },
            _ => None,
        }
    }

    /// A whole number, also from a string: decimal, `0x…`, or octal with a leading zero.
    #[must_use]
    pub fn as_i64(&self) -> Option<i64> {
        match &self.kind {
            ValueKind::Number(text) | ValueKind::String(text) => integer(text),
            _ => None,
        }
    }

    /// Any number, with or without a fraction.
    #[must_use]
    pub fn as_f64(&self) -> Option<f64> {
        match &self.kind {
            #[expect(clippy::cast_precision_loss, reason = "the caller asked for a float")]
            ValueKind::Number(text) => integer(text).map(|value| value as f64).or_else(|| text.parse().ok()),
            _ => None,
        }
    }

    /// The elements of a list.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Value]> {
        match &self.kind {
            ValueKind::List(elements) => Some(elements),
            _ => None,
        }
    }

    /// The items of an object.
    #[must_use]
    pub fn as_object(&self) -> Option<&Body> {
        match &self.kind {
            ValueKind::Object(body) => Some(body),
            _ => None,
        }
    }

    /// The same value as JSON. A number that fits no JSON number becomes a string; of keys that an
    /// object repeats the last one stands.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        match &self.kind {
            ValueKind::Null => serde_json::Value::Null,
            ValueKind::Bool(value) => (*value).into(),
            ValueKind::String(text) => text.as_str().into(),
            ValueKind::Number(text) => match integer(text) {
                Some(value) => value.into(),
                None => text
                    .parse::<f64>()
                    .ok()
                    .and_then(serde_json::Number::from_f64)
                    .map_or_else(|| text.as_str().into(), serde_json::Value::Number),
            },
            ValueKind::List(elements) => elements.iter().map(Self::to_json).collect(),
            ValueKind::Object(body) => {
                let items = body.items.iter();
                items.map(|item| (item.name().to_owned(), item.value.to_json())).collect()
            }
        }
    }
}

fn is_float(text: &str) -> bool {
    let hexadecimal = text.trim_start_matches('-').starts_with(['0']) && text.contains(['x', 'X']);
    !hexadecimal && text.contains(['.', 'e', 'E'])
}

/// A Go integer literal: the prefix decides the base.
fn integer(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => ("-", rest),
        None => ("", text),
    };
    let (base, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, digits.get(2..)?),
        [b'0', _, ..] => (8, digits.get(1..)?),
        _ => (10, digits),
    };
    if !digits.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        return None;
    }
    i64::from_str_radix(&format!("{sign}{digits}"), base).ok()
}

#[cfg(test)]
mod tests;
