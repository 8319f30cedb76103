//! Starting a server.

use std::path::PathBuf;

use chancery_server::config::{Config, LogFormat, LogLevel, StorageConfig};
use chancery_server::{DevOptions, run};

use crate::command::{Arguments, Call, Command, Failure, Outcome};
use crate::flags::{Flag, Kind};

const FLAGS: &[Flag] = &[
    Flag::new(
        "config",
        Kind::Texts,
        "A configuration file, or a folder whose .hcl and .json files are read. May be repeated.",
    )
    .env("CONFIG_PATH"),
    Flag::new(
        "exit-on-core-shutdown",
        Kind::Bool,
        "End the process when the core shuts down; it always does.",
    ),
    Flag::new("log-file", Kind::Text, "File to log to, instead of the terminal.").env("LOG_FILE"),
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
    Flag::new("dev-tls-san", Kind::Texts, "A further name for the certificate. May be repeated."),
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
           \"operator unseal\", unless its seal does that by itself. SIGINT and SIGTERM end it in order, SIGHUP has it \
           read its TLS certificates again and open its audit files anew, so that they can be rotated.\n\n\
           Start with a configuration:\n\n\
           $ {p} server -config=/etc/chancery/config.hcl\n\nTry things out:\n\n\
           $ {p} server -dev -dev-root-token-id=root",
    flags: &[("Command Options", FLAGS), ("Dev Options", DEV)],
    arguments: Arguments::Exactly(0),
    run: server,
}];

fn server(call: &mut Call<'_>) -> Outcome {
    let flags = &call.flags;
    let mut paths: Vec<PathBuf> = flags.texts("config").iter().map(PathBuf::from).collect();
    if paths.is_empty() {
        paths.extend(flags.non_empty("config").map(PathBuf::from));
    }
    let tls = flags.on("dev-tls");
    let dev = flags.on("dev") || tls;
    if !dev && paths.is_empty() {
        return Err(Failure::Local("Must specify at least one config path using -config".to_owned()));
    }
    let mut config = if paths.is_empty() {
        Config::new(StorageConfig::Memory)
    } else {
        Config::load(&paths)
            .map_err(|error| Failure::Local(format!("Error loading configuration: {error}")))?
    };
    if let Some(word) = flags.non_empty("log-level") {
        let level = LogLevel::named(word);
        config.log_level =
            level.ok_or_else(|| unknown("log level", word, "trace, debug, info, warn and error"))?;
    }
    if let Some(word) = flags.non_empty("log-format") {
        let format = LogFormat::named(word);
        config.log_format = format.ok_or_else(|| unknown("log format", word, "standard and json"))?;
    }
    if let Some(path) = flags.non_empty("log-file") {
        config.log_file = Some(path.into());
    }

    let defaults = DevOptions::default();
    let options = dev.then(|| DevOptions {
        root_token_id: flags.non_empty("dev-root-token-id").map(str::to_owned),
        listen_address: flags.non_empty("dev-listen-address").unwrap_or(&defaults.listen_address).to_owned(),
        no_store_token: flags.on("dev-no-store-token"),
        tls,
        tls_cert_dir: flags.non_empty("dev-tls-cert-dir").map(PathBuf::from),
        tls_sans: flags.texts("dev-tls-san").to_vec(),
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Local(format!("no runtime: {error}")))?;
    let ended = runtime.block_on(run(config, options));
    ended.map_err(|error| Failure::Local(format!("Error starting the server: {error}")))?;
    Ok(0)
}

fn unknown(what: &str, word: &str, known: &str) -> Failure {
    Failure::Local(format!("unknown {what}: {word}; there are {known}"))
}
