//! Tokens.

use std::collections::BTreeMap;

use chancery_client::{Request, Value, format_duration};
use serde::Serialize;
use serde_json::json;

use crate::command::{Arguments, Call, Command, FIELD, FORMAT, Failure, Group, HTTP, Outcome};
use crate::flags::{Flag, Kind};
use crate::output::Doc;

pub(super) const GROUP: Group = Group {
    name: "token",
    synopsis: "Interact with tokens",
    help: "A token says who asks.\n\nMake one for a script:\n\n$ {p} token create -policy=cert-manager -ttl=1h\n\n\
           See what it may do:\n\n$ {p} token capabilities s.aBcDeF... istioca/sign/cluster-local",
};

const CREATE: &[Flag] = &[
    Flag::new("display-name", Kind::Text, "A name for the audit log."),
    Flag::new("entity-alias", Kind::Text, "The entity alias to create it with; only together with -role."),
    Flag::new("explicit-max-ttl", Kind::Duration, "An end that no renewal moves."),
    Flag::new("id", Kind::Text, "The token itself, instead of a random one."),
    Flag::new("metadata", Kind::Pairs, "What the audit log should say of it, as key=value. May be repeated."),
    Flag::new("no-default-policy", Kind::Bool, "Leave out the policy \"default\"."),
    Flag::new("orphan", Kind::Bool, "Give it no parent, so that it outlives the token that made it."),
    Flag::new("period", Kind::Duration, "Let every renewal give this much time, without any end."),
    Flag::new(
        "policy",
        Kind::Texts,
        "A policy of the token; the default is those of its parent. May be repeated.",
    ),
    Flag::new("renewable", Kind::Bool, "Whether it can be renewed.").default("true"),
    Flag::new("role", Kind::Text, "The token role to create it under."),
    Flag::new("ttl", Kind::Duration, "How long it lives."),
    Flag::new("type", Kind::Text, "\"service\" or \"batch\".").default("service"),
    Flag::new("use-limit", Kind::Int, "How often it can be used; 0 is without limit."),
];

const ACCESSOR: Flag = Flag::new("accessor", Kind::Bool, "The argument is an accessor, not a token.");

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "token create",
        synopsis: "Makes a token",
        usage: "[options]",
        help: "Makes a token, a child of the current one, with its policies or those that are named.\n\n\
               $ {p} token create -policy=cert-manager -ttl=1h",
        flags: &[("HTTP Options", HTTP), ("Output Options", FIELD), ("Command Options", CREATE)],
        arguments: Arguments::Exactly(0),
        run: create,
    },
    Command {
        name: "token lookup",
        synopsis: "Prints what is known of a token",
        usage: "[options] [TOKEN | ACCESSOR]",
        help: "Prints what is known of TOKEN, or of the current one.\n\n$ {p} token lookup\n\
               $ {p} token lookup -accessor 9AbC...",
        flags: &[("HTTP Options", HTTP), ("Output Options", FIELD), ("Command Options", &[ACCESSOR])],
        arguments: Arguments::Any,
        run: lookup,
    },
    Command {
        name: "token renew",
        synopsis: "Extends a token's life",
        usage: "[options] [TOKEN]",
        help: "Extends the life of TOKEN, or of the current one, up to its maximum.\n\n\
               $ {p} token renew -increment=30m s.aBcDeF...",
        flags: &[
            ("HTTP Options", HTTP),
            ("Output Options", FORMAT),
            (
                "Command Options",
                &[
                    ACCESSOR,
                    Flag::new("increment", Kind::Duration, "How much time to ask for.").alias(&["i"]),
                ],
            ),
        ],
        arguments: Arguments::Any,
        run: renew,
    },
    Command {
        name: "token revoke",
        synopsis: "Ends a token and its children",
        usage: "[options] [TOKEN | ACCESSOR]",
        help: "Ends TOKEN and all tokens made by it.\n\n$ {p} token revoke s.aBcDeF...\n\nLeave its children as \
               orphans:\n\n$ {p} token revoke -mode=orphan s.aBcDeF...\n\nEnd the current token:\n\n\
               $ {p} token revoke -self",
        flags: &[
            ("HTTP Options", HTTP),
            (
                "Command Options",
                &[
                    ACCESSOR,
                    Flag::new(
                        "mode",
                        Kind::Text,
                        "\"orphan\" leaves the children; \"path\" ends all tokens that came from logins below a path.",
                    ),
                    Flag::new("self", Kind::Bool, "End the current token."),
                ],
            ),
        ],
        arguments: Arguments::Any,
        run: revoke,
    },
    Command {
        name: "token capabilities",
        synopsis: "Prints what a token may do at a path",
        usage: "[options] [TOKEN] PATH",
        help: "Prints what TOKEN, or the current one, may do at PATH.\n\n$ {p} token capabilities pki/issue/web\n\
               $ {p} token capabilities s.aBcDeF... istioca/sign/cluster-local",
        flags: &[("HTTP Options", HTTP), ("Output Options", FORMAT)],
        arguments: Arguments::Between(1, 2),
        run: capabilities,
    },
];

