//! `mesh verify`: Whether workload, ConfigMap and CA agree.

use crate::command::Command;

pub(super) const COMMANDS: &[Command] = &[];
