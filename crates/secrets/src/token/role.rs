//! Token roles: what `auth/token/create/{role}` gives.

use chancery_api::{Strings, Ttl};
use chancery_storage::{Name, Position, View};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::auth::networks::{parse_networks, shown};
use crate::engine::Mount;
use crate::error::Error;
use crate::token::policies::{glob, sanitize};

const COLLECTION: &str = "roles";

/// A role as it is stored. The fields without `token_` in their name are older spellings of those
/// with it: they are shown as they were given, and set both.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct TokenRole {
    pub(crate) allowed_entity_aliases: Option<Vec<String>>,
    pub(crate) allowed_policies: Vec<String>,
    pub(crate) allowed_policies_glob: Vec<String>,
    bound_cidrs: Vec<IpNet>,
    pub(crate) disallowed_policies: Vec<String>,
    pub(crate) disallowed_policies_glob: Vec<String>,
    explicit_max_ttl: Ttl,
    pub(crate) orphan: bool,
    pub(crate) path_suffix: String,
    period: Ttl,
    pub(crate) renewable: bool,
    pub(crate) token_bound_cidrs: Vec<IpNet>,
    pub(crate) token_explicit_max_ttl: Ttl,
    pub(crate) token_no_default_policy: bool,
    pub(crate) token_num_uses: u64,
    pub(crate) token_period: Ttl,
    pub(crate) token_type: String,
}

impl Default for TokenRole {
    fn default() -> Self {
        Self {
            allowed_entity_aliases: None,
            allowed_policies: Vec::new(),
            allowed_policies_glob: Vec::new(),
            bound_cidrs: Vec::new(),
            disallowed_policies: Vec::new(),
            disallowed_policies_glob: Vec::new(),
            explicit_max_ttl: Ttl::ZERO,
            orphan: false,
            path_suffix: String::new(),
            period: Ttl::ZERO,
            renewable: true,
            token_bound_cidrs: Vec::new(),
            token_explicit_max_ttl: Ttl::ZERO,
            token_no_default_policy: false,
            token_num_uses: 0,
            token_period: Ttl::ZERO,
            token_type: "default-service".to_owned(),
        }
    }
}

/// A role as it is read; fields that say nothing are left out where the peer leaves them out.
#[derive(Debug, Serialize)]
pub(crate) struct RoleAnswer<'a> {
    allowed_entity_aliases: Option<&'a [String]>,
    allowed_policies: &'a [String],
    allowed_policies_glob: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bound_cidrs: Vec<String>,
    disallowed_policies: &'a [String],
    disallowed_policies_glob: &'a [String],
    explicit_max_ttl: Ttl,
    name: &'a str,
    orphan: bool,
    path_suffix: &'a str,
    period: Ttl,
    renewable: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    token_bound_cidrs: Vec<String>,
    token_explicit_max_ttl: Ttl,
    token_no_default_policy: bool,
    #[serde(skip_serializing_if = "is_zero")]
    token_num_uses: u64,
    token_period: Ttl,
    token_type: &'a str,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

chancery_api::fields! {
    /// A role, or a change to one: what is not given stays as it is.
    #[derive(Debug)]
    pub(crate) struct RoleRequest {
        path {
            /// The role's name.
            role_name: String,
        }
        body {
            /// Names of callers that tokens may be made for; `*` stands for any text.
            allowed_entity_aliases: Option<Strings>,
            /// Policies that tokens may have, whatever policies the creator has.
            allowed_policies: Option<Strings>,
            /// As allowed_policies, with `*` for any text.
            allowed_policies_glob: Option<Strings>,
            /// Use token_bound_cidrs.
            bound_cidrs: Option<Strings>,
            /// Policies that tokens may not have.
            disallowed_policies: Option<Strings>,
            /// As disallowed_policies, with `*` for any text.
            disallowed_policies_glob: Option<Strings>,
            /// Use token_explicit_max_ttl.
            explicit_max_ttl: Option<Ttl>,
            /// Tokens outlive their creator.
            orphan: Option<bool>,
            /// Added to the path that tokens are listed under.
            path_suffix: Option<String>,
            /// Use token_period.
            period: Option<Ttl>,
            /// Tokens can be renewed.
            renewable: Option<bool>,
            /// Networks that tokens may be used from.
            token_bound_cidrs: Option<Strings>,
            /// A hard end that no renewal moves.
            token_explicit_max_ttl: Option<Ttl>,
            /// Tokens do not get the policy `default` on their own.
            token_no_default_policy: Option<bool>,
            /// How often a token can be used; 0 is without limit.
            token_num_uses: Option<i64>,
            /// Renewals set the lifetime to this, without an end.
            token_period: Option<Ttl>,
            /// `service`, `batch`, `default-service` or `default-batch`.
            token_type: Option<String>,
        }
    }
}

