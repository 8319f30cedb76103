//! Secrets in audit records: a keyed hash in their place.

use aws_lc_rs::hmac;
use data_encoding::HEXLOWER;
use serde_json::Value;

/// `hmac-sha256:<hex>`.
pub(super) fn hash(salt: &hmac::Key, text: &str) -> String {
    format!("hmac-sha256:{}", HEXLOWER.encode(hmac::sign(salt, text.as_bytes()).as_ref()))
}

/// Hashes every string in `value`, whatever its depth. Names, numbers and booleans stay.
pub(super) fn hash_all(salt: &hmac::Key, value: &mut Value) {
    match value {
        Value::String(text) => *text = hash(salt, text),
        Value::Array(entries) => entries.iter_mut().for_each(|entry| hash_all(salt, entry)),
        Value::Object(fields) => fields.values_mut().for_each(|field| hash_all(salt, field)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// As [`hash_all`], but leaves the fields of the outermost object that `clear` names.
pub(super) fn hash_fields(salt: &hmac::Key, value: &mut Value, clear: &[String]) {
    let Value::Object(fields) = value else { return hash_all(salt, value) };
    for (name, field) in fields {
        if !clear.contains(name) {
            hash_all(salt, field);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_string_is_hashed_but_those_left_in_the_clear() {
        let salt = hmac::Key::new(hmac::HMAC_SHA256, b"salt");
        let mut value = json!({"a": "x", "b": ["y", 1, true], "c": {"d": "z"}, "open": "seen"});
        hash_fields(&salt, &mut value, &["open".to_owned()]);
        assert_eq!(value["open"], "seen");
        assert_eq!(value["a"], hash(&salt, "x"));
        assert_eq!(value["b"], json!([hash(&salt, "y"), 1, true]));
        assert_eq!(value["c"]["d"], hash(&salt, "z"));
        assert!(!value.to_string().contains("\"x\""));
    }
}
