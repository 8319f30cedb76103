//! What a command is, and how one runs.
//!
//! A [`Command`] is a row of a table: name, one line for the list, usage, help, flags, how many
//! arguments, and a function. The function is plain, blocking code over a [`Call`], which holds what was
//! typed and can send requests. Under `-output-curl-string` and `-output-policy` the first request is
//! printed instead of sent, whatever the command.

mod call;
mod help;
mod policy;
mod suggest;

pub use call::{Call, Mode};
pub use help::{command_help, group_help, overview};
pub use suggest::nearest;

use crate::flags::{Flag, Kind};
use chancery_client::Error;

/// One command.
#[derive(Debug)]
pub struct Command {
    /// Its name, with its group before it: `secrets enable`.
    pub name: &'static str,
    /// One line for lists of commands.
    pub synopsis: &'static str,
    /// What follows the name.
    pub usage: &'static str,
    /// Some paragraphs; `{p}` stands for the program's name.
    pub help: &'static str,
    /// Titles and flags, in the order of the help.
    pub flags: &'static [(&'static str, &'static [Flag])],
    /// How many arguments it takes.
    pub arguments: Arguments,
    /// What it does.
    pub run: fn(&mut Call<'_>) -> Outcome,
}

impl Command {
    /// Whether all flags may follow arguments: users of kubectl and cmctl write them there, users of Vault must not.
    pub fn takes_late_flags(&self) -> bool {
        self.name.starts_with("cert ")
    }
}

/// A folder of commands.
#[derive(Debug)]
pub struct Group {
    /// Its name.
    pub name: &'static str,
    /// One line for the list of commands.
    pub synopsis: &'static str,
    /// Some paragraphs; `{p}` stands for the program's name.
    pub help: &'static str,
}

/// The exit code of a command that ran, or why it did not.
pub type Outcome = Result<u8, Failure>;

/// Why a command ended early.
#[derive(Debug)]
pub enum Failure {
    /// It has printed what there is to say.
    Done(u8),
    /// Something here is wrong: usage, a file, a value. Exit code 1.
    Local(String),
    /// Something there is wrong. Exit code 2.
    Server(String),
    /// A request failed. Exit code 2.
    Request {
        /// What was being done.
        context: String,
        /// What went wrong.
        error: Box<Error>,
    },
}

impl Failure {
    /// A flag's value is not what it must be.
    pub fn flag(flag: &str, value: &str, expected: &str) -> Self {
        Self::Local(format!("invalid value {value:?} for flag -{flag}: expected {expected}"))
    }

    /// Says what was being done when a request failed.
    #[must_use]
    pub fn during(self, context: impl Into<String>) -> Self {
        match self {
            Self::Request { error, .. } => Self::Request { context: context.into(), error },
            other => other,
        }
    }

