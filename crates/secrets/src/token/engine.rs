//! The mount `auth/token/`: tokens made from tokens.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use chancery_api::envelope::Auth;
use chancery_api::fields::{Kind as FieldKind, NoFields, Source, Value};
use chancery_api::{Secret, Ttl};
use jiff::Timestamp;
use serde::Serialize;

use crate::auth::networks::shown;
use crate::engine::{AnyEngine, Call, Engine, Mount, RenewTerms};
use crate::error::Error;
use crate::response::Response;
use crate::route::{BoxFuture, Routes};
use crate::token::create;
use crate::token::role::{RoleRequest, TokenRole};
use crate::token::store::millis;
use crate::token::ttl::Lifetime;
use crate::token::{TokenEntry, TokenKey, TokenKind, TokenState, TokenStore};

/// What the token mount must ask of the rest of the server.
pub struct Outside {
    /// The mount that a path belongs to, with its engine.
    #[expect(clippy::type_complexity, reason = "the type says what it is")]
    pub mount: Box<dyn Fn(&str) -> Option<(Arc<Mount>, Arc<dyn AnyEngine>)> + Send + Sync>,
    /// Whether there is a policy of this name.
    pub has_policy: Box<dyn Fn(String) -> BoxFuture<Result<bool, Error>> + Send + Sync>,
}

impl fmt::Debug for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Outside")
    }
}

/// The engine of `auth/token/`.
#[derive(Debug)]
pub struct TokenEngine {
    pub(crate) tokens: Arc<TokenStore>,
    pub(crate) mount: Arc<Mount>,
    pub(crate) outside: Outside,
}

impl TokenEngine {
    /// The engine over the server's tokens.
    pub fn new(tokens: Arc<TokenStore>, mount: Arc<Mount>, outside: Outside) -> Self {
        Self { tokens, mount, outside }
    }
}

/// A list of texts of which none is split at commas, or one such text.
#[derive(Debug, Clone, Default)]
pub(crate) struct OneOrMany(pub(crate) Vec<String>);

impl Value for OneOrMany {
    const KIND: FieldKind = FieldKind::Strings;

    fn decode(source: Source<'_>) -> Result<Self, String> {
        match source {
            Source::Text(text) => Ok(Self(vec![text.to_owned()])),
            Source::Json(raw) if raw.get().starts_with('[') => {
                let items: Vec<Box<chancery_api::RawValue>> =
                    serde_json::from_str(raw.get()).map_err(|error| error.to_string())?;
                items
                    .iter()
                    .map(|item| String::decode(Source::Json(item)))
                    .collect::<Result<_, _>>()
                    .map(Self)
            }
            Source::Json(raw) => String::decode(Source::Json(raw)).map(|text| Self(vec![text])),
        }
    }

    fn describe(&self) -> serde_json::Value {
        serde_json::Value::from(self.0.clone())
    }
}

chancery_api::fields! {
    /// Names a token by its text.
    #[derive(Debug)]
    struct ByToken {
        body {
            /// The token.
            token: Secret = Secret::default(),
        }
    }
}

chancery_api::fields! {
    /// Names a token by its accessor.
    #[derive(Debug)]
    struct ByAccessor {
        body {
            /// The token's accessor.
            accessor: String = String::new(),
        }
    }
}

chancery_api::fields! {
    /// Renews a token.
    #[derive(Debug)]
    struct RenewRequest {
        body {
            /// The lifetime to ask for, from now on; the token's own if absent.
            increment: Ttl = Ttl::ZERO,
            /// The token.
            token: Secret = Secret::default(),
        }
    }
}

chancery_api::fields! {
    /// Renews a token by its accessor.
    #[derive(Debug)]
    struct RenewByAccessor {
        body {
            /// The token's accessor.
            accessor: String = String::new(),
            /// The lifetime to ask for, from now on; the token's own if absent.
            increment: Ttl = Ttl::ZERO,
        }
    }
}

chancery_api::fields! {
    /// Names a role.
    #[derive(Debug)]
    struct ByRole {
        path {
            /// The role's name.
            role_name: String,
        }
    }
}

