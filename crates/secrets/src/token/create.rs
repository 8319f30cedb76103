//! `auth/token/create`: a token from a token.
//!
//! In the peer's order: may the caller make tokens at all; what was asked for; which policies it
//! gets; how long it lives. Roles stand between the caller and each of these.

use std::sync::Arc;

use chancery_api::duration::ParseError;
use chancery_api::fields::{Field, FieldError, Fields, Input, Kind as FieldKind};
use chancery_api::{KeyValues, Secret, Ttl};

use crate::engine::Call;
use crate::error::Error;
use crate::response::Response;
use crate::token::engine::{OneOrMany, TokenEngine, answer};
use crate::token::policies::{glob, sanitize};
use crate::token::role::TokenRole;
use crate::token::store::{NewToken, RESPONSE_WRAPPING};
use crate::token::ttl::Lifetime;
use crate::token::{Created, TokenEntry, TokenKind};

chancery_api::fields! {
    /// What the new token shall be.
    #[derive(Debug)]
    pub(crate) struct TokenRequest {
        body {
            /// A name for people; `token-` is put before it.
            display_name: String = String::new(),
            /// The name of the caller that the token is for; needs a role that allows it.
            entity_alias: String = String::new(),
            /// A hard end that no renewal moves.
            explicit_max_ttl: String = String::new(),
            /// The token's text; needs sudo.
            id: Secret = Secret::default(),
            /// Use ttl.
            lease: String = String::new(),
            /// Shown with the token.
            meta: Option<KeyValues>,
            /// Without the policy `default`.
            no_default_policy: bool = false,
            /// Outlives its creator; needs sudo.
            no_parent: bool = false,
            /// How often it can be used; 0 is without limit.
            num_uses: i64 = 0,
            /// Renewals set the lifetime to this, without an end; needs sudo.
            period: String = String::new(),
            /// Its policies; the creator's if absent.
            policies: OneOrMany = OneOrMany::default(),
            /// Whether it can be renewed.
            renewable: bool = true,
            /// Its first lifetime.
            ttl: String = String::new(),
            /// `service` or `batch`.
            kind as "type": String = String::new(),
        }
    }
}

/// As [`TokenRequest`], as a role says.
#[derive(Debug)]
pub(crate) struct RoleTokenRequest {
    role_name: String,
    request: TokenRequest,
}

impl Fields for RoleTokenRequest {
    fn schema() -> Vec<Field> {
        let role = Field {
            name: "role_name",
            kind: FieldKind::String,
            description: "The role's name.",
            in_path: true,
            default: None,
        };
        std::iter::once(role).chain(TokenRequest::schema()).collect()
    }

    fn decode(input: &mut Input<'_>) -> Result<Self, FieldError> {
        let role_name = input.take("role_name")?.ok_or(FieldError::Missing("role_name"))?;
        Ok(Self { role_name, request: TokenRequest::decode(input)? })
    }
}

/// Whose child the token is, and on whose terms.
enum Terms<'a> {
    Child,
    Orphan,
    Role(&'a str, &'a TokenRole),
}

impl Terms<'_> {
    fn role(&self) -> Option<&TokenRole> {
        match self {
            Self::Role(_, role) => Some(role),
            Self::Child | Self::Orphan => None,
        }
    }
}

pub(super) async fn child(
    engine: Arc<TokenEngine>,
    call: Call,
    body: TokenRequest,
) -> Result<Response, Error> {
    create(&engine, &call, body, Terms::Child).await
}

pub(super) async fn orphan(
    engine: Arc<TokenEngine>,
    call: Call,
    body: TokenRequest,
) -> Result<Response, Error> {
    create(&engine, &call, body, Terms::Orphan).await
}

pub(super) async fn by_role(
    engine: Arc<TokenEngine>,
    call: Call,
    body: RoleTokenRequest,
) -> Result<Response, Error> {
    let RoleTokenRequest { role_name, request } = body;
    let role = TokenRole::load(&engine.mount.view, &role_name)
        .await?
        .ok_or_else(|| Error::invalid(format!("unknown role {role_name}")))?;
    create(&engine, &call, request, Terms::Role(&role_name, &role)).await
}

