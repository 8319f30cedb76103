//! The `token_*` parameters that auth roles share.

use chancery_api::Ttl;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::response::Login;
use crate::token::TokenKind;

/// What an auth role says of the tokens it gives: the fields `token_ttl`, `token_policies`, ….
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenParameters {
    /// First lifetime; zero is the mount's default.
    pub token_ttl: Ttl,
    /// Longest lifetime with renewals; zero is the mount's maximum.
    pub token_max_ttl: Ttl,
    /// A hard end that no renewal moves.
    pub token_explicit_max_ttl: Ttl,
    /// Renewals set the lifetime to this, without an end.
    pub token_period: Ttl,
    /// The policies, lower case.
    pub token_policies: Vec<String>,
    /// Without the `default` policy.
    pub token_no_default_policy: bool,
    /// How often a token can be used; 0 is without limit.
    pub token_num_uses: u64,
    /// Networks a token may be used from.
    pub token_bound_cidrs: Vec<IpNet>,
    /// `default`, `service`, `batch`, `default-service` or `default-batch`; empty is `default`.
    pub token_type: String,
    /// The token works only from the address of the login.
    pub token_strictly_bind_ip: bool,
}

impl TokenParameters {
    /// A login on these terms; names and metadata are the auth method's to fill in.
    pub fn login(&self) -> Login {
        Login {
            policies: self.token_policies.clone(),
            no_default_policy: self.token_no_default_policy,
            ttl: self.token_ttl,
            max_ttl: self.token_max_ttl,
            explicit_max_ttl: self.token_explicit_max_ttl,
            period: self.token_period,
            num_uses: self.token_num_uses,
            bound_cidrs: self.token_bound_cidrs.clone(),
            kind: match self.token_type.as_str() {
                "batch" => Some(TokenKind::Batch),
                "service" => Some(TokenKind::Service),
                _ => None,
            },
            renewable: true,
            ..Login::default()
        }
    }
}
