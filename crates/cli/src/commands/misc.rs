//! Path help, versions, the current token.

use chancery_client::{Request, Value};

use crate::command::{Arguments, Call, Command, FORMAT, Failure, Group, HTTP, Outcome};
use crate::output::{Doc, Format, table};

pub(super) const PRINT: Group = Group {
    name: "print",
    synopsis: "Print what the command line uses",
    help: "Prints what the command line uses for its requests.\n\n$ {p} print token",
};

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "path-help",
        synopsis: "Print the API's help for a path",
        usage: "[options] PATH",
        help: "Prints what the server says of PATH: what it is for, which parameters it takes. With -format=json it \
               is an OpenAPI document.\n\n$ {p} path-help pki/\n$ {p} path-help pki/roles/web",
        flags: &[("HTTP Options", HTTP), ("Output Options", FORMAT)],
        arguments: Arguments::Exactly(1),
        run: path_help,
    },
    Command {
        name: "version",
        synopsis: "Print the version of this program",
        usage: "",
        help: "Prints the version of this program; the server's is in \"status\".",
        flags: &[],
        arguments: Arguments::Any,
        run: |call| {
            call.ui.output(&version());
            Ok(0)
        },
    },
    Command {
        name: "version-history",
        synopsis: "Print the versions that the server has run",
        usage: "[options]",
        help: "Prints the versions that the server has run, and since when.",
        flags: &[("HTTP Options", HTTP), ("Output Options", FORMAT)],
        arguments: Arguments::Exactly(0),
        run: version_history,
    },
    Command {
        name: "print token",
        synopsis: "Prints the current token",
        usage: "",
        help: "Prints the token that requests carry: that of VAULT_TOKEN or BAO_TOKEN, or the stored one.",
        flags: &[("Output Options", FORMAT)],
        arguments: Arguments::Any,
        run: print_token,
    },
];

/// Name and version, for `version` and `-v`.
pub(crate) fn version() -> String {
    format!("Chancery v{}", env!("CARGO_PKG_VERSION"))
}

fn path_help(call: &mut Call<'_>) -> Outcome {
    let request = Request::read(call.path(0)).query("help", "1");
    let help: Result<Value, Failure> = call.data(&request);
    let help = help.map_err(|error| error.during("Error retrieving help"))?;
    match call.format {
        Format::Table | Format::Raw | Format::Pretty => {
            let text = help.field("help").and_then(Value::as_str).unwrap_or_default();
            call.ui.output(text.trim_end_matches('\n'));
            Ok(0)
        }
        Format::Json => {
            let openapi = help.field("openapi").unwrap_or(&Value::Null);
            let json = serde_json::to_string(openapi).map_err(|error| Failure::Local(error.to_string()))?;
            call.ui.output(&json);
            Ok(0)
        }
        Format::Yaml => call.print_doc(&Doc::from(help.field("openapi").unwrap_or(&Value::Null))),
    }
}

fn version_history(call: &mut Call<'_>) -> Outcome {
    let answer = call.answer(&Request::list("sys/version-history"));
    let answer =
        answer.map_err(|error| error.during("Error retrieving version history"))?.unwrap_or_default();
    if !call.is_table() {
        return call.print_answer(&answer);
    }
    let keys = answer.field("keys").and_then(Value::as_array).unwrap_or_default();
    let text = |key: &str, name: &str| {
        let entry = answer.field("key_info").and_then(|entries| entries.field(key));
        entry.and_then(|entry| entry.field(name)).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let mut rows = vec![["Version", "Installation Time", "Commit Date"].map(str::to_owned)];
    for key in keys.iter().filter_map(Value::as_str) {
        let built = text(key, "build_date");
        let built = if built.is_empty() { text(key, "commit_date") } else { built };
        rows.push([key.to_owned(), text(key, "timestamp_installed"), built]);
    }
    call.ui.output(&table(&rows));
    Ok(0)
}

fn print_token(call: &mut Call<'_>) -> Outcome {
    let token = call.token()?;
    call.ui.output(token.as_ref().map(chancery_api::Secret::expose).unwrap_or_default());
    Ok(0)
}
