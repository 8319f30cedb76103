//! Reading the values of one block of a configuration file.

use std::cell::RefCell;
use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use chancery_api::hcl::{Body, Item, Position, Value, ValueKind};

use super::ConfigError;

/// A block, and which of its keys have been asked for: the rest are unknown.
pub(super) struct Block<'a> {
    pub(super) file: &'a Path,
    pub(super) body: &'a Body,
    position: Position,
    asked: RefCell<HashSet<&'static str>>,
}

impl<'a> Block<'a> {
    pub(super) fn new(file: &'a Path, body: &'a Body, position: Position) -> Self {
        Self { file, body, position, asked: RefCell::default() }
    }

    pub(super) fn fail<T>(&self, position: Position, message: impl Into<String>) -> Result<T, ConfigError> {
        Err(ConfigError::at(self.file, position, message))
    }

    pub(super) fn fail_here<T>(&self, message: impl Into<String>) -> Result<T, ConfigError> {
        self.fail(self.position, message)
    }

    /// All items of that name.
    pub(super) fn items(&self, key: &'static str) -> impl Iterator<Item = &'a Item> {
        self.asked.borrow_mut().insert(key);
        self.body.named(key)
    }

    /// The last item of that name: a later value replaces an earlier one.
    fn value(&self, key: &'static str) -> Option<&'a Value> {
        self.items(key).last().map(|item| &item.value)
    }

    fn read<T>(
        &self,
        key: &'static str,
        kind: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match read(value) {
            Some(read) => Ok(Some(read)),
            None => self.fail(value.position, format!("{key} must be {kind}")),
        }
    }

    pub(super) fn text(&self, key: &'static str) -> Result<Option<&'a str>, ConfigError> {
        Ok(self.read(key, "a string", Value::as_text)?.filter(|text| !text.is_empty()))
    }

    pub(super) fn boolean(&self, key: &'static str) -> Result<Option<bool>, ConfigError> {
        self.read(key, "true or false", Value::as_bool)
    }

    /// A whole number that is not negative.
    pub(super) fn number(&self, key: &'static str) -> Result<Option<u64>, ConfigError> {
        self.read(key, "a whole number, at least 0", |value| {
            value.as_i64().and_then(|n| u64::try_from(n).ok())
        })
    }

    /// Seconds as a number, or a text such as `90s`.
    pub(super) fn duration(&self, key: &'static str) -> Result<Option<Duration>, ConfigError> {
        self.read(key, "a duration, such as 3600 or \"1h\"", |value| match &value.kind {
            ValueKind::Number(_) => {
                value.as_f64().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            }
            ValueKind::String(text) => chancery_api::duration::parse(text).ok(),
            _ => None,
        })
    }

    /// A list of strings, or one string with commas.
    pub(super) fn texts(&self, key: &'static str) -> Result<Vec<String>, ConfigError> {
        let read = |value: &'a Value| match &value.kind {
            ValueKind::List(elements) => {
                elements.iter().map(|element| element.as_text().map(str::to_owned)).collect()
            }
            _ => value.as_text().map(|text| text.split(',').map(|part| part.trim().to_owned()).collect()),
        };
        let texts: Vec<String> = self.read(key, "a list of strings", read)?.unwrap_or_default();
        Ok(texts.into_iter().filter(|text| !text.is_empty()).collect())
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(
        &self,
        key: &'static str,
        words: &[(&str, T)],
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let text = value.as_text().unwrap_or_default().to_lowercase();
        if text.is_empty() && value.as_text().is_some() {
            return Ok(None);
        }
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => {
                let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                self.fail(value.position, format!("{key} must be one of {}", words.join(", ")))
            }
        }
    }

    /// The place of a key's value, for an error found later.
    pub(super) fn position_of(&self, key: &'static str) -> Position {
        self.value(key).map_or(self.position, |value| value.position)
    }

    /// A nested block.
    pub(super) fn nested(&self, key: &'static str) -> Result<Option<Block<'a>>, ConfigError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match value.as_object() {
            Some(body) => Ok(Some(Block::new(self.file, body, value.position))),
            None => self.fail(value.position, format!("{key} must be a block")),
        }
    }

    /// Warns of the keys that nobody asked for. Those in `elsewhere` mean something to the peer and
    /// nothing here; a file that has them is not wrong.
    pub(super) fn finish(&self, elsewhere: &[&str], warnings: &mut Vec<String>) {
        let asked = self.asked.borrow();
        for item in &self.body.items {
            let (name, position) = (item.name(), item.position());
            let place = format!("{}:{position}", self.file.display());
            if elsewhere.contains(&name) {
                warnings.push(format!("field {name} has no effect here; found in configuration at {place}"));
            } else if !asked.contains(name) {
                warnings
                    .push(format!("unknown or unsupported field {name} found in configuration at {place}"));
            }
        }
    }
}
