//! The policies as they are stored, and the access lists made of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chancery_storage::{Name, Position, View};
use jiff::Timestamp;
use quick_cache::sync::Cache;
use serde::{Deserialize, Serialize};

use super::{
    Acl, DEFAULT, DEFAULT_TEXT, Identity, Policy, RESPONSE_WRAPPING, RESPONSE_WRAPPING_TEXT, ROOT,
    Substitution, normal_name,
};
use crate::error::Error;
use crate::token::TokenEntry;

const COLLECTION: &str = "policies";

/// Access lists kept ready. Distinct sets of policies are few; templated ones are one per entity.
const CACHED_ACLS: usize = 4_096;

/// A policy as it is stored: the text letter for letter as it was written.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PolicyRecord {
    /// Lower case.
    pub name: String,
    /// HCL or JSON.
    pub text: String,
    /// Counts the writes, from 1.
    pub version: u64,
    /// A write must name the version that it replaces.
    pub cas_required: bool,
    /// When it was written.
    pub modified: Option<Timestamp>,
    /// When it ceases to grant anything.
    pub expiration: Option<Timestamp>,
    /// Values with `/` may take the place of templates.
    pub allow_slashes_in_identity_templates: bool,
    /// Values with `*` or `+` may take the place of templates.
    pub allow_wildcards_in_identity_templates: bool,
}

impl PolicyRecord {
    /// The rules in the text.
    fn parse(&self) -> Result<Policy, Error> {
        let policy = Policy::parse(&self.name, &self.text)
            .map_err(|error| Error::internal("internal error", error))?;
        Ok(policy.with_substitution(Substitution {
            wildcards: self.allow_wildcards_in_identity_templates,
            slashes: self.allow_slashes_in_identity_templates,
        }))
    }
}

/// The policies and the access lists made of them.
///
/// The cache of lists is emptied by every write of a policy. A list that was being built from the
/// old text while the write happened is told apart by the generation, and the cache is emptied again.
pub struct Policies {
    root: View,
    acls: Cache<String, Cached>,
    generation: AtomicU64,
    root_acl: Arc<Acl>,
}

#[derive(Clone)]
enum Cached {
    /// The list, and until when it holds.
    Acl(Arc<Acl>, Option<Timestamp>),
    /// The set has templates: its lists stand under the entity's name too.
    Templated,
}

impl Policies {
    /// The policies of this store. Nothing is read before it is needed.
    pub async fn open(root: View) -> Result<Self, Error> {
        Ok(Self {
            root,
            acls: Cache::new(CACHED_ACLS),
            generation: AtomicU64::new(0),
            root_acl: Arc::new(Acl::root()),
        })
    }

    /// What `token` may do at `now`.
    pub async fn acl(&self, token: &TokenEntry, now: Timestamp) -> Result<Arc<Acl>, Error> {
        if token.is_root() {
            return Ok(Arc::clone(&self.root_acl));
        }
        let set = token.policies.join(",");
        let valid = |until: Option<Timestamp>| until.is_none_or(|until| now < until);
        match self.acls.get(&set) {
            Some(Cached::Acl(acl, until)) if valid(until) => return Ok(acl),
            Some(Cached::Templated) => {
                if let Some(Cached::Acl(acl, until)) = self.acls.get(&entity_key(&set, token))
                    && valid(until)
                {
                    return Ok(acl);
                }
            }
            _ => {}
        }
        self.build(set, token, now).await
    }

    async fn build(&self, set: String, token: &TokenEntry, now: Timestamp) -> Result<Arc<Acl>, Error> {
        let generation = self.generation.load(Ordering::Acquire);
        let mut policies = Vec::new();
        let mut until: Option<Timestamp> = None;
        for name in &token.policies {
            // A policy that does not exist grants nothing; it may come to exist later.
            let Some(record) = self.read(name).await? else { continue };
            if let Some(expiration) = record.expiration {
                if expiration <= now {
                    continue;
                }
                until = Some(until.map_or(expiration, |earlier| earlier.min(expiration)));
            }
            policies.push(record.parse()?);
        }
        let templated = policies.iter().any(Policy::is_templated);
        let acl = Acl::new(&policies, &Identity::of(token), now)
            .map_err(|error| Error::denied().caused_by(error))?;
        let until = [until, acl.valid_until()].into_iter().flatten().min();
        let acl = Arc::new(acl);
        let cached = Cached::Acl(Arc::clone(&acl), until);
        if templated {
            self.acls.insert(entity_key(&set, token), cached);
            self.acls.insert(set, Cached::Templated);
        } else {
            self.acls.insert(set, cached);
        }
        if self.generation.load(Ordering::Acquire) != generation {
            self.acls.clear();
        }
        Ok(acl)
    }

    /// One policy; the built-in text for `default` and `response-wrapping` unless it was replaced.
    pub async fn read(&self, name: &str) -> Result<Option<PolicyRecord>, Error> {
        let name = normal_name(name);
        if let Some(record) = self.root.get_json(COLLECTION, &Name::new(name.as_str())).await? {
            return Ok(Some(record));
        }
        let text = match name.as_str() {
            ROOT => "",
            DEFAULT => DEFAULT_TEXT,
            RESPONSE_WRAPPING => RESPONSE_WRAPPING_TEXT,
            _ => return Ok(None),
        };
        let version = u64::from(name != ROOT);
        Ok(Some(PolicyRecord { name, text: text.to_owned(), version, ..PolicyRecord::default() }))
    }

    /// The names, with the built-in ones that can be seen.
    pub async fn list(&self) -> Result<Vec<String>, Error> {
        let stored = self.root.list(COLLECTION, Position::Start, usize::MAX).await?;
        let mut names: Vec<String> = stored.into_iter().map(Name::into_text).collect();
        if !names.iter().any(|name| name == DEFAULT) {
            names.push(DEFAULT.to_owned());
        }
        names.retain(|name| name != RESPONSE_WRAPPING);
        names.sort_unstable();
        names.push(ROOT.to_owned());
        Ok(names)
    }

    /// Writes a policy whose text has been parsed. From the next request on it is in force.
    pub async fn write(&self, record: &PolicyRecord) -> Result<(), Error> {
        let outcome = self.root.put_json(COLLECTION, &Name::new(record.name.as_str()), record).await;
        // Also when the outcome is unknown: then the next request reads what is stored.
        self.forget();
        Ok(outcome?)
    }

    /// Removes a policy. Tokens that name it lose what it granted.
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        let outcome = self.root.delete(COLLECTION, &Name::new(normal_name(name))).await;
        self.forget();
        Ok(outcome?)
    }

    fn forget(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.acls.clear();
    }
}

fn entity_key(set: &str, token: &TokenEntry) -> String {
    let (accessor, alias) = token.alias.as_ref().map_or(("", ""), |(accessor, alias)| (accessor, alias));
    format!("{set}\n{}\n{accessor}\n{alias}", token.entity_id)
}
