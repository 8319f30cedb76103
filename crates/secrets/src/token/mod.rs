//! Tokens: who asks, for how long, and what came from whom.

pub(crate) mod base62;
mod create;
mod engine;
mod entry;
mod keys;
mod parameters;
pub mod policies;
mod revoke;
mod role;
pub(crate) mod store;
#[cfg(test)]
pub(crate) mod tests;
pub mod ttl;

pub use engine::{Outside, TokenEngine};
pub use entry::{Authorized, TokenEntry, TokenKey, TokenKind, TokenState};
pub use parameters::{ShownParameters, TokenChanges, TokenParameters, policy_names};
pub use store::{Created, NewToken, Spend, TokenStore};
