//! Whether an issuer's server is there, unsealed, and lets us sign.

use chancery_client::{Error, Request};
use serde::{Deserialize, Serialize};

use super::connection::{Connection, OpenError, tell};
use super::sign::Question;

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::issuer) struct Trouble {
    /// The condition's message.
    pub(in crate::issuer) message: String,
    /// The cause alone, for the event.
    pub(in crate::issuer) cause: String,
    /// Whether asking again costs no login, of which a few wrong ones lock a role out.
    pub(in crate::issuer) is_cheap: bool,
}

/// What a server says about a permission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Permission {
    /// It is there.
    Given,
    /// It says nothing.
    Unsaid,
    /// It says nothing to this token, which has no right to ask, or no longer any right.
    Refused,
}

impl Trouble {
    pub(in crate::issuer) fn new(what: &str, cause: String) -> Self {
        Self { message: format!("{what}: {cause}"), cause, is_cheap: true }
    }

    /// There is no connection.
    pub(super) fn init(error: &OpenError) -> Self {
        let is_cheap = matches!(error, OpenError::Outage(_));
        Self { is_cheap, ..Self::new("Failed to initialize Vault client", error.to_string()) }
    }
}

impl Connection {
    /// Whether the server is initialized and unsealed.
    pub(super) async fn check_health(&self) -> Result<(), Trouble> {
        // Namespaces have no health of their own.
        let asked = self.client().send(&Request::read("sys/health").without_namespace()).await;
        let cause = match asked {
            Ok(_) => return Ok(()),
            Err(error) => match error.status() {
                // Standbys pass on what they are asked.
                Some(429 | 472 | 473) => return Ok(()),
                Some(501) => "Vault is not initialized".to_owned(),
                Some(503) => "Vault is sealed".to_owned(),
                Some(_) => format!("error calling Vault /v1/sys/health: {}", tell(&error, &self.plan)),
                None => tell(&error, &self.plan),
            },
        };
        Err(Trouble::new("Failed to verify Vault is initialized and unsealed", cause))
    }

    /// Asks for a signature without a CSR: a server that would sign says that there is none. For tokens that may not ask for
    /// their permissions, which those may be that have expired.
    pub(super) async fn try_to_sign(&self) -> Result<(), Trouble> {
        let path = self.plan.path.as_str();
        let Ok(request) = Request::post(path, &Question::empty()) else { return Ok(()) };
        match self.client().send(&request.plain()).await {
            Err(error) if error.status() == Some(403) => {
                let cause = format!(
                    "the token is refused at {path:?}: it has expired or was revoked, or a policy of it lacks this line: \
                     path {path:?} {{ capabilities = [\"update\"] }}"
                );
                Err(Trouble::new("Vault does not allow to sign", cause))
            }
            _ => Ok(()),
        }
    }

    /// Whether the token may sign, as far as the server says.
    pub(super) async fn check_permission(&self) -> Result<Permission, Trouble> {
        #[derive(Serialize)]
        struct Paths<'a> {
            paths: [&'a str; 1],
        }
        #[derive(Deserialize)]
        struct Capabilities {
            capabilities: Vec<String>,
        }
        let path = self.plan.path.as_str();
        let failed = |error: &Error| {
            Trouble::new("Failed to ask Vault for the token's permissions", tell(error, &self.plan))
        };
        let request = Request::post("sys/capabilities-self", &Paths { paths: [path] });
        let request = request.map_err(|error| failed(&error))?.plain();
        let response = match self.client().send(&request).await {
            Ok(response) => response,
            Err(error) => {
                return match error.status() {
                    Some(403) => Ok(Permission::Refused),
                    Some(400..=499) if error.status() != Some(429) => Ok(Permission::Unsaid),
                    _ => Err(failed(&error)),
                };
            }
        };
        let Ok(Capabilities { capabilities }) = response.data() else { return Ok(Permission::Unsaid) };
        if may_sign(&capabilities) { Ok(Permission::Given) } else { Err(forbidden(path, &capabilities)) }
    }
}

fn may_sign(capabilities: &[String]) -> bool {
    capabilities.iter().any(|capability| capability == "update" || capability == "root")
}

fn forbidden(path: &str, capabilities: &[String]) -> Trouble {
    let has = match capabilities {
        [] => "nothing".to_owned(),
        some => some.join(", "),
    };
    let cause = format!(
        "the token may do {has} at {path:?}, but needs \"update\" to sign; add this line to a policy of it: \
         path {path:?} {{ capabilities = [\"update\"] }}"
    );
    Trouble::new("Vault does not allow to sign", cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_update_and_root_may_sign() {
        let may = |names: &[&str]| may_sign(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        assert!(may(&["create", "update"]) && may(&["root"]));
        assert!(!may(&["deny"]) && !may(&["read", "create"]) && !may(&[]));
    }

    #[test]
    fn who_may_not_sign_is_told_the_line_that_is_missing() {
        let trouble = forbidden("istioca/sign/cluster-local", &["deny".to_owned()]);
        assert_eq!(
            trouble.message,
            "Vault does not allow to sign: the token may do deny at \"istioca/sign/cluster-local\", but needs \"update\" to \
             sign; add this line to a policy of it: path \"istioca/sign/cluster-local\" { capabilities = [\"update\"] }"
        );
    }
}
