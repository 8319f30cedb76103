//! The lenient values of request fields.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::fields::{Kind, Source, Value as FieldValue};
use crate::{Secret, Ttl};

/// A list of texts; on the wire an array, or one text with commas.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Strings(pub Vec<String>);

impl Strings {
    /// The entries that are not empty; clients send `","` for an empty list.
    pub fn non_empty(self) -> Vec<String> {
        self.0.into_iter().filter(|entry| !entry.is_empty()).collect()
    }
}

impl std::ops::Deref for Strings {
    type Target = [String];

    fn deref(&self) -> &[String] {
        &self.0
    }
}

impl From<Vec<String>> for Strings {
    fn from(list: Vec<String>) -> Self {
        Self(list)
    }
}

/// A map of texts; on the wire an object, or an array or list of `key=value` texts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyValues(pub BTreeMap<String, String>);

/// Any JSON value; for the few fields that take several forms.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(pub Value);

/// A JSON object; anything else is refused.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Object(pub Map<String, Value>);

/// Decodes a piece of JSON that the parser already accepted as well-formed.
fn decode<T: DeserializeOwned>(raw: &RawValue) -> Option<T> {
    serde_json::from_str(raw.get()).ok()
}

/// Names the JSON type of `raw` as the peer's messages do.
fn go_type(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'{') => "map[string]interface {}",
        Some(b'[') => "[]interface {}",
        Some(b'"') => "string",
        Some(b't' | b'f') => "bool",
        Some(b'n') => "nil",
        _ => "json.Number",
    }
}

fn unconvertible(expected: &str, raw: &RawValue) -> String {
    format!("'' expected type '{expected}', got unconvertible type '{}'", go_type(raw))
}

fn unparsable(kind: &str, parser: &str) -> String {
    format!("'' cannot parse value as '{kind}': strconv.{parser}: invalid syntax")
}

impl FieldValue for String {
    const KIND: Kind = Kind::String;

    fn null() -> Option<Self> {
        Some(Self::new())
    }

    fn decode(source: Source<'_>) -> Result<Self, String> {
        match source {
            Source::Text(text) => Ok(text.to_owned()),
            Source::Json(raw) => match raw.get().as_bytes().first() {
                // The parser took it, so what is wrong can only be an escape.
                Some(b'"') => decode(raw).ok_or_else(|| "half of a surrogate pair is no text".to_owned()),
                // The peer decodes weakly: numbers keep their text, booleans become 1 and 0.
                Some(b't') => Ok("1".to_owned()),
                Some(b'f') => Ok("0".to_owned()),
                Some(b'n') => Ok(Self::new()),
                Some(b'{' | b'[') => Err(unconvertible("string", raw)),
                _ => Ok(raw.get().to_owned()),
            },
        }
    }

    fn describe(&self) -> Value {
        Value::from(self.as_str())
    }
}

impl FieldValue for Secret {
    const KIND: Kind = Kind::String;

    fn null() -> Option<Self> {
        Some(Self::default())
    }

    fn decode(source: Source<'_>) -> Result<Self, String> {
        String::decode(source).map(Self::new)
    }

    fn describe(&self) -> Value {
        Value::from("")
    }
}

impl FieldValue for bool {
    const KIND: Kind = Kind::Boolean;

    fn null() -> Option<Self> {
        Some(false)
    }

    fn decode(source: Source<'_>) -> Result<Self, String> {
        let text: String = match source {
            Source::Text(text) => text.to_owned(),
            Source::Json(raw) => match raw.get().as_bytes().first() {
                Some(b't') => return Ok(true),
                Some(b'f') => return Ok(false),
                Some(b'"') => decode(raw).unwrap_or_default(),
                Some(b'{' | b'[') => return Err(unconvertible("bool", raw)),
                _ => return Ok(decode::<f64>(raw).is_some_and(|number| number != 0.0)),
            },
        };
        match text.as_str() {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
            "" | "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
            _ => Err(unparsable("bool", "ParseBool")),
        }
    }

    fn describe(&self) -> Value {
        Value::from(*self)
    }
}

macro_rules! integer {
    ($($ty:ty),*) => {$(
        impl FieldValue for $ty {
            const KIND: Kind = Kind::Integer;

            fn null() -> Option<Self> {
                Some(0)
            }

            fn decode(source: Source<'_>) -> Result<Self, String> {
                let text: String = match source {
                    Source::Text(text) => text.to_owned(),
                    Source::Json(raw) => match raw.get().as_bytes().first() {
                        Some(b'"') => decode(raw).unwrap_or_default(),
                        Some(b't') => return Ok(1),
                        Some(b'f') => return Ok(0),
                        Some(b'{' | b'[') => return Err(unconvertible("int", raw)),
                        _ => raw.get().to_owned(),
                    },
                };
                if text.is_empty() {
                    return Ok(0);
                }
                text.parse().map_err(|_| unparsable("int", "ParseInt"))
            }

            fn describe(&self) -> Value {
                Value::from(*self)
            }
        }
    )*};
}

