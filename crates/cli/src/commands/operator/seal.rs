//! Sealing, unsealing, and the key that data is encrypted with.

use chancery_client::{Environment, Method, Request, Value};
use serde_json::json;

use super::super::status;
use crate::command::{Arguments, Call, Command, FORMAT, Failure, HTTP, Outcome};
use crate::flags::{Flag, Kind};
use crate::output::{Doc, columns, table};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "operator unseal",
        synopsis: "Gives the server one unseal key",
        usage: "[options] [KEY]",
        help: "Gives the server one share of the root key; with enough of them it unseals. Without KEY the share is \
               asked for at the terminal, which keeps it out of the shell's history; - reads it from standard \
               input.\n\n$ {p} operator unseal\n\nForget the shares given so far:\n\n$ {p} operator unseal -reset",
        flags: &[
            ("HTTP Options", HTTP),
            ("Output Options", FORMAT),
            (
                "Command Options",
                &[
                    Flag::new(
                        "migrate",
                        Kind::Bool,
                        "The share is part of a change to another kind of seal.",
                    ),
                    Flag::new("reset", Kind::Bool, "Forget the shares given so far."),
                ],
            ),
        ],
        arguments: Arguments::Any,
        run: unseal,
    },
    Command {
        name: "operator seal",
        synopsis: "Seals the server",
        usage: "[options]",
        help: "Seals the server: it forgets its keys and answers nothing until it is unsealed.\n\n\
               $ {p} operator seal",
        flags: &[("HTTP Options", HTTP)],
        arguments: Arguments::Exactly(0),
        run: seal,
    },
    Command {
        name: "operator key-status",
        synopsis: "Prints the term of the encryption key",
        usage: "[options]",
        help: "Prints the term of the key that new data is encrypted with, since when, and how often it was used.",
        flags: &[("HTTP Options", HTTP), ("Output Options", FORMAT)],
        arguments: Arguments::Exactly(0),
        run: key_status,
    },
    Command {
        name: "operator rotate",
        synopsis: "Makes a new encryption key",
        usage: "[options]",
        help: "Makes a new key for new data; what is stored stays readable with the old ones. The server goes on \
               working.\n\n$ {p} operator rotate",
        flags: &[("HTTP Options", HTTP), ("Output Options", FORMAT)],
        arguments: Arguments::Exactly(0),
        run: rotate,
    },
    Command {
        name: "operator members",
        synopsis: "Lists the nodes of the cluster",
        usage: "[options]",
        help: "Lists the nodes of the cluster.",
        flags: &[("HTTP Options", HTTP), ("Output Options", FORMAT)],
        arguments: Arguments::Exactly(0),
        run: members,
    },
    Command {
        name: "operator step-down",
        synopsis: "Has the active node give up its role",
        usage: "[options]",
        help: "Has the active node give up its role, so that another may take it.",
        flags: &[("HTTP Options", HTTP)],
        arguments: Arguments::Exactly(0),
        run: step_down,
    },
];

fn unseal(call: &mut Call<'_>) -> Outcome {
    let count = call.args.len();
    if count > 1 {
        return Err(Failure::Local(format!("Too many arguments (expected 1, got {count})")));
    }
    let reset = call.flags.on("reset");
    let (request, context) = if reset {
        (Request::write("sys/unseal", &json!({ "reset": true }))?, "Error resetting unseal process")
    } else {
        let share = super::key_share(call, "Unseal Key (will be hidden): ", "an unseal key")?;
        let body = json!({ "key": share.expose(), "reset": false, "migrate": call.flags.on("migrate") });
        (Request::write("sys/unseal", &body)?, "Error unsealing")
    };
    let status: Result<Value, Failure> = call.data(&request);
    let status = status.map_err(|error| error.during(context))?;
    status::print(call, &status)
}

fn seal(call: &mut Call<'_>) -> Outcome {
    let request = Request::new(Method::Put, "sys/seal");
    call.send(&request).map_err(|error| error.during("Error sealing"))?;
    call.ui.output("Success! Vault is sealed.");
    Ok(0)
}

fn key_status(call: &mut Call<'_>) -> Outcome {
    let status: Result<Value, Failure> = call.data(&Request::read("sys/key-status"));
    let status = status.map_err(|error| error.during("Error reading key status"))?;
    print_key_status(call, &status, "")
}

