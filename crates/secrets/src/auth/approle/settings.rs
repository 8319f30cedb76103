//! The paths below a role that read, write or clear one of its settings.
//!
//! Each setting is a type with three functions; the handlers are the same for all of them.

use std::sync::Arc;

use chancery_api::{Fields, Strings, Ttl, fields};
use serde_json::{Value, json};

use super::role::{Role, shows_old_name, too_long, uses_of};
use super::{AppRole, OfRole};
use crate::auth::networks::{parse_cidrs, shown};
use crate::engine::Call;
use crate::error::Error;
use crate::response::Response;
use crate::route::{Route, Routes};
use crate::token::TokenChanges;

/// One setting of a role that has a path of its own.
trait Setting: Fields + Sync {
    /// The role that a write names.
    fn role_name(&self) -> &str;

    /// The setting as it is read.
    fn read(role: &Role) -> Value;

    /// The setting as it was given.
    fn write(&self, role: &mut Role) -> Result<(), Error>;

    /// The setting as it is in a new role.
    fn clear(role: &mut Role);

    /// What to tell a reader.
    const WARNING: Option<&'static str> = None;
}

/// Adds the paths of all settings.
pub(super) fn routes(routes: Routes<AppRole>) -> Routes<AppRole> {
    routes
        .route("role/{role_name}/bind-secret-id", |r| {
            setting::<BindSecretId>(r).help("Whether a login needs a secret id.")
        })
        .route("role/{role_name}/secret-id-bound-cidrs", |r| {
            setting::<SecretIdBoundCidrs>(r).help("Networks that logins may come from.")
        })
        .route("role/{role_name}/bound-cidr-list", |r| {
            setting::<BoundCidrList>(r).help("The old name of secret-id-bound-cidrs.")
        })
        .route("role/{role_name}/secret-id-num-uses", |r| {
            setting::<SecretIdNumUses>(r).help("How often a secret id can be used unless it says less.")
        })
        .route("role/{role_name}/secret-id-ttl", |r| {
            setting::<SecretIdTtl>(r).help("How long a secret id lives unless it says less.")
        })
        .route("role/{role_name}/policies", |r| {
            setting::<Policies>(r).help("The policies of the role's tokens.")
        })
        .route("role/{role_name}/period", |r| {
            setting::<Period>(r)
                .help("What renewals set the lifetime of the role's tokens to, without an end.")
        })
        .route("role/{role_name}/token-bound-cidrs", |r| {
            setting::<TokenBoundCidrs>(r).help("Networks that the role's tokens may be used from.")
        })
        .route("role/{role_name}/token-ttl", |r| {
            setting::<TokenTtl>(r).help("The first lifetime of the role's tokens.")
        })
        .route("role/{role_name}/token-max-ttl", |r| {
            setting::<TokenMaxTtl>(r).help("The longest lifetime of the role's tokens, with renewals.")
        })
        .route("role/{role_name}/token-num-uses", |r| {
            setting::<TokenNumUses>(r).help("How often a token of the role can be used.")
        })
        .route("role/{role_name}/local-secret-ids", |r| {
            r.read(AppRole::read_local_secret_ids, "Read the setting")
                .help("Whether secret ids stay on one cluster. Set when the role is made.")
        })
}

fn setting<S: Setting>(route: Route<AppRole>) -> Route<AppRole> {
    route
        .read(AppRole::read_setting::<S>, "Read the setting")
        .update(AppRole::write_setting::<S>, "Change the setting")
        .delete(AppRole::clear_setting::<S>, "Set it back to what a new role has")
}

impl AppRole {
    async fn read_setting<S: Setting>(self: Arc<Self>, _: Call, body: OfRole) -> Result<Response, Error> {
        let mut response = Response::data(&S::read(&*self.existing(&body.role_name).await?))?;
        response.warnings.extend(S::WARNING.map(str::to_owned));
        Ok(response)
    }

