//! The policies of a token as one table.

use std::cmp::Reverse;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::parameters::{self, Parameters, ValueLists};
use super::template::{self, Identity, Resolved};
use super::{Capabilities, Capability, KeysFilter, Permissions, Policy, PolicyError, ROOT};
use crate::error::Error;
use crate::request::Operation;

/// What a set of policies permits.
///
/// Rules are looked up in this order; the first that speaks of the path decides alone:
///
/// 1. the exact path, and for a listing of `a/b/` also the exact path `a/b`;
/// 2. the pattern with the longest literal head, that is the text before its first `+` or its `*`;
///    among those a pattern without a `*` at the end, then fewer `+`, then the longer, then the greater
///    text; for a listing without any match the same without the slash at the end.
///
/// The order is the peer's; `tests::priority::priority_table` holds its answers.
#[derive(Debug, Default)]
pub struct Acl {
    root: bool,
    exact: HashMap<Box<str>, Permissions>,
    /// In the order of their texts, so that the longest head of a path is found by halving.
    heads: Vec<Head>,
    valid_until: Option<Timestamp>,
}

/// All patterns with the same literal head.
#[derive(Debug)]
struct Head {
    text: Box<str>,
    /// The longest other head that this one begins with. Every head of a path is on the way from the
    /// longest one through its parents.
    parent: Option<usize>,
    /// In the order in which they are tried.
    patterns: Vec<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    /// Without the `*` at its end.
    text: Box<str>,
    /// Whether it had one.
    prefix: bool,
    /// How many segments are `+`.
    wildcards: usize,
    permissions: Permissions,
}

/// Paths, and the names of the capabilities there.
pub type RuleNames = BTreeMap<String, Vec<&'static str>>;

/// The permission for one request.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Grant {
    /// The token may use privileged paths.
    pub sudo: bool,
    /// A listing shows at most so many names at a time.
    pub list_limit: Option<u64>,
    /// A listing shows only the names for which [`Acl::shows`] says yes.
    pub keys_filter: Option<Arc<KeysFilter>>,
}

/// The policies do not allow the request. Says no more, for the outside must not learn the reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("permission denied")]
pub struct Denied;

impl From<Denied> for Error {
    fn from(_: Denied) -> Self {
        // With a valid token the peer wraps the sentence in a list of one.
        Self::of(crate::error::Kind::PermissionDenied, "1 error occurred:\n\t* permission denied\n\n")
    }
}