fn rotate(call: &mut Call<'_>) -> Outcome {
    let rotated = call.send(&Request::new(Method::Post, "sys/rotate/keyring"));
    let rotated = match rotated {
        // A Vault server knows the older path only.
        Err(failure)
            if failure
                .error()
                .and_then(chancery_client::Error::status)
                .is_some_and(|status| status == 404 || status == 405) =>
        {
            call.send(&Request::new(Method::Put, "sys/rotate"))
        }
        other => other,
    };
    rotated.map_err(|error| error.during("Error rotating key"))?;
    let status: Result<Value, Failure> = call.data(&Request::read("sys/key-status"));
    let status = status.map_err(|error| error.during("Error reading key status"))?;
    print_key_status(call, &status, "Success! Rotated key\n\n")
}

fn print_key_status(call: &mut Call<'_>, status: &Value, before: &str) -> Outcome {
    let field = |name: &str| status.field(name).map(Doc::from);
    let doc = Doc::object([
        ("term", field("term").unwrap_or(Doc::Null)),
        ("install_time", field("install_time").unwrap_or(Doc::Null)),
        ("encryptions", field("encryptions").unwrap_or(Doc::from(0_i64))),
    ]);
    if !call.is_table() {
        return call.print_doc(&doc);
    }
    let text = |name: &str| doc.field(name).map(crate::output::plain).unwrap_or_default();
    let rows = [
        ["Key Term".to_owned(), text("term")],
        ["Install Time".to_owned(), rfc822(&text("install_time"))],
        ["Encryption Count".to_owned(), text("encryptions")],
    ];
    call.ui.output(&format!("{before}{}", columns(&rows)));
    Ok(0)
}

/// An RFC 3339 time as `24 Nov 26 02:27 UTC`.
fn rfc822(text: &str) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let parts = || {
        let year = text.get(2..4)?;
        let month: usize = text.get(5..7)?.parse().ok()?;
        let month = MONTHS.get(month.checked_sub(1)?)?;
        let zone =
            if text.ends_with('Z') { "UTC".to_owned() } else { text.get(text.len() - 6..)?.replace(':', "") };
        Some(format!("{} {month} {year} {} {zone}", text.get(8..10)?, text.get(11..16)?))
    };
    parts().unwrap_or_else(|| text.to_owned())
}

fn members(call: &mut Call<'_>) -> Outcome {
    let status: Value = call.data(&Request::read("sys/ha-status"))?;
    let nodes =
        status.field("nodes").or_else(|| status.field("Nodes")).and_then(Value::as_array).unwrap_or_default();
    if !call.is_table() {
        let order = [
            ("hostname", None),
            ("api_address", None),
            ("cluster_address", None),
            ("active_node", None),
            ("last_echo", Some(Doc::Null)),
            ("version", None),
        ];
        let nodes = nodes.iter().map(|node| super::super::mounts::ordered(node, &order)).collect();
        return call.print_doc(&Doc::object([("Nodes", Doc::Array(nodes))]));
    }
    let text = |node: &Value, name: &str| match node.field(name) {
        Some(value) if !value.is_null() => crate::output::plain(&Doc::from(value)),
        _ => String::new(),
    };
    let head = [
        "Host Name",
        "API Address",
        "Cluster Address",
        "Active Node",
        "Version",
        "Upgrade Version",
        "Last Echo",
    ];
    let fields = [
        "hostname",
        "api_address",
        "cluster_address",
        "active_node",
        "version",
        "upgrade_version",
        "last_echo",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(nodes.iter().map(|node| fields.map(|name| text(node, name))));
    call.ui.output(&table(&rows));
    Ok(0)
}

fn step_down(call: &mut Call<'_>) -> Outcome {
    let request = Request::new(Method::Put, "sys/step-down");
    call.send(&request).map_err(|error| error.during("Error stepping down"))?;
    let address = call.flags.non_empty("address").map(str::to_owned);
    let address =
        address.or_else(|| call.ui.setting("ADDR")).unwrap_or_else(|| "https://127.0.0.1:8200".to_owned());
    call.ui.output(&format!("Success! Stepped down: {address}"));
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn install_times_are_shown_short() {
        assert_eq!(rfc822("2026-11-24T02:27:23.533596366Z"), "24 Nov 26 02:27 UTC");
        assert_eq!(rfc822("2026-01-02T03:04:05+01:00"), "02 Jan 26 03:04 +0100");
        assert_eq!(rfc822("later"), "later");
    }
}