    async fn write_setting<S: Setting>(self: Arc<Self>, _: Call, body: S) -> Result<Response, Error> {
        let mount = &self.mount;
        let change = |current: Option<&Role>| {
            let mut role = current.ok_or_else(Error::unsupported_path)?.clone();
            let before = role.token.token_max_ttl;
            body.write(&mut role)?;
            let warning = (role.token.token_max_ttl != before).then(|| too_long(&role, mount)).flatten();
            Ok((role.checked()?, warning))
        };
        let warning = self.store.change_role(&body.role_name().to_lowercase(), change).await?;
        Ok(Response { warnings: warning.into_iter().collect(), ..Response::empty() })
    }

    async fn clear_setting<S: Setting>(self: Arc<Self>, _: Call, body: OfRole) -> Result<Response, Error> {
        let name = body.role_name.to_lowercase();
        // As with any other deletion, there may be nothing to delete from.
        if self.store.role(&name).await?.is_none() {
            return Ok(Response::empty());
        }
        let change = |current: Option<&Role>| {
            let mut role = current.ok_or_else(Error::unsupported_path)?.clone();
            S::clear(&mut role);
            Ok((role.checked()?, ()))
        };
        self.store.change_role(&name, change).await?;
        Ok(Response::empty())
    }

    async fn read_local_secret_ids(self: Arc<Self>, _: Call, body: OfRole) -> Result<Response, Error> {
        let role = self.existing(&body.role_name).await?;
        Response::data(&json!({ "local_secret_ids": role.local_secret_ids }))
    }
}

/// Puts a change of a `token_*` parameter into the role.
fn change(role: &mut Role, changes: TokenChanges) -> Result<(), Error> {
    role.token = role.token.changed(changes)?.0;
    Ok(())
}

fn missing(name: &str) -> Error {
    Error::invalid(format!("missing {name}"))
}

fields! {
    /// `bind-secret-id`.
    #[derive(Debug)]
    struct BindSecretId {
        path {
            /// The role's name.
            role_name: String,
        }
        body {
            /// Whether a login needs a secret id.
            bind_secret_id: bool = true,
        }
    }
}

impl Setting for BindSecretId {
    fn role_name(&self) -> &str {
        &self.role_name
    }

    fn read(role: &Role) -> Value {
        json!({ "bind_secret_id": role.bind_secret_id })
    }

    fn write(&self, role: &mut Role) -> Result<(), Error> {
        role.bind_secret_id = self.bind_secret_id;
        Ok(())
    }

    fn clear(role: &mut Role) {
        role.bind_secret_id = true;
    }
}

fields! {
    /// `secret-id-bound-cidrs`.
    #[derive(Debug)]
    struct SecretIdBoundCidrs {
        path {
            /// The role's name.
            role_name: String,
        }
        body {
            /// Networks that logins may come from, each with its prefix length.
            secret_id_bound_cidrs: Option<Strings>,
        }
    }
}

impl Setting for SecretIdBoundCidrs {
    fn role_name(&self) -> &str {
        &self.role_name
    }

    fn read(role: &Role) -> Value {
        json!({ "secret_id_bound_cidrs": role.secret_id_bound_cidrs })
    }

    fn write(&self, role: &mut Role) -> Result<(), Error> {
        if let Some(list) = &self.secret_id_bound_cidrs {
            role.secret_id_bound_cidrs = Some(parse_cidrs(list)?);
        }
        Ok(())
    }

    fn clear(role: &mut Role) {
        role.secret_id_bound_cidrs = None;
    }
}

fields! {
    /// `bound-cidr-list`.
    #[derive(Debug)]
    struct BoundCidrList {
        path {
            /// The role's name.
            role_name: String,
        }
        body {
            /// Networks that logins may come from, each with its prefix length.
            bound_cidr_list: Option<Strings>,
        }
    }
}

impl Setting for BoundCidrList {
    const WARNING: Option<&'static str> = Some(
        "The \"bound_cidr_list\" field is deprecated and will be removed. Please use \"secret_id_bound_cidrs\" instead.",
    );

    fn role_name(&self) -> &str {
        &self.role_name
    }

    fn read(role: &Role) -> Value {
        json!({ "bound_cidr_list": role.secret_id_bound_cidrs })
    }

    fn write(&self, role: &mut Role) -> Result<(), Error> {
        if let Some(list) = &self.bound_cidr_list {
            role.secret_id_bound_cidrs = Some(parse_cidrs(list)?);
        }
        Ok(())
    }

    fn clear(role: &mut Role) {
        role.secret_id_bound_cidrs = None;
    }
}

