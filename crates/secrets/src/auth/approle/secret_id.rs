//! Secret ids from the operator's side: making, listing, looking up, destroying.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_api::{Secret, Strings, Ttl, fields};
use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;

use super::AppRole;
use super::role::{Role, uses_of};
use super::store::{Found, SecretId};
use crate::auth::networks::{outside, parse_cidrs};
use crate::engine::Call;
use crate::error::Error;
use crate::response::Response;

fields! {
    /// The making of a secret id.
    #[derive(Debug)]
    pub(super) struct GenerateSecretId {
        path {
            /// The role's name.
            role_name: String,
        }
        body {
            /// A JSON object of texts; the tokens' metadata.
            metadata: String = String::new(),
            /// Networks that logins with this secret id may come from; within the role's.
            cidr_list: Strings = Strings::default(),
            /// Networks that the tokens may be used from; within the role's.
            token_bound_cidrs: Strings = Strings::default(),
            /// How often it can be used; the role's if absent, which it cannot exceed.
            num_uses: Option<i64>,
            /// How long it lives; the role's if absent, which it cannot exceed.
            ttl: Option<Ttl>,
        }
    }
}

fields! {
    /// The registration of a secret id that the operator chose.
    #[derive(Debug)]
    pub(super) struct CustomSecretId {
        path {
            /// The role's name.
            role_name: String,
        }
        body {
            /// The secret id.
            secret_id: Secret = Secret::default(),
            /// A JSON object of texts; the tokens' metadata.
            metadata: String = String::new(),
            /// Networks that logins with this secret id may come from; within the role's.
            cidr_list: Strings = Strings::default(),
            /// Networks that the tokens may be used from; within the role's.
            token_bound_cidrs: Strings = Strings::default(),
            /// How often it can be used; the role's if absent, which it cannot exceed.
            num_uses: Option<i64>,
            /// How long it lives; the role's if absent, which it cannot exceed.
            ttl: Option<Ttl>,
        }
    }
}

fields! {
    /// The listing of a role's secret ids.
    #[derive(Debug)]
    pub(super) struct ListSecretIds {
        path {
            /// The role's name.
            role_name: String,
        }
        body {
            /// Begin after this accessor.
            after: String = String::new(),
            /// At most so many; all if absent or not positive.
            limit: i64 = 0,
        }
    }
}

fields! {
    /// A secret id by its text.
    #[derive(Debug)]
    pub(super) struct BySecretId {
        path {
            /// The role's name.
            role_name: String,
        }
        body {
            /// The secret id.
            secret_id: Secret = Secret::default(),
        }
    }
}

fields! {
    /// A secret id by its accessor.
    #[derive(Debug)]
    pub(super) struct ByAccessor {
        path {
            /// The role's name.
            role_name: String,
        }
        body {
            /// The accessor.
            secret_id_accessor: String = String::new(),
        }
    }
}

#[derive(Serialize)]
struct Made<'a> {
    secret_id: &'a str,
    secret_id_accessor: &'a str,
    secret_id_num_uses: u64,
    secret_id_ttl: Ttl,
}

#[derive(Serialize)]
struct Properties<'a> {
    cidr_list: &'a [IpNet],
    creation_time: String,
    expiration_time: String,
    last_updated_time: String,
    metadata: &'a BTreeMap<String, String>,
    secret_id_accessor: &'a str,
    secret_id_num_uses: u64,
    secret_id_ttl: Ttl,
    token_bound_cidrs: &'a [IpNet],
}

impl AppRole {
    pub(super) async fn generate_secret_id(
        self: Arc<Self>,
        call: Call,
        body: GenerateSecretId,
    ) -> Result<Response, Error> {
        let GenerateSecretId { role_name, metadata, cidr_list, token_bound_cidrs, num_uses, ttl } = body;
        let text = Secret::new(uuid::Uuid::new_v4().to_string());
        let terms = Terms::parse(&metadata, &cidr_list, &token_bound_cidrs, num_uses, ttl)?;
        self.register(&call, &role_name, text, terms).await
    }

    pub(super) async fn custom_secret_id(
        self: Arc<Self>,
        call: Call,
        body: CustomSecretId,
    ) -> Result<Response, Error> {
        let CustomSecretId { role_name, secret_id, metadata, cidr_list, token_bound_cidrs, num_uses, ttl } =
            body;
        if secret_id.is_empty() {
            return Err(Error::invalid("missing secret_id"));
        }
        let terms = Terms::parse(&metadata, &cidr_list, &token_bound_cidrs, num_uses, ttl)?;
        self.register(&call, &role_name, secret_id, terms).await
    }

