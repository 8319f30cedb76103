//! What a record is called within its collection.

use std::fmt;

/// The name of a record within a collection: a place in the order, and a text.
///
/// `order` is stored in the clear as part of the physical key. Records that are born in time order
/// (certificates by serial number, tokens, expiries) therefore lie, and are listed, in that order,
/// and writing them appends instead of touching a random page. Everything else uses order 0 and is
/// listed by text. The text itself is stored encrypted.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    order: u64,
    text: Box<str>,
}

impl Name {
    /// A name without a place of its own in the order: these are listed by text.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self { order: 0, text: text.into() }
    }

    /// A name with a place in the order.
    pub fn ordered(order: u64, text: impl Into<Box<str>>) -> Self {
        Self { order, text: text.into() }
    }

    /// The place in the order; 0 unless given.
    #[must_use]
    pub fn order(&self) -> u64 {
        self.order
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text, taken over.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text.into()
    }
}

impl From<&str> for Name {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Name {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.order {
            0 => write!(f, "Name({:?})", self.text),
            order => write!(f, "Name({order}, {:?})", self.text),
        }
    }
}

/// Where a listing begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position<'a> {
    /// At the first record.
    Start,
    /// At the first record of this order or a later one.
    Order(u64),
    /// After this record, which need not exist (any more).
    After(&'a Name),
}

impl<'a> From<&'a Name> for Position<'a> {
    fn from(name: &'a Name) -> Self {
        Self::After(name)
    }
}

impl<'a> From<Option<&'a Name>> for Position<'a> {
    fn from(name: Option<&'a Name>) -> Self {
        name.map_or(Self::Start, Self::After)
    }
}