fields! {
    /// `secret-id-num-uses`.
    #[derive(Debug)]
    struct SecretIdNumUses {
        path {
            /// The role's name.
            role_name: String,
        }
        body {
            /// How often a secret id can be used unless it says less; 0 is without limit.
            secret_id_num_uses: Option<i64>,
        }
    }
}

impl Setting for SecretIdNumUses {
    fn role_name(&self) -> &str {
        &self.role_name
    }

    fn read(role: &Role) -> Value {
        json!({ "secret_id_num_uses": role.secret_id_num_uses })
    }

    fn write(&self, role: &mut Role) -> Result<(), Error> {
        role.secret_id_num_uses =
            uses_of(self.secret_id_num_uses.ok_or_else(|| missing("secret_id_num_uses"))?)?;
        Ok(())
    }

    fn clear(role: &mut Role) {
        role.secret_id_num_uses = 0;
    }
}

fields! {
    /// `secret-id-ttl`.
    #[derive(Debug)]
    struct SecretIdTtl {
        path {
            /// The role's name.
            role_name: String,
        }
        body {
            /// How long a secret id lives unless it says less; zero is without end.
            secret_id_ttl: Option<Ttl>,
        }
    }
}

impl Setting for SecretIdTtl {
    fn role_name(&self) -> &str {
        &self.role_name
    }

    fn read(role: &Role) -> Value {
        json!({ "secret_id_ttl": role.secret_id_ttl })
    }

    fn write(&self, role: &mut Role) -> Result<(), Error> {
        role.secret_id_ttl = self.secret_id_ttl.ok_or_else(|| missing("secret_id_ttl"))?;
        Ok(())
    }

    fn clear(role: &mut Role) {
        role.secret_id_ttl = Ttl::ZERO;
    }
}

fields! {
    /// `policies`.
    #[derive(Debug)]
    struct Policies {
        path {
            /// The role's name.
            role_name: String,
        }
        body {
            /// The policies of tokens.
            token_policies: Option<Strings>,
            /// The old name of `token_policies`.
            policies: Option<Strings>,
        }
    }
}

impl Setting for Policies {
    fn role_name(&self) -> &str {
        &self.role_name
    }

    fn read(role: &Role) -> Value {
        let policies = &role.token.token_policies;
        if role.old_policies && !policies.is_empty() {
            json!({ "policies": policies, "token_policies": policies })
        } else {
            json!({ "token_policies": policies })
        }
    }

    fn write(&self, role: &mut Role) -> Result<(), Error> {
        let given = self.token_policies.as_ref().or(self.policies.as_ref());
        let given = given.ok_or_else(|| missing("token_policies"))?;
        role.old_policies =
            shows_old_name(role.old_policies, self.policies.is_some(), self.token_policies.is_some());
        change(role, TokenChanges { token_policies: Some(given.clone()), ..TokenChanges::default() })
    }

    fn clear(role: &mut Role) {
        role.token.token_policies.clear();
        role.old_policies = false;
    }
}

fields! {
    /// `period`.
    #[derive(Debug)]
    struct Period {
        path {
            /// The role's name.
            role_name: String,
        }
        body {
            /// What renewals set the lifetime of tokens to.
            token_period: Option<Ttl>,
            /// The old name of `token_period`.
            period: Option<Ttl>,
        }
    }
}

impl Setting for Period {
    fn role_name(&self) -> &str {
        &self.role_name
    }

    fn read(role: &Role) -> Value {
        let period = role.token.token_period;
        if role.old_period && !period.is_zero() {
            json!({ "period": period, "token_period": period })
        } else {
            json!({ "token_period": period })
        }
    }