impl Acl {
    /// The table of these policies, for this identity, at this time.
    ///
    /// A policy by the name of `root` permits everything. Rules that have expired, and templated rules
    /// for which the identity has no value, count for nothing.
    ///
    /// # Errors
    /// If a value of the identity would bring a wildcard or a slash into a path. Then no request of the
    /// token may be answered: what the policy's author meant can no longer be known.
    pub fn new<'a>(
        policies: impl IntoIterator<Item = &'a Policy>,
        identity: &Identity,
        now: Timestamp,
    ) -> Result<Self, AclError> {
        let mut rules = Rules::default();
        for policy in policies {
            if policy.name == ROOT {
                rules.root = true;
                continue;
            }
            rules.add(policy, identity, now)?;
        }
        Ok(rules.finish())
    }

    /// The table of the root policy.
    #[must_use]
    pub fn root() -> Self {
        Self { root: true, ..Self::default() }
    }

    /// Whether everything is permitted.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.root
    }

    /// When the first of the rules expires: from then on a new table is needed.
    #[must_use]
    pub fn valid_until(&self) -> Option<Timestamp> {
        self.valid_until
    }

    /// Whether a request is permitted. `path` is the whole path without `/v1/`; `wrap_ttl` is how long
    /// the answer shall be wrapped, if at all.
    ///
    /// # Errors
    /// If it is not.
    pub fn check(
        &self,
        operation: Operation,
        path: &str,
        parameters: Parameters<'_>,
        wrap_ttl: Option<Duration>,
    ) -> Result<Grant, Denied> {
        if self.root {
            return Ok(Grant { sudo: true, ..Grant::default() });
        }
        let Some(needed) = Capability::needed_for(operation) else { return Ok(Grant::default()) };
        let lists = matches!(operation, Operation::List | Operation::Scan);
        let rule = self.rule(path, lists).ok_or(Denied)?;
        if !rule.capabilities.has(needed) || !wrapping_satisfied(rule, wrap_ttl) {
            return Err(Denied);
        }
        let parameters_count =
            matches!(operation, Operation::Read | Operation::Create | Operation::Update | Operation::Patch);
        if parameters_count && !parameters::satisfied(rule, &parameters) {
            return Err(Denied);
        }
        let mut grant = Grant { sudo: rule.capabilities.has(Capability::Sudo), ..Grant::default() };
        if lists {
            grant.keys_filter.clone_from(&rule.keys_filter);
            if rule.list_limit > 0 {
                let asked = parameters::list_limit(&parameters).ok_or(Denied)?;
                if !(0..=rule.list_limit).contains(&u64::try_from(asked).map_err(|_| Denied)?) {
                    return Err(Denied);
                }
                grant.list_limit = Some(rule.list_limit);
            }
        }
        Ok(grant)
    }

    /// The names of the capabilities at a path, as `sys/capabilities` prints them: sorted, `root` alone
    /// for the root policy, `deny` alone if there are none.
    #[must_use]
    pub fn capabilities(&self, path: &str) -> Vec<&'static str> {
        if self.root {
            return vec![ROOT];
        }
        self.rule(path, true).map_or(Capabilities::NONE, |rule| rule.capabilities).names()
    }

    /// Whether a listing of `path` may show `key`: a name that ends in a slash needs `list` at the place
    /// that the filter names, any other `read`.
    #[must_use]
    pub fn shows(&self, filter: &KeysFilter, path: &str, key: &str) -> bool {
        let needed = if key.ends_with('/') { Capability::List } else { Capability::Read };
        let place = filter.path_of(path, key);
        let rule = self.rule(&place, needed == Capability::List);
        self.root || rule.is_some_and(|rule| rule.capabilities.has(needed))
    }

    /// Whether anything at all is permitted at or below `mount`, a mount's path with its slash.
    #[must_use]
    pub fn reaches(&self, mount: &str) -> bool {
        let permits = |permissions: &Permissions| {
            !permissions.capabilities.is_deny() && permissions.capabilities != Capabilities::NONE
        };
        let exact = |path: &str| path.starts_with(mount) || mount.strip_suffix('/') == Some(path);
        self.root
            || self.exact.iter().any(|(path, permissions)| permits(permissions) && exact(path))
            || self
                .heads
                .iter()
                .flat_map(|head| &head.patterns)
                .any(|pattern| permits(&pattern.permissions) && pattern.reaches(mount))
    }

    /// The names of the capabilities at every exact path, and at every pattern without the `*` at its end.
    #[must_use]
    pub fn rules(&self) -> (RuleNames, RuleNames) {
        let names = |rule: &Permissions| rule.capabilities.names_by_age();
        let exact = self.exact.iter().map(|(path, rule)| (path.to_string(), names(rule)));
        let patterns = self.heads.iter().flat_map(|head| &head.patterns);
        // As the peer has it, for user interfaces that know no `+`.
        let patterns = patterns.filter(|pattern| !pattern.text.contains('+'));
        let patterns = patterns.map(|pattern| (pattern.text.to_string(), names(&pattern.permissions)));
        (exact.collect(), patterns.collect())
    }

    fn rule(&self, path: &str, lists: bool) -> Option<&Permissions> {
        let path = path.trim_start_matches('/');
        let bare = path.strip_suffix('/').filter(|_| lists);
        let exact = |path: &str| self.exact.get(path);
        exact(path)
            .or_else(|| bare.and_then(exact))
            .or_else(|| self.pattern(path))
            .or_else(|| bare.and_then(|bare| self.pattern(bare)))
    }

    fn pattern(&self, path: &str) -> Option<&Permissions> {
        let mut next = self.heads.partition_point(|head| *head.text <= *path).checked_sub(1);
        while let Some(head) = next.and_then(|index| self.heads.get(index)) {
            if path.starts_with(&*head.text)
                && let Some(pattern) = head.patterns.iter().find(|pattern| pattern.matches(path))
            {
                return Some(&pattern.permissions);
            }
            next = head.parent;
        }
        None
    }
}

