//! Policies.

use std::fs;

use chancery_client::{Request, Value};
use serde_json::json;

use crate::command::{Arguments, Call, Command, FORMAT, Failure, Group, HTTP, Outcome};
use crate::kv::cannot_open;
use crate::output::Doc;

pub(super) const GROUP: Group = Group {
    name: "policy",
    synopsis: "Interact with policies",
    help: "A policy says which paths a token may use, and how.\n\nStore a policy from a file:\n\n\
           $ {p} policy write cert-manager cert-manager.hcl\n\nSee all of them:\n\n$ {p} policy list",
};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "policy write",
        synopsis: "Stores a policy from a file",
        usage: "[options] NAME PATH",
        help: "Stores the policy in the file at PATH, or on standard input if PATH is -, under NAME.\n\n\
               $ {p} policy write cert-manager cert-manager.hcl\n\n\
               $ echo 'path \"istioca/sign/cluster-local\" { capabilities = [\"update\"] }' \\\n|    | {p} policy write cert-manager -",
        flags: &[("HTTP Options", HTTP)],
        arguments: Arguments::Exactly(2),
        run: write,
    },
    Command {
        name: "policy read",
        synopsis: "Prints a policy",
        usage: "[options] NAME",
        help: "Prints the policy NAME as it was stored.\n\n$ {p} policy read cert-manager",
        flags: &[("HTTP Options", HTTP), ("Output Options", FORMAT)],
        arguments: Arguments::Exactly(1),
        run: read,
    },
    Command {
        name: "policy list",
        synopsis: "Lists policies",
        usage: "[options]",
        help: "Lists the names of all policies.",
        flags: &[("HTTP Options", HTTP), ("Output Options", FORMAT)],
        arguments: Arguments::Exactly(0),
        run: list,
    },
    Command {
        name: "policy delete",
        synopsis: "Deletes a policy",
        usage: "[options] NAME",
        help: "Deletes the policy NAME. Tokens that have it lose what it allowed at once. \"default\" and \"root\" \
               cannot be deleted.\n\n$ {p} policy delete cert-manager",
        flags: &[("HTTP Options", HTTP)],
        arguments: Arguments::Exactly(1),
        run: delete,
    },
    Command {
        name: "policy fmt",
        synopsis: "Formats a policy file",
        usage: "PATH",
        help: "Rewrites the policy file at PATH in the usual layout. Says where, if it is no policy. Asks no \
               server.\n\n$ {p} policy fmt cert-manager.hcl",
        flags: &[],
        arguments: Arguments::Exactly(1),
        run: fmt,
    },
];

fn name(call: &Call<'_>) -> String {
    call.arg(0).to_lowercase()
}

fn write(call: &mut Call<'_>) -> Outcome {
    let name = name(call);
    let path = call.arg(1);
    let text = if path == "-" {
        call.ui.read_stdin().map_err(|reason| Failure::Server(format!("Error reading policy: {reason}")))?
    } else {
        let text = fs::read_to_string(&path);
        text.map_err(|error| {
            Failure::Server(format!("Error opening policy file: {}", cannot_open(&path, &error)))
        })?
    };
    let request = Request::write(format!("sys/policies/acl/{name}"), &json!({ "policy": text }))?;
    call.send(&request).map_err(|error| error.during("Error uploading policy"))?;
    call.ui.output(&format!("Success! Uploaded policy: {name}"));
    Ok(0)
}

fn read(call: &mut Call<'_>) -> Outcome {
    let name = name(call);
    let request = Request::read(format!("sys/policies/acl/{name}"));
    let answer =
        call.answer(&request).map_err(|error| error.during(format!("Error reading policy named {name}")))?;
    let Some(text) =
        answer.as_ref().and_then(|answer| answer.text("policy").or_else(|| answer.text("rules")))
    else {
        return Err(Failure::Server(format!("No policy named: {name}")));
    };
    if call.is_table() {
        call.ui.output(text.trim());
        return Ok(0);
    }
    call.print_doc(&Doc::object([("policy", text.into())]))
}

fn list(call: &mut Call<'_>) -> Outcome {
    let answer = call.answer(&Request::list("sys/policies/acl"));
    let answer = answer.map_err(|error| error.during("Error listing policies"))?.unwrap_or_default();
    let names = answer.field("keys").and_then(Value::as_array).unwrap_or_default();
    if call.is_table() {
        let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
        call.ui.output(&names.join("\n"));
        return Ok(0);
    }
    call.print_doc(&Doc::Array(names.iter().map(Doc::from).collect()))
}

fn delete(call: &mut Call<'_>) -> Outcome {
    let name = name(call);
    let request = Request::delete(format!("sys/policies/acl/{name}"));
    call.send(&request).map_err(|error| error.during(format!("Error deleting {name}")))?;
    call.ui.output(&format!("Success! Deleted policy: {name}"));
    Ok(0)
}

fn fmt(call: &mut Call<'_>) -> Outcome {
    let path = call.arg(0);
    let source = fs::read_to_string(&path);
    let source = source.map_err(|error| {
        Failure::Local(format!("Error reading source file: {}", cannot_open(&path, &error)))
    })?;
    let formatted = chancery_api::hcl::format(&source)
        .map_err(|reason| Failure::Local(format!("failed to parse policy: {reason}")))?;
    fs::write(&path, formatted).map_err(|error| Failure::Local(format!("Error writing result: {error}")))?;
    call.ui.output(&format!("Success! Formatted policy: {path}"));
    Ok(0)
}
