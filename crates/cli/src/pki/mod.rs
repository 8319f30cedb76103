//! The PKI engine, several requests at a time.
//!
//! One file per command. What a command makes of the answers is in functions of values, so that a test needs no
//! server; only the functions that take a [`Call`] send anything. All of them end with exit code 1 when something
//! is wrong, whoever is to blame, as the peer's do; `health-check` has codes of its own.

mod health;
mod issue;
mod issuer;
mod list_intermediates;
mod reissue;
mod verify_sign;

use crate::command::{Arguments, Call, Command, FORMAT, Failure, Group, HTTP};
use crate::flags::{Flag, Kind};
use crate::kv;
use crate::output::{Doc, Format};
use chancery_client::Value;
use std::collections::BTreeMap;

pub(crate) const GROUP: Group = Group {
    name: "pki",
    synopsis: "Work with PKI mounts, several requests at a time",
    help: "Each of these commands stands for a handful of reads and writes of PKI mounts.\n\nRate a mount against \
           good practice:\n\n$ {p} pki health-check pki\n\nMake an intermediate in one mount, signed by the issuer \
           of another:\n\n$ {p} pki issue -issuer_name=web pki/issuer/root pki_int common_name=\"Web CA\" ttl=8760h",
};

/// Where the key of a new issuer comes from, and its name.
const NEW_ISSUER: &[Flag] = &[
    Flag::new("issuer_name", Kind::Text, "The name that the new issuer gets."),
    Flag::new(
        "type",
        Kind::Text,
        "Where its key comes from: \"internal\" makes one in the child mount, \"existing\" takes one that is there.",
    )
    .default("internal"),
];

pub(crate) const COMMANDS: &[Command] = &[
    Command {
        name: "pki health-check",
        synopsis: "Rate a PKI mount against good practice",
        usage: "[options] MOUNT",
        help: "Looks at the issuers, CRLs, roles, certificates and settings of a PKI mount and says what is about to \
               fail and what could be better. Not every advice suits every mount; a configuration file turns checks \
               on and off and moves their limits.\n\nCheck a mount:\n\n$ {p} pki health-check pki\n\nWith a \
               configuration, as JSON of check, parameter and value:\n\n$ {p} pki health-check \
               -health-config=root.json pki\n\nThe exit code is the worst that was found:\n\n\
               |0  nothing\n|1  the command could not run\n|2  something informational\n|3  a warning\n\
               |4  something critical\n|5  the server does not have what a check needs\n\
               |6  the token may not read what a check needs",
        flags: &[("HTTP Options", HTTP), ("Output Options", FORMAT), ("Command Options", health::FLAGS)],
        arguments: Arguments::Any,
        run: health::run,
    },
    Command {
        name: "pki issue",
        synopsis: "Make an intermediate in one mount, signed by an issuer of another",
        usage: "[options] PARENT CHILD_MOUNT K=V...",
        help: "Has a key and a request made in CHILD_MOUNT, has PARENT (the path of an issuer) sign it, and imports \
               what was signed and who signed it into CHILD_MOUNT. The pairs are the parameters of both \
               intermediate/generate and sign-intermediate; there must be at least one.\n\n\
               $ {p} pki issue -issuer_name=web pki/issuer/root pki_int common_name=\"Web CA\" ttl=8760h",
        flags: &[("HTTP Options", HTTP), ("Output Options", FORMAT), ("Command Options", NEW_ISSUER)],
        arguments: Arguments::Any,
        run: issue::run,
    },
    Command {
        name: "pki reissue",
        synopsis: "Make an intermediate like one that there is",
        usage: "[options] PARENT TEMPLATE CHILD_MOUNT [K=V...]",
        help: "As \"pki issue\", with the subject, names, lifetime and kind of key of TEMPLATE, the path of an issuer. \
               Pairs come before what the template says. With -type=existing the template's key is used again; it \
               must then be in CHILD_MOUNT.\n\nRenew an intermediate under a new key:\n\n\
               $ {p} pki reissue -issuer_name=web-2 pki/issuer/root pki_int/issuer/web pki_int",
        flags: &[("HTTP Options", HTTP), ("Output Options", FORMAT), ("Command Options", NEW_ISSUER)],
        arguments: Arguments::Any,
        run: reissue::run,
    },
    Command {
        name: "pki list-intermediates",
        synopsis: "Tell which issuers a parent has signed",
        usage: "[options] PARENT [CHILD...]",
        help: "Compares PARENT, the path of an issuer, with each CHILD, the path of an issuer or of a mount whose \
               issuers are all meant; without CHILD, with the issuers of every PKI mount. The flags choose what \
               makes a match.\n\n$ {p} pki list-intermediates pki/issuer/root pki_int",
        flags: &[
            ("HTTP Options", HTTP),
            ("Output Options", FORMAT),
            ("Command Options", list_intermediates::FLAGS),
        ],
        arguments: Arguments::Any,
        run: list_intermediates::run,
    },
    Command {
        name: "pki verify-sign",
        synopsis: "Tell whether one issuer validates another",
        usage: "[options] POSSIBLE-ISSUER POSSIBLE-ISSUED",
        help: "Compares two issuers, named by their paths, in five ways: signature_match, whether the first one's key \
               signed the second; path_match, whether the first is in the second's ca_chain; key_id_match and \
               subject_match, whether the second names the first's key and name as its issuer's; trust_match, \
               whether who trusts the first can trust the second.\n\n\
               $ {p} pki verify-sign pki/issuer/root pki_int/issuer/web",
        flags: &[("HTTP Options", HTTP), ("Output Options", FORMAT)],
        arguments: Arguments::Any,
        run: verify_sign::run,
    },
];

