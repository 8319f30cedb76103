//! Policy texts to rules.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chancery_api::hcl::{self, Body, Item, Value, ValueKind};
use jiff::Timestamp;

use super::parameters::ValueLists;
use super::template::{self, Substitution};
use super::{Capabilities, Capability, KeysFilter};

/// A policy: its text, letter for letter, and the rules in it.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// In lower case.
    pub name: String,
    /// As it was given.
    pub text: Arc<str>,
    /// One for each `path`, in their order.
    pub rules: Vec<PathRule>,
    /// What may take the place of templates.
    pub substitution: Substitution,
}

/// What a policy says of one path.
#[derive(Debug, Clone, PartialEq)]
pub struct PathRule {
    /// The pattern, without a leading slash; its templates are not resolved.
    pub path: String,
    /// Whether it has templates.
    pub templated: bool,
    /// From then on the rule counts no longer.
    pub expiration: Option<Timestamp>,
    /// What is permitted, and on which conditions.
    pub permissions: Permissions,
}

/// What is permitted at a path, and on which conditions.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Permissions {
    /// Which operations.
    pub capabilities: Capabilities,
    /// Parameters that may be given, and with which values; without an entry all may.
    pub allowed: ValueLists,
    /// Parameters that may not be given, or not with these values.
    pub denied: ValueLists,
    /// Parameters that must be given.
    pub required: Vec<String>,
    /// The answer must be wrapped for at least this long; zero is no condition.
    pub min_wrapping_ttl: Duration,
    /// The answer must be wrapped for at most this long; zero is no condition.
    pub max_wrapping_ttl: Duration,
    /// A listing shows at most so many names at a time; zero is no condition.
    pub list_limit: u64,
    /// A listing shows only names that the token has a permission for.
    pub keys_filter: Option<Arc<KeysFilter>>,
}

/// Why a text is not a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyError(String);

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed to parse policy: {}", self.0)
    }
}

impl std::error::Error for PolicyError {}

impl From<hcl::Error> for PolicyError {
    fn from(error: hcl::Error) -> Self {
        Self(error.to_string())
    }
}

const KEYS: [&str; 13] = [
    "comment",
    "policy",
    "capabilities",
    "allowed_parameters",
    "denied_parameters",
    "required_parameters",
    "min_wrapping_ttl",
    "max_wrapping_ttl",
    "mfa_methods",
    "control_group",
    "expiration",
    "pagination_limit",
    "list_scan_response_keys_filter_path",
];

impl Policy {
    /// Reads a policy in HCL or JSON.
    ///
    /// # Errors
    /// The sentence for the client: what is wrong, in which path, at which line and column.
    pub fn parse(name: &str, text: &str) -> Result<Self, PolicyError> {
        let body = hcl::parse(text)?;
        known_keys(&body, &["name", "path"]).map_err(PolicyError)?;
        for item in body.named("name") {
            if item.value.as_text().is_none() {
                return Err(PolicyError(format!("At {}: name must be a string", item.value.position)));
            }
        }
        let rules = body.named("path").map(PathRule::parse).collect::<Result<_, _>>()?;
        Ok(Self {
            name: super::normal_name(name),
            text: text.into(),
            rules,
            substitution: Substitution::default(),
        })
    }

    /// The same with other rules for what may take the place of templates.
    #[must_use]
    pub fn with_substitution(self, substitution: Substitution) -> Self {
        Self { substitution, ..self }
    }

    /// Whether the rules depend on who asks.
    #[must_use]
    pub fn is_templated(&self) -> bool {
        self.rules.iter().any(|rule| rule.templated)
    }
}

impl PathRule {
    fn parse(item: &Item) -> Result<Self, PolicyError> {
        // A block without a label speaks of the path "path", as with the peer.
        let written = item.label().unwrap_or("path");
        let fail = |message: String| PolicyError(format!("path \"{written}\": {message}"));

        let path = written.strip_prefix('/').unwrap_or(written).to_owned();
        let templated = template::is_templated(&path)
            .map_err(|error| fail(format!("failed to validate policy templating: {error}")))?;
        let Some(body) = item.value.as_object() else {
            return Err(fail(format!("At {}: a path needs a block of rules", item.value.position)));
        };
        known_keys(body, &KEYS).map_err(fail)?;
        if path.contains("+*") {
            return Err(fail("invalid use of wildcards ('+*' is forbidden)".to_owned()));
        }
        let (permissions, expiration) = permissions(written, body).map_err(fail)?;
        Ok(Self { path, templated, expiration, permissions })
    }
}

/// The permissions of the block of a path, as it was written, and when they end.
///
/// The peer names the path twice where a word is unknown; scripts look for its sentences.
fn permissions(path: &str, body: &Body) -> Result<(Permissions, Option<Timestamp>), String> {
    let mut capabilities = Capabilities::NONE;
    for text in strings(body, "capabilities")? {
        let capability = Capability::named(&text)
            .ok_or_else(|| format!("path \"{path}\": invalid capability \"{text}\""))?;
        capabilities = capabilities.with(capability);
    }
    if let Some(old) = last_text(body, "policy")? {
        let old = old_form(old).ok_or_else(|| format!("path \"{path}\": invalid policy \"{old}\""))?;
        capabilities = capabilities.union(old);
    }
    for method in strings(body, "mfa_methods")? {
        tracing::debug!(method, "mfa_methods in a policy have no effect");
    }
    if let Some(item) = body.named("control_group").next() {
        // To take it and not to enforce it would grant what the policy's author meant to hold back.
        return Err(format!("At {}: control groups are not supported", item.position()));
    }
    let expiration = match last_text(body, "expiration")? {
        None | Some("") => None,
        Some(text) => Some(timestamp(text)?),
    };
    let min_wrapping_ttl = duration(body, "min_wrapping_ttl")?;
    let max_wrapping_ttl = duration(body, "max_wrapping_ttl")?;
    if !max_wrapping_ttl.is_zero() && max_wrapping_ttl < min_wrapping_ttl {
        return Err("max_wrapping_ttl cannot be less than min_wrapping_ttl".to_owned());
    }
    let list_limit = match body.named("pagination_limit").last() {
        None => 0,
        Some(item) => match item.value.as_i64() {
            Some(limit) => u64::try_from(limit).unwrap_or(0),
            None => {
                return Err(format!("At {}: pagination_limit must be a whole number", item.value.position));
            }
        },
    };
    let permissions = Permissions {
        capabilities,
        allowed: value_lists(body, "allowed_parameters")?,
        denied: value_lists(body, "denied_parameters")?,
        required: strings(body, "required_parameters")?,
        min_wrapping_ttl,
        max_wrapping_ttl,
        list_limit,
        keys_filter: keys_filter(body, capabilities)?,
    };
    if capabilities.is_deny() {
        return Ok((Permissions { capabilities, ..Permissions::default() }, expiration));
    }
    Ok((permissions, expiration))
}

