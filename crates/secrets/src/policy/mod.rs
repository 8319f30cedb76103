//! Policies: who may do what at which path.
//!
//! A [`Policy`] is a text and the rules that were read from it. The policies of a token become one
//! [`Acl`], which answers each request: the exact path first, then the pattern that fits most closely,
//! and where two rules speak of the same pattern their rights are added, except that a single `deny`
//! takes all of them away. An `Acl` is made once for a set of policies and shared; asking it costs the
//! length of the path.

mod acl;
mod builtin;
mod capability;
mod keys_filter;
mod parameters;
mod parse;
mod store;
mod template;

pub use acl::{Acl, Denied, Grant, RuleNames};
pub use builtin::{
    DEFAULT, DEFAULT_TEXT, RESPONSE_WRAPPING, RESPONSE_WRAPPING_TEXT, ROOT, may_be_deleted, may_be_written,
    normal_name,
};
pub use capability::{Capabilities, Capability};
pub use keys_filter::KeysFilter;
pub use parameters::Parameters;
pub use parse::{PathRule, Permissions, Policy, PolicyError};
pub use store::{Policies, PolicyRecord, Replaced};
pub use template::{Alias, Entity, Group, Identity, Substitution};

#[cfg(test)]
mod tests;