    fn write(&self, role: &mut Role) -> Result<(), Error> {
        let given = self.token_period.or(self.period).ok_or_else(|| missing("period"))?;
        role.old_period = shows_old_name(role.old_period, self.period.is_some(), self.token_period.is_some());
        change(role, TokenChanges { token_period: Some(given), ..TokenChanges::default() })
    }

    fn clear(role: &mut Role) {
        role.token.token_period = Ttl::ZERO;
        role.old_period = false;
    }
}

fields! {
    /// `token-bound-cidrs`.
    #[derive(Debug)]
    struct TokenBoundCidrs {
        path {
            /// The role's name.
            role_name: String,
        }
        body {
            /// Networks that tokens may be used from.
            token_bound_cidrs: Option<Strings>,
        }
    }
}

impl Setting for TokenBoundCidrs {
    fn role_name(&self) -> &str {
        &self.role_name
    }

    fn read(role: &Role) -> Value {
        let networks: Vec<String> = role.token.token_bound_cidrs.iter().map(shown).collect();
        json!({ "token_bound_cidrs": (!networks.is_empty()).then_some(networks) })
    }

    fn write(&self, role: &mut Role) -> Result<(), Error> {
        change(
            role,
            TokenChanges { token_bound_cidrs: self.token_bound_cidrs.clone(), ..TokenChanges::default() },
        )
    }

    fn clear(role: &mut Role) {
        role.token.token_bound_cidrs.clear();
    }
}

fields! {
    /// `token-ttl`.
    #[derive(Debug)]
    struct TokenTtl {
        path {
            /// The role's name.
            role_name: String,
        }
        body {
            /// The first lifetime of tokens; zero is the mount's.
            token_ttl: Option<Ttl>,
        }
    }
}

impl Setting for TokenTtl {
    fn role_name(&self) -> &str {
        &self.role_name
    }

    fn read(role: &Role) -> Value {
        json!({ "token_ttl": role.token.token_ttl })
    }

    fn write(&self, role: &mut Role) -> Result<(), Error> {
        let given = self.token_ttl.ok_or_else(|| missing("token_ttl"))?;
        change(role, TokenChanges { token_ttl: Some(given), ..TokenChanges::default() })
    }

    fn clear(role: &mut Role) {
        role.token.token_ttl = Ttl::ZERO;
    }
}

fields! {
    /// `token-max-ttl`.
    #[derive(Debug)]
    struct TokenMaxTtl {
        path {
            /// The role's name.
            role_name: String,
        }
        body {
            /// The longest lifetime of tokens with renewals; zero is the mount's.
            token_max_ttl: Option<Ttl>,
        }
    }
}

impl Setting for TokenMaxTtl {
    fn role_name(&self) -> &str {
        &self.role_name
    }

    fn read(role: &Role) -> Value {
        json!({ "token_max_ttl": role.token.token_max_ttl })
    }

    fn write(&self, role: &mut Role) -> Result<(), Error> {
        let given = self.token_max_ttl.ok_or_else(|| missing("token_max_ttl"))?;
        change(role, TokenChanges { token_max_ttl: Some(given), ..TokenChanges::default() })
    }

    fn clear(role: &mut Role) {
        role.token.token_max_ttl = Ttl::ZERO;
    }
}

fields! {
    /// `token-num-uses`.
    #[derive(Debug)]
    struct TokenNumUses {
        path {
            /// The role's name.
            role_name: String,
        }
        body {
            /// How often a token can be used; 0 is without limit.
            token_num_uses: Option<i64>,
        }
    }
}

impl Setting for TokenNumUses {
    fn role_name(&self) -> &str {
        &self.role_name
    }

    fn read(role: &Role) -> Value {
        json!({ "token_num_uses": role.token.token_num_uses })
    }

    fn write(&self, role: &mut Role) -> Result<(), Error> {
        let given = self.token_num_uses.ok_or_else(|| missing("token_num_uses"))?;
        change(role, TokenChanges { token_num_uses: Some(given), ..TokenChanges::default() })
    }

    fn clear(role: &mut Role) {
        role.token.token_num_uses = 0;
    }
}
