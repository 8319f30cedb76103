//! Lists of policy names as tokens carry them.

/// `policies` in lower case, trimmed, sorted and without duplicates; with `default` if asked for.
///
/// Whoever has `root` needs nothing else, so `root` stands alone, as the peer has it.
pub fn sanitize<S: AsRef<str>>(policies: &[S], add_default: bool) -> Vec<String> {
    let mut list: Vec<String> = policies
        .iter()
        .map(|policy| policy.as_ref().trim().to_lowercase())
        .filter(|policy| !policy.is_empty())
        .collect();
    if list.iter().any(|policy| policy == "root") {
        return vec!["root".to_owned()];
    }
    if add_default {
        list.push("default".to_owned());
    }
    list.sort_unstable();
    list.dedup();
    list
}

/// Whether `text` matches `pattern`, where `*` at the start, the end or inside stands for any text.
pub(crate) fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|head| text.strip_prefix(head)) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(tail) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some((_, after)) = rest.split_once(part) else { return false };
        rest = after;
    }
    rest.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_sorted_lower_case_and_unique() {
        assert_eq!(sanitize(&[" Foo ", "default", "foo", ""], true), ["default", "foo"]);
        assert_eq!(sanitize(&["b", "a"], false), ["a", "b"]);
        assert_eq!(sanitize::<&str>(&[], true), ["default"]);
    }

    #[test]
    fn root_stands_alone() {
        assert_eq!(sanitize(&["default", "ROOT", "x"], true), ["root"]);
    }

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text, expected) in [
            ("s*", "sub", true),
            ("s*", "xs", false),
            ("*b", "sub", true),
            ("s*b", "sub", true),
            ("s*u*b", "sxuxb", true),
            ("ab*ba", "aba", false),
            ("*", "", true),
            ("sub", "sub", true),
            ("sub", "subx", false),
        ] {
            assert_eq!(glob(pattern, text), expected, "{pattern} {text}");
        }
    }
}
