//! `mesh dev-token`: A token issuer for trying it out.

use crate::command::Command;

pub(super) const COMMANDS: &[Command] = &[];