async fn create(
    engine: &TokenEngine,
    call: &Call,
    request: TokenRequest,
    terms: Terms<'_>,
) -> Result<Response, Error> {
    let authorized = call.authorized.as_ref().ok_or_else(Error::denied)?;
    let parent = authorized.token();
    if parent.kind == TokenKind::Batch {
        return Err(Error::invalid("batch tokens cannot create more tokens"));
    }
    if parent.is_limited() {
        return Err(Error::invalid("restricted use token cannot generate child tokens"));
    }
    let sudo = authorized.sudo() || parent.is_root();
    let mut warnings = Vec::new();

    let kind = kind(&request, terms.role())?;
    let num_uses = num_uses(&request, terms.role())?;
    let text = chosen_text(&request, sudo)?;
    let orphan = is_orphan(&request, &terms, sudo)?;
    let (entity_id, alias) = entity(engine, &request, &terms, parent, orphan)?;
    let policies = policies(&request, terms.role(), parent, sudo, kind)?;

    let period = duration(&request.period, "period")?;
    if !period.is_zero() && !sudo {
        return Err(Error::invalid("root or sudo privileges required to create periodic token"));
    }
    let explicit_max_ttl = duration(&request.explicit_max_ttl, "explicit_max_ttl")?;
    let asked = match duration(&request.ttl, "ttl")? {
        ttl if ttl.is_zero() && request.ttl.is_empty() => duration(&request.lease, "lease")?,
        ttl => ttl,
    };
    let role = terms.role();
    let hard_end = lesser(
        explicit_max_ttl,
        role.map_or(Ttl::ZERO, |role| role.token_explicit_max_ttl),
        "Explicit max TTL",
        &mut warnings,
    );
    let each_time = lesser(period, role.map_or(Ttl::ZERO, |role| role.token_period), "Period", &mut warnings);

    let is_root = policies.iter().any(|policy| policy == "root");
    let mut ttl = asked;
    if !each_time.is_zero() || !ttl.is_zero() || !is_root {
        let lifetime = Lifetime {
            increment: Ttl::ZERO,
            default: ttl,
            period: each_time,
            max: Ttl::ZERO,
            explicit_max: hard_end,
        };
        let granted = lifetime.grant(&engine.mount, call.now, call.now)?;
        ttl = granted.ttl;
        warnings.extend(granted.warnings);
    }
    // A root token may live for ever, but not past a hard end that it was given.
    ttl = ttl.or(hard_end);
    if ttl.is_zero() && !parent.ttl.is_zero() {
        return Err(Error::invalid("expiring root tokens cannot create non-expiring root tokens"));
    }
    let bound_cidrs = match role {
        // Neither can a token without an end be renewed, nor is it bound to networks.
        _ if ttl.is_zero() => Vec::new(),
        Some(role) => role.token_bound_cidrs.clone(),
        None if orphan => Vec::new(),
        None => parent.bound_cidrs.clone(),
    };
    let renewable = !ttl.is_zero() && request.renewable && role.is_none_or(|role| role.renewable);

    for policy in policies.iter().filter(|policy| *policy != "root") {
        if !(engine.outside.has_policy)(policy.clone()).await? {
            warnings.push(format!("Policy {policy:?} does not exist"));
        }
    }
    let new = NewToken {
        text,
        kind,
        parent: (!orphan).then_some(parent.key),
        policies,
        path: path(call, role),
        display_name: display_name(&request.display_name),
        meta: request.meta.map(|meta| meta.0),
        num_uses,
        ttl,
        max_ttl: Ttl::ZERO,
        explicit_max_ttl,
        period,
        renewable,
        bound_cidrs,
        role: if let Terms::Role(name, _) = terms { name.to_owned() } else { String::new() },
        entity_id,
        alias,
        internal: std::collections::BTreeMap::new(),
    };
    let created: Created = engine.tokens.create(new, call.now).await?;
    Ok(answer(created.auth(), warnings))
}