#[derive(Serialize)]
struct CreateBody {
    #[serde(skip_serializing_if = "String::is_empty")]
    id: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    policies: Vec<String>,
    #[serde(rename = "meta", skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    ttl: String,
    explicit_max_ttl: String,
    period: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    no_parent: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    no_default_policy: bool,
    display_name: String,
    num_uses: i64,
    renewable: bool,
    #[serde(rename = "type")]
    kind: String,
    entity_alias: String,
}

fn create(call: &mut Call<'_>) -> Outcome {
    let flags = &call.flags;
    let kind = flags.text("type").unwrap_or("service").to_lowercase();
    let duration = |name: &str| format_duration(flags.duration(name).unwrap_or_default());
    let text = |name: &str| flags.text(name).unwrap_or_default().to_owned();
    let body = CreateBody {
        id: text("id"),
        policies: flags.texts("policy").to_vec(),
        metadata: flags.pairs("metadata"),
        ttl: duration("ttl"),
        explicit_max_ttl: duration("explicit-max-ttl"),
        period: duration("period"),
        no_parent: flags.on("orphan"),
        no_default_policy: flags.on("no-default-policy"),
        display_name: text("display-name"),
        num_uses: flags.int("use-limit").unwrap_or_default(),
        // A batch token cannot be renewed; saying that it should be is refused.
        renewable: flags.on("renewable") && kind != "batch",
        kind,
        entity_alias: text("entity-alias"),
    };
    let path = match flags.non_empty("role") {
        Some(role) => format!("auth/token/create/{role}"),
        None => "auth/token/create".to_owned(),
    };
    let request = Request::post(path, &body)?;
    let answer = call.answer(&request).map_err(|error| error.during("Error creating token"))?;
    call.print_answer(&answer.unwrap_or_default())
}

fn lookup(call: &mut Call<'_>) -> Outcome {
    let accessor = call.flags.on("accessor");
    let count = call.args.len();
    let request = match (accessor, count) {
        (true, 0) => {
            return Err(Failure::Local("Not enough arguments with -accessor (expected 1, got 0)".to_owned()));
        }
        (true, 2..) => {
            return Err(Failure::Local(format!(
                "Too many arguments with -accessor (expected 1, got {count})"
            )));
        }
        (true, _) => Request::post("auth/token/lookup-accessor", &json!({ "accessor": call.arg(0) }))?,
        (false, 0) => Request::read("auth/token/lookup-self"),
        (false, 1) => Request::post("auth/token/lookup", &json!({ "token": call.arg(0) }))?,
        (false, _) => return Err(Failure::Local(format!("Too many arguments (expected 0-1, got {count})"))),
    };
    let answer = call.answer(&request).map_err(|error| error.during("Error looking up token"))?;
    call.print_answer(&answer.unwrap_or_default())
}

