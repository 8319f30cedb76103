//! The `token_*` parameters that auth roles share.

use chancery_api::{Strings, Ttl};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::auth::networks;
use crate::error::Error;
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

    /// These parameters with `changes`, and what to warn about.
    pub fn changed(&self, changes: TokenChanges) -> Result<(Self, Vec<String>), Error> {
        let TokenChanges {
            token_ttl,
            token_max_ttl,
            token_explicit_max_ttl,
            token_period,
            token_policies,
            token_no_default_policy,
            token_num_uses,
            token_bound_cidrs,
            token_type,
            token_strictly_bind_ip,
        } = changes;
        let mut warnings = Vec::new();
        let mut adjusted = |word: &str| {
            warnings.push(format!("default-{word} has no useful meaning; adjusting to {word}"));
            word.to_owned()
        };
        let num_uses = token_num_uses.map(u64::try_from).transpose();
        let changed = Self {
            token_ttl: token_ttl.unwrap_or(self.token_ttl),
            token_max_ttl: token_max_ttl.unwrap_or(self.token_max_ttl),
            token_explicit_max_ttl: token_explicit_max_ttl.unwrap_or(self.token_explicit_max_ttl),
            token_period: token_period.unwrap_or(self.token_period),
            token_policies: token_policies
                .map_or_else(|| self.token_policies.clone(), |list| policy_names(&list)),
            token_no_default_policy: token_no_default_policy.unwrap_or(self.token_no_default_policy),
            token_num_uses: num_uses
                .map_err(|_| Error::invalid("'token_num_uses' cannot be negative"))?
                .unwrap_or(self.token_num_uses),
            token_bound_cidrs: match token_bound_cidrs {
                Some(list) => networks::parse_networks(&list)?,
                None => self.token_bound_cidrs.clone(),
            },
            token_type: match token_type.as_deref() {
                None => self.token_type.clone(),
                Some("" | "default") => String::new(),
                Some(word @ ("service" | "batch")) => word.to_owned(),
                Some("default-service") => adjusted("service"),
                Some("default-batch") => adjusted("batch"),
                Some(other) => return Err(Error::invalid(format!("invalid 'token_type' value {other:?}"))),
            },
            token_strictly_bind_ip: token_strictly_bind_ip.unwrap_or(self.token_strictly_bind_ip),
        };
        changed.check()?;
        Ok((changed, warnings))
    }

    /// What must hold between the parameters.
    fn check(&self) -> Result<(), Error> {
        if !self.token_max_ttl.is_zero() && self.token_ttl > self.token_max_ttl {
            return Err(Error::invalid("'token_ttl' cannot be greater than 'token_max_ttl'"));
        }
        if self.token_type == "batch" && !self.token_period.is_zero() {
            return Err(Error::invalid(
                "'token_type' cannot be 'batch' or 'default_batch' when set to generate periodic tokens",
            ));
        }
        if self.token_type == "batch" && self.token_num_uses != 0 {
            return Err(Error::invalid(
                "'token_type' cannot be 'batch' or 'default_batch' when set to generate tokens with limited use count",
            ));
        }
        Ok(())
    }

    /// As a role's answer shows them; to be flattened into it.
    pub fn shown(&self) -> ShownParameters<'_> {
        ShownParameters {
            token_bound_cidrs: self.token_bound_cidrs.iter().map(networks::shown).collect(),
            token_explicit_max_ttl: self.token_explicit_max_ttl,
            token_max_ttl: self.token_max_ttl,
            token_no_default_policy: self.token_no_default_policy,
            token_num_uses: self.token_num_uses,
            token_period: self.token_period,
            token_policies: &self.token_policies,
            token_strictly_bind_ip: self.token_strictly_bind_ip,
            token_ttl: self.token_ttl,
            token_type: if self.token_type.is_empty() { "default" } else { &self.token_type },
        }
    }
}

/// The `token_*` parameters of one request: what is absent stays as it is.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "the fields are those of `TokenParameters`")]
pub struct TokenChanges {
    pub token_ttl: Option<Ttl>,
    pub token_max_ttl: Option<Ttl>,
    pub token_explicit_max_ttl: Option<Ttl>,
    pub token_period: Option<Ttl>,
    pub token_policies: Option<Strings>,
    pub token_no_default_policy: Option<bool>,
    pub token_num_uses: Option<i64>,
    pub token_bound_cidrs: Option<Strings>,
    pub token_type: Option<String>,
    pub token_strictly_bind_ip: Option<bool>,
}

/// [`TokenParameters`] on the wire.
#[derive(Debug, Serialize)]
pub struct ShownParameters<'a> {
    token_bound_cidrs: Vec<String>,
    token_explicit_max_ttl: Ttl,
    token_max_ttl: Ttl,
    token_no_default_policy: bool,
    token_num_uses: u64,
    token_period: Ttl,
    token_policies: &'a [String],
    token_strictly_bind_ip: bool,
    token_ttl: Ttl,
    token_type: &'a str,
}

/// Policy names as they are kept: lower case, without spaces around, each once, in the order given.
pub fn policy_names(given: &[String]) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(given.len());
    for name in given {
        let name = name.trim().to_lowercase();
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_absent_stays_as_it_was() {
        let role =
            TokenParameters { token_ttl: Ttl::hours(1), token_type: "batch".into(), ..Default::default() };
        let (changed, warnings) = role.changed(TokenChanges::default()).unwrap();
        assert_eq!(changed, role);
        assert!(warnings.is_empty());
    }

    #[test]
    fn parameters_that_exclude_each_other_are_refused_in_the_peers_words() {
        let batch = || TokenChanges { token_type: Some("batch".into()), ..Default::default() };
        for (changes, message) in [
            (
                TokenChanges {
                    token_ttl: Some(Ttl::hours(2)),
                    token_max_ttl: Some(Ttl::hours(1)),
                    ..Default::default()
                },
                "'token_ttl' cannot be greater than 'token_max_ttl'",
            ),
            (
                TokenChanges { token_num_uses: Some(-1), ..Default::default() },
                "'token_num_uses' cannot be negative",
            ),
            (
                TokenChanges { token_type: Some("bogus".into()), ..Default::default() },
                "invalid 'token_type' value \"bogus\"",
            ),
            (
                TokenChanges { token_num_uses: Some(3), ..batch() },
                "'token_type' cannot be 'batch' or 'default_batch' when set to generate tokens with limited use count",
            ),
            (
                TokenChanges { token_period: Some(Ttl::hours(1)), ..batch() },
                "'token_type' cannot be 'batch' or 'default_batch' when set to generate periodic tokens",
            ),
        ] {
            assert_eq!(TokenParameters::default().changed(changes).unwrap_err().message(), message);
        }
    }

    #[test]
    fn a_default_type_becomes_the_type_with_a_warning() {
        let changes = TokenChanges { token_type: Some("default-batch".into()), ..Default::default() };
        let (changed, warnings) = TokenParameters::default().changed(changes).unwrap();
        assert_eq!(changed.token_type, "batch");
        assert_eq!(warnings, ["default-batch has no useful meaning; adjusting to batch"]);
    }

    #[test]
    fn policy_names_are_lower_case_and_stand_once() {
        let given: Vec<String> = ["a", "B ", "a", "", "default"].map(str::to_owned).into();
        assert_eq!(policy_names(&given), ["a", "b", "default"]);
    }
}