/// The form that came before `capabilities`.
fn old_form(word: &str) -> Option<Capabilities> {
    use Capability::{Create, Delete, Deny, List, Read, Sudo, Update};
    Some(match word {
        "" => Capabilities::NONE,
        "deny" => [Deny].into_iter().collect(),
        "read" => [Read, List].into_iter().collect(),
        "write" => [Create, Read, Update, Delete, List].into_iter().collect(),
        "sudo" => [Create, Read, Update, Delete, List, Sudo].into_iter().collect(),
        _ => return None,
    })
}

fn keys_filter(body: &Body, capabilities: Capabilities) -> Result<Option<Arc<KeysFilter>>, String> {
    let Some(text) = last_text(body, "list_scan_response_keys_filter_path")?.filter(|text| !text.is_empty())
    else {
        return Ok(None);
    };
    if !capabilities.has(Capability::List) {
        return Err(
            "list_scan_response_keys_filter_path needs to be used on a path with the list capability"
                .to_owned(),
        );
    }
    KeysFilter::parse(text).map(Arc::new).map(Some)
}

/// The keys of a block must be known; all others are named together.
fn known_keys(body: &Body, known: &[&str]) -> Result<(), String> {
    let unknown: Vec<_> = body.items.iter().filter(|item| !known.contains(&item.name())).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let count = unknown.len();
    let plural = if count == 1 { "" } else { "s" };
    let lines = unknown
        .iter()
        .map(|item| format!("\t* invalid key \"{}\" on line {}\n", item.name(), item.position().line));
    Err(format!("{count} error{plural} occurred:\n{}\n", lines.collect::<String>()))
}

/// All strings of all lists of that name.
fn strings(body: &Body, name: &str) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    for item in body.named(name) {
        let wrong = |value: &Value| format!("At {}: {name} must be a list of strings", value.position);
        match &item.value.kind {
            ValueKind::List(elements) => {
                for element in elements {
                    all.push(element.as_text().ok_or_else(|| wrong(element))?.to_owned());
                }
            }
            // An empty block is an empty list.
            ValueKind::Object(inner) if inner.items.is_empty() => {}
            _ => return Err(wrong(&item.value)),
        }
    }
    Ok(all)
}

fn last_text<'a>(body: &'a Body, name: &'a str) -> Result<Option<&'a str>, String> {
    let mut last = None;
    for item in body.named(name) {
        let text = item.value.as_text();
        last = Some(text.ok_or_else(|| format!("At {}: {name} must be a string", item.value.position))?);
    }
    Ok(last)
}

fn duration(body: &Body, name: &str) -> Result<Duration, String> {
    let Some(item) = body.named(name).last() else { return Ok(Duration::ZERO) };
    let wrong = |reason: &dyn fmt::Display| format!("error parsing {name}: {reason}");
    match &item.value.kind {
        ValueKind::Number(_) => {
            let seconds = item.value.as_f64().unwrap_or(f64::NAN);
            // A negative bound is no bound, as with the peer.
            Duration::try_from_secs_f64(seconds.max(0.0)).map_err(|error| wrong(&error))
        }
        ValueKind::String(text) => match text.strip_prefix('-') {
            Some(rest) => chancery_api::duration::parse(rest).map(|_| Duration::ZERO),
            None => chancery_api::duration::parse(text),
        }
        .map_err(|error| wrong(&error)),
        _ => Err(wrong(&"could not parse duration from input")),
    }
}

/// RFC 3339, or seconds since the epoch.
fn timestamp(text: &str) -> Result<Timestamp, String> {
    let parsed = match text.parse::<i64>() {
        Ok(seconds) => Timestamp::from_second(seconds).ok(),
        Err(_) => text.parse().ok(),
    };
    parsed.ok_or_else(|| "invalid expiration time: could not parse string as date and time".to_owned())
}

/// `{ name = [values…] … }`, names in lower case; several blocks add up.
fn value_lists(body: &Body, name: &str) -> Result<ValueLists, String> {
    let mut lists: ValueLists = BTreeMap::new();
    for item in body.named(name) {
        let Some(inner) = item.value.as_object() else {
            return Err(format!("At {}: {name} must be an object", item.value.position));
        };
        for entry in &inner.items {
            let Some(values) = entry.value.as_list() else {
                return Err(format!(
                    "At {}: the values of {} must be a list",
                    entry.value.position,
                    entry.name()
                ));
            };
            let values = values.iter().map(Value::to_json);
            lists.entry(entry.name().to_lowercase()).or_default().extend(values);
        }
    }
    Ok(lists)
}
