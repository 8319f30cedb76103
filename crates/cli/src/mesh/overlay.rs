//! `mesh overlay`: Overlays and the control plane's document.

use crate::command::Command;

pub(super) const COMMANDS: &[Command] = &[];
