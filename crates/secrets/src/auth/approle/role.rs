//! Roles: the record, its reading and writing, its role id.

use std::sync::Arc;

use chancery_api::{Strings, Ttl, fields};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{AppRole, OfRole};
use crate::auth::networks::parse_cidrs;
use crate::engine::{Call, Mount};
use crate::error::Error;
use crate::response::Response;
use crate::token::{ShownParameters, TokenChanges, TokenParameters};

/// Longest role name and role id, in bytes.
const LONGEST: usize = 4096;

/// A role as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Role {
    /// The name in lower case.
    pub(super) name: String,
    /// Names this role for good: a role made later under the same name has another one, and other
    /// secret ids.
    pub(super) uuid: String,
    /// What a login names the role by; unique in the mount.
    pub(super) role_id: String,
    /// Whether a login needs a secret id.
    pub(super) bind_secret_id: bool,
    /// How often a secret id can be used unless it says less; 0 is without limit.
    pub(super) secret_id_num_uses: u64,
    /// How long a secret id lives unless it says less; zero is without end.
    pub(super) secret_id_ttl: Ttl,
    /// Networks that logins may come from; `None` if it was never set.
    pub(super) secret_id_bound_cidrs: Option<Vec<IpNet>>,
    /// Kept and shown; there is one node.
    pub(super) local_secret_ids: bool,
    /// What its tokens are like.
    pub(super) token: TokenParameters,
    /// The policies were given under their old name, `policies`, and are shown under it too.
    pub(super) old_policies: bool,
    /// Likewise for `period`.
    pub(super) old_period: bool,
}

impl Role {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            uuid: uuid::Uuid::new_v4().to_string(),
            role_id: uuid::Uuid::new_v4().to_string(),
            bind_secret_id: true,
            secret_id_num_uses: 0,
            secret_id_ttl: Ttl::ZERO,
            secret_id_bound_cidrs: None,
            local_secret_ids: false,
            token: TokenParameters::default(),
            old_policies: false,
            old_period: false,
        }
    }

    /// What must hold of every role.
    pub(super) fn checked(self) -> Result<Self, Error> {
        let bound = |networks: &[IpNet]| !networks.is_empty();
        let constrained = self.bind_secret_id
            || bound(self.secret_id_bound_cidrs.as_deref().unwrap_or_default())
            || bound(&self.token.token_bound_cidrs);
        if !constrained {
            return Err(Error::invalid("at least one constraint should be enabled on the role"));
        }
        if self.role_id.len() > LONGEST {
            return Err(Error::invalid("role_id is longer than maximum of 4096 bytes"));
        }
        Ok(self)
    }

    fn shown(&self) -> ShownRole<'_> {
        ShownRole {
            bind_secret_id: self.bind_secret_id,
            local_secret_ids: self.local_secret_ids,
            period: (self.old_period && !self.token.token_period.is_zero())
                .then_some(self.token.token_period),
            policies: (self.old_policies && !self.token.token_policies.is_empty())
                .then_some(&*self.token.token_policies),
            secret_id_bound_cidrs: self.secret_id_bound_cidrs.as_deref(),
            secret_id_num_uses: self.secret_id_num_uses,
            secret_id_ttl: self.secret_id_ttl,
            token: self.token.shown(),
        }
    }
}

#[derive(Serialize)]
struct ShownRole<'a> {
    bind_secret_id: bool,
    local_secret_ids: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    period: Option<Ttl>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policies: Option<&'a [String]>,
    secret_id_bound_cidrs: Option<&'a [IpNet]>,
    secret_id_num_uses: u64,
    secret_id_ttl: Ttl,
    #[serde(flatten)]
    token: ShownParameters<'a>,
}