/// Why policies do not become a table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "error parsing templated policy \"{policy}\": failed to parse policy: path \"{path}\": template substitution contains forbidden value: \"{value}\""
)]
pub struct AclError {
    policy: String,
    path: String,
    value: char,
}

impl From<AclError> for Error {
    fn from(error: AclError) -> Self {
        let message = format!("1 error occurred:\n\t* {error}\n\n");
        Self::of(crate::error::Kind::PermissionDenied, message)
    }
}

impl From<PolicyError> for Error {
    fn from(error: PolicyError) -> Self {
        Self::invalid(error.to_string())
    }
}

fn wrapping_satisfied(rule: &Permissions, wrap_ttl: Option<Duration>) -> bool {
    let (min, max) = (rule.min_wrapping_ttl, rule.max_wrapping_ttl);
    if min.is_zero() && max.is_zero() {
        return true;
    }
    let Some(asked) = wrap_ttl.filter(|asked| !asked.is_zero()) else { return false };
    asked >= min && (max.is_zero() || asked <= max)
}

impl Pattern {
    /// Whether the pattern matches any path at or below `mount`.
    fn reaches(&self, mount: &str) -> bool {
        let mut segments = self.text.split('/').peekable();
        for wanted in mount.trim_end_matches('/').split('/') {
            let Some(segment) = segments.next() else { return self.prefix };
            if segment == "+" || segment == wanted {
                continue;
            }
            return segments.peek().is_none() && self.prefix && wanted.starts_with(segment);
        }
        true
    }

    fn new(text: &str, permissions: Permissions) -> Self {
        let (text, prefix) = match text.strip_suffix('*') {
            Some(text) => (text, true),
            None => (text, false),
        };
        let wildcards = text.split('/').filter(|segment| *segment == "+").count();
        Self { text: text.into(), prefix, wildcards, permissions }
    }

    /// The text before the first `+`, or before the `*`.
    fn head(&self) -> &str {
        self.text.split('+').next().unwrap_or("")
    }

    fn matches(&self, path: &str) -> bool {
        let mut segments = path.split('/');
        let mut pattern = self.text.split('/').peekable();
        while let Some(wanted) = pattern.next() {
            let Some(segment) = segments.next() else { return false };
            let last = pattern.peek().is_none();
            let fits =
                wanted == "+" || wanted == segment || (self.prefix && last && segment.starts_with(wanted));
            if !fits {
                return false;
            }
        }
        self.prefix || segments.next().is_none()
    }
}

/// The rules on their way into the table, equal paths merged.
#[derive(Default)]
struct Rules {
    root: bool,
    exact: HashMap<Box<str>, Permissions>,
    patterns: HashMap<Box<str>, Permissions>,
    valid_until: Option<Timestamp>,
}