impl TokenRole {
    pub(crate) async fn load(view: &View, name: &str) -> Result<Option<Self>, Error> {
        Ok(view.get_json(COLLECTION, &Name::new(name)).await?)
    }

    pub(crate) async fn save(&self, view: &View, name: &str) -> Result<(), Error> {
        Ok(view.put_json(COLLECTION, &Name::new(name), self).await?)
    }

    pub(crate) async fn delete(view: &View, name: &str) -> Result<(), Error> {
        Ok(view.delete(COLLECTION, &Name::new(name)).await?)
    }

    pub(crate) async fn names(view: &View) -> Result<Vec<String>, Error> {
        let names = view.list(COLLECTION, Position::Start, usize::MAX).await?;
        Ok(names.into_iter().map(Name::into_text).collect())
    }

    pub(crate) fn answer<'a>(&'a self, name: &'a str) -> RoleAnswer<'a> {
        RoleAnswer {
            allowed_entity_aliases: self.allowed_entity_aliases.as_deref(),
            allowed_policies: &self.allowed_policies,
            allowed_policies_glob: &self.allowed_policies_glob,
            bound_cidrs: self.bound_cidrs.iter().map(shown).collect(),
            disallowed_policies: &self.disallowed_policies,
            disallowed_policies_glob: &self.disallowed_policies_glob,
            explicit_max_ttl: self.explicit_max_ttl,
            name,
            orphan: self.orphan,
            path_suffix: &self.path_suffix,
            period: self.period,
            renewable: self.renewable,
            token_bound_cidrs: self.token_bound_cidrs.iter().map(shown).collect(),
            token_explicit_max_ttl: self.token_explicit_max_ttl,
            token_no_default_policy: self.token_no_default_policy,
            token_num_uses: self.token_num_uses,
            token_period: self.token_period,
            token_type: &self.token_type,
        }
    }