fields! {
    /// A role as it is written: what is absent stays as it is.
    #[derive(Debug)]
    pub(super) struct WriteRole {
        path {
            /// The role's name; at most 4096 bytes.
            role_name: String,
        }
        body {
            /// Whether a login needs a secret id; true for a new role.
            bind_secret_id: Option<bool>,
            /// The old name of `secret_id_bound_cidrs`.
            bound_cidr_list: Option<Strings>,
            /// Networks that logins may come from, each with its prefix length.
            secret_id_bound_cidrs: Option<Strings>,
            /// How often a secret id can be used unless it says less; 0 is without limit.
            secret_id_num_uses: Option<i64>,
            /// How long a secret id lives unless it says less; zero is without end.
            secret_id_ttl: Option<Ttl>,
            /// Kept and shown; can only be set when the role is made.
            local_secret_ids: Option<bool>,
            /// What a login names the role by; a UUID if never set.
            role_id: Option<String>,
            /// The old name of `token_policies`.
            policies: Option<Strings>,
            /// The old name of `token_period`.
            period: Option<Ttl>,
            /// Networks that tokens may be used from.
            token_bound_cidrs: Option<Strings>,
            /// A hard end of tokens that no renewal moves.
            token_explicit_max_ttl: Option<Ttl>,
            /// Longest lifetime of tokens with renewals; zero is the mount's.
            token_max_ttl: Option<Ttl>,
            /// Tokens do not get the `default` policy.
            token_no_default_policy: Option<bool>,
            /// How often a token can be used; 0 is without limit.
            token_num_uses: Option<i64>,
            /// Renewals set the lifetime to this, without an end.
            token_period: Option<Ttl>,
            /// The policies of tokens.
            token_policies: Option<Strings>,
            /// Tokens work only from the address of their login.
            token_strictly_bind_ip: Option<bool>,
            /// First lifetime of tokens; zero is the mount's.
            token_ttl: Option<Ttl>,
            /// `default`, `service` or `batch`.
            token_type: Option<String>,
        }
    }
}

impl WriteRole {
    /// The role as it will be, and what to warn about.
    fn apply(&self, current: Option<&Role>, name: &str, mount: &Mount) -> Result<(Role, Vec<String>), Error> {
        let Self {
            role_name: _,
            bind_secret_id,
            bound_cidr_list,
            secret_id_bound_cidrs,
            secret_id_num_uses,
            secret_id_ttl,
            local_secret_ids,
            role_id,
            policies,
            period,
            token_bound_cidrs,
            token_explicit_max_ttl,
            token_max_ttl,
            token_no_default_policy,
            token_num_uses,
            token_period,
            token_policies,
            token_strictly_bind_ip,
            token_ttl,
            token_type,
        } = self;
        let mut role = current.cloned().unwrap_or_else(|| Role::new(name));

        if let Some(local) = local_secret_ids {
            if current.is_some() {
                return Err(Error::invalid("local_secret_ids can only be modified during role creation"));
            }
            role.local_secret_ids = *local;
        }
        if let Some(id) = role_id {
            if id.is_empty() {
                return Err(Error::invalid("invalid role_id supplied, or failed to generate a role_id"));
            }
            role.role_id.clone_from(id);
        }
        role.bind_secret_id = bind_secret_id.unwrap_or(role.bind_secret_id);
        if let Some(list) = secret_id_bound_cidrs.as_ref().or(bound_cidr_list.as_ref()) {
            role.secret_id_bound_cidrs = Some(parse_cidrs(list)?);
        }
        if let Some(uses) = secret_id_num_uses {
            role.secret_id_num_uses = uses_of(*uses)?;
        }
        role.secret_id_ttl = secret_id_ttl.unwrap_or(role.secret_id_ttl);
        if let Some(period) = period.filter(|period| *period > mount.max_ttl()) {
            return Err(Error::invalid(format!(
                "period of {:?} is greater than the backend's maximum lease TTL of {:?}",
                period.to_string(),
                mount.max_ttl().to_string()
            )));
        }

        // The old names count only where the new ones are absent.
        role.old_policies = shows_old_name(role.old_policies, policies.is_some(), token_policies.is_some());
        role.old_period = shows_old_name(role.old_period, period.is_some(), token_period.is_some());
        let changes = TokenChanges {
            token_ttl: *token_ttl,
            token_max_ttl: *token_max_ttl,
            token_explicit_max_ttl: *token_explicit_max_ttl,
            token_period: token_period.or(*period),
            token_policies: token_policies.clone().or_else(|| policies.clone()),
            token_no_default_policy: *token_no_default_policy,
            token_num_uses: *token_num_uses,
            token_bound_cidrs: token_bound_cidrs.clone(),
            token_type: token_type.clone(),
            token_strictly_bind_ip: *token_strictly_bind_ip,
        };
        let (token, mut warnings) = role.token.changed(changes)?;
        role.token = token;
        warnings.extend(too_long(&role, mount));
        Ok((role.checked()?, warnings))
    }
}

