//! The mesh side on the command line: one file per command, each with its flags, its help and nothing that a test of
//! `chancery-mesh` could not reach.

mod agent;
mod ca;
mod dev_token;
mod overlay;
mod secrets;
mod verify;

use crate::command::{Command, Group};

pub(crate) const GROUP: Group = Group {
    name: "mesh",
    synopsis: "Give workloads of a mesh their certificates, and see what they hold",
    help: "The mesh side: the certificate service that Istio's agents call, the workload agent that feeds Envoy, the \
           inspection of what an Envoy holds, and the control plane's document.",
};

pub(crate) fn commands() -> impl Iterator<Item = &'static Command> + Clone {
    let tables = [
        ca::COMMANDS,
        agent::COMMANDS,
        secrets::COMMANDS,
        verify::COMMANDS,
        overlay::COMMANDS,
        dev_token::COMMANDS,
    ];
    tables.into_iter().flatten()
}
