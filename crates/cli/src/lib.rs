//! The command line.
//!
//! `chancery read`, `write`, `secrets enable` and all the others do what Vault's commands of those names
//! do, with the same flags, output and exit codes, against this server, OpenBao or Vault; started under
//! the name `vault` or `bao`, the program is that command line.
//!
//! [`run`] takes what was typed and a [`Ui`] and finds the [`Command`] in one table. The command's flags
//! are parsed as Go parses them ([`flags`]), it sends requests through `chancery-client`, and prints
//! through [`output`]. Nothing here decides anything about secrets or certificates; that is the server's
//! work, and the same over HTTP.

mod cert;
mod cluster;
pub mod command;
mod commands;
mod controller;
mod demo;
pub mod flags;
pub mod kv;
mod logs;
mod mesh;
pub mod output;
mod pki;
mod token_file;
mod ui;

use std::path::Path;
use std::process::ExitCode;

use chancery_client::{Environment, Error, Loss};

pub use command::Command;
pub use token_file::TokenFile;
pub use ui::{Ui, Variables};

use command::{Call, Failure, Mode, command_help, group_help, nearest, overview};
use flags::Parsed;
use output::Format;

/// What `main` does: the process's arguments and terminal in, its exit code out.
pub fn main() -> ExitCode {
    let mut args = std::env::args();
    let program = args.next().unwrap_or_default();
    let program = Path::new(&program).file_name().and_then(|name| name.to_str()).unwrap_or("chancery");
    let mut ui = Ui::system(program.to_owned());
    let args: Vec<String> = args.collect();
    ExitCode::from(run(&args, &mut ui))
}

/// Runs the command that `args` name and returns its exit code: 0 if all went well, 1 if something is wrong
/// here, 2 if something is wrong with the server or its answer, 127 if there is no such command. Whatever
/// the command came to, it is 1 if its output could not be written: that may have been the only copy of a key.
pub fn run(args: &[String], ui: &mut Ui) -> u8 {
    let code = dispatch(args, ui);
    let Some(error) = ui.write_error.take() else { return code };
    ui.error(&format!("Error writing output: {error}"));
    1
}

/// Finds the command and runs it, and explains its failure.
fn dispatch(args: &[String], ui: &mut Ui) -> u8 {
    let only =
        |name: &[&str]| args.len() == 1 && args.first().is_some_and(|arg| name.contains(&arg.as_str()));
    if only(&["-v", "-version", "--version"]) {
        ui.output(&commands::version());
        return 0;
    }
    if args.is_empty() || only(&["-h", "-help", "--help", "help"]) {
        let text = overview_text(ui);
        ui.output(&text);
        return u8::from(args.is_empty());
    }
    // "help read" is "read -h".
    let args = match args.split_first() {
        Some((first, rest)) if first == "help" => [rest, &["-h".to_owned()]].concat(),
        _ => args.to_vec(),
    };
    let Some((command, rest)) = find(&args) else { return unknown(&args, ui) };
    match start(command, rest, ui) {
        Ok(code) | Err(Failure::Done(code)) => code,
        Err(Failure::Local(text)) => {
            ui.error(&text);
            1
        }
        Err(Failure::Server(text)) => {
            ui.error(&text);
            2
        }
        Err(Failure::Request { context, error }) => {
            let context = if context.is_empty() { String::new() } else { format!("{context}: ") };
            ui.error(&format!("{context}{error}"));
            hint(ui, &error);
            2
        }
    }
}

fn start(command: &'static Command, args: &[String], ui: &mut Ui) -> Result<u8, Failure> {
    let table = command.flags.iter().flat_map(|(_, flags)| flags.iter());
    let lookup = |name: &str| match name {
        "TOKEN" => None,
        name => ui.setting(name),
    };
    let asks_help = |arg: &String| matches!(arg.as_str(), "-h" | "-help" | "--help");
    let parsed = if command.takes_late_flags() && args.iter().any(asks_help) {
        Parsed::Help
    } else {
        flags::parse(table.clone(), args, lookup).map_err(Failure::Local)?
    };
    let (flags, positionals) = match parsed {
        Parsed::Help => {
            let text = command_help(command, &ui.program);
            ui.output(&text);
            return Ok(0);
        }
        Parsed::Command(mut flags, mut positionals) => {
            let all = command.takes_late_flags();
            flags.take_late(&mut positionals, table, all).map_err(Failure::Local)?;
            (flags, positionals)
        }
    };
    let format = Format::parse(flags.text("format").unwrap_or_default()).map_err(Failure::Local)?;
    let mode = match (flags.on("output-curl-string"), flags.on("output-policy")) {
        (true, _) => Mode::Curl,
        (_, true) => Mode::Policy,
        _ => Mode::Send,
    };
    if format == Format::Table
        && let Some(warning) = flags::misplaced(&positionals)
    {
        ui.warn(&warning);
    }
    command.arguments.check(positionals.len()).map_err(Failure::Local)?;
    let mut call = Call::new(ui, command, flags, positionals, format, mode);
    (command.run)(&mut call)
}

