//! Host names: their ASCII form, their shape, and the patterns operators write for them.

use crate::Refusal;

/// The 253 characters that a name may have (RFC 1035, 2.3.4) are at most so many bytes before Punycode, which makes
/// none fewer. Its algorithm takes quadratic time, so a longer name is not even tried.
const MOST_BYTES: usize = 1024;

/// Punycode (RFC 3492) label by label, and nothing else: no case folding, no mapping, no table
/// of forbidden characters.
///
/// The peer asks its IDNA library for exactly this. What then does not look like a host name is
/// dropped or refused by the rules that follow.
pub(crate) fn to_ascii(name: &str) -> Result<String, Refusal> {
    let refused = |label: &str| Refusal::NotAHostname { name: label.to_owned() };
    if name.len() > MOST_BYTES {
        let too_long = name.split('.').find(|label| label.chars().count() > 63);
        return Err(refused(too_long.unwrap_or(name)));
    }
    let mut ascii = String::with_capacity(name.len());
    for (index, label) in name.split('.').enumerate() {
        if label.is_empty() {
            return Err(refused(name));
        }
        if index > 0 {
            ascii.push('.');
        }
        let start = ascii.len();
        match label.strip_prefix("xn--") {
            Some("") => return Err(refused("")),
            // Encoding what was decoded gives the same again; it must only be decodable.
            Some(encoded) => {
                if encoded.is_ascii() && idna::punycode::decode_to_string(encoded).is_none() {
                    return Err(refused(encoded));
                }
                ascii.push_str(label);
            }
            None if label.is_ascii() => ascii.push_str(label),
            None => {
                ascii.push_str("xn--");
                ascii.push_str(&idna::punycode::encode_str(label).ok_or_else(|| refused(label))?);
            }
        }
        // RFC 1035, 2.3.4
        if ascii.len() - start > 63 {
            return Err(refused(ascii.get(start..).unwrap_or(label)));
        }
    }
    if ascii.len() > 253 {
        return Err(refused(&ascii));
    }
    Ok(ascii)
}

/// Letters, digits and inner hyphens.
fn is_label(label: &str) -> bool {
    let bytes = label.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
}

/// A host name, possibly with `*.` in front and a dot behind.
pub(crate) fn is_hostname(name: &str) -> bool {
    let name = name.strip_prefix("*.").unwrap_or(name);
    let name = name.strip_suffix('.').unwrap_or(name);
    name.split('.').all(is_label)
}

/// A first label with its one wildcard: `*`, `*a`, `a*` or `a*b` (RFC 6125, 6.4.3).
pub(crate) fn is_wildcard_label(label: &str) -> bool {
    let Some((before, after)) = label.split_once('*') else { return false };
    (before.is_empty() || is_label(before)) && (after.is_empty() || is_label(after))
}

/// Whether `text` matches a pattern in which `*` stands for any characters, none included.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut rest) = text.strip_prefix(head) else { return false };
    let mut parts = tail.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = rest.get(at + part.len()..).unwrap_or(""),
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_punycode_happens_to_a_name() {
        for (name, ascii) in [
            ("bücher.example.com", "xn--bcher-kva.example.com"),
            ("BÜCHER.example.com", "xn--BCHER-2pa.example.com"),
            ("straße.example.com", "xn--strae-oqa.example.com"),
            ("Foo_Bar.example.com", "Foo_Bar.example.com"),
            ("*.example.com", "*.example.com"),
        ] {
            assert_eq!(to_ascii(name).as_deref(), Ok(ascii));
        }
    }

    #[test]
    fn empty_and_long_labels_have_no_ascii_form() {
        let long = "a".repeat(64);
        let many = vec!["a".repeat(63); 4].join(".");
        for name in ["", ".", "a.", ".a", "a..b", "xn--", &long, &many] {
            assert!(to_ascii(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_name_that_cannot_fit_is_refused_without_encoding_it() {
        let many = "a.".repeat(1 << 19);
        let scripts: String = ('\u{4e00}'..='\u{9fff}').cycle().take(1 << 20).collect();
        let deep = format!("xn--{}", "a".repeat(4 << 20));
        for (name, label) in [
            (format!("b.{scripts}.example.com"), &scripts),
            (format!("b.{deep}.example.com"), &deep),
            (format!("{many}com"), &format!("{many}com")),
        ] {
            let begin = std::time::Instant::now();
            assert_eq!(to_ascii(&name), Err(Refusal::NotAHostname { name: label.clone() }));
            // Minutes if it were encoded; far less than this limit otherwise.
            assert!(begin.elapsed() < std::time::Duration::from_secs(20));
        }
        let refused = to_ascii(&format!("{}.example.com", "ü".repeat(64))).unwrap_err().to_string();
        assert!(refused.starts_with("idna: invalid label \"xn--tda"), "{refused}");
    }

    #[test]
    fn globs_match_as_operators_expect() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("*", "anything", true),
            ("", "", true),
            ("", "a", false),
            ("a", "a", true),
            ("a*", "abc", true),
            ("a*", "ba", false),
            ("*a", "ba", true),
            ("*a", "ab", false),
            ("a*c", "abbc", true),
            ("a*c", "ac", true),
            ("a*b*c", "a1b2c", true),
            ("a*b*c", "a1c2b", false),
            ("*b*", "abc", true),
            ("*.example.com", "example.com", false),
            ("aba*aba", "aba", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }
}