    /// Applies a request; the list is what the client should know.
    pub(crate) fn apply(&mut self, request: RoleRequest, mount: &Mount) -> Result<Vec<String>, Error> {
        let RoleRequest {
            role_name: _,
            allowed_entity_aliases,
            allowed_policies,
            allowed_policies_glob,
            bound_cidrs,
            disallowed_policies,
            disallowed_policies_glob,
            explicit_max_ttl,
            orphan,
            path_suffix,
            period,
            renewable,
            token_bound_cidrs,
            token_explicit_max_ttl,
            token_no_default_policy,
            token_num_uses,
            token_period,
            token_type,
        } = request;
        let mut warnings = Vec::new();
        let mut both = |new: &str, old: &str| {
            warnings.push(format!(
                "Both '{new}' and deprecated '{old}' value supplied, ignoring the deprecated value"
            ));
        };
        let parse = |texts: &Strings| {
            parse_networks(texts)
                .map_err(|error| Error::invalid(format!("error parsing role fields: {}", error.message())))
        };

        if let Some(orphan) = orphan {
            self.orphan = orphan;
        }
        if let Some(renewable) = renewable {
            self.renewable = renewable;
        }
        if let Some(suffix) = path_suffix {
            if !suffix.is_empty() && !is_suffix(&suffix) {
                return Err(Error::invalid(
                    r"given role path suffix contains invalid characters; must match \w[\w-.]+\w",
                ));
            }
            self.path_suffix = suffix;
        }
        let set = |list: &mut Vec<String>, given: Option<Strings>| {
            if let Some(given) = given {
                *list = sanitize(&given, false);
            }
        };
        set(&mut self.allowed_policies, allowed_policies);
        set(&mut self.allowed_policies_glob, allowed_policies_glob);
        set(&mut self.disallowed_policies, disallowed_policies);
        set(&mut self.disallowed_policies_glob, disallowed_policies_glob);
        if let Some(aliases) = allowed_entity_aliases {
            self.allowed_entity_aliases =
                Some(aliases.non_empty().iter().map(|alias| alias.to_lowercase()).collect());
        }
        if let Some(without) = token_no_default_policy {
            self.token_no_default_policy = without;
        }
        if let Some(uses) = token_num_uses {
            self.token_num_uses = u64::try_from(uses).map_err(|_| {
                Error::invalid("error parsing role fields: 'token_num_uses' cannot be negative")
            })?;
        }

        match (token_period, period) {
            (Some(new), old) => {
                if old.is_some() {
                    both("token_period", "period");
                }
                (self.token_period, self.period) = (new, Ttl::ZERO);
            }
            (None, Some(old)) => (self.token_period, self.period) = (old, old),
            (None, None) => {}
        }
        match (token_explicit_max_ttl, explicit_max_ttl) {
            (Some(new), old) => {
                if old.is_some() {
                    both("token_explicit_max_ttl", "explicit_max_ttl");
                }
                (self.token_explicit_max_ttl, self.explicit_max_ttl) = (new, Ttl::ZERO);
            }
            (None, Some(old)) => (self.token_explicit_max_ttl, self.explicit_max_ttl) = (old, old),
            (None, None) => {}
        }
        match (token_bound_cidrs, bound_cidrs) {
            (Some(new), old) => {
                if old.is_some() {
                    both("token_bound_cidrs", "bound_cidrs");
                }
                (self.token_bound_cidrs, self.bound_cidrs) = (parse(&new)?, Vec::new());
            }
            (None, Some(old)) => {
                self.bound_cidrs = parse(&old)?;
                self.token_bound_cidrs.clone_from(&self.bound_cidrs);
            }
            (None, None) => {}
        }
        if let Some(kind) = token_type {
            self.token_type = match kind.as_str() {
                "service" | "batch" | "default-service" | "default-batch" => kind,
                _ => return Err(Error::invalid(format!("invalid 'token_type' value {kind:?}"))),
            };
        }
        self.check_batch()?;
        let (given, limit) = (self.token_explicit_max_ttl.as_secs(), mount.max_ttl().as_secs());
        if given > limit {
            warnings.push(format!(
                "Given explicit max TTL of {given} is greater than system/mount allowed value of {limit} seconds; until this is fixed attempting to create tokens against this role will result in an error"
            ));
        }
        Ok(warnings)
    }

    /// A batch token has no record: nothing can be kept about it.
    fn check_batch(&self) -> Result<(), Error> {
        if self.token_type != "batch" {
            return Ok(());
        }
        let reason = if !self.orphan {
            "non-orphan tokens"
        } else if !self.token_period.is_zero() {
            "periodic tokens"
        } else if self.renewable {
            "renewable tokens"
        } else if !self.token_explicit_max_ttl.is_zero() {
            "tokens with an explicit max TTL"
        } else {
            return Ok(());
        };
        Err(Error::invalid(format!("'token_type' cannot be 'batch' when role is set to generate {reason}")))
    }

    /// Whether the role says anything about policies, and so replaces the rule that a child has no
    /// policy that its parent lacks.
    pub(crate) fn decides_policies(&self) -> bool {
        !(self.allowed_policies.is_empty()
            && self.allowed_policies_glob.is_empty()
            && self.disallowed_policies.is_empty()
            && self.disallowed_policies_glob.is_empty())
    }

    /// Whether tokens may be made for a caller of this name.
    pub(crate) fn allows_alias(&self, alias: &str) -> bool {
        let alias = alias.to_lowercase();
        self.allowed_entity_aliases.iter().flatten().any(|allowed| glob(allowed, &alias))
    }
}

/// At least three characters: letters, digits and `_`, with `-` and `.` inside.
fn is_suffix(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    match text.as_bytes() {
        [first, middle @ .., last] if !middle.is_empty() => {
            word(*first)
                && word(*last)
                && middle.iter().all(|byte| word(*byte) || matches!(byte, b'-' | b'.'))
        }
        _ => false,
    }
}
