//! Where in an object: the path of a patch.

use std::fmt;

use super::Compatibility;

/// A path, taken apart: `spec.template.spec.containers.[name:discovery].args[-1]`.
///
/// - Dots separate elements; `\.` is a dot within one, in brackets too. Empty elements do not count.
/// - `args[7]` is the same as `args.[7]`.
/// - `[7]` is the eighth element of a list, or one behind its end; `[-1]` is always one behind its end.
/// - `[key:value]` is the first map of a list that has this value at that key; `\:` is a colon within either.
/// - `[text]` or `[:text]` is the first scalar of a list that the regular expression matches somewhere.
/// - Anything else is the key of a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path {
    text: String,
    elements: Vec<Element>,
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Element {
    /// A key of a map.
    Key(String),
    /// A place of a list.
    Index(Index),
    /// The first map of a list with this value at this key.
    KeyValue {
        /// The key.
        key: String,
        /// What stands there, printed.
        value: String,
        /// What stands between the brackets: in a list of scalars it is a regular expression.
        content: String,
    },
    /// The first scalar of a list that this regular expression matches.
    Value(String),
}

/// A place of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Index {
    /// `[N]`
    At(usize),
    /// `[-1]`: behind the last.
    Append,
}

/// Why a text is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// Nothing in it names anything.
    #[error("the path is empty")]
    Empty,
    /// Longer than [`Path::MOST`].
    #[error("the path is longer than {} bytes", Path::MOST)]
    TooLong,
    /// A bracket that does not end where its element does.
    #[error("{0}: the bracket is not closed; within brackets too, a dot is written \\.")]
    OpenBracket(String),
    /// Nothing between brackets.
    #[error("{0}: nothing stands between the brackets")]
    EmptyBrackets(String),
    /// `[0][1]`
    #[error("{0}: one pair of brackets follows another; separate them by a dot")]
    TwoBrackets(String),
    /// An index that no list has.
    #[error("{0}: the index is too large")]
    IndexTooLarge(String),
}

impl Path {
    /// The most bytes that a path may have.
    pub const MOST: usize = 4096;

    /// Takes a path apart.
    ///
    /// # Errors
    /// It is none. Under [`Compatibility::Upstream`] only the empty and the too long one are refused: what is oddly
    /// bracketed is the key of a map there, and the whole is first cleaned as if it were the path of a file.
    pub fn parse(text: &str, compatibility: Compatibility) -> Result<Self, PathError> {
        if text.len() > Self::MOST {
            return Err(PathError::TooLong);
        }
        let upstream = compatibility == Compatibility::Upstream;
        let cleaned = if upstream { cleaned_as_file(text) } else { text.to_owned() };
        let mut elements = Vec::new();
        for part in parts(&cleaned) {
            let part = part.replace("\\.", ".");
            // A bracket that does not begin the part begins an element of its own.
            match part.char_indices().find(|(at, character)| *at > 0 && *character == '[') {
                Some((at, _)) if !part.starts_with('[') => {
                    let (key, bracket) = part.split_at(at);
                    elements.push(Element::Key(key.to_owned()));
                    elements.push(Element::parse(bracket, upstream)?);
                }
                _ => elements.push(Element::parse(&part, upstream)?),
            }
        }
        if elements.is_empty() {
            return Err(PathError::Empty);
        }
        Ok(Self { text: text.to_owned(), elements })
    }

    /// The steps, at least one.
    pub fn elements(&self) -> &[Element] {
        &self.elements
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Element {
    fn parse(part: &str, upstream: bool) -> Result<Self, PathError> {
        let key = || Self::Key(part.to_owned());
        let Some(inner) = part.strip_prefix('[') else { return Ok(key()) };
        let Some(content) = inner.strip_suffix(']') else {
            return if upstream { Ok(key()) } else { Err(PathError::OpenBracket(part.to_owned())) };
        };
        if content.is_empty() || content == ":" {
            return if upstream { Ok(key()) } else { Err(PathError::EmptyBrackets(part.to_owned())) };
        }
        if let Some(index) = index(content) {
            return match index {
                Ok(index) => Ok(Self::Index(index)),
                Err(()) => Err(PathError::IndexTooLarge(part.to_owned())),
            };
        }
        // `[[ab][cd]]` is a regular expression, `[0][1]` is not.
        let first_end = content.find(']');
        if !upstream
            && first_end.is_some_and(|end| !content.get(..end).is_some_and(|text| text.contains('[')))
            && content.contains("][")
        {
            return Err(PathError::TwoBrackets(part.to_owned()));
        }
        if let Some((key, value)) = key_and_value(content) {
            let unescaped = |text: &str| if upstream { text.to_owned() } else { text.replace("\\:", ":") };
            let content = content.to_owned();
            return Ok(Self::KeyValue { key: key.to_owned(), value: unescaped(value), content });
        }
        Ok(Self::Value(content.strip_prefix(':').unwrap_or(content).to_owned()))
    }
}

impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => f.write_str(key),
            Self::Index(Index::At(index)) => write!(f, "[{index}]"),
            Self::Index(Index::Append) => f.write_str("[-1]"),
            Self::KeyValue { content, .. } => write!(f, "[{content}]"),
            Self::Value(value) => write!(f, "[{value}]"),
        }
    }
}

