//! `mesh ca`: The certificate service.

use crate::command::Command;

pub(super) const COMMANDS: &[Command] = &[];