/// A count of uses from the wire.
pub(super) fn uses_of(uses: i64) -> Result<u64, Error> {
    u64::try_from(uses).map_err(|_| Error::invalid("secret_id_num_uses cannot be negative"))
}

/// Whether a value that was written under these names is shown under its old name too.
pub(super) fn shows_old_name(before: bool, old_given: bool, new_given: bool) -> bool {
    old_given || (before && !new_given)
}

/// What to warn about when tokens will not live as long as the role says.
pub(super) fn too_long(role: &Role, mount: &Mount) -> Option<String> {
    (role.token.token_max_ttl > mount.max_ttl()).then(|| {
        "token_max_ttl is greater than the backend mount's maximum TTL value; issued tokens' max TTL value will be truncated"
            .to_owned()
    })
}

fields! {
    /// The listing of roles.
    #[derive(Debug)]
    pub(super) struct ListRoles {
        body {
            /// Begin after this name.
            after: String = String::new(),
            /// At most so many; all if absent or not positive.
            limit: i64 = 0,
        }
    }
}

fields! {
    /// A role id of the operator's choice.
    #[derive(Debug)]
    pub(super) struct WriteRoleId {
        path {
            /// The role's name.
            role_name: String,
        }
        body {
            /// What a login shall name the role by; unique in the mount.
            role_id: String = String::new(),
        }
    }
}

#[derive(Serialize)]
struct ShownRoleId<'a> {
    role_id: &'a str,
}

impl AppRole {
    pub(super) async fn role_exists(self: Arc<Self>, call: Call) -> Result<bool, Error> {
        let name =
            call.captures.iter().find(|(name, _)| *name == "role_name").map(|(_, name)| name.to_lowercase());
        Ok(self.store.role(&name.unwrap_or_default()).await?.is_some())
    }

    pub(super) async fn list_roles(self: Arc<Self>, _: Call, body: ListRoles) -> Result<Response, Error> {
        let limit = usize::try_from(body.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        Response::list(&self.store.role_names(&body.after.to_lowercase(), limit).await?)
    }

    pub(super) async fn read_role(self: Arc<Self>, _: Call, body: OfRole) -> Result<Response, Error> {
        Response::data(&self.existing(&body.role_name).await?.shown())
    }

    pub(super) async fn write_role(self: Arc<Self>, _: Call, body: WriteRole) -> Result<Response, Error> {
        if body.role_name.len() > LONGEST {
            return Err(Error::invalid("role_name is longer than maximum of 4096 bytes"));
        }
        let name = body.role_name.to_lowercase();
        let warnings =
            self.store.change_role(&name, |current| body.apply(current, &name, &self.mount)).await?;
        Ok(Response { warnings, ..Response::empty() })
    }

    pub(super) async fn delete_role(self: Arc<Self>, _: Call, body: OfRole) -> Result<Response, Error> {
        self.store.delete_role(&body.role_name.to_lowercase()).await?;
        Ok(Response::empty())
    }

    pub(super) async fn read_role_id(self: Arc<Self>, _: Call, body: OfRole) -> Result<Response, Error> {
        let role = self.existing(&body.role_name).await?;
        Response::data(&ShownRoleId { role_id: &role.role_id })
    }

    pub(super) async fn write_role_id(
        self: Arc<Self>,
        _: Call,
        body: WriteRoleId,
    ) -> Result<Response, Error> {
        let name = body.role_name.to_lowercase();
        let change = |current: Option<&Role>| {
            let current = current.ok_or_else(Error::unsupported_path)?;
            if body.role_id.is_empty() {
                return Err(Error::invalid("missing role_id"));
            }
            Ok((Role { role_id: body.role_id.clone(), ..current.clone() }.checked()?, ()))
        };
        self.store.change_role(&name, change).await?;
        Ok(Response::empty())
    }

    /// The role of this name in any case, or 404.
    pub(super) async fn existing(&self, name: &str) -> Result<Arc<Role>, Error> {
        self.store.role(&name.to_lowercase()).await?.ok_or_else(Error::nothing_there)
    }
}
