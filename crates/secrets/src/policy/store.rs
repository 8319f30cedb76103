//! The policies as they are stored, and the access lists made of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use chancery_storage::{Name, Position, StorageError, Version, View, Writes};
use jiff::Timestamp;
use quick_cache::Equivalent;
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

/// What stood in a policy's place when it was read: this write of a record, or none.
#[derive(Debug)]
pub struct Replaced(Option<Version>);

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
    acls: Cache<Made, Cached>,
    generation: AtomicU64,
    root_acl: Arc<Acl>,
}

/// All that an access list is made of, beside the texts of the policies. Names may hold any character, so
/// that no text made of several could stand for them.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Made {
    policies: Box<[String]>,
    /// `None` where no policy has a template.
    identity: Option<Identity>,
}

/// A [`Made`] to look for; borrowed, as every request looks for one.
#[derive(Hash)]
struct Wanted<'a> {
    policies: &'a [String],
    identity: Option<&'a Identity>,
}

impl Equivalent<Made> for Wanted<'_> {
    fn equivalent(&self, made: &Made) -> bool {
        *self.policies == *made.policies && self.identity == made.identity.as_ref()
    }
}

#[derive(Clone)]
enum Cached {
    /// The list, and until when it holds.
    Acl(Arc<Acl>, Option<Timestamp>),
    /// The set has templates: its lists stand beside the identities that they were made for.
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
        let policies = token.policies.as_slice();
        let valid = |until: Option<Timestamp>| until.is_none_or(|until| now < until);
        match self.acls.get(&Wanted { policies, identity: None }) {
            Some(Cached::Acl(acl, until)) if valid(until) => return Ok(acl),
            Some(Cached::Templated) => {
                let identity = Identity::of(token);
                if let Some(Cached::Acl(acl, until)) =
                    self.acls.get(&Wanted { policies, identity: Some(&identity) })
                    && valid(until)
                {
                    return Ok(acl);
                }
            }
            _ => {}
        }
        self.build(token, now).await
    }

    async fn build(&self, token: &TokenEntry, now: Timestamp) -> Result<Arc<Acl>, Error> {
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
        let identity = Identity::of(token);
        let acl = Acl::new(&policies, &identity, now).map_err(|error| Error::denied().caused_by(error))?;
        let until = [until, acl.valid_until()].into_iter().flatten().min();
        let acl = Arc::new(acl);
        let cached = Cached::Acl(Arc::clone(&acl), until);
        let plain = Made { policies: token.policies.as_slice().into(), identity: None };
        if templated {
            self.acls.insert(Made { identity: Some(identity), ..plain.clone() }, cached);
            self.acls.insert(plain, Cached::Templated);
        } else {
            self.acls.insert(plain, cached);
        }
        if self.generation.load(Ordering::Acquire) != generation {
            self.acls.clear();
        }
        Ok(acl)
    }

    /// One policy; the built-in text for `default` and `response-wrapping` unless it was replaced.
    pub async fn read(&self, name: &str) -> Result<Option<PolicyRecord>, Error> {
        Ok(self.read_to_replace(name).await?.0)
    }

    /// As [`read`](Self::read), with what [`replace`](Self::replace) must find in the policy's place.
    pub async fn read_to_replace(&self, name: &str) -> Result<(Option<PolicyRecord>, Replaced), Error> {
        let name = normal_name(name);
        if let Some(record) = self.root.get(COLLECTION, &Name::new(name.as_str())).await? {
            return Ok((Some(record.json()?), Replaced(Some(record.version))));
        }
        let text = match name.as_str() {
            ROOT => "",
            DEFAULT => DEFAULT_TEXT,
            RESPONSE_WRAPPING => RESPONSE_WRAPPING_TEXT,
            _ => return Ok((None, Replaced(None))),
        };
        let version = u64::from(name != ROOT);
        let built_in = PolicyRecord { name, text: text.to_owned(), version, ..PolicyRecord::default() };
        Ok((Some(built_in), Replaced(None)))
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

    /// Writes a policy whose text has been parsed. From the next request on it is in force. `false` if
    /// something else than `replaced` stands in its place by now; then nothing was written.
    pub async fn replace(&self, replaced: &Replaced, record: &PolicyRecord) -> Result<bool, Error> {
        let name = Name::new(record.name.as_str());
        let mut writes = Writes::new();
        match &replaced.0 {
            Some(version) => writes.expect_unchanged(&self.root, COLLECTION, &name, version)?,
            None => writes.expect_absent(&self.root, COLLECTION, &name)?,
        };
        writes.put_json(&self.root, COLLECTION, &name, record)?;
        let outcome = self.root.commit(writes).await;
        // Also when the outcome is unknown: then the next request reads what is stored.
        self.forget();
        match outcome {
            Ok(()) => Ok(true),
            Err(StorageError::Conflict) => Ok(false),
            Err(error) => Err(error.into()),
        }
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
