//! A document whose keys have an order.

use chancery_client::Value;

/// What JSON and YAML are printed from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doc {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number, as it was written.
    Number(String),
    /// A text.
    String(String),
    /// A list.
    Array(Vec<Doc>),
    /// An object, in this order.
    Object(Vec<(String, Doc)>),
}

impl Doc {
    /// An object of these fields.
    pub fn object<const N: usize>(fields: [(&str, Doc); N]) -> Self {
        Self::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// A list of texts.
    pub fn texts<T: AsRef<str>>(texts: &[T]) -> Self {
        Self::Array(texts.iter().map(|text| Self::from(text.as_ref())).collect())
    }

    /// The field of that name, if this is an object that has it.
    pub fn field(&self, name: &str) -> Option<&Doc> {
        let Self::Object(fields) = self else { return None };
        fields.iter().find(|(field, _)| field == name).map(|(_, value)| value)
    }

    /// Indented JSON, with the characters escaped that Go escapes.
    pub fn to_json(&self) -> String {
        let mut text = String::new();
        self.write_json(&mut text, 0);
        text
    }

    fn write_json(&self, text: &mut String, depth: usize) {
        let indent = |text: &mut String, depth: usize| {
            text.push('\n');
            text.push_str(&"  ".repeat(depth));
        };
        match self {
            Self::Null => text.push_str("null"),
            Self::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
            Self::Number(number) => text.push_str(number),
            Self::String(value) => write_text(text, value),
            Self::Array(items) if items.is_empty() => text.push_str("[]"),
            Self::Object(fields) if fields.is_empty() => text.push_str("{}"),
            Self::Array(items) => {
                text.push('[');
                for (index, item) in items.iter().enumerate() {
                    text.push_str(if index > 0 { "," } else { "" });
                    indent(text, depth + 1);
                    item.write_json(text, depth + 1);
                }
                indent(text, depth);
                text.push(']');
            }
            Self::Object(fields) => {
                text.push('{');
                for (index, (name, value)) in fields.iter().enumerate() {
                    text.push_str(if index > 0 { "," } else { "" });
                    indent(text, depth + 1);
                    write_text(text, name);
                    text.push_str(": ");
                    value.write_json(text, depth + 1);
                }
                indent(text, depth);
                text.push('}');
            }
        }
    }
}

fn write_text(text: &mut String, value: &str) {
    text.push('"');
    for c in value.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\u{8}' => text.push_str("\\b"),
            '\u{c}' => text.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => text.push(c),
        }
    }
    text.push('"');
}

impl From<&str> for Doc {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Doc {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<bool> for Doc {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Doc {
    fn from(number: i64) -> Self {
        Self::Number(number.to_string())
    }
}

impl From<u64> for Doc {
    fn from(number: u64) -> Self {
        Self::Number(number.to_string())
    }
}

impl<T: Into<Doc>> From<Option<T>> for Doc {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

impl From<&Value> for Doc {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => Self::Number(number.clone()),
            Value::String(text) => Self::String(text.clone()),
            Value::Array(items) => Self::Array(items.iter().map(Self::from).collect()),
            Value::Object(fields) => {
                Self::Object(fields.iter().map(|(name, value)| (name.clone(), value.into())).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_and_escaped_as_go_does() {
        let doc = Doc::object([
            ("b", Doc::from("<é>&\n")),
            ("a", Doc::Array(vec![Doc::from(1_i64), Doc::Null])),
            ("e", Doc::Array(Vec::new())),
            ("o", Doc::object([])),
        ]);
        assert_eq!(
            doc.to_json(),
            "{\n  \"b\": \"\\u003cé\\u003e\\u0026\\n\",\n  \"a\": [\n    1,\n    null\n  ],\n  \"e\": [],\n  \"o\": {}\n}"
        );
    }
}