    async fn register(&self, call: &Call, name: &str, text: Secret, terms: Terms) -> Result<Response, Error> {
        let name = name.to_lowercase();
        let max_ttl = self.mount.max_ttl();
        let secret_id =
            self.store.register(&name, &text, |role| terms.apply(role, max_ttl, call.now)).await?;
        let response = Response::data(&Made {
            secret_id: text.expose(),
            secret_id_accessor: &secret_id.accessor,
            secret_id_num_uses: secret_id.num_uses,
            secret_id_ttl: secret_id.ttl.capped(if secret_id.ttl.is_zero() { Ttl::ZERO } else { max_ttl }),
        })?;
        Ok(Response { accessor: Some(secret_id.accessor.clone()), ..response })
    }

    pub(super) async fn list_secret_ids(
        self: Arc<Self>,
        _: Call,
        body: ListSecretIds,
    ) -> Result<Response, Error> {
        let role = self.named(&body.role_name).await.map_err(|error| Error::invalid(error.message()))?;
        let limit = usize::try_from(body.limit).ok().filter(|limit| *limit > 0).unwrap_or(usize::MAX);
        Response::list(&self.store.accessors(&role, &body.after, limit).await?)
    }

    pub(super) async fn lookup_secret_id(
        self: Arc<Self>,
        call: Call,
        body: BySecretId,
    ) -> Result<Response, Error> {
        if body.secret_id.is_empty() {
            return Err(Error::invalid("missing secret_id"));
        }
        let role = self.named(&body.role_name).await?;
        let hash = self.store.hash(&role, &body.secret_id);
        match self.store.secret_id(&role, &hash).await? {
            Some(secret_id) if !secret_id.expired(call.now) => properties(&secret_id),
            // As the peer has it: a secret id that is not there has no properties.
            _ => Ok(Response::empty()),
        }
    }

    pub(super) async fn lookup_accessor(
        self: Arc<Self>,
        call: Call,
        body: ByAccessor,
    ) -> Result<Response, Error> {
        let (_, found) = self.by_accessor(&body).await?;
        if found.secret_id.expired(call.now) {
            return Err(unknown_accessor(&body.secret_id_accessor));
        }
        properties(&found.secret_id)
    }

    pub(super) async fn destroy_secret_id(
        self: Arc<Self>,
        _: Call,
        body: BySecretId,
    ) -> Result<Response, Error> {
        if body.secret_id.is_empty() {
            return Err(Error::invalid("missing secret_id"));
        }
        let role = self.named(&body.role_name).await?;
        let place = self.store.hash(&role, &body.secret_id).place();
        self.store.destroy(&role, place).await?;
        Ok(Response::empty())
    }

    pub(super) async fn destroy_accessor(
        self: Arc<Self>,
        _: Call,
        body: ByAccessor,
    ) -> Result<Response, Error> {
        let (role, found) = self.by_accessor(&body).await?;
        self.store.destroy(&role, found.place).await?;
        Ok(Response::empty())
    }

    async fn by_accessor(&self, body: &ByAccessor) -> Result<(Arc<Role>, Found), Error> {
        if body.secret_id_accessor.is_empty() {
            return Err(Error::invalid("missing secret_id_accessor"));
        }
        let role = self.named(&body.role_name).await?;
        let found = self.store.by_accessor(&role, &body.secret_id_accessor).await?;
        Ok((role, found.ok_or_else(|| unknown_accessor(&body.secret_id_accessor))?))
    }

    /// The role of this name in any case, or 404 with a sentence.
    async fn named(&self, name: &str) -> Result<Arc<Role>, Error> {
        let role = self.store.role(&name.to_lowercase()).await?;
        role.ok_or_else(|| Error::not_found(format!("role {name:?} does not exist")))
    }
}

fn unknown_accessor(accessor: &str) -> Error {
    Error::not_found(format!("failed to find accessor entry for secret_id_accessor: {accessor:?}"))
}

fn properties(secret_id: &SecretId) -> Result<Response, Error> {
    Response::data(&Properties {
        cidr_list: &secret_id.cidr_list,
        creation_time: secret_id.created.to_string(),
        // What never ends is shown as the zero instant, as Go writes it.
        expiration_time: secret_id
            .expires
            .map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |at| at.to_string()),
        last_updated_time: secret_id.updated.to_string(),
        metadata: &secret_id.metadata,
        secret_id_accessor: &secret_id.accessor,
        secret_id_num_uses: secret_id.num_uses,
        secret_id_ttl: secret_id.ttl,
        token_bound_cidrs: &secret_id.token_bound_cidrs,
    })
}

