//! Selectors by labels and by fields, as `list` and `watch` take them.

use serde_json::Value;

use super::kind::Kind;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Term {
    Is(String, String),
    IsNot(String, String),
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Has(String),
    HasNot(String),
}

/// What an object must satisfy to be listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Selectors {
    labels: Vec<Term>,
    fields: Vec<Term>,
}

impl Selectors {
    /// From the parameters of a request.
    pub(super) fn parse(labels: &str, fields: &str) -> Result<Self, String> {
        let terms =
            |text: &str| split(text).iter().map(|term| parse_term(term)).collect::<Result<Vec<_>, String>>();
        Ok(Self { labels: terms(labels)?, fields: terms(fields)? })
    }

    /// Whether everything satisfies them.
    pub(super) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The field that objects of a kind cannot be selected by, if one is named.
    pub(super) fn unsupported(&self, kind: &Kind) -> Option<&str> {
        let known = |field: &str| {
            field == "metadata.name"
                || (field == "metadata.namespace" && kind.namespaced)
                || kind.selectable.iter().any(|one| one == field)
        };
        self.fields.iter().map(Term::key).find(|field| !known(field))
    }

    /// From a `LabelSelector` of an object; none selects everything, as an empty one does.
    pub(super) fn of_object(selector: &Value) -> Self {
        let mut labels = Vec::new();
        for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
            labels.push(Term::Is(key.clone(), value.as_str().unwrap_or_default().to_owned()));
        }
        for one in selector["matchExpressions"].as_array().into_iter().flatten() {
            let key = one["key"].as_str().unwrap_or_default().to_owned();
            let values = one["values"].as_array().into_iter().flatten();
            let values = values.filter_map(|value| value.as_str().map(str::to_owned)).collect();
            labels.push(match one["operator"].as_str() {
                Some("In") => Term::In(key, values),
                Some("NotIn") => Term::NotIn(key, values),
                Some("Exists") => Term::Has(key),
                _ => Term::HasNot(key),
            });
        }
        Self { labels, fields: Vec::new() }
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        let label = |key: &str| object["metadata"]["labels"][key].as_str();
        let field = |path: &str| {
            let value = path.split('.').fold(object, |value, part| &value[part]);
            Some(value.as_str().unwrap_or_default())
        };
        self.labels.iter().all(|term| term.holds(label)) && self.fields.iter().all(|term| term.holds(field))
    }
}

impl Term {
    fn key(&self) -> &str {
        match self {
            Self::Is(key, _) | Self::IsNot(key, _) | Self::In(key, _) | Self::NotIn(key, _) => key,
            Self::Has(key) | Self::HasNot(key) => key,
        }
    }

    fn holds<'a>(&self, value: impl Fn(&str) -> Option<&'a str>) -> bool {
        match self {
            Self::Is(key, wanted) => value(key) == Some(wanted),
            Self::IsNot(key, wanted) => value(key) != Some(wanted),
            Self::In(key, set) => value(key).is_some_and(|value| set.iter().any(|one| one == value)),
            Self::NotIn(key, set) => value(key).is_none_or(|value| set.iter().all(|one| one != value)),
            Self::Has(key) => value(key).is_some(),
            Self::HasNot(key) => value(key).is_none(),
        }
    }
}

/// At commas that stand outside parentheses.
fn split(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut terms) = (0, 0, Vec::new());
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms.into_iter().map(str::trim).filter(|term| !term.is_empty()).collect()
}

fn parse_term(term: &str) -> Result<Term, String> {
    let owned = |text: &str| text.trim().to_owned();
    if let Some((head, list)) = term.strip_suffix(')').and_then(|term| term.split_once('(')) {
        let values = list.split(',').map(owned).collect();
        let mut words = head.split_whitespace();
        return match (words.next(), words.next()) {
            (Some(key), Some("in")) => Ok(Term::In(owned(key), values)),
            (Some(key), Some("notin")) => Ok(Term::NotIn(owned(key), values)),
            _ => Err(format!("unable to parse requirement: {term}")),
        };
    }
    if let Some((key, value)) = term.split_once("!=") {
        return Ok(Term::IsNot(owned(key), owned(value)));
    }
    if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return Ok(Term::Is(owned(key), owned(value)));
    }
    Ok(match term.strip_prefix('!') {
        Some(key) => Term::HasNot(owned(key)),
        None => Term::Has(owned(term)),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Selectors;

    #[test]
    fn selectors_choose_by_labels_and_by_fields() {
        let object = json!({ "metadata": { "name": "a", "labels": { "istio": "on", "tier": "web" } } });
        let holds = |labels, fields| Selectors::parse(labels, fields).expect("a selector").matches(&object);
        for labels in
            ["", "istio=on", "istio==on,tier in (web, db)", "tier notin (db)", "!absent", "istio", "x!=y"]
        {
            assert!(holds(labels, "metadata.name=a"), "{labels}");
        }
        for labels in ["istio=off", "tier in (db)", "tier notin (web)", "absent", "!istio", "istio!=on"] {
            assert!(!holds(labels, ""), "{labels}");
        }
        assert!(!holds("", "metadata.name=b"));
    }
}