impl Engine for TokenEngine {
    fn routes() -> &'static Routes<Self> {
        static ROUTES: LazyLock<Routes<TokenEngine>> = LazyLock::new(|| {
            Routes::new()
                .route("accessors", |r| {
                    r.list(accessors, "List the accessors of all tokens").sudo().help(
                        "An accessor leads to its token's properties and can revoke it, but cannot be used as the token.",
                    )
                })
                .route("create", |r| r.update(create::child, "Make a token").counted("token.create"))
                .route("create/{role_name}", |r| {
                    r.update(create::by_role, "Make a token as a role says").counted("token.create")
                })
                .route("create-orphan", |r| {
                    r.update(create::orphan, "Make a token without a parent").counted("token.create")
                })
                .route("lookup", |r| {
                    r.read(lookup, "Show a token's properties").update(lookup, "Show a token's properties")
                })
                .route("lookup-self", |r| {
                    r.read(lookup_self, "Show the caller's token")
                        .update(lookup_self, "Show the caller's token")
                })
                .route("lookup-accessor", |r| {
                    r.update(lookup_accessor, "Show the properties of the token with this accessor")
                })
                .route("renew", |r| r.update(renew, "Renew a token"))
                .route("renew-self", |r| r.update(renew_self, "Renew the caller's token"))
                .route("renew-accessor", |r| r.update(renew_accessor, "Renew the token with this accessor"))
                .route("revoke", |r| r.update(revoke, "Revoke a token and its children"))
                .route("revoke-self", |r| r.update(revoke_self, "Revoke the caller's token and its children"))
                .route("revoke-accessor", |r| {
                    r.update(revoke_accessor, "Revoke the token with this accessor and its children")
                })
                .route("revoke-orphan", |r| {
                    r.update(revoke_orphan, "Revoke a token and let its children live on")
                })
                .route("roles", |r| r.list(list_roles, "List the roles"))
                .route("roles/{role_name}", |r| {
                    r.read(read_role, "Show a role")
                        .update(write_role, "Make or change a role")
                        .delete(delete_role, "Delete a role")
                        .existence(role_exists)
                })
                .route("tidy", |r| r.update(tidy, "Remove what belongs to no token any more"))
        });
        &ROUTES
    }

    /// A token of this mount is renewed on its role's terms, as of now.
    async fn renew_token(self: Arc<Self>, token: Arc<TokenEntry>, _: Timestamp) -> Result<RenewTerms, Error> {
        let (period, explicit_max_ttl) = if token.role.is_empty() {
            (token.period, token.explicit_max_ttl)
        } else {
            let role = TokenRole::load(&self.mount.view, &token.role).await?.ok_or_else(|| {
                Error::internal(
                    format!(
                        "1 error occurred:\n\t* failed to renew entry: original token role {:?} could not be found, not renewing\n\n",
                        token.role
                    ),
                    "the token's role has gone",
                )
            })?;
            (role.token_period, role.token_explicit_max_ttl)
        };
        Ok(RenewTerms {
            ttl: token.granted,
            max_ttl: Ttl::ZERO,
            period,
            explicit_max_ttl: Some(explicit_max_ttl),
        })
    }
}

/// A token as look-ups show it.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    accessor: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bound_cidrs: Vec<String>,
    creation_time: i64,
    creation_ttl: Ttl,
    display_name: &'a str,
    entity_id: &'a str,
    expire_time: Option<Timestamp>,
    explicit_max_ttl: Ttl,
    id: &'a str,
    issue_time: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_renewal: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_renewal_time: Option<i64>,
    meta: Option<&'a BTreeMap<String, String>>,
    num_uses: i64,
    orphan: bool,
    path: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    period: Option<Ttl>,
    policies: &'a [String],
    renewable: bool,
    #[serde(skip_serializing_if = "str::is_empty")]
    role: &'a str,
    ttl: Ttl,
    #[serde(rename = "type")]
    kind: &'static str,
}

impl TokenEngine {
    fn show(&self, entry: &TokenEntry, text: &str, now: Timestamp) -> Result<Response, Error> {
        Response::data(&Shown {
            accessor: self.tokens.accessor(entry),
            bound_cidrs: entry.bound_cidrs.iter().map(shown).collect(),
            creation_time: entry.created.as_second(),
            creation_ttl: entry.ttl,
            display_name: &entry.display_name,
            entity_id: &entry.entity_id,
            expire_time: entry.expires,
            explicit_max_ttl: entry.explicit_max_ttl,
            id: text,
            issue_time: entry.created,
            last_renewal: entry.renewed,
            last_renewal_time: entry.renewed.map(Timestamp::as_second),
            meta: entry.meta.as_ref().filter(|meta| !meta.is_empty()),
            // The peer's mark for "this is the last use".
            num_uses: if entry.state == TokenState::Spent {
                -1
            } else {
                i64::try_from(entry.num_uses).unwrap_or(i64::MAX)
            },
            orphan: entry.parent.is_none(),
            path: &entry.path,
            period: (!entry.period.is_zero()).then_some(entry.period),
            policies: &entry.policies,
            renewable: entry.renewable,
            role: &entry.role,
            ttl: entry.remaining(now),
            kind: entry.kind.name(),
        })
    }