/// What a request says of the secret id it asks for.
struct Terms {
    metadata: BTreeMap<String, String>,
    cidr_list: Vec<IpNet>,
    token_bound_cidrs: Vec<IpNet>,
    num_uses: Option<u64>,
    ttl: Option<Ttl>,
}

impl Terms {
    fn parse(
        metadata: &str,
        cidr_list: &[String],
        token_bound_cidrs: &[String],
        num_uses: Option<i64>,
        ttl: Option<Ttl>,
    ) -> Result<Self, Error> {
        let num_uses =
            num_uses.map(uses_of).transpose().map_err(|_| Error::invalid("num_uses cannot be negative"))?;
        Ok(Self {
            metadata: parse_metadata(metadata)?,
            cidr_list: parse_cidrs(cidr_list)?,
            token_bound_cidrs: parse_cidrs(token_bound_cidrs)?,
            num_uses,
            ttl,
        })
    }

    /// The secret id under this role, whose limits it cannot exceed.
    fn apply(&self, role: &Role, max_ttl: Ttl, now: Timestamp) -> Result<SecretId, Error> {
        let Self { metadata, cidr_list, token_bound_cidrs, num_uses, ttl } = self;
        if !role.bind_secret_id {
            return Err(Error::invalid("bind_secret_id is not set on the role"));
        }
        let exceeds = |asked: u64, limit: u64| limit != 0 && (asked == 0 || asked > limit);
        let num_uses = num_uses.unwrap_or(role.secret_id_num_uses);
        if exceeds(num_uses, role.secret_id_num_uses) {
            return Err(Error::invalid("num_uses cannot be higher than the role's secret_id_num_uses"));
        }
        let ttl = ttl.unwrap_or(role.secret_id_ttl);
        if exceeds(ttl.as_secs(), role.secret_id_ttl.as_secs()) {
            return Err(Error::invalid("ttl cannot be longer than the role's secret_id_ttl"));
        }
        within(cidr_list, role.secret_id_bound_cidrs.as_deref().unwrap_or_default())?;
        within(token_bound_cidrs, &role.token.token_bound_cidrs)?;
        let lifetime = if ttl.is_zero() { Ttl::ZERO } else { ttl.capped(max_ttl) };
        let expires = (!lifetime.is_zero())
            .then(|| now.checked_add(lifetime.0).map_err(|_| Error::invalid("ttl is too long")))
            .transpose()?;
        Ok(SecretId {
            accessor: String::new(),
            proof: String::new(),
            created: now,
            updated: now,
            expires,
            ttl,
            num_uses,
            metadata: metadata.clone(),
            cidr_list: cidr_list.clone(),
            token_bound_cidrs: token_bound_cidrs.clone(),
        })
    }
}

fn within(inner: &[IpNet], outer: &[IpNet]) -> Result<(), Error> {
    match outside(inner, outer) {
        None => Ok(()),
        Some(_) => Err(Error::invalid(format!(
            "failed to verify subset relationship between CIDR blocks on the role {} and CIDR blocks on the secret ID {}",
            list(outer),
            list(inner)
        ))),
    }
}

fn list(networks: &[IpNet]) -> String {
    let texts: Vec<String> = networks.iter().map(|network| format!("{:?}", network.to_string())).collect();
    format!("[{}]", texts.join(" "))
}

/// A JSON object of texts, or `key=value` texts with commas between them; either may be in base64.
fn parse_metadata(text: &str) -> Result<BTreeMap<String, String>, Error> {
    let decoded = STANDARD.decode(text.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let text = decoded.as_deref().filter(|decoded| decoded.contains(['{', '='])).unwrap_or(text).trim();
    if let Ok(map) = serde_json::from_str(text) {
        return Ok(map);
    }
    text.split(',')
        .map(str::trim)
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) =
                pair.split_once('=').filter(|(key, _)| !key.trim().is_empty()).ok_or_else(|| {
                    Error::invalid(
                        "failed to parse metadata: failed to parse the input: invalid <key,value> format",
                    )
                })?;
            Ok((key.trim().to_owned(), value.trim().to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_json_or_pairs_either_way_perhaps_in_base64() {
        let expected = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        for text in [r#"{"a":"b"}"#, "a=b", " a = b ,", "eyJhIjoiYiJ9", "YT1i"] {
            assert_eq!(parse_metadata(text).unwrap(), expected, "{text}");
        }
        assert!(parse_metadata("").unwrap().is_empty());
        for text in ["x", r#"{"a":1}"#, "[]", r#"{"a":{"b":1}}"#, "=b"] {
            assert_eq!(
                parse_metadata(text).unwrap_err().message(),
                "failed to parse metadata: failed to parse the input: invalid <key,value> format",
                "{text}"
            );
        }
    }
}