fn kind(request: &TokenRequest, role: Option<&TokenRole>) -> Result<TokenKind, Error> {
    let asked = match (role.map(|role| role.token_type.as_str()), request.kind.as_str()) {
        (Some("default-batch"), "") => "batch",
        (None | Some("default-service" | "default-batch"), asked) => asked,
        (Some(fixed), _) => fixed,
    };
    match asked {
        "" | "service" => return Ok(TokenKind::Service),
        "batch" => {}
        _ => return Err(Error::invalid("invalid 'token_type' value")),
    }
    let reason = if !duration(&request.explicit_max_ttl, "explicit_max_ttl")?.is_zero() {
        "explicit_max_ttl"
    } else if request.num_uses != 0 {
        "num_uses"
    } else if !duration(&request.period, "period")?.is_zero() {
        "period"
    } else {
        return Ok(TokenKind::Batch);
    };
    Err(Error::invalid(format!("batch tokens cannot have {reason:?} set")))
}

fn num_uses(request: &TokenRequest, role: Option<&TokenRole>) -> Result<u64, Error> {
    let asked =
        u64::try_from(request.num_uses).map_err(|_| Error::invalid("number of uses cannot be negative"))?;
    Ok(match (asked, role.map_or(0, |role| role.token_num_uses)) {
        (asked, 0) => asked,
        (0, limit) => limit,
        (asked, limit) => asked.min(limit),
    })
}

fn chosen_text(request: &TokenRequest, sudo: bool) -> Result<Option<Secret>, Error> {
    let text = request.id.expose();
    if text.is_empty() {
        return Ok(None);
    }
    if !sudo {
        return Err(Error::invalid("root or sudo privileges required to specify token id"));
    }
    // Texts with a point are ours to make: the part before it says what follows.
    for prefix in ["hvs.", "s."] {
        if text.starts_with(prefix) {
            return Err(Error::invalid(format!("custom token ID cannot have the '{prefix}' prefix")));
        }
    }
    if text.contains('.') {
        return Err(Error::invalid("custom token ID cannot have a '.' in the value"));
    }
    Ok(Some(request.id.clone()))
}

fn is_orphan(request: &TokenRequest, terms: &Terms<'_>, sudo: bool) -> Result<bool, Error> {
    match terms {
        Terms::Role(_, role) => Ok(role.orphan),
        Terms::Orphan => Ok(true),
        Terms::Child if request.no_parent && !sudo => {
            Err(Error::invalid("root or sudo privileges required to create orphan token"))
        }
        Terms::Child => Ok(request.no_parent),
    }
}

type Entity = (String, Option<(String, String)>);

/// The entity: named by the request if the role allows it, else the parent's.
fn entity(
    engine: &TokenEngine,
    request: &TokenRequest,
    terms: &Terms<'_>,
    parent: &TokenEntry,
    orphan: bool,
) -> Result<Entity, Error> {
    let alias = request.entity_alias.as_str();
    if alias.is_empty() {
        return Ok(if orphan {
            (String::new(), None)
        } else {
            (parent.entity_id.clone(), parent.alias.clone())
        });
    }
    let Some(role) = terms.role() else {
        return Err(Error::invalid("'entity_alias' is only allowed in combination with token role"));
    };
    if !role.allows_alias(alias) {
        return Err(Error::invalid("invalid 'entity_alias' value"));
    }
    let accessor = engine.mount.accessor.clone();
    Ok((engine.tokens.entity_id(&accessor, alias), Some((accessor, alias.to_owned()))))
}

/// The policies, sanitised.
fn policies(
    request: &TokenRequest,
    role: Option<&TokenRole>,
    parent: &TokenEntry,
    sudo: bool,
    kind: TokenKind,
) -> Result<Vec<String>, Error> {
    let asked = &request.policies.0;
    let mut policies = match role {
        Some(role) if role.decides_policies() => by_role_rules(request, role, parent)?,
        _ if asked.is_empty() => sanitize(&parent.policies, false),
        _ if sudo => sanitize(asked, !request.no_default_policy),
        _ => {
            let asked = sanitize(asked, false);
            if !asked.iter().all(|policy| parent.policies.contains(policy)) {
                return Err(Error::invalid("child policies must be subset of parent"));
            }
            let inherits = parent.policies.iter().any(|policy| policy == "default");
            sanitize(&asked, inherits && !request.no_default_policy)
        }
    };
    if request.no_default_policy {
        policies.retain(|policy| policy != "default");
    }
    if policies.iter().any(|policy| policy == RESPONSE_WRAPPING) {
        return Err(Error::invalid(format!("cannot assign policy {RESPONSE_WRAPPING:?}")));
    }
    if policies.iter().any(|policy| policy == "root") {
        // `sudo` on this path must not be a way to become root.
        if !parent.is_root() {
            return Err(Error::invalid("root tokens may not be created without parent token being root"));
        }
        if kind == TokenKind::Batch {
            return Err(Error::invalid("batch tokens cannot be root tokens"));
        }
    }
    Ok(policies)
}

