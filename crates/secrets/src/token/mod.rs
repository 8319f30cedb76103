//! Tokens: who asks, for how long, and what came from whom.

mod entry;
mod parameters;

pub use entry::{Authorized, TokenEntry, TokenKey, TokenKind};
pub use parameters::{ShownParameters, TokenChanges, TokenParameters, policy_names};
