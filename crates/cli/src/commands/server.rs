//! Starting a server.

use crate::command::{Arguments, Call, Command, Failure, Outcome};
use crate::flags::{Flag, Kind};

const FLAGS: &[Flag] = &[
    Flag::new(
        "config",
        Kind::Texts,
        "A configuration file, or a folder whose .hcl and .json files are read. May be repeated.",
    )
    .env("CONFIG_PATH"),
    Flag::new("exit-on-core-shutdown", Kind::Bool, "End the process when the core shuts down."),
    Flag::new("log-file", Kind::Text, "File to log to, besides the terminal.").env("LOG_FILE"),
    Flag::new("log-format", Kind::Text, "\"standard\" or \"json\".").env("LOG_FORMAT"),
    Flag::new("log-level", Kind::Text, "\"trace\", \"debug\", \"info\", \"warn\" or \"error\".")
        .env("LOG_LEVEL"),
];

const DEV: &[Flag] = &[
    Flag::new("dev", Kind::Bool, "Run in memory, unsealed, with a known root token. For trying things out."),
    Flag::new(
        "dev-listen-address",
        Kind::Text,
        "Where a development server listens. The default is 127.0.0.1:8200.",
    )
    .env("DEV_LISTEN_ADDRESS"),
    Flag::new("dev-no-store-token", Kind::Bool, "Do not keep the root token for the command line."),
    Flag::new("dev-root-token-id", Kind::Text, "The root token, instead of a random one.")
        .env("DEV_ROOT_TOKEN_ID"),
    Flag::new("dev-tls", Kind::Bool, "As -dev, with TLS; the certificates are made at the start."),
    Flag::new(
        "dev-tls-cert-dir",
        Kind::Text,
        "Where these certificates are put. The default is a temporary folder.",
    ),
];

pub(super) const COMMANDS: &[Command] = &[Command {
    name: "server",
    synopsis: "Start a server",
    usage: "[options]",
    help: "Starts a server. A new one is initialised with \"operator init\"; after each start it is unsealed with \
           \"operator unseal\", unless its seal does that by itself.\n\nStart with a configuration:\n\n\
           $ {p} server -config=/etc/chancery/config.hcl\n\nTry things out:\n\n\
           $ {p} server -dev -dev-root-token-id=root",
    flags: &[("Command Options", FLAGS), ("Dev Options", DEV)],
    arguments: Arguments::Exactly(0),
    run: server,
}];

fn server(call: &mut Call<'_>) -> Outcome {
    let dev = call.flags.on("dev") || call.flags.on("dev-tls");
    if !dev && call.flags.texts("config").is_empty() {
        return Err(Failure::Local("Must specify at least one config path using -config".to_owned()));
    }
    Err(Failure::Local("the server is not part of this build yet".to_owned()))
}
