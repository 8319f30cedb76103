//! JSON values that keep numbers letter for letter.

use std::collections::BTreeMap;

use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// A JSON value whose numbers are texts, so that `1e3` and integers beyond 64 bits are shown as the
/// server wrote them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Value {
    /// `null`.
    #[default]
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number, as it was written.
    Number(String),
    /// A text.
    String(String),
    /// A list.
    Array(Vec<Value>),
    /// An object; its keys in byte order.
    Object(BTreeMap<String, Value>),
}

impl Value {
    /// The text, if this is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The boolean, if this is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The number, if this is one and a whole number of that size.
    pub fn as_i64(&self) -> Option<i64> {
        match self {
            Self::Number(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The list, if this is one.
    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The object, if this is one.
    pub fn as_object(&self) -> Option<&BTreeMap<String, Value>> {
        match self {
            Self::Object(fields) => Some(fields),
            _ => None,
        }
    }

    /// The field of that name, if this is an object that has it.
    pub fn field(&self, name: &str) -> Option<&Value> {
        self.as_object()?.get(name)
    }

    /// Whether this is `null`.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// Parses one JSON text.
    ///
    /// # Errors
    /// The text is no JSON, or nests deeper than [`MAX_DEPTH`].
    pub fn parse(json: &str) -> Result<Self, serde_json::Error> {
        let raw: &RawValue = serde_json::from_str(json)?;
        from_raw(raw, MAX_DEPTH)
    }

    /// Reads the value into a type.
    ///
    /// # Errors
    /// The value does not have that type's shape.
    pub fn decode<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&serde_json::to_string(self)?)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number.to_string())
    }
}

/// How deep a value may nest. serde_json itself stops at 128.
const MAX_DEPTH: usize = 128;

/// Each level is parsed on its own, which reads a text once per level of nesting; answers have three.
fn from_raw(raw: &RawValue, depth: usize) -> Result<Value, serde_json::Error> {
    if depth == 0 {
        return Err(serde_json::Error::custom("recursion limit exceeded"));
    }
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'{') => {
            let fields: BTreeMap<String, &RawValue> = serde_json::from_str(text)?;
            let fields = fields.into_iter().map(|(name, value)| Ok((name, from_raw(value, depth - 1)?)));
            fields.collect::<Result<_, _>>().map(Value::Object)
        }
        Some(b'[') => {
            let items: Vec<&RawValue> = serde_json::from_str(text)?;
            let items = items.into_iter().map(|item| from_raw(item, depth - 1));
            items.collect::<Result<_, _>>().map(Value::Array)
        }
        Some(b'"') => serde_json::from_str(text).map(Value::String),
        Some(b't') => Ok(Value::Bool(true)),
        Some(b'f') => Ok(Value::Bool(false)),
        Some(b'n') => Ok(Value::Null),
        _ => {
            serde_json::from_str::<IgnoredAny>(text)?;
            Ok(Value::Number(text.to_owned()))
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        from_raw(&raw, MAX_DEPTH).map_err(D::Error::custom)
    }
}

/// Only for `serde_json`: a number is written as the raw piece of JSON it came from.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::Number(text) => {
                let raw = RawValue::from_string(text.clone()).map_err(serde::ser::Error::custom)?;
                raw.serialize(serializer)
            }
            Self::String(text) => serializer.serialize_str(text),
            Self::Array(items) => serializer.collect_seq(items),
            Self::Object(fields) => serializer.collect_map(fields),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_letter_for_letter() {
        let json = r#"{"big":12345678901234567890123,"e":1e3,"f":1.50,"list":[1,null,true,"x"]}"#;
        let value = Value::parse(json).expect("valid JSON");
        assert_eq!(value.field("e"), Some(&Value::Number("1e3".into())));
        assert_eq!(serde_json::to_string(&value).expect("serialises"), json);
    }

    #[test]
    fn nesting_without_end_is_refused_not_followed() {
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        assert!(Value::parse(&deep).is_err());
    }

    #[test]
    fn values_decode_into_types() {
        let value = Value::parse(r#"{"a":[1,2]}"#).expect("valid JSON");
        let decoded: BTreeMap<String, Vec<u8>> = value.decode().expect("fits");
        assert_eq!(decoded["a"], [1, 2]);
    }
}