/// A failure in words of this command, with exit code 1. A command that is done stays done.
fn told(failure: Failure, sentence: impl FnOnce(&str) -> String) -> Failure {
    let text = match failure {
        Failure::Done(code) => return Failure::Done(code),
        Failure::Local(text) | Failure::Server(text) => text,
        Failure::Request { context, error } if context.is_empty() => error.to_string(),
        Failure::Request { context, error } => format!("{context}: {error}"),
    };
    Failure::Local(sentence(&text))
}

/// Refuses the format that only reads have, and makes the client, so that its settings are judged before
/// anything else is.
fn ready(call: &mut Call<'_>) -> Result<(), Failure> {
    if call.format == Format::Raw {
        return Err(Failure::Local("This command does not support the -format=raw option.".to_owned()));
    }
    match call.client() {
        Ok(_) => Ok(()),
        Err(failure) => Err(told(failure, |text| format!("Failed to obtain client: {text}"))),
    }
}

/// The pairs from the argument at `first` on.
fn pairs(call: &mut Call<'_>, first: usize) -> Result<BTreeMap<String, Value>, Failure> {
    let pairs = call.args.get(first..).unwrap_or_default().to_vec();
    let mut nothing = std::io::empty();
    let stdin: &mut dyn std::io::Read =
        if call.flags.on("non-interactive") { &mut nothing } else { &mut call.ui.stdin };
    kv::parse(&pairs, stdin).map_err(|reason| Failure::Local(format!("Failed to parse K=V data: {reason}")))
}

/// What to know when flags stand where they are no flags.
fn warn_of_late_flags(call: &mut Call<'_>) {
    let first = call.args.first().cloned().unwrap_or_default();
    if let Some(late) = call.args.iter().find(|arg| arg.starts_with('-')) {
        let text = format!("Options ({late}) must be specified before positional arguments ({first})");
        call.ui.warn(&text);
    }
}

/// Prints findings: as a table with a blank line below, or as a document.
fn print(call: &mut Call<'_>, doc: &Doc, table: impl FnOnce(&mut Call<'_>)) -> Result<(), Failure> {
    match call.format {
        Format::Table => table(call),
        Format::Json => call.ui.output(&doc.to_json()),
        // A blank line follows it, as after the peer's.
        Format::Yaml => {
            let text = call.format.render(doc)?;
            call.ui.output(&format!("{}\n", text.trim_end_matches('\n')));
        }
        Format::Raw | Format::Pretty => {
            return Err(Failure::Local("unknown output format: pretty".to_owned()));
        }
    }
    Ok(())
}
