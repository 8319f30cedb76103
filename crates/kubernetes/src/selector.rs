//! Label selectors as flags carry them: `a=b,c!=d,e in (f,g),h notin (i),j,!k`.

use std::collections::{BTreeMap, BTreeSet};

use kube::core::{Expression, Selector, SelectorExt};

/// Why a text is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("label selector: {reason} in {term:?}")]
pub struct SelectorError {
    /// The part of it that is wrong.
    pub term: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

/// Which objects are chosen by their labels. The empty one chooses all.
#[derive(Debug, Clone, Default)]
pub struct LabelSelector(Selector);

impl LabelSelector {
    /// Parses Kubernetes' grammar of selectors.
    ///
    /// # Errors
    /// It is not of that grammar, or names a key or value that no label can have.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut selector = Selector::default();
        if text.trim().is_empty() {
            return Ok(Self(selector));
        }
        for term in terms(text) {
            selector.extend([expression(term.trim())?]);
        }
        Ok(Self(selector))
    }

    /// Whether these labels are chosen.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.matches(labels)
    }
}

/// At commas outside parentheses.
fn terms(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_usize;
    text.split(move |c| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    })
}

fn expression(term: &str) -> Result<Expression, SelectorError> {
    let wrong = |reason| SelectorError { term: term.to_owned(), reason };
    let key = |text: &str| {
        let text = text.trim();
        if is_key(text) { Ok(text.to_owned()) } else { Err(wrong("not a label's key")) }
    };
    let value = |text: &str| {
        let text = text.trim();
        if is_value(text) { Ok(text.to_owned()) } else { Err(wrong("not a label's value")) }
    };
    if let Some((head, list)) = term.split_once('(') {
        let list = list.strip_suffix(')').ok_or_else(|| wrong("a parenthesis that is not closed"))?;
        let values = list.split(',').map(value).collect::<Result<BTreeSet<_>, _>>()?;
        let mut words = head.split_whitespace();
        let (name, operator) = (words.next().unwrap_or_default(), words.next());
        return match (operator, words.next()) {
            (Some("in"), None) => Ok(Expression::In(key(name)?, values)),
            (Some("notin"), None) => Ok(Expression::NotIn(key(name)?, values)),
            _ => Err(wrong("neither in nor notin")),
        };
    }
    if let Some((name, text)) = term.split_once("!=") {
        return Ok(Expression::NotEqual(key(name)?, value(text)?));
    }
    if let Some((name, text)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return Ok(Expression::Equal(key(name)?, value(text)?));
    }
    match term.strip_prefix('!') {
        Some(name) => Ok(Expression::DoesNotExist(key(name)?)),
        None => Ok(Expression::Exists(key(term)?)),
    }
}

/// Whether this is a label's or annotation's key: a name of at most 63 characters, perhaps with a DNS subdomain and a slash before it.
pub fn is_key(text: &str) -> bool {
    let (prefix, name) = text.split_once('/').map_or((None, text), |(prefix, name)| (Some(prefix), name));
    prefix.is_none_or(is_dns_subdomain) && !name.is_empty() && is_value(name)
}

/// At most 63 letters, digits, `-`, `_`, `.`, with a letter or digit at both ends; or nothing.
fn is_value(text: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_end = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
    text.len() <= 63
        && text.chars().all(is_inner)
        && is_end(text.chars().next())
        && is_end(text.chars().next_back())
}

/// Whether this is a name by RFC 1123, as Kubernetes has it: labels of small letters, digits and `-`, joined by dots, at most 253 characters.
pub fn is_dns_subdomain(text: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let is_label = |label: &str| {
        !label.is_empty() && label.chars().all(is_inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_choose_as_kubernetes_does() {
        let labels: BTreeMap<_, _> =
            [("istio", "on"), ("tier", "web")].map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let chooses = |text| LabelSelector::parse(text).expect("a selector").matches(&labels);
        for text in [
            "",
            " ",
            "istio=on",
            "istio==on,tier=web",
            "tier in (web, db)",
            "absent notin (a)",
            "absent!=a",
            "!absent",
            "istio",
            "istio = on , tier != db",
        ] {
            assert!(chooses(text), "{text}");
        }
        for text in [
            "istio=off",
            "istio!=on",
            "tier notin (web,db)",
            "absent",
            "!istio",
            "istio=on,absent",
            "tier in (db)",
        ] {
            assert!(!chooses(text), "{text}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused_with_the_part_that_is_wrong() {
        for text in
            [",", "a=b,,c", "a in (b", "a on (b)", "a b", "=x", "-a=b", "a=b c", "x/y/z", "UP/a=b", "in (a)"]
        {
            assert!(LabelSelector::parse(text).is_err(), "{text}");
        }
        let refused = LabelSelector::parse("a=b,c=-").expect_err("refused");
        assert_eq!(refused.to_string(), "label selector: not a label's value in \"c=-\"");
    }
}
