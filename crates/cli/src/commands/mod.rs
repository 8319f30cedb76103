//! All commands, in tables.

mod audit;
mod data;
mod lease;
mod login;
mod misc;
mod mounts;
mod operator;
mod policy;
mod server;
mod status;
mod token;

use crate::command::{Command, Group};

pub(crate) use misc::version;

/// All commands.
pub(crate) fn commands() -> impl Iterator<Item = &'static Command> + Clone {
    let tables = [
        data::COMMANDS,
        status::COMMANDS,
        login::COMMANDS,
        mounts::COMMANDS,
        policy::COMMANDS,
        token::COMMANDS,
        lease::COMMANDS,
        audit::COMMANDS,
        misc::COMMANDS,
        server::COMMANDS,
        crate::pki::COMMANDS,
        crate::demo::COMMANDS,
        crate::controller::COMMANDS,
    ];
    tables
        .into_iter()
        .flatten()
        .chain(operator::commands())
        .chain(crate::mesh::commands())
        .chain(crate::cert::commands())
}

/// All groups of commands.
pub(crate) fn groups() -> impl Iterator<Item = &'static Group> + Clone {
    [
        &mounts::SECRETS,
        &mounts::AUTH,
        &policy::GROUP,
        &token::GROUP,
        &lease::GROUP,
        &operator::GROUP,
        &audit::GROUP,
        &misc::PRINT,
        &crate::pki::GROUP,
        &crate::mesh::GROUP,
        &crate::cert::GROUP,
    ]
    .into_iter()
}