impl Rules {
    fn add(&mut self, policy: &Policy, identity: &Identity, now: Timestamp) -> Result<(), AclError> {
        for rule in &policy.rules {
            if let Some(expiration) = rule.expiration {
                if expiration <= now {
                    continue;
                }
                self.valid_until = Some(self.valid_until.map_or(expiration, |other| other.min(expiration)));
            }
            let resolved;
            let path = if rule.templated {
                match template::resolve(&rule.path, identity, policy.substitution) {
                    Resolved::Path(path) => {
                        resolved = path;
                        resolved.as_str()
                    }
                    Resolved::Nothing => continue,
                    Resolved::Forbidden(value) => {
                        return Err(AclError { policy: policy.name.clone(), path: rule.path.clone(), value });
                    }
                }
            } else {
                &rule.path
            };
            let table = if is_pattern(path) { &mut self.patterns } else { &mut self.exact };
            match table.entry(path.into()) {
                Entry::Vacant(entry) => {
                    entry.insert(rule.permissions.clone());
                }
                Entry::Occupied(mut entry) => entry.get_mut().merge(&rule.permissions),
            }
        }
        Ok(())
    }

    fn finish(self) -> Acl {
        let Self { root, exact, patterns, valid_until } = self;
        let mut patterns: Vec<_> =
            patterns.into_iter().map(|(path, permissions)| Pattern::new(&path, permissions)).collect();
        // Heads together, and within a head the order in which patterns are tried.
        patterns.sort_by(|a, b| {
            let order = |pattern: &Pattern| (pattern.prefix, pattern.wildcards, Reverse(pattern.text.len()));
            (a.head(), order(a)).cmp(&(b.head(), order(b))).then_with(|| b.text.cmp(&a.text))
        });
        let mut heads: Vec<Head> = Vec::new();
        for pattern in patterns {
            match heads.last_mut() {
                Some(head) if *head.text == *pattern.head() => head.patterns.push(pattern),
                _ => {
                    let text = pattern.head();
                    let mut parent = heads.len().checked_sub(1);
                    while let Some(head) = parent.and_then(|index| heads.get(index)) {
                        if text.starts_with(&*head.text) {
                            break;
                        }
                        parent = head.parent;
                    }
                    heads.push(Head { text: text.into(), parent, patterns: vec![pattern] });
                }
            }
        }
        Acl { root, exact, heads, valid_until }
    }
}

/// Whether a path is more than an exact one. A `+` counts only as a whole segment, but where it begins
/// a longer one it still ends the literal head, as with the peer.
fn is_pattern(path: &str) -> bool {
    path.ends_with('*') || path == "+" || path.starts_with("+/") || path.contains("/+")
}

impl Permissions {
    /// Adds the permissions of another rule for the same path.
    fn merge(&mut self, other: &Self) {
        let Self {
            capabilities,
            allowed,
            denied,
            required,
            min_wrapping_ttl,
            max_wrapping_ttl,
            list_limit,
            keys_filter,
        } = self;
        *capabilities = capabilities.union(other.capabilities);
        if capabilities.is_deny() {
            *self = Self { capabilities: Capabilities::DENY, ..Self::default() };
            return;
        }
        merge_lists(allowed, &other.allowed);
        merge_lists(denied, &other.denied);
        for name in &other.required {
            if !required.contains(name) {
                required.push(name.clone());
            }
        }
        // Of two bounds the smaller stands, for both ends: wrapped answers live as short as possible.
        for (mine, theirs) in
            [(min_wrapping_ttl, other.min_wrapping_ttl), (max_wrapping_ttl, other.max_wrapping_ttl)]
        {
            if !theirs.is_zero() && (mine.is_zero() || theirs < *mine) {
                *mine = theirs;
            }
        }
        if other.list_limit > 0 && (*list_limit == 0 || other.list_limit < *list_limit) {
            *list_limit = other.list_limit;
        }
        if keys_filter.is_none() {
            keys_filter.clone_from(&other.keys_filter);
        }
    }
}

/// Values of the same parameter add up, except that the empty list, every value, swallows the others.
fn merge_lists(mine: &mut ValueLists, theirs: &ValueLists) {
    for (name, values) in theirs {
        match mine.entry(name.clone()) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(values.clone());
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                let mine = entry.get_mut();
                if mine.is_empty() || values.is_empty() {
                    mine.clear();
                } else {
                    mine.extend(values.iter().cloned());
                }
            }
        }
    }
}
