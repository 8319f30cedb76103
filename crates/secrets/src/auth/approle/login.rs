//! The hot path: a login, and the renewal of the token that it gave.
//!
//! The role and the secret id come from memory. A login with a secret id of unlimited uses writes nothing
//! here; one with a limited number is counted down durably, before the token is made.

use std::collections::BTreeMap;
use std::sync::Arc;

use chancery_api::{Secret, fields};

use super::AppRole;
use super::role::Role;
use super::store::SecretId;
use crate::auth::networks::admit;
use crate::engine::{Call, RenewTerms};
use crate::error::Error;
use crate::response::Response;

/// What a login leaves with its token, so that a renewal finds the role.
const ROLE_NAME: &str = "role_name";

fields! {
    /// A login.
    #[derive(Debug)]
    pub(super) struct LoginRequest {
        body {
            /// The role id.
            role_id: String = String::new(),
            /// The secret id; needed unless the role does without.
            secret_id: Secret = Secret::default(),
        }
    }
}

impl AppRole {
    pub(super) async fn login(self: Arc<Self>, call: Call, body: LoginRequest) -> Result<Response, Error> {
        // As the peer does: what was read from a file often ends in a line feed.
        let role_id = body.role_id.trim();
        let text = trimmed(body.secret_id);
        if role_id.is_empty() {
            return Err(Error::invalid("missing role_id"));
        }
        let role = self.store.role_by_id(role_id).await?.ok_or_else(wrong)?;
        let secret_id = if role.bind_secret_id { Some(self.check(&call, &role, &text).await?) } else { None };
        self.check_networks(&call, &role, secret_id.as_deref())?;
        if let Some(secret_id) = &secret_id
            && secret_id.num_uses > 0
            && !self.store.spend(&role, &text, call.now).await?
        {
            return Err(wrong());
        }

        let mut login = role.token.login();
        if let Some(secret_id) = &secret_id {
            login.metadata.clone_from(&secret_id.metadata);
            if !secret_id.token_bound_cidrs.is_empty() {
                login.bound_cidrs.clone_from(&secret_id.token_bound_cidrs);
            }
        }
        if let (true, Some(address)) = (role.token.token_strictly_bind_ip, call.connection.address) {
            login.bound_cidrs = vec![address.to_canonical().into()];
        }
        login.metadata.insert(ROLE_NAME.to_owned(), role.name.clone());
        login.internal = BTreeMap::from([(ROLE_NAME.to_owned(), role.name.clone())]);
        login.alias = Some(role.role_id.clone());
        Ok(Response { login: Some(Box::new(login)), ..Response::default() })
    }

    /// The secret id, if it is one of the role's and in force.
    async fn check(&self, call: &Call, role: &Role, text: &Secret) -> Result<Arc<SecretId>, Error> {
        if text.is_empty() {
            return Err(Error::invalid("missing secret_id"));
        }
        let address = call.connection.address;
        if self.lockout.locked(&role.uuid, address, call.now) {
            return Err(Error::denied());
        }
        let hash = self.store.hash(role, text);
        match self.store.secret_id(role, &hash).await? {
            Some(secret_id) if secret_id.expired(call.now) => Err(wrong()),
            Some(secret_id) => Ok(secret_id),
            None => {
                let policy = (&*self.mount.tuning()).into();
                if self.lockout.failed(&role.uuid, address, hash.place(), policy, call.now) {
                    tracing::warn!(
                        mount = call.mount_path,
                        role = role.name,
                        address = address.map(tracing::field::display),
                        "too many different wrong secret ids; the address is locked out of the role"
                    );
                }
                Err(wrong())
            }
        }
    }

    /// Whether the caller's address is good for the role and the secret id. Asked before a use is spent.
    fn check_networks(&self, call: &Call, role: &Role, secret_id: Option<&SecretId>) -> Result<(), Error> {
        let address = call.connection.address;
        let shown = || address.map(|address| address.to_string()).unwrap_or_default();
        if !admit(role.secret_id_bound_cidrs.as_deref().unwrap_or_default(), address) {
            return Err(Error::invalid(format!(
                "source address {:?} unauthorized by CIDR restrictions on the role",
                shown()
            )));
        }
        if secret_id.is_some_and(|secret_id| !admit(&secret_id.cidr_list, address)) {
            return Err(Error::invalid(format!(
                "source address {:?} unauthorized through CIDR restrictions on the secret ID",
                shown()
            )));
        }
        Ok(())
    }

    /// The role's terms as they are now: a token follows its role at each renewal.
    pub(super) async fn renewal_terms(
        &self,
        internal: &BTreeMap<String, String>,
    ) -> Result<RenewTerms, Error> {
        let name = internal.get(ROLE_NAME).map(String::as_str).unwrap_or_default();
        let role = self.store.role(name).await?.ok_or_else(|| {
            Error::invalid(format!("failed to renew entry: role {name:?} does not exist during renewal"))
        })?;
        Ok(RenewTerms {
            ttl: role.token.token_ttl,
            max_ttl: role.token.token_max_ttl,
            period: role.token.token_period,
            explicit_max_ttl: None,
        })
    }
}

/// The secret without white space around it.
fn trimmed(secret: Secret) -> Secret {
    let bare = secret.expose().trim();
    if bare.len() == secret.expose().len() { secret } else { Secret::new(bare) }
}

/// One sentence for every wrong credential: it must not tell which of the two was wrong.
fn wrong() -> Error {
    Error::invalid("invalid role or secret ID")
}
