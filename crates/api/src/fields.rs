//! Request structs that know their own names.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// The type of a field, as the OpenAPI document and the path help name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A text.
    String,
    /// A whole number.
    Integer,
    /// A truth value.
    Boolean,
    /// A length of time, in seconds or Go's notation.
    Duration,
    /// A list of texts, or one text with commas.
    Strings,
    /// A map of texts.
    Map,
    /// An instant.
    Time,
    /// Whatever the client sends.
    Any,
}

/// One field of a request: what the schema says of it.
#[derive(Debug, Clone)]
pub struct Field {
    /// Its name on the wire.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// What it means, in a sentence or two.
    pub description: &'static str,
    /// Whether it is captured from the path.
    pub in_path: bool,
    /// What it is when absent; `None` for fields whose absence has its own meaning.
    pub default: Option<serde_json::Value>,
}

/// A request body (with the captures of its path) as a type. Declared with [`fields!`](crate::fields!).
pub trait Fields: Sized + Send + 'static {
    /// The fields in the order of their declaration.
    fn schema() -> Vec<Field>;

    /// Takes its fields out of `input` and leaves what it does not know.
    fn decode(input: &mut Input<'_>) -> Result<Self, FieldError>;
}

/// A request without fields.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFields;

impl Fields for NoFields {
    fn schema() -> Vec<Field> {
        Vec::new()
    }

    fn decode(_: &mut Input<'_>) -> Result<Self, FieldError> {
        Ok(Self)
    }
}

/// The field types' side of [`fields!`](crate::fields!).
pub trait Value: Sized {
    /// How the schema names the type.
    const KIND: Kind;