    /// The request's error, if a request failed.
    pub fn error(&self) -> Option<&Error> {
        match self {
            Self::Request { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Request { context: String::new(), error: Box::new(error) }
    }
}

/// How many arguments a command takes.
#[derive(Debug, Clone, Copy)]
pub enum Arguments {
    /// Exactly as many.
    Exactly(usize),
    /// At least and at most as many.
    Between(usize, usize),
    /// At least as many. The flag says whether the message speaks of "at least".
    AtLeast(usize, bool),
    /// Whatever is given; the command looks for itself.
    Any,
}

impl Arguments {
    /// Whether `got` arguments are right.
    ///
    /// # Errors
    /// The sentence that says what was expected.
    pub fn check(self, got: usize) -> Result<(), String> {
        let (least, most, expected) = match self {
            Self::Any => return Ok(()),
            Self::Exactly(count) => (count, count, count.to_string()),
            Self::Between(least, most) => (least, most, format!("{least}-{most}")),
            Self::AtLeast(least, true) => (least, usize::MAX, format!("at least {least}")),
            Self::AtLeast(least, false) => (least, usize::MAX, least.to_string()),
        };
        match got {
            got if got < least => Err(format!("Not enough arguments (expected {expected}, got {got})")),
            got if got > most => Err(format!("Too many arguments (expected {expected}, got {got})")),
            _ => Ok(()),
        }
    }
}

/// The flags of every command that talks to a server.
pub const HTTP: &[Flag] = &[
    Flag::new("address", Kind::Text, "Where the server is: http://…, https://… or unix://…. The default is https://127.0.0.1:8200.").env("ADDR"),
    Flag::new("agent-address", Kind::Text, "Where an agent is that stands before the server; it is asked instead.").env("AGENT_ADDR"),
    Flag::new("ca-cert", Kind::Text, "File of PEM certificates that are trusted as the server's authority, and no others. Comes before -ca-path.").env("CACERT"),
    Flag::new("ca-path", Kind::Text, "Folder of such files.").env("CAPATH"),
    Flag::new("client-cert", Kind::Text, "File with the PEM certificate that is shown to the server. Needs -client-key.").env("CLIENT_CERT"),
    Flag::new("client-key", Kind::Text, "File with the private key of -client-cert, in PEM.").env("CLIENT_KEY"),
    Flag::new("disable-redirects", Kind::Bool, "Do not follow the redirect by which a standby names the active server.").env("DISABLE_REDIRECTS"),
    Flag::new("header", Kind::Pairs, "A further HTTP header, as key=value. Names that begin with X-Vault- are refused. May be repeated."),
    Flag::new("mfa", Kind::Texts, "Credentials for a second factor, sent as X-Vault-MFA. May be repeated.").env("MFA"),
    Flag::new("namespace", Kind::Text, "The namespace that paths are relative to.").alias(&["ns"]).env("NAMESPACE"),
    Flag::new("non-interactive", Kind::Bool, "Never ask at the terminal."),
    Flag::new("output-curl-string", Kind::Bool, "Print the request as a curl command instead of sending it."),
    Flag::new("output-policy", Kind::Bool, "Print the policy that the request needs instead of sending it."),
    Flag::new("policy-override", Kind::Bool, "Send X-Vault-Policy-Override."),
    Flag::new("tls-server-name", Kind::Text, "The name that the server's certificate carries, if not the address's host.").env("TLS_SERVER_NAME"),
    Flag::new("tls-skip-verify", Kind::Bool, "Trust any certificate. Whoever is in between can then read everything.").env("SKIP_VERIFY"),
    Flag::new("unlock-key", Kind::Text, "Key of a locked namespace; accepted and not used."),
    Flag::new("wrap-ttl", Kind::Duration, "Have the answer wrapped in a single-use token that lives so long, such as 30s or 5m. Open it with \"unwrap\".").env("WRAP_TTL"),
];

/// `-format`.
pub const FORMAT: &[Flag] = &[Flag::new(
    "format",
    Kind::Text,
    "How to print: \"table\", \"json\", \"yaml\" or \"pretty\"; for reads also \"raw\". The default is table.",
)
.env("FORMAT")];

/// `-field` and `-format`.
pub const FIELD: &[Flag] = &[
    Flag::new("field", Kind::Text, "Print only the field of this name, for use in scripts. At a terminal a line feed follows, in a pipe none."),
    Flag::new(
        "format",
        Kind::Text,
        "How to print: \"table\", \"json\", \"yaml\" or \"pretty\"; for reads also \"raw\". The default is table.",
    )
    .env("FORMAT"),
];

/// `-detailed` and `-format`.
pub const DETAILED: &[Flag] = &[
    Flag::new("detailed", Kind::Bool, "Print more about each entry.").env("DETAILED"),
    Flag::new(
        "format",
        Kind::Text,
        "How to print: \"table\", \"json\", \"yaml\" or \"pretty\"; for reads also \"raw\". The default is table.",
    )
    .env("FORMAT"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_number_of_arguments_is_told_as_the_peer_tells_it() {
        for (arguments, got, sentence) in [
            (Arguments::Exactly(1), 0, "Not enough arguments (expected 1, got 0)"),
            (Arguments::Exactly(0), 1, "Too many arguments (expected 0, got 1)"),
            (Arguments::Between(0, 1), 2, "Too many arguments (expected 0-1, got 2)"),
            (Arguments::AtLeast(1, true), 0, "Not enough arguments (expected at least 1, got 0)"),
            (Arguments::AtLeast(1, false), 0, "Not enough arguments (expected 1, got 0)"),
        ] {
            assert_eq!(arguments.check(got), Err(sentence.to_owned()));
        }
        assert_eq!(Arguments::Between(1, 2).check(2), Ok(()));
    }
}