    /// Renews a token on the terms of the mount that made it: all that `auth/token/renew*` and
    /// `sys/leases/renew` of a token's lease need.
    pub(crate) async fn renew_entry(
        &self,
        entry: &Arc<TokenEntry>,
        increment: Ttl,
        now: Timestamp,
    ) -> Result<(Arc<TokenEntry>, Vec<String>), Error> {
        if entry.kind == TokenKind::Batch {
            return Err(Error::invalid("batch tokens cannot be renewed"));
        }
        let refused = || Error::invalid("lease is not renewable");
        if !entry.renewable || entry.expires.is_none() {
            return Err(refused());
        }
        let (mount, engine) = (self.outside.mount)(&entry.path).ok_or_else(refused)?;
        let terms = engine.renew_token(Arc::clone(entry), now).await?;
        let lifetime = Lifetime {
            increment,
            default: terms.ttl,
            period: terms.period,
            max: terms.max_ttl,
            explicit_max: terms.explicit_max_ttl.unwrap_or(entry.explicit_max_ttl),
        };
        let granted = lifetime.grant(&mount, entry.created, now)?;
        let renewed = self.tokens.renew(entry.key, granted.ttl, now).await?;
        Ok((renewed.ok_or_else(|| Error::invalid("token not found"))?, granted.warnings))
    }

    async fn renewed(
        &self,
        entry: &Arc<TokenEntry>,
        text: &str,
        increment: Ttl,
        now: Timestamp,
    ) -> Result<Response, Error> {
        let (entry, warnings) = self.renew_entry(entry, increment, now).await?;
        Ok(answer(entry.auth(text, self.tokens.accessor(&entry)), warnings))
    }

    async fn token(&self, text: &Secret, now: Timestamp) -> Result<Option<Arc<TokenEntry>>, Error> {
        if text.is_empty() {
            return Err(Error::invalid("missing token ID"));
        }
        self.tokens.lookup(text, now).await
    }

    async fn by_accessor(&self, accessor: &str, now: Timestamp) -> Result<Option<Arc<TokenEntry>>, Error> {
        if accessor.is_empty() {
            return Err(Error::invalid("1 error occurred:\n\t* missing accessor\n\n"));
        }
        self.tokens.by_accessor(accessor, now).await
    }
}

/// An answer that shows a token.
pub(crate) fn answer(auth: Auth, warnings: Vec<String>) -> Response {
    Response { auth: Some(Box::new(auth)), warnings, ..Response::default() }
}

fn invalid_accessor() -> Error {
    Error::invalid("1 error occurred:\n\t* invalid accessor\n\n")
}

async fn accessors(engine: Arc<TokenEngine>, call: Call, _: NoFields) -> Result<Response, Error> {
    let mut keys = Vec::new();
    let mut after: Option<TokenKey> = None;
    loop {
        let page = engine.tokens.page(after).await?;
        let Some(last) = page.last() else { break };
        after = Some(last.key);
        let living = page.iter().filter(|entry| entry.state == TokenState::Live && !entry.expired(call.now));
        keys.extend(living.map(|entry| engine.tokens.accessor(entry)));
    }
    Response::list(&keys)
}

async fn lookup(engine: Arc<TokenEngine>, call: Call, body: ByToken) -> Result<Response, Error> {
    if body.token.is_empty() {
        return lookup_self(engine, call, NoFields).await;
    }
    match engine.tokens.lookup(&body.token, call.now).await? {
        Some(entry) => engine.show(&entry, body.token.expose(), call.now),
        None => Err(Error::of(crate::error::Kind::PermissionDenied, "bad token")),
    }
}

async fn lookup_self(engine: Arc<TokenEngine>, call: Call, _: NoFields) -> Result<Response, Error> {
    let authorized = call.authorized.as_ref().ok_or_else(Error::denied)?;
    // The uses left after this one are in the record, not in the entry that let the caller in.
    let entry = match authorized.token().kind {
        TokenKind::Service => engine.tokens.record(authorized.token().key).await?,
        TokenKind::Batch => None,
    };
    let entry = entry.unwrap_or_else(|| Arc::clone(authorized.token()));
    engine.show(&entry, authorized.text().expose(), call.now)
}

async fn lookup_accessor(engine: Arc<TokenEngine>, call: Call, body: ByAccessor) -> Result<Response, Error> {
    let entry = engine.by_accessor(&body.accessor, call.now).await?.ok_or_else(invalid_accessor)?;
    engine.show(&entry, "", call.now)
}

async fn renew(engine: Arc<TokenEngine>, call: Call, body: RenewRequest) -> Result<Response, Error> {
    let entry =
        engine.token(&body.token, call.now).await?.ok_or_else(|| Error::invalid("token not found"))?;
    engine.renewed(&entry, body.token.expose(), body.increment, call.now).await
}

