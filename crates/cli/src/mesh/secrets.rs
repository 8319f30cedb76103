//! `mesh secrets`: What an Envoy holds.

use crate::command::Command;

pub(super) const COMMANDS: &[Command] = &[];
