//! The policies that are there from the beginning, and the rules for names.

/// Everything. Has no text, stands alone, and can be neither changed nor deleted.
pub const ROOT: &str = "root";

/// What every token may do unless it was made without it. Can be changed, not deleted.
pub const DEFAULT: &str = "default";

/// What a wrapping token may do. Not listed, and can be neither changed nor deleted.
pub const RESPONSE_WRAPPING: &str = "response-wrapping";

/// The first text of [`DEFAULT`].
pub const DEFAULT_TEXT: &str = r#"# Given to every token that is not made with no_default_policy: what a token may
# do with itself. It can be changed, but not deleted.

# Its own properties, its renewal and its end.
path "auth/token/lookup-self" {
  capabilities = ["read"]
}

path "auth/token/renew-self" {
  capabilities = ["update"]
}

path "auth/token/revoke-self" {
  capabilities = ["update"]
}

# What it may do elsewhere, path by path or all together.
path "sys/capabilities-self" {
  capabilities = ["update"]
}

path "sys/internal/ui/resultant-acl" {
  capabilities = ["read"]
}

# The entity behind it.
path "identity/entity/id/{{identity.entity.id}}" {
  capabilities = ["read"]
}

path "identity/entity/name/{{identity.entity.name}}" {
  capabilities = ["read"]
}

# Leases whose id it knows.
path "sys/leases/lookup" {
  capabilities = ["update"]
}

path "sys/leases/renew" {
  capabilities = ["update"]
}

# A place of its own.
path "cubbyhole/*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

# Response wrapping: make, inspect and open.
path "sys/wrapping/wrap" {
  capabilities = ["update"]
}

path "sys/wrapping/lookup" {
  capabilities = ["update"]
}

path "sys/wrapping/unwrap" {
  capabilities = ["update"]
}

# Hashes, which need no secret.
path "sys/tools/hash" {
  capabilities = ["update"]
}

path "sys/tools/hash/*" {
  capabilities = ["update"]
}

# The authorization endpoint of OpenID Connect providers.
path "identity/oidc/provider/+/authorize" {
  capabilities = ["read", "update"]
}
"#;

/// The text of [`RESPONSE_WRAPPING`].
pub const RESPONSE_WRAPPING_TEXT: &str = r#"path "cubbyhole/response" {
  capabilities = ["create", "read"]
}

path "sys/wrapping/unwrap" {
  capabilities = ["update"]
}

path "auth/token/revoke-self" {
  capabilities = ["update"]
}
"#;

/// A policy's name as it is kept: lower case, without spaces around it.
#[must_use]
pub fn normal_name(name: &str) -> String {
    name.trim().to_lowercase()
}

/// Whether the policy of this (normal) name may be written; if not, the sentence that says so.
///
/// # Errors
/// For `root` and `response-wrapping`.
pub fn may_be_written(name: &str) -> Result<(), String> {
    match name {
        ROOT | RESPONSE_WRAPPING => Err(format!("cannot update \"{name}\" policy")),
        _ => Ok(()),
    }
}

/// Whether the policy of this (normal) name may be deleted; if not, the sentence that says so.
///
/// # Errors
/// For all built-in policies.
pub fn may_be_deleted(name: &str) -> Result<(), String> {
    match name {
        ROOT | RESPONSE_WRAPPING => Err(format!("cannot delete \"{name}\" policy")),
        DEFAULT => Err("cannot delete default policy".to_owned()),
        _ => Ok(()),
    }
}
