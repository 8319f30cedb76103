//! Audit devices.

use std::collections::BTreeMap;

use chancery_client::{Request, Value};
use serde::Serialize;

use super::mounts::ordered;
use crate::command::{Arguments, Call, Command, DETAILED, Failure, Group, HTTP, Outcome};
use crate::flags::{Flag, Kind};
use crate::kv;
use crate::output::{Doc, plain, table};

pub(super) const GROUP: Group = Group {
    name: "audit",
    synopsis: "Interact with audit devices",
    help: "An audit device writes down each request and each answer. A server that has devices and can write to \
           none of them refuses to work.\n\n$ {p} audit enable file file_path=/var/log/chancery-audit.log\n\
           $ {p} audit list",
};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "audit enable",
        synopsis: "Adds an audit device",
        usage: "[options] TYPE [CONFIG K=V...]",
        help: "Adds an audit device of TYPE, with options as key=value.\n\n\
               $ {p} audit enable file file_path=/var/log/chancery-audit.log",
        flags: &[
            ("HTTP Options", HTTP),
            (
                "Command Options",
                &[
                    Flag::new("description", Kind::Text, "What the device is for, in words for people."),
                    Flag::new("local", Kind::Bool, "Keep the device on this cluster."),
                    Flag::new("path", Kind::Text, "Its name. The default is its type."),
                ],
            ),
        ],
        arguments: Arguments::Any,
        run: enable,
    },
    Command {
        name: "audit disable",
        synopsis: "Takes an audit device away",
        usage: "[options] PATH",
        help: "Takes the audit device at PATH away. What it wrote stays.\n\n$ {p} audit disable file/",
        flags: &[("HTTP Options", HTTP)],
        arguments: Arguments::Exactly(1),
        run: disable,
    },
    Command {
        name: "audit list",
        synopsis: "Lists audit devices",
        usage: "[options]",
        help: "Lists the audit devices, with -detailed also their options.",
        flags: &[("HTTP Options", HTTP), ("Output Options", DETAILED)],
        arguments: Arguments::Exactly(0),
        run: list,
    },
];

#[derive(Serialize)]
struct Body {
    #[serde(rename = "type")]
    kind: String,
    description: String,
    options: BTreeMap<String, String>,
    local: bool,
}

fn enable(call: &mut Call<'_>) -> Outcome {
    if call.args.is_empty() {
        let sentence = "Error enabling audit device: audit type missing. Valid types include 'file', 'socket' and 'syslog'.";
        return Err(Failure::Local(sentence.to_owned()));
    }
    let kind = call.arg(0);
    let pairs = call.args.get(1..).unwrap_or_default().to_vec();
    let options = kv::parse_texts(&pairs, &mut call.ui.stdin);
    let options = options.map_err(|reason| Failure::Local(format!("Failed to parse K=V data: {reason}")))?;
    let path = call.flags.non_empty("path").unwrap_or(&kind).trim_matches('/').to_owned();
    let description = call.flags.text("description").unwrap_or_default().to_owned();
    let body = Body { kind: kind.clone(), description, options, local: call.flags.on("local") };
    let request = Request::write(format!("sys/audit/{path}"), &body)?;
    call.send(&request).map_err(|error| error.during("Error enabling audit device"))?;
    call.ui.output(&format!("Success! Enabled the {kind} audit device at: {path}/"));
    Ok(0)
}

fn disable(call: &mut Call<'_>) -> Outcome {
    let path = call.mount(0);
    let request = Request::delete(format!("sys/audit/{}", call.path(0)));
    call.send(&request).map_err(|error| error.during("Error disabling audit device"))?;
    call.ui.output(&format!("Success! Disabled audit device (if it was enabled) at: {path}"));
    Ok(0)
}

fn list(call: &mut Call<'_>) -> Outcome {
    let devices: Result<BTreeMap<String, Value>, Failure> = call.data(&Request::read("sys/audit"));
    let devices = devices.map_err(|error| error.during("Error listing audits"))?;
    if !call.is_table() {
        let order = [
            ("type", Some(Doc::from(""))),
            ("description", Some(Doc::from(""))),
            ("options", Some(Doc::Null)),
            ("local", Some(Doc::Bool(false))),
            ("path", Some(Doc::from(""))),
        ];
        let fields = devices.iter().map(|(path, device)| (path.clone(), ordered(device, &order))).collect();
        return call.print_doc(&Doc::Object(fields));
    }
    if devices.is_empty() {
        call.ui.output("No audit devices are enabled.");
        return Ok(2);
    }
    let detailed = call.flags.on("detailed");
    let mut head = vec!["Path", "Type", "Description"];
    if detailed {
        head.extend(["Replication", "Options"]);
    }
    let text = |device: &Value, name: &str| {
        device.field(name).map(|value| plain(&Doc::from(value))).unwrap_or_default()
    };
    let row = |(path, device): (&String, &Value)| {
        let mut row = vec![path.clone(), text(device, "type"), text(device, "description")];
        if detailed {
            row.push(if text(device, "local") == "true" { "local" } else { "replicated" }.to_owned());
            let options = device.field("options").and_then(Value::as_object).into_iter().flatten();
            let options: Vec<String> =
                options.map(|(name, value)| format!("{name}={}", plain(&Doc::from(value)))).collect();
            row.push(options.join(" "));
        }
        row
    };
    let head = head.into_iter().map(str::to_owned).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(devices.iter().map(row)).collect();
    call.ui.output(&table(&rows));
    Ok(0)
}