/// The command with the longest name that begins `args`, and what follows it.
fn find(args: &[String]) -> Option<(&'static Command, &[String])> {
    let words = |name: &str| name.split(' ').count();
    let matches = |command: &&'static Command| {
        let mut typed = args.iter();
        command.name.split(' ').all(|word| typed.next().is_some_and(|arg| arg == word))
    };
    let command = commands::commands().filter(matches).max_by_key(|command| words(command.name))?;
    Some((command, args.get(words(command.name)..).unwrap_or_default()))
}

/// A group without a command, or a word that is neither.
fn unknown(args: &[String], ui: &mut Ui) -> u8 {
    let first = args.first().map(String::as_str).unwrap_or_default();
    let second = args.get(1).map(String::as_str).unwrap_or_default();
    let Some(group) = commands::groups().find(|group| group.name == first) else {
        let names =
            commands::commands().map(|command| command.name.split(' ').next().unwrap_or(command.name));
        let text = overview_text(ui);
        ui.error(&text);
        suggest(ui, first, names, "");
        return 127;
    };
    let help = group_help(group, commands::commands(), &ui.program);
    if matches!(second, "-h" | "-help" | "--help") {
        ui.output(&help);
        return 0;
    }
    ui.error(&help);
    let prefix = format!("{} ", group.name);
    let names = commands::commands().filter_map(|command| command.name.strip_prefix(prefix.as_str()));
    suggest(ui, second, names, &prefix);
    1
}

fn suggest<'a>(ui: &mut Ui, word: &str, names: impl Iterator<Item = &'a str>, prefix: &str) {
    if word.is_empty() || word.starts_with('-') {
        return;
    }
    let program = ui.program.clone();
    let mut text = format!("\nThere is no command \"{program} {prefix}{word}\".");
    // "seal" is most likely "operator seal".
    let inner = commands::commands().find(|command| command.name.split(' ').next_back() == Some(word));
    if let Some(command) = inner {
        text.push_str(&format!(" Did you mean \"{program} {}\"?", command.name));
    } else if let Some(name) = nearest(word, names) {
        text.push_str(&format!(" Did you mean \"{program} {prefix}{name}\"?"));
    }
    ui.error(&text);
}

fn overview_text(ui: &Ui) -> String {
    let single = commands::commands().filter(|command| !command.name.contains(' '));
    let single = single.map(|command| (command.name, command.synopsis));
    let groups = commands::groups().map(|group| (group.name, group.synopsis));
    overview(single.chain(groups), &ui.program)
}

/// What to try next, after an error that often has one cause.
pub(crate) fn hint(ui: &mut Ui, error: &Error) {
    let program = ui.program.clone();
    let known = |ui: &Ui, name: &str| ui.setting(name).is_some();
    let text = match error {
        Error::Transport { kind: Loss::PlainHttp, url, .. } => {
            let url = url.replacen("https://", "http://", 1);
            let base = url.split("/v1/").next().unwrap_or(&url);
            format!("The server does not speak TLS. Try: export VAULT_ADDR='{base}'")
        }
        Error::Transport { kind: Loss::Connect, .. } if !known(ui, "ADDR") => {
            "VAULT_ADDR is not set. Say where the server is: export VAULT_ADDR='http://127.0.0.1:8200'"
                .to_owned()
        }
        Error::Transport { kind: Loss::Connect, .. } => {
            "Nothing answers there. Is the server running, and is VAULT_ADDR right?".to_owned()
        }
        Error::Transport { kind: Loss::Tls, .. } if !known(ui, "CACERT") => {
            "If the server has its own authority, name its certificate with -ca-cert or VAULT_CACERT."
                .to_owned()
        }
        Error::Api { status: 403, .. } if !known(ui, "TOKEN") && no_stored_token(ui) => {
            format!("No token was sent. Log in with \"{program} login\", or set VAULT_TOKEN.")
        }
        Error::Api { status: 503, errors, .. } if errors.iter().any(|error| error.contains("sealed")) => {
            format!("Unseal the server with \"{program} operator unseal\".")
        }
        _ => return,
    };
    ui.hint(&format!("\n{text}"));
}

fn no_stored_token(ui: &Ui) -> bool {
    let file = ui.home.as_deref().map(TokenFile::in_home);
    file.is_none_or(|file| !matches!(file.read(), Ok(Some(_))))
}