integer!(i64, u64, i32, u32, u16);

impl FieldValue for Ttl {
    const KIND: Kind = Kind::Duration;

    fn decode(source: Source<'_>) -> Result<Self, String> {
        let text: String = match source {
            Source::Text(text) => text.to_owned(),
            Source::Json(raw) => match raw.get().as_bytes().first() {
                Some(b'"') => decode(raw).unwrap_or_default(),
                Some(b'{' | b'[' | b't' | b'f') => {
                    return Err("could not parse duration from input".to_owned());
                }
                // A number means what the same text means: whole seconds, and nothing else.
                _ => raw.get().to_owned(),
            },
        };
        text.parse().map_err(|error: crate::duration::ParseError| error.to_string())
    }

    fn describe(&self) -> Value {
        Value::from(self.as_secs())
    }
}

/// The texts of an array; what is none is refused by its place, all at once.
fn entries(values: &[Box<RawValue>]) -> Result<Strings, String> {
    let mut texts = Vec::with_capacity(values.len());
    let mut wrong = Vec::new();
    for (place, raw) in values.iter().enumerate() {
        match String::decode(Source::Json(raw)) {
            Ok(text) => texts.push(text.trim().to_owned()),
            Err(_) => wrong.push(format!(
                "* '[{place}]' expected type 'string', got unconvertible type '{}', value: '{}'",
                go_type(raw),
                go_value(&decode::<Value>(raw).unwrap_or_default()),
            )),
        }
    }
    if wrong.is_empty() {
        return Ok(Strings(texts));
    }
    Err(format!("{} error(s) decoding:\n\n{}", wrong.len(), wrong.join("\n")))
}

/// Prints a JSON value as the peer's messages do.
fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => format!("[{}]", values.iter().map(go_value).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let mut fields: Vec<String> =
                fields.iter().map(|(name, value)| format!("{name}:{}", go_value(value))).collect();
            fields.sort_unstable();
            format!("map[{}]", fields.join(" "))
        }
        other => other.to_string(),
    }
}

impl FieldValue for Strings {
    const KIND: Kind = Kind::Strings;

    fn null() -> Option<Self> {
        Some(Self::default())
    }

    fn decode(source: Source<'_>) -> Result<Self, String> {
        let split = |text: &str| {
            if text.is_empty() {
                return Self::default();
            }
            Self(text.split(',').map(|entry| entry.trim().to_owned()).collect())
        };
        match source {
            Source::Text(text) => Ok(split(text)),
            Source::Json(raw) => match raw.get().as_bytes().first() {
                // An entry may itself hold commas only when it stands in an array.
                Some(b'[') => entries(&decode::<Vec<Box<RawValue>>>(raw).unwrap_or_default()),
                Some(b'"') => Ok(split(&decode::<String>(raw).unwrap_or_default())),
                Some(b'{') if raw.get().trim_matches(['{', '}']).trim_ascii().is_empty() => {
                    Ok(Self::default())
                }
                Some(b'{') => entries(&[raw.to_owned()]),
                _ => String::decode(Source::Json(raw)).map(|text| split(&text)),
            },
        }
    }

    fn describe(&self) -> Value {
        Value::from(self.0.clone())
    }
}

impl FieldValue for KeyValues {
    const KIND: Kind = Kind::Map;

    fn null() -> Option<Self> {
        Some(Self::default())
    }

    fn decode(source: Source<'_>) -> Result<Self, String> {
        let pairs = |list: Strings| {
            let mut map = BTreeMap::new();
            for entry in list.0.iter().filter(|entry| !entry.is_empty()) {
                let (key, value) =
                    entry.split_once('=').ok_or_else(|| format!("invalid key/value pair {entry:?}"))?;
                map.insert(key.trim().to_owned(), value.trim().to_owned());
            }
            Ok(Self(map))
        };
        match source {
            Source::Json(raw) if raw.get().starts_with('{') => {
                let entries: BTreeMap<String, Box<RawValue>> = decode(raw).unwrap_or_default();
                let mut map = BTreeMap::new();
                for (key, value) in entries {
                    map.insert(key, String::decode(Source::Json(&value))?);
                }
                Ok(Self(map))
            }
            other => pairs(Strings::decode(other)?),
        }
    }

    fn describe(&self) -> Value {
        serde_json::to_value(&self.0).unwrap_or_default()
    }
}

impl FieldValue for Json {
    const KIND: Kind = Kind::Any;

    fn decode(source: Source<'_>) -> Result<Self, String> {
        match source {
            Source::Text(text) => Ok(Self(Value::from(text))),
            Source::Json(raw) => decode(raw).map(Self).ok_or_else(|| "invalid JSON value".to_owned()),
        }
    }

    fn describe(&self) -> Value {
        self.0.clone()
    }
}

impl FieldValue for Object {
    const KIND: Kind = Kind::Map;

    fn decode(source: Source<'_>) -> Result<Self, String> {
        const EXPECTED: &str = "map[string]interface {}";
        match source {
            Source::Text(_) => Err(format!("'' expected type '{EXPECTED}', got unconvertible type 'string'")),
            Source::Json(raw) => decode(raw).ok_or_else(|| unconvertible(EXPECTED, raw)),
        }
    }

