//! Values as Go's `%v` and `%q` print them, which is what tables show.

use super::Doc;

/// A value as Go's `%v` prints it.
pub fn plain(doc: &Doc) -> String {
    match doc {
        Doc::Null => "<nil>".to_owned(),
        Doc::Bool(value) => value.to_string(),
        Doc::Number(number) => number.clone(),
        Doc::String(text) => text.clone(),
        Doc::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Doc::Object(fields) => {
            let mut fields: Vec<&(String, Doc)> = fields.iter().collect();
            fields.sort_by_key(|(name, _)| name);
            let fields: Vec<String> =
                fields.iter().map(|(name, value)| format!("{name}:{}", plain(value))).collect();
            format!("map[{}]", fields.join(" "))
        }
    }
}

/// A list of texts as `%q` prints it: `["a" "b"]`.
pub fn quoted_list(texts: Option<&[String]>) -> String {
    let quoted = texts.unwrap_or_default().iter().map(|text| format!("{text:?}"));
    format!("[{}]", quoted.collect::<Vec<_>>().join(" "))
}

/// Whether a field of that name holds seconds that a table shows as a duration.
pub fn looks_like_duration(name: &str) -> bool {
    let last = name.rsplit('_').next().unwrap_or(name);
    matches!(last, "period" | "ttl" | "duration") || matches!(name, "lease_max" | "ttl_max")
}

/// Seconds as tables show them: `768h`, `1h30m`, `1m1s`, `0s`. What is no number of seconds stays.
pub fn human_duration(doc: &Doc) -> String {
    let Doc::Number(number) = doc else { return plain(doc) };
    let Ok(seconds) = number.parse::<i64>() else { return number.clone() };
    let sign = if seconds < 0 { "-" } else { "" };
    let total = seconds.unsigned_abs();
    let (hours, minutes, seconds) = (total / 3600, total / 60 % 60, total % 60);
    let mut text = String::new();
    if hours > 0 {
        text.push_str(&format!("{hours}h"));
    }
    if minutes > 0 || (hours > 0 && seconds > 0) {
        text.push_str(&format!("{minutes}m"));
    }
    if seconds > 0 || total == 0 {
        text.push_str(&format!("{seconds}s"));
    }
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_values_look_as_go_prints_them() {
        let doc = Doc::Array(vec![
            Doc::from(1_i64),
            Doc::from("a b"),
            Doc::Null,
            Doc::object([("y", Doc::from(true)), ("b", Doc::Array(Vec::new()))]),
        ]);
        assert_eq!(plain(&doc), "[1 a b <nil> map[b:[] y:true]]");
        assert_eq!(quoted_list(Some(&["a".into(), "b\"c".into()])), "[\"a\" \"b\\\"c\"]");
        assert_eq!(quoted_list(None), "[]");
    }

    #[test]
    fn seconds_are_shown_as_durations() {
        for (seconds, text) in [
            (0, "0s"),
            (1, "1s"),
            (61, "1m1s"),
            (1800, "30m"),
            (3600, "1h"),
            (3601, "1h0m1s"),
            (5400, "1h30m"),
            (2_764_800, "768h"),
            (-60, "-1m"),
        ] {
            assert_eq!(human_duration(&Doc::from(seconds as i64)), text);
        }
        assert_eq!(human_duration(&Doc::from("1h")), "1h");
        assert_eq!(human_duration(&Doc::Number("1.5".into())), "1.5");
    }

    #[test]
    fn only_names_of_durations_are_shown_as_such() {
        for name in ["ttl", "max_ttl", "period", "token_period", "not_before_duration", "lease_max"] {
            assert!(looks_like_duration(name), "{name}");
        }
        for name in ["expiration", "ttls", "num_uses", "lease_x"] {
            assert!(!looks_like_duration(name), "{name}");
        }
    }
}
