//! Which directory a path belongs to, and what may be asked there.
//!
//! There is one for the mount, one for each role, for each issuer, and for each role with each issuer.

use std::sync::Arc;

use super::super::Pki;
use super::super::authorities::{Authority, DEFAULT};
use super::super::role::Role;
use super::config::{AcmeConfig, DirectoryPolicy};
use super::problem::{Outcome, Problem, ProblemKind};
use crate::engine::Call;
use crate::error::Error;

/// A directory that is served.
pub(super) struct Directory {
    /// Below the mount, with its slash: `acme/`, `roles/web/acme/`.
    pub(super) path: String,
    /// The mount's URL for clients, with a slash.
    mount: String,
    /// The mount's settings.
    pub(super) config: Arc<AcmeConfig>,
    /// What may be certified; `None` for every name that is proved.
    pub(super) role: Option<NamedRole>,
    /// Who signs.
    pub(super) authority: Arc<Authority>,
}

/// A role and what it is called.
pub(super) struct NamedRole {
    pub(super) name: String,
    pub(super) role: Arc<Role>,
}

impl Directory {
    /// The URL of something in the directory.
    pub(super) fn url(&self, rest: &str) -> String {
        format!("{}{}{rest}", self.mount, self.path)
    }

    /// The URL that a request must have been signed for.
    pub(super) fn url_of(&self, call: &Call) -> String {
        format!("{}{}", self.mount, call.path)
    }
}

/// The path of the directory that a request went to.
pub(super) fn path_of(call: &Call) -> String {
    let capture = |wanted: &str| {
        call.captures.iter().find(|(name, _)| *name == wanted).map(|(_, value)| value.as_str())
    };
    let mut path = String::new();
    for (kind, value) in [("issuer", capture("issuer_ref")), ("roles", capture("role"))] {
        if let Some(value) = value {
            path.push_str(&format!("{kind}/{value}/"));
        }
    }
    path.push_str("acme/");
    path
}

fn server_internal(detail: &str) -> Problem {
    Problem::new(ProblemKind::ServerInternal, format!("the server experienced an internal error: {detail}"))
}

impl Pki {
    /// The directory of a request; `None` if ACME is not served here.
    pub(super) async fn directory(&self, call: &Call) -> Result<Option<Outcome<Directory>>, Error> {
        let config = self.acme_config().await?;
        if !config.enabled {
            return Ok(None);
        }
        Ok(Some(self.open_directory(call, config).await))
    }

    async fn open_directory(&self, call: &Call, config: Arc<AcmeConfig>) -> Outcome<Directory> {
        let capture = |wanted: &str| call.captures.iter().find(|(name, _)| *name == wanted);
        let authorities = self.store.authorities().await?;
        let cluster = &authorities.cluster.value.path;
        if cluster.is_empty() {
            return Err(server_internal("the cluster's path is not set").into());
        }
        let role_name = match (capture("role"), &config.default_directory_policy) {
            (Some((_, name)), _) => Some(name.clone()),
            (None, DirectoryPolicy::Forbid) => {
                return Err(server_internal("default directory not allowed by ACME policy").into());
            }
            (None, DirectoryPolicy::SignVerbatim) => None,
            (None, DirectoryPolicy::Role(name)) => Some(name.clone()),
        };
        let role = match role_name {
            None => None,
            Some(name) => {
                let missing = || Problem::malformed("the request message was malformed: role does not exist");
                let role = self.store.role(&name).await?.ok_or_else(missing)?;
                if role.record.no_store {
                    return Err(server_internal("role can not be used as NoStore is set to true").into());
                }
                if !config.allows_role(&name) {
                    return Err(server_internal("specified role not allowed by ACME policy").into());
                }
                Some(NamedRole { name, role })
            }
        };
        let of_role = role.as_ref().map(|named| named.role.record.issuer_ref.as_str());
        let reference = capture("issuer_ref").map(|(_, name)| name.as_str()).or(of_role).unwrap_or(DEFAULT);
        let authority = authorities
            .find_issuer(reference)
            .map_err(|_| Problem::malformed("the request message was malformed: issuer does not exist"))?;
        let id = authority.record.id;
        let allowed = config.allows_any_issuer()
            || config
                .allowed_issuers
                .iter()
                .any(|allowed| authorities.find_issuer(allowed).is_ok_and(|found| found.record.id == id));
        if !allowed {
            return Err(server_internal("specified issuer not allowed by ACME policy").into());
        }
        if authority.key.is_none() || !authority.record.usage.issuing_certificates {
            return Err(server_internal("issuer missing proper issuance usage or key").into());
        }
        let mount = format!("{}/", cluster.trim_end_matches('/'));
        Ok(Directory { path: path_of(call), mount, config, role, authority: Arc::clone(authority) })
    }
}