    /// Reads one value; the error is the part of the sentence behind the field's name.
    fn decode(source: Source<'_>) -> Result<Self, String>;

    /// The value as the schema shows a default.
    fn describe(&self) -> serde_json::Value;

    /// What `null` stands for; `None` if it is the same as leaving the field out.
    ///
    /// As the peer has it, texts, numbers, switches, lists and maps are empty then, whatever their
    /// default is; durations and instants are left out.
    fn null() -> Option<Self> {
        None
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// A capture of the path, or a query parameter.
    Text(&'a str),
    /// A value of the body.
    Json(&'a RawValue),
}

/// The raw values of one request, by name.
#[derive(Debug, Default)]
pub struct Input<'a> {
    /// Found by name in time that hardly grows: anybody may send many.
    values: BTreeMap<Cow<'a, str>, Source<'a>>,
    replaced: Vec<String>,
}

/// Why a request could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The body is no JSON object.
    #[error("failed to decode JSON input: {0}")]
    Body(String),
    /// A field has a value of another type.
    #[error("Field validation failed: error converting input for field {name:?}: {reason}")]
    Value {
        /// The field.
        name: &'static str,
        /// What was expected and what came.
        reason: String,
    },
    /// A field without which the request means nothing.
    #[error("missing required field {0:?}")]
    Missing(&'static str),
}

impl<'a> Input<'a> {
    /// Reads the names of a body. An empty body and `null` are bodies without fields; any other JSON
    /// value is refused in the peer's words.
    pub fn from_body(body: &'a [u8]) -> Result<Self, FieldError> {
        let body = body.trim_ascii();
        if body.is_empty() {
            return Ok(Self::default());
        }
        if body.first() != Some(&b'{') {
            return match serde_json::from_slice::<&RawValue>(body) {
                Ok(raw) => {
                    let kind = match raw.get().as_bytes().first() {
                        Some(b'n') => return Ok(Self::default()),
                        Some(b'[') => "array",
                        Some(b'"') => "string",
                        Some(b't' | b'f') => "bool",
                        _ => "number",
                    };
                    Err(FieldError::Body(format!(
                        "json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
                    )))
                }
                Err(error) => Err(FieldError::Body(error.to_string())),
            };
        }
        let object: BTreeMap<Cow<'a, str>, &'a RawValue> = serde_json::from_slice(body)
            .or_else(|_| {
                // Names with escapes cannot be borrowed.
                serde_json::from_slice::<BTreeMap<String, &'a RawValue>>(body)
                    .map(|object| object.into_iter().map(|(name, raw)| (Cow::Owned(name), raw)).collect())
            })
            .map_err(|error| FieldError::Body(error.to_string()))?;
        Ok(Self {
            values: object.into_iter().map(|(name, raw)| (name, Source::Json(raw))).collect(),
            replaced: Vec::new(),
        })
    }

    /// Adds a query parameter, unless the body or an earlier parameter has the field.
    pub fn query(&mut self, name: &'a str, value: &'a str) {
        self.values.entry(Cow::Borrowed(name)).or_insert(Source::Text(value));
    }

    /// Sets a capture of the path; it wins over the body.
    pub fn capture(&mut self, name: &'a str, value: &'a str) {
        if self.values.insert(Cow::Borrowed(name), Source::Text(value)).is_some() {
            self.replaced.push(name.to_owned());
        }
    }

    /// Whether the client gave the field.
    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// Takes a field out; what `null` means depends on its type.
    pub fn take<T: Value>(&mut self, name: &'static str) -> Result<Option<T>, FieldError> {
        let Some(source) = self.values.remove(name) else { return Ok(None) };
        if matches!(source, Source::Json(raw) if raw.get() == "null") {
            return Ok(T::null());
        }
        T::decode(source).map(Some).map_err(|reason| FieldError::Value { name, reason })
    }

    /// Takes everything that is left, sorted by name, for requests whose names are the client's own.
    pub fn rest(&mut self) -> Vec<(Cow<'a, str>, Source<'a>)> {
        std::mem::take(&mut self.values).into_iter().collect()
    }

    /// The names nobody took, sorted.
    pub fn unknown(&self) -> Vec<String> {
        self.values.keys().map(|name| name.clone().into_owned()).collect()
    }

    /// The names that the body gave and the path overruled.
    pub fn replaced(&self) -> &[String] {
        &self.replaced
    }
}

/// Declares a request struct with its schema and its lenient decoding.
///
/// ```
/// chancery_api::fields! {
///     /// Signs a CSR under a role.
///     #[derive(Debug)]
///     pub struct SignRequest {
///         path {
///             /// The role's name.
///             role: String,
///         }
///         body {
///             /// The CSR in PEM.
///             csr: String = String::new(),
///             /// How long the certificate shall live; the role's default if absent.
///             ttl: Option<chancery_api::Ttl>,
///             /// A field whose name is a word of the language.
///             kind as "type": String = "internal".to_owned(),
///         }
///     }
/// }
/// ```
///
/// A field with `= default` has that value when absent; a field without one is `None` then, so its
/// type must be an `Option`. `null` is the type's empty value ([`Value::null`](crate::fields::Value::null)). Captures of the path are always there.
#[macro_export]
macro_rules! fields {
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $(path { $($(#[doc = $pdoc:literal])+ $pname:ident : $pty:ty),* $(,)? })?
        $(body { $($(#[doc = $doc:literal])* $field:ident $(as $wire:literal)? : $ty:ty $(= $default:expr)?),* $(,)? })?
    }) => {
        $(#[$meta])*
        $vis struct $name {
            $($($(#[doc = $pdoc])+ $vis $pname: $pty,)*)?
            $($($(#[doc = $doc])* $vis $field: $ty,)*)?
        }

        impl $crate::fields::Fields for $name {
            fn schema() -> Vec<$crate::fields::Field> {
                vec![
                    $($($crate::fields::Field {
                        name: stringify!($pname),
                        kind: <$pty as $crate::fields::Value>::KIND,
                        description: concat!($($pdoc),+).trim_ascii(),
                        in_path: true,
                        default: None,
                    },)*)?
                    $($($crate::fields::Field {
                        name: $crate::fields!(@name $field $($wire)?),
                        kind: <$ty as $crate::fields::Value>::KIND,
                        description: concat!("", $($doc),*).trim_ascii(),
                        in_path: false,
                        default: $crate::fields!(@describe $ty $(, $default)?),
                    },)*)?
                ]
            }

            #[allow(unused_variables, reason = "a request may have no fields")]
            fn decode(input: &mut $crate::fields::Input<'_>) -> Result<Self, $crate::fields::FieldError> {
                Ok(Self {
                    $($($pname: input
                        .take::<$pty>(stringify!($pname))?
                        .ok_or($crate::fields::FieldError::Missing(stringify!($pname)))?,)*)?
                    $($($field: $crate::fields!(
                        @take input $crate::fields!(@name $field $($wire)?), $ty $(, $default)?
                    ),)*)?
                })
            }
        }
    };
    (@name $field:ident) => { stringify!($field) };
    (@name $field:ident $wire:literal) => { $wire };
    (@describe $ty:ty) => { None };
    (@describe $ty:ty, $default:expr) => {{
        let default: $ty = $default;
        Some(<$ty as $crate::fields::Value>::describe(&default))
    }};
    (@take $input:ident $name:expr, $ty:ty) => { $input.take::<$ty>($name)?.flatten() };
    (@take $input:ident $name:expr, $ty:ty, $default:expr) => {
        match $input.take::<$ty>($name)? {
            Some(value) => value,
            None => $default,
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyValues, Strings, Ttl};

    fields! {
        /// A request with a bit of everything.
        #[derive(Debug)]
        struct Sample {
            path {
                /// The name in the path.
                name: String,
            }
            body {
                /// A duration.
                ttl: Option<Ttl>,
                /// A number.
                bits: i64 = 2048,
                /// A switch.
                flag: bool = true,
                /// A list.
                domains: Strings = Strings::default(),
                /// A map.
                metadata: KeyValues = KeyValues::default(),
                /// A reserved word.
                kind as "type": String = "internal".to_owned(),
            }
        }
    }

    fn decode(body: &str) -> Result<(Sample, Vec<String>), FieldError> {
        let mut input = Input::from_body(body.as_bytes())?;
        input.capture("name", "web");
        let sample = Sample::decode(&mut input)?;
        Ok((sample, input.unknown()))
    }

    #[test]
    fn null_is_empty_whatever_the_default_but_a_null_duration_is_absent() {
        let (sample, _) =
            decode(r#"{"bits":null,"flag":null,"domains":null,"type":null,"ttl":null}"#).unwrap();
        assert_eq!((sample.bits, sample.flag, sample.kind.as_str()), (0, false, ""));
        assert!(sample.domains.is_empty());
        assert_eq!(sample.ttl, None);
    }

    #[test]
    fn absent_fields_take_their_defaults() {
        for body in ["", "{}", r#"{"ttl":null}"#, "null"] {
            let (sample, unknown) = decode(body).unwrap();
            assert_eq!(
                (sample.bits, sample.flag, sample.ttl, sample.kind.as_str()),
                (2048, true, None, "internal")
            );
            assert!(unknown.is_empty());
        }
    }

    #[test]
    fn strings_stand_for_numbers_booleans_durations_and_lists() {
        let (sample, _) = decode(
            r#"{"bits":"256","flag":"false","ttl":"1h0m0s","domains":"a.com, b.com","metadata":["k=v"],"type":"x"}"#,
        )
        .unwrap();
        assert_eq!((sample.bits, sample.flag, sample.ttl), (256, false, Some(Ttl::hours(1))));
        assert_eq!(sample.domains.0, ["a.com", "b.com"]);
        assert_eq!(sample.metadata.0.get("k").map(String::as_str), Some("v"));
        assert_eq!(sample.kind, "x");
    }

    #[test]
    fn the_path_wins_over_the_body_and_unknown_names_are_reported() {
        let mut input = Input::from_body(br#"{"name":"other","zzz":1,"\u0061b":2}"#).unwrap();
        input.capture("name", "web");
        let sample = Sample::decode(&mut input).unwrap();
        assert_eq!(sample.name, "web");
        assert_eq!(input.unknown(), ["ab", "zzz"]);
        assert_eq!(input.replaced(), ["name"]);
    }

    #[test]
    fn the_body_wins_over_the_query_and_of_two_parameters_the_first() {
        let mut input = Input::from_body(br#"{"a":"body"}"#).unwrap();
        for (name, value) in [("a", "query"), ("b", "first"), ("b", "second"), ("web", "query")] {
            input.query(name, value);
        }
        input.capture("web", "path");
        for (name, value) in [("a", "body"), ("b", "first"), ("web", "path")] {
            assert!(input.has(name));
            assert_eq!(input.take::<String>(name).unwrap().as_deref(), Some(value));
            assert!(!input.has(name));
        }
        assert_eq!(input.replaced(), ["web"]);
    }

    #[test]
    fn many_query_parameters_take_time_in_proportion() {
        let names: Vec<String> = (0..400_000).map(|number| format!("parameter{number}")).collect();
        let begin = std::time::Instant::now();
        let mut input = Input::default();
        for name in &names {
            input.query(name, "x");
        }
        assert_eq!(input.take::<String>("parameter7").unwrap().as_deref(), Some("x"));
        assert_eq!(input.unknown().len(), names.len() - 1);
        // Many minutes if each were compared with all before it; far less than this limit otherwise.
        assert!(begin.elapsed() < std::time::Duration::from_secs(20));
    }

    #[test]
    fn a_value_of_another_type_is_refused_by_name() {
        let error = decode(r#"{"ttl":"abc"}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Field validation failed: error converting input for field \"ttl\": time: invalid duration \"abc\""
        );
        let error = decode(r#"{"bits":"x"}"#).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Field validation failed: error converting input for field \"bits\": '' cannot parse value as 'int': strconv.ParseInt: invalid syntax"
        );
    }

    #[test]
    fn the_rest_can_be_taken_whole() {
        let mut input = Input::from_body(br#"{"a":1,"b":{"c":2}}"#).unwrap();
        assert_eq!(input.take::<i64>("a").unwrap(), Some(1));
        let rest = input.rest();
        assert_eq!(rest.len(), 1);
        assert_eq!(rest[0].0, "b");
        assert!(input.unknown().is_empty());
    }

    #[test]
    fn what_is_no_object_is_refused_by_its_type() {
        for (body, kind) in [
            ("[]", "array"),
            ("\"x\"", "string"),
            ("5", "number"),
            ("-1e3", "number"),
            ("true", "bool"),
            ("false", "bool"),
        ] {
            assert_eq!(
                decode(body).unwrap_err().to_string(),
                format!(
                    "failed to decode JSON input: json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
                ),
            );
        }
    }

    #[test]
    fn broken_bodies_are_refused() {
        assert!(matches!(decode("{bad"), Err(FieldError::Body(_))));
        assert!(matches!(decode("{} trailing"), Err(FieldError::Body(_))));
    }

    #[test]
    fn the_schema_lists_every_field_with_its_default() {
        let schema = Sample::schema();
        let names: Vec<_> = schema.iter().map(|field| field.name).collect();
        assert_eq!(names, ["name", "ttl", "bits", "flag", "domains", "metadata", "type"]);
        assert!(schema[0].in_path);
        assert_eq!(schema[2].default, Some(2048.into()));
        assert_eq!(schema[2].description, "A number.");
    }
}
