//! `mesh agent`: The workload agent.

use crate::command::Command;

pub(super) const COMMANDS: &[Command] = &[];