async fn renew_self(engine: Arc<TokenEngine>, call: Call, body: RenewRequest) -> Result<Response, Error> {
    let authorized = call.authorized.as_ref().ok_or_else(Error::denied)?;
    engine.renewed(authorized.token(), authorized.text().expose(), body.increment, call.now).await
}

async fn renew_accessor(
    engine: Arc<TokenEngine>,
    call: Call,
    body: RenewByAccessor,
) -> Result<Response, Error> {
    let entry = engine.by_accessor(&body.accessor, call.now).await?.ok_or_else(invalid_accessor)?;
    engine.renewed(&entry, "", body.increment, call.now).await
}

async fn revoke(engine: Arc<TokenEngine>, call: Call, body: ByToken) -> Result<Response, Error> {
    if let Some(entry) = engine.token(&body.token, call.now).await? {
        revoke_entry(&engine, &entry, call.now).await?;
    }
    Ok(Response::empty())
}

async fn revoke_self(engine: Arc<TokenEngine>, call: Call, _: NoFields) -> Result<Response, Error> {
    let entry = call.token().ok_or_else(Error::denied)?;
    revoke_entry(&engine, entry, call.now).await?;
    Ok(Response::empty())
}

async fn revoke_accessor(engine: Arc<TokenEngine>, call: Call, body: ByAccessor) -> Result<Response, Error> {
    match engine.by_accessor(&body.accessor, call.now).await? {
        Some(entry) => {
            revoke_entry(&engine, &entry, call.now).await?;
            Ok(Response::empty())
        }
        None => Ok(Response::empty().warn("No token found with this accessor")),
    }
}

async fn revoke_entry(engine: &TokenEngine, entry: &TokenEntry, now: Timestamp) -> Result<(), Error> {
    if entry.kind == TokenKind::Batch {
        return Err(Error::invalid("batch tokens cannot be revoked"));
    }
    engine.tokens.revoke_tree(entry.key, now).await.map(drop)
}

async fn revoke_orphan(engine: Arc<TokenEngine>, call: Call, body: ByToken) -> Result<Response, Error> {
    let entry = engine.token(&body.token, call.now).await?;
    let authorized = call.authorized.as_ref().ok_or_else(Error::denied)?;
    if !authorized.sudo() && !authorized.token().is_root() {
        return Err(Error::invalid("root or sudo privileges required to revoke and orphan"));
    }
    let entry = entry.ok_or_else(|| Error::invalid("token to revoke not found"))?;
    if entry.kind == TokenKind::Batch {
        return Err(Error::invalid("batch tokens cannot be revoked"));
    }
    engine.tokens.revoke_orphan(entry.key, call.now).await?;
    Ok(Response::empty())
}

async fn list_roles(engine: Arc<TokenEngine>, _: Call, _: NoFields) -> Result<Response, Error> {
    Response::list(&TokenRole::names(&engine.mount.view).await?)
}

async fn read_role(engine: Arc<TokenEngine>, _: Call, body: ByRole) -> Result<Response, Error> {
    match TokenRole::load(&engine.mount.view, &body.role_name).await? {
        Some(role) => Response::data(&role.answer(&body.role_name)),
        None => Err(Error::nothing_there()),
    }
}

async fn write_role(engine: Arc<TokenEngine>, _: Call, body: RoleRequest) -> Result<Response, Error> {
    let name = body.role_name.clone();
    let mut role = TokenRole::load(&engine.mount.view, &name).await?.unwrap_or_default();
    let warnings = role.apply(body, &engine.mount)?;
    role.save(&engine.mount.view, &name).await?;
    Ok(Response { warnings, ..Response::empty() })
}

async fn delete_role(engine: Arc<TokenEngine>, _: Call, body: ByRole) -> Result<Response, Error> {
    TokenRole::delete(&engine.mount.view, &body.role_name).await?;
    Ok(Response::empty())
}

async fn role_exists(engine: Arc<TokenEngine>, call: Call) -> Result<bool, Error> {
    let name = call.captures.iter().find(|(name, _)| *name == "role_name").map(|(_, role)| role.as_str());
    Ok(TokenRole::load(&engine.mount.view, name.unwrap_or_default()).await?.is_some())
}

async fn tidy(engine: Arc<TokenEngine>, call: Call, _: NoFields) -> Result<Response, Error> {
    let tokens = Arc::clone(&engine.tokens);
    tokio::spawn(async move {
        match tokens.tidy(call.now).await {
            Ok(removed) => tracing::info!(removed, at = millis(call.now), "token tidy has finished"),
            Err(error) => tracing::warn!(%error, "token tidy has failed"),
        }
    });
    Ok(Response::empty()
        .warn("Tidy operation successfully started. Any information from the operation will be printed to the server's logs.")
        .status(202))
}