/// The parts between dots that no backslash precedes; the first and the last of a path's characters may be one too many.
fn parts(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut start = 0;
    let mut before = ' ';
    for (at, character) in text.char_indices() {
        if character == '.' && before != '\\' {
            parts.push(text.get(start..at).unwrap_or_default());
            start = at + 1;
        }
        before = character;
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts.retain(|part| !part.is_empty());
    parts
}

/// A whole number from -1; smaller ones are no index but a text like any other.
fn index(content: &str) -> Option<Result<Index, ()>> {
    let digits = content.strip_prefix(['+', '-']).unwrap_or(content);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    match content.parse::<i64>() {
        Ok(-1) => Some(Ok(Index::Append)),
        Ok(number) if number < -1 => None,
        Ok(number) => Some(usize::try_from(number).map(Index::At).map_err(drop)),
        Err(_) if content.starts_with('-') => None,
        Err(_) => Some(Err(())),
    }
}

/// The two sides of the only colon that no backslash precedes.
fn key_and_value(content: &str) -> Option<(&str, &str)> {
    let mut colons = content
        .match_indices(':')
        .filter(|(at, _)| !content.get(..*at).is_some_and(|before| before.ends_with('\\')))
        .map(|(at, _)| at);
    let at = colons.next()?;
    if colons.next().is_some() {
        return None;
    }
    let (key, value) = (content.get(..at)?, content.get(at + 1..)?);
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    (!key.is_empty() && !value.is_empty() && key.bytes().all(is_name)).then_some((key, value))
}

/// As a path of files is cleaned: `//`, `/./` and `/../` are resolved and a slash at the end goes.
fn cleaned_as_file(text: &str) -> String {
    let rooted = text.starts_with('/');
    let mut kept: Vec<&str> = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." if kept.last().is_some_and(|last| *last != "..") => drop(kept.pop()),
            ".." if rooted => {}
            part => kept.push(part),
        }
    }
    format!("{}{}", if rooted { "/" } else { "" }, kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(text: &str) -> Result<Vec<Element>, PathError> {
        Path::parse(text, Compatibility::Exact).map(|path| path.elements)
    }

    fn upstream(text: &str) -> Result<Vec<Element>, PathError> {
        Path::parse(text, Compatibility::Upstream).map(|path| path.elements)
    }

    fn key(text: &str) -> Element {
        Element::Key(text.to_owned())
    }

    fn pair(key: &str, value: &str, content: &str) -> Element {
        Element::KeyValue { key: key.to_owned(), value: value.to_owned(), content: content.to_owned() }
    }

    #[test]
    fn elements_are_recognised_by_their_form() {
        let value = |text: &str| Element::Value(text.to_owned());
        for (text, expected) in [
            ("spec.replicas", vec![key("spec"), key("replicas")]),
            (".spec..replicas.", vec![key("spec"), key("replicas")]),
            ("args[7]", vec![key("args"), Element::Index(Index::At(7))]),
            ("args.[7]", vec![key("args"), Element::Index(Index::At(7))]),
            ("args[-1]", vec![key("args"), Element::Index(Index::Append)]),
            ("args[-2]", vec![key("args"), value("-2")]),
            ("a[0].[1]", vec![key("a"), Element::Index(Index::At(0)), Element::Index(Index::At(1))]),
            ("c[name:x].image", vec![key("c"), pair("name", "x", "name:x"), key("image")]),
            ("p.[containerPort:8080]", vec![key("p"), pair("containerPort", "8080", "containerPort:8080")]),
            ("a[:--port]", vec![key("a"), value("--port")]),
            ("a[--port]", vec![key("a"), value("--port")]),
            ("a[x y:z]", vec![key("a"), value("x y:z")]),
            ("a[k:]", vec![key("a"), value("k:")]),
            ("a[a:b:c]", vec![key("a"), value("a:b:c")]),
            ("a[name:a\\:b]", vec![key("a"), pair("name", "a:b", "name:a\\:b")]),
            ("a[name:b\\.c]", vec![key("a"), pair("name", "b.c", "name:b.c")]),
            ("a[name:x//y]", vec![key("a"), pair("name", "x//y", "name:x//y")]),
            ("m.prometheus\\.io/scrape", vec![key("m"), key("prometheus.io/scrape")]),
            ("a[[ab][cd]]", vec![key("a"), value("[ab][cd]")]),
            ("größe.ä[ö:x]", vec![key("größe"), key("ä"), value("ö:x")]),
        ] {
            assert_eq!(ours(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_bracketed_as_meant_is_refused() {
        let open = |text: &str| Err(PathError::OpenBracket(text.to_owned()));
        assert_eq!(ours("c.[name:a.b].image"), open("[name:a"));
        assert_eq!(ours("args[0"), open("[0"));
        assert_eq!(ours("args[0]x"), open("[0]x"));
        assert_eq!(ours("args[]"), Err(PathError::EmptyBrackets("[]".to_owned())));
        assert_eq!(ours("args[:]"), Err(PathError::EmptyBrackets("[:]".to_owned())));
        assert_eq!(ours("a[0][1]"), Err(PathError::TwoBrackets("[0][1]".to_owned())));
        assert_eq!(
            ours("a[99999999999999999999]"),
            Err(PathError::IndexTooLarge("[99999999999999999999]".to_owned()))
        );
        for empty in ["", ".", "...."] {
            assert_eq!(ours(empty), Err(PathError::Empty));
        }
        assert_eq!(ours(&"a".repeat(5000)), Err(PathError::TooLong));
    }

    #[test]
    fn upstream_cleans_paths_and_keeps_escaped_colons() {
        assert_eq!(upstream("a[name:x//y]"), Ok(vec![key("a"), pair("name", "x/y", "name:x/y")]));
        assert_eq!(upstream("a/./b/../c/"), Ok(vec![key("a/c")]));
        assert_eq!(upstream("a[name:a\\:b]"), Ok(vec![key("a"), pair("name", "a\\:b", "name:a\\:b")]));
        assert_eq!(upstream("c[name:a.b]"), Ok(vec![key("c"), key("[name:a"), key("b]")]));
    }
}