    fn describe(&self) -> Value {
        Value::Object(self.0.clone())
    }
}

/// An instant, in RFC 3339 or as Unix seconds.
impl FieldValue for Timestamp {
    const KIND: Kind = Kind::Time;

    fn decode(source: Source<'_>) -> Result<Self, String> {
        let text = match source {
            Source::Text(text) => text.to_owned(),
            Source::Json(raw) if raw.get().starts_with(['{', '[', 't', 'f']) => {
                return Err("could not parse time from input type".to_owned());
            }
            Source::Json(_) => String::decode(source)?,
        };
        let parsed = match text.parse::<i64>() {
            Ok(seconds) => Self::from_second(seconds).ok(),
            Err(_) => text.parse().ok(),
        };
        parsed.ok_or_else(|| "could not parse string as date and time".to_owned())
    }

    fn describe(&self) -> Value {
        Value::from(self.to_string())
    }
}

/// A field whose absence means something other than its default.
impl<T: FieldValue> FieldValue for Option<T> {
    const KIND: Kind = T::KIND;

    fn null() -> Option<Self> {
        T::null().map(Some)
    }

    fn decode(source: Source<'_>) -> Result<Self, String> {
        match source {
            Source::Json(raw) if raw.get() == "null" => Ok(None),
            other => T::decode(other).map(Some),
        }
    }

    fn describe(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::describe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(json: &str) -> Result<Vec<String>, String> {
        let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
        Strings::decode(Source::Json(&raw)).map(|Strings(list)| list)
    }

    #[test]
    fn lists_come_in_many_forms() {
        for (json, list) in [
            (r#""a, b""#, vec!["a", "b"]),
            (r#""a,,b""#, vec!["a", "", "b"]),
            (r#"["a,b", " c "]"#, vec!["a,b", "c"]),
            ("[1, true, null, 1.50]", vec!["1", "1", "", "1.50"]),
            ("1.50", vec!["1.50"]),
            ("{}", vec![]),
            (r#""""#, vec![]),
        ] {
            assert_eq!(strings(json).unwrap(), list, "{json}");
        }
    }

    #[test]
    fn entries_that_are_no_text_are_named_by_their_place() {
        assert_eq!(
            strings(r#"["x",{"a":1,"b":[1,"x",null,true]},["y"]]"#).unwrap_err(),
            "2 error(s) decoding:\n\n\
             * '[1]' expected type 'string', got unconvertible type 'map[string]interface {}', value: 'map[a:1 b:[1 x <nil> true]]'\n\
             * '[2]' expected type 'string', got unconvertible type '[]interface {}', value: '[y]'"
        );
        assert!(strings(r#"{"a":1}"#).unwrap_err().contains("'[0]' expected type 'string'"));
    }

    #[test]
    fn instants_are_rfc_3339_or_seconds() {
        let instant = |json: &str| {
            let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
            Timestamp::decode(Source::Json(&raw)).map(Timestamp::as_second)
        };
        for json in ["1900000000", r#""1900000000""#, r#""2030-03-17T17:46:40Z""#] {
            assert_eq!(instant(json), Ok(1_900_000_000), "{json}");
        }
        for json in [r#""soon""#, r#""2030-01-01""#, r#""""#, "1.5"] {
            assert_eq!(instant(json).unwrap_err(), "could not parse string as date and time", "{json}");
        }
        for json in ["true", "[]", "{}"] {
            assert_eq!(instant(json).unwrap_err(), "could not parse time from input type", "{json}");
        }
    }

    #[test]
    fn an_object_is_nothing_else() {
        let object = |json: &str| {
            let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
            Object::decode(Source::Json(&raw)).map(|Object(fields)| fields.len())
        };
        assert_eq!(object(r#"{"a":1,"b":2}"#), Ok(2));
        for (json, kind) in [(r#""x""#, "string"), ("[]", "[]interface {}"), ("5", "json.Number")] {
            assert_eq!(
                object(json).unwrap_err(),
                format!("'' expected type 'map[string]interface {{}}', got unconvertible type '{kind}'")
            );
        }
    }

    #[test]
    fn half_a_surrogate_pair_is_no_text() {
        let raw: Box<RawValue> = serde_json::from_str(r#""a\ud800""#).unwrap();
        assert_eq!(String::decode(Source::Json(&raw)).unwrap_err(), "half of a surrogate pair is no text");
    }

    #[test]
    fn a_number_is_a_duration_in_whole_seconds() {
        let ttl = |json: &str| {
            let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
            Ttl::decode(Source::Json(&raw))
        };
        assert_eq!(ttl("90"), Ok(Ttl::seconds(90)));
        assert_eq!(ttl("1.5").unwrap_err(), "time: missing unit in duration \"1.5\"");
        assert_eq!(ttl("-7").unwrap_err(), "cannot provide negative value '-7'");
    }
}