fn renew(call: &mut Call<'_>) -> Outcome {
    let increment = call.flags.duration("increment").unwrap_or_default().as_secs();
    let accessor = call.flags.on("accessor");
    let count = call.args.len();
    let argument = call.arg(0);
    let request = match (accessor, count) {
        (true, 0) => {
            return Err(Failure::Local("Not enough arguments with -accessor (expected 1, got 0)".to_owned()));
        }
        (_, 2..) => return Err(Failure::Local(format!("Too many arguments (expected 1, got {count})"))),
        (true, _) => Request::post(
            "auth/token/renew-accessor",
            &json!({ "accessor": argument, "increment": increment }),
        )?,
        (false, 0) => Request::write("auth/token/renew-self", &json!({ "increment": increment }))?,
        (false, _) => {
            Request::write("auth/token/renew", &json!({ "token": argument, "increment": increment }))?
        }
    };
    let answer = call.answer(&request).map_err(|error| error.during("Error renewing token"))?;
    call.print_answer(&answer.unwrap_or_default())
}

fn revoke(call: &mut Call<'_>) -> Outcome {
    let usage = |text: String| Err(Failure::Local(text));
    let mode = call.flags.text("mode").unwrap_or_default().to_owned();
    let (own, accessor) = (call.flags.on("self"), call.flags.on("accessor"));
    let argument = call.arg(0);
    let count = call.args.len();
    if !matches!(mode.as_str(), "" | "orphan" | "path") {
        return usage(format!("Invalid mode: {mode}"));
    }
    match (own, count) {
        (false, 0) => return usage("Not enough arguments (expected 1 or -self, got 0)".to_owned()),
        (true, 1..) => return usage(format!("Too many arguments with -self (expected 0, got {count})")),
        (false, 2..) => return usage(format!("Too many arguments (expected 1 or -self, got {count})")),
        (true, _) if accessor => return usage("Cannot use -self with -accessor!".to_owned()),
        (true, _) if !mode.is_empty() => return usage("Cannot use -self with -mode!".to_owned()),
        (false, _) if accessor && !mode.is_empty() => {
            return usage(format!("Cannot use -accessor with -mode={mode}!"));
        }
        _ => {}
    }
    let request = match (own, accessor, mode.as_str()) {
        (true, ..) => Request::new(chancery_client::Method::Put, "auth/token/revoke-self"),
        (_, true, _) => Request::post("auth/token/revoke-accessor", &json!({ "accessor": argument }))?,
        (.., "orphan") => Request::write("auth/token/revoke-orphan", &json!({ "token": argument }))?,
        (.., "path") => Request::new(
            chancery_client::Method::Put,
            format!("sys/leases/revoke-prefix/{}", argument.trim_matches('/')),
        ),
        _ => Request::write("auth/token/revoke", &json!({ "token": argument }))?,
    };
    call.send(&request).map_err(|error| error.during("Error revoking token"))?;
    call.ui.output("Success! Revoked token (if it existed)");
    Ok(0)
}

fn capabilities(call: &mut Call<'_>) -> Outcome {
    let request = if call.args.len() == 1 {
        let token = call.token()?;
        let token = token.as_ref().map(chancery_api::Secret::expose).unwrap_or_default();
        Request::post("sys/capabilities-self", &json!({ "path": call.arg(0), "token": token }))?
    } else {
        Request::post("sys/capabilities", &json!({ "token": call.arg(0), "path": call.arg(1) }))?
    };
    let answer = call.answer(&request).map_err(|error| error.during("Error listing capabilities"))?;
    let answer = answer.unwrap_or_default();
    let capabilities = answer.field("capabilities").and_then(Value::as_array).unwrap_or_default();
    let mut capabilities: Vec<&str> = capabilities.iter().filter_map(Value::as_str).collect();
    capabilities.sort_unstable();
    if call.is_table() {
        call.ui.output(&capabilities.join(", "));
        return Ok(0);
    }
    call.print_doc(&Doc::texts(&capabilities))
}
