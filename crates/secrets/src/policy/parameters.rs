//! Rules on a request's parameters.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::Permissions;

/// A request's parameters as they came. They are read only if some rule speaks of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Parameters<'a> {
    /// A JSON object, or nothing.
    pub body: &'a [u8],
    /// Decoded names and values.
    pub query: &'a [(String, String)],
}

impl Parameters<'_> {
    /// All parameters, a repeated one each time; `None` if the body is not a JSON object.
    fn read(&self) -> Option<Vec<(String, Value)>> {
        let mut all = Vec::new();
        if !self.body.iter().all(u8::is_ascii_whitespace) {
            let Pairs(pairs) = serde_json::from_slice(self.body).ok()?;
            all = pairs;
        }
        let query = self.query.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
        all.extend(query);
        Some(all)
    }
}

/// A JSON object with every occurrence of its keys: a rule that saw only one of two values could be
/// walked around by a handler that takes the other.
struct Pairs(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;

        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = Pairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Pairs, M::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(Pairs(pairs))
            }
        }

        deserializer.deserialize_map(PairsVisitor)
    }
}

/// Values by parameter name in lower case. An empty list stands for every value; the name `*` for every
/// name.
pub(super) type ValueLists = BTreeMap<String, Vec<Value>>;

/// Whether a request that writes or reads satisfies the rules on its parameters.
pub(super) fn satisfied(rules: &Permissions, parameters: &Parameters<'_>) -> bool {
    let Permissions { required, denied, allowed, .. } = rules;
    if required.is_empty() && denied.is_empty() && allowed.is_empty() {
        return true;
    }
    let Some(given) = parameters.read() else { return false };

    let missing = |name: &String| !given.iter().any(|(given, _)| *given == name.to_lowercase());
    if required.iter().any(missing) {
        return false;
    }
    if given.is_empty() {
        return true;
    }
    if denied.contains_key("*") {
        return false;
    }
    let all_names = allowed.contains_key("*");
    given.iter().all(|(name, value)| {
        let name = name.to_lowercase();
        if denied.get(&name).is_some_and(|values| listed(value, values)) {
            return false;
        }
        match allowed.get(&name) {
            _ if allowed.is_empty() => true,
            _ if allowed.len() == 1 && all_names => true,
            Some(values) => listed(value, values),
            None => all_names,
        }
    })
}

/// The `limit` of a listing: `None` if it is no number.
pub(super) fn list_limit(parameters: &Parameters<'_>) -> Option<i64> {
    let given = parameters.read()?;
    let mut limits = given.iter().filter(|(name, _)| name == "limit").map(|(_, value)| match value {
        Value::String(text) if text.is_empty() => Some(0),
        Value::String(text) => text.parse().ok(),
        value => value.as_i64(),
    });
    limits.try_fold(0, |_, limit| limit)
}

fn listed(given: &Value, values: &[Value]) -> bool {
    values.is_empty() || values.iter().any(|value| same(value, given))
}

/// Texts match with a `*` at the beginning or end of the rule's value; all else must be equal.
fn same(rule: &Value, given: &Value) -> bool {
    match (rule, given) {
        (Value::String(pattern), Value::String(text)) => glob(pattern, text),
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => rule == given,
    }
}

/// As the peer does, a lone `*` is only itself.
fn glob(pattern: &str, text: &str) -> bool {
    if pattern.len() < 2 {
        return pattern == text;
    }
    let (open_start, rest) = match pattern.strip_prefix('*') {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    match (open_start, rest.strip_suffix('*')) {
        (true, Some(middle)) => text.contains(middle),
        (true, None) => text.ends_with(rest),
        (false, Some(head)) => text.starts_with(head),
        (false, None) => rest == text,
    }
}