/// A role that names policies decides alone: its tokens may have policies that the creator lacks.
fn by_role_rules(
    request: &TokenRequest,
    role: &TokenRole,
    parent: &TokenEntry,
) -> Result<Vec<String>, Error> {
    let listed = |list: &[String], globs: &[String], policy: &str| {
        list.iter().any(|entry| entry == policy) || globs.iter().any(|pattern| glob(pattern, policy))
    };
    let add_default = !request.no_default_policy
        && !role.token_no_default_policy
        && !listed(&role.disallowed_policies, &role.disallowed_policies_glob, "default");
    let asked = &request.policies.0;
    let has_allowed = !role.allowed_policies.is_empty() || !role.allowed_policies_glob.is_empty();

    let policies = if asked.is_empty() && has_allowed {
        sanitize(&role.allowed_policies, add_default)
    } else if asked.is_empty() {
        sanitize(&parent.policies, add_default)
    } else {
        sanitize(asked, add_default)
    };
    if has_allowed {
        let allowed = sanitize(&role.allowed_policies, add_default);
        if !policies.iter().all(|policy| listed(&allowed, &role.allowed_policies_glob, policy)) {
            return Err(Error::invalid(format!(
                "token policies ({}) must be subset of the role's allowed policies ({}) or glob policies ({})",
                quoted(&policies),
                quoted(&allowed),
                quoted(&role.allowed_policies_glob)
            )));
        }
    }
    let refused = policies
        .iter()
        .find(|policy| listed(&role.disallowed_policies, &role.disallowed_policies_glob, policy));
    match refused {
        Some(policy) => Err(Error::invalid(format!("token policy {policy:?} is disallowed by this role"))),
        None => Ok(policies),
    }
}

/// A list as Go prints it: `["a" "b"]`.
fn quoted(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", quoted.join(" "))
}

/// The smaller of what the request and the role say, with a warning when both do.
fn lesser(asked: Ttl, role: Ttl, what: &str, warnings: &mut Vec<String>) -> Ttl {
    if asked.is_zero() || role.is_zero() {
        return asked.or(role);
    }
    let lesser = asked.min(role);
    warnings.push(format!(
        "{what} specified both during creation call and in role; using the lesser value of {} seconds",
        lesser.as_secs()
    ));
    lesser
}

fn duration(text: &str, field: &str) -> Result<Ttl, Error> {
    text.parse().map_err(|error| match error {
        ParseError::Negative(_) => Error::invalid(format!("{field} must be positive")),
        other => Error::invalid(other.to_string()),
    })
}

/// `token`, or `token-` with what was asked for; anything but letters, digits and `-` becomes `-`.
fn display_name(asked: &str) -> String {
    let clean: String =
        asked.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' }).collect();
    let shown = format!("token-{}", clean.strip_suffix('-').unwrap_or(&clean));
    shown.strip_suffix('-').filter(|_| asked.is_empty()).map(str::to_owned).unwrap_or(shown)
}

/// The path that the token is listed under.
fn path(call: &Call, role: Option<&TokenRole>) -> String {
    let path = format!("{}{}", call.mount_path, call.path.trim_end_matches('/'));
    match role.map(|role| role.path_suffix.as_str()) {
        Some(suffix) if !suffix.is_empty() => format!("{path}/{suffix}"),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn display_names_keep_letters_digits_and_hyphens() {
        for (asked, shown) in [
            ("", "token"),
            ("x y", "token-x-y"),
            ("Foo  Bar_9-.é", "token-Foo--Bar-9--"),
            ("hey you!!", "token-hey-you-"),
        ] {
            assert_eq!(display_name(asked), shown);
        }
    }

    #[test]
    fn lists_are_quoted_as_go_does() {
        assert_eq!(quoted(&["default".to_owned(), "other".to_owned()]), r#"["default" "other"]"#);
        assert_eq!(quoted(&[]), "[]");
    }
}
