//! Reading, writing and listing whatever is at a path.

use chancery_client::{Answer, Error, Request, Value};

use crate::command::{Arguments, Call, Command, DETAILED, FIELD, Failure, HTTP, Outcome};
use crate::flags::{Flag, Kind};
use crate::kv;
use crate::output::{Doc, Format, plain, table, warnings_text};

const FORCE: &[Flag] = &[Flag::new("force", Kind::Bool, "Send the request without any data.").alias(&["f"])];

const PAGE: &[Flag] = &[
    Flag::new("after", Kind::Text, "Begin with the first name after this one, where the path has pages."),
    Flag::new("limit", Kind::Int, "Ask for at most so many names, where the path has pages.").default("-1"),
];

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "read",
        synopsis: "Read data and secrets",
        usage: "[options] PATH [K=V...]",
        help: "Reads what is at PATH: a secret, a role, a setting, a certificate. Pairs after the path are sent \
               as query parameters.\n\nRead a role:\n\n$ {p} read pki/roles/web\n\nPrint one field of it:\n\n\
               $ {p} read -field=max_ttl pki/roles/web\n\nFetch a certificate as the server sends it:\n\n\
               $ {p} read -format=raw pki/ca/pem",
        flags: &[("HTTP Options", HTTP), ("Output Options", FIELD)],
        arguments: Arguments::AtLeast(1, false),
        run: read,
    },
    Command {
        name: "write",
        synopsis: "Write data, settings and secrets",
        usage: "[options] PATH [DATA K=V...]",
        help: "Writes data to PATH. What that does is the matter of whatever is mounted there: a role is \
               stored, a certificate signed, a login made.\n\nData is given as key=value. A value that begins \
               with @ is read from a file, a value of - from standard input; a key that comes twice makes a \
               list. @FILE or - in place of a pair reads a whole JSON object.\n\nStore a role:\n\n\
               $ {p} write pki/roles/web allowed_domains=example.com max_ttl=72h\n\nSign a request from a \
               file:\n\n$ {p} write istioca/sign/cluster-local csr=@sleep.csr\n\nWrite where no data is \
               needed:\n\n$ {p} write -f auth/approle/role/web/secret-id",
        flags: &[("HTTP Options", HTTP), ("Output Options", FIELD), ("Command Options", FORCE)],
        arguments: Arguments::AtLeast(1, false),
        run: write,
    },
    Command {
        name: "patch",
        synopsis: "Change some fields of what is at a path",
        usage: "[options] PATH [DATA K=V...]",
        help: "Changes the given fields of what is at PATH and leaves the others as they are. Data is given as \
               for \"write\".\n\nShorten a role's certificates:\n\n$ {p} patch pki/roles/web max_ttl=24h",
        flags: &[("HTTP Options", HTTP), ("Output Options", FIELD), ("Command Options", FORCE)],
        arguments: Arguments::AtLeast(1, false),
        run: patch,
    },
    Command {
        name: "delete",
        synopsis: "Delete secrets and settings",
        usage: "[options] PATH [K=V...]",
        help: "Deletes what is at PATH. That nothing is there is no error.\n\nRemove a role:\n\n\
               $ {p} delete pki/roles/web",
        flags: &[("HTTP Options", HTTP), ("Output Options", FIELD)],
        arguments: Arguments::AtLeast(1, true),
        run: delete,
    },
    Command {
        name: "list",
        synopsis: "List the names at a path",
        usage: "[options] PATH",
        help: "Lists the names directly below PATH.\n\nList roles:\n\n$ {p} list pki/roles\n\nList issuers with \
               what is known of each:\n\n$ {p} list -detailed pki/issuers\n\nList certificates in \
               pages:\n\n$ {p} list -after=LAST-SERIAL -limit=50 pki/certs",
        flags: &[("HTTP Options", HTTP), ("Output Options", DETAILED), ("Command Options", PAGE)],
        arguments: Arguments::Exactly(1),
        run: list,
    },
    Command {
        name: "scan",
        synopsis: "List the names below a path, at any depth",
        usage: "[options] PATH",
        help: "Lists the names below PATH, and below those, and so on.\n\nScan a folder of secrets:\n\n\
               $ {p} scan secret/metadata/my-app",
        flags: &[("HTTP Options", HTTP), ("Output Options", DETAILED), ("Command Options", PAGE)],
        arguments: Arguments::Exactly(1),
        run: scan,
    },
    Command {
        name: "unwrap",
        synopsis: "Open a wrapped answer",
        usage: "[options] [TOKEN]",
        help: "Opens the answer that a wrapping token stands for. It can be opened once. Without TOKEN the \
               current token is taken for the wrapping one.\n\nHand over a secret id without showing \
               it:\n\n$ {p} write -f -wrap-ttl=60s -field=wrapping_token auth/approle/role/web/secret-id\n\
               $ {p} unwrap -field=secret_id s.aBcDeF...",
        flags: &[("HTTP Options", HTTP), ("Output Options", FIELD)],
        arguments: Arguments::Between(0, 1),
        run: unwrap,
    },
];

fn with_query(call: &mut Call<'_>, mut request: Request) -> Result<Request, Failure> {
    let pairs = call.args.get(1..).unwrap_or_default().to_vec();
    let data = kv::parse(&pairs, &mut call.ui.stdin);
    let data = data.map_err(|reason| Failure::Local(format!("Failed to parse K=V data: {reason}")))?;
    for (name, value) in data {
        match value {
            Value::Array(items) => {
                for item in items {
                    request = request.query(name.clone(), plain(&Doc::from(&item)));
                }
            }
            value => request = request.query(name, plain(&Doc::from(&value))),
        }
    }
    Ok(request)
}

fn read(call: &mut Call<'_>) -> Outcome {
    let path = call.path(0);
    let request = with_query(call, Request::read(path.clone()))?;
    let context = format!("Error reading {path}");
    if call.format == Format::Raw {
        let response = call.send(&request).map_err(|error| error.during(context))?;
        call.ui.raw(&response.body);
        // A certificate in DER must stay as it is; a text ends its line.
        if !response.body.ends_with(b"\n") && std::str::from_utf8(&response.body).is_ok() {
            call.ui.raw(b"\n");
        }
        return Ok(0);
    }
    let answer = call.answer(&request).map_err(|failure| match failure.error() {
        Some(Error::Decode(reason)) => {
            Failure::Server(format!("{context}: {reason}\n\n-format=raw prints the answer as it is."))
        }
        _ => failure.during(context),
    })?;
    let Some(answer) = answer else {
        return Err(Failure::Server(format!("No value found at {path}")));
    };
    call.print_answer(&answer)
}

fn body(call: &mut Call<'_>) -> Result<Value, Failure> {
    let pairs = call.args.get(1..).unwrap_or_default().to_vec();
    let data = kv::parse(&pairs, &mut call.ui.stdin);
    let data = data.map_err(|reason| Failure::Local(format!("Failed to parse K=V data: {reason}")))?;
    match data {
        data if !data.is_empty() => Ok(Value::Object(data)),
        _ if call.flags.on("force") => Ok(Value::Null),
        _ => Err(Failure::Local("Must supply data or use -force".to_owned())),
    }
}

fn write(call: &mut Call<'_>) -> Outcome {
    let path = call.path(0);
    let body = body(call)?;
    let request = Request::write(path.clone(), &body)?;
    write_answer(call, &path, &request)
}

fn patch(call: &mut Call<'_>) -> Outcome {
    let path = call.path(0);
    let body = body(call)?;
    let request = Request::patch(path.clone(), &body)?;
    write_answer(call, &path, &request)
}

fn write_answer(call: &mut Call<'_>, path: &str, request: &Request) -> Outcome {
    let answer =
        call.answer(request).map_err(|error| error.during(format!("Error writing data to {path}")))?;
    let Some(answer) = answer else {
        if call.is_table() {
            call.ui.output(&format!("Success! Data written to: {path}"));
        }
        return Ok(0);
    };
    call.print_answer(&answer)
}

fn delete(call: &mut Call<'_>) -> Outcome {
    let path = call.path(0);
    let request = with_query(call, Request::delete(path.clone()))?;
    let answer = call.answer(&request).map_err(|error| error.during(format!("Error deleting {path}")))?;
    let Some(answer) = answer else {
        if call.is_table() {
            call.ui.output(&format!("Success! Data deleted (if it existed) at: {path}"));
        }
        return Ok(0);
    };
    call.print_answer(&answer)
}

fn list(call: &mut Call<'_>) -> Outcome {
    let path = call.path(0);
    let request = paged(call, Request::list(path.clone()));
    let answer = names(call, &request, &format!("Error listing {path}"))?;
    print_names(call, answer, &format!("No value found at {path}"), &format!("No entries found at {path}"))
}

fn scan(call: &mut Call<'_>) -> Outcome {
    let path = call.path(0);
    let request = paged(call, Request::scan(path.clone()));
    let answer = names(call, &request, &format!("Error scanning {path}"))?;
    let nothing = format!("No entries found at {path}");
    print_names(call, answer, &nothing, &nothing)
}

fn paged(call: &Call<'_>, request: Request) -> Request {
    let after = call.flags.text("after").unwrap_or_default();
    let limit = call.flags.int("limit").unwrap_or(-1);
    if after.is_empty() && limit <= 0 {
        return request;
    }
    request.query("after", after).query("limit", limit.to_string())
}

fn names(call: &mut Call<'_>, request: &Request, context: &str) -> Result<Option<Answer>, Failure> {
    if call.format == Format::Raw {
        let sentence = "This command does not support the -format=raw option.";
        return Err(Failure::Local(sentence.to_owned()));
    }
    call.answer(request).map_err(|error| error.during(context))
}

fn print_names(call: &mut Call<'_>, answer: Option<Answer>, nothing: &str, no_names: &str) -> Outcome {
    let wrapped = answer.as_ref().is_some_and(|answer| answer.wrap_info.is_some());
    if let Some(answer) = answer.as_ref().filter(|_| wrapped) {
        return call.print_answer(answer);
    }
    let Some(answer) = answer.filter(|answer| answer.data.is_some()) else {
        return nothing_listed(call, nothing);
    };
    let Some(keys) = answer.field("keys").and_then(Value::as_array) else {
        return nothing_listed(call, no_names);
    };
    let detailed = call.flags.on("detailed");
    if !call.is_table() {
        if detailed {
            return call.print_answer(&answer);
        }
        let keys = Doc::Array(keys.iter().map(Doc::from).collect());
        return call.print_doc(&keys);
    }
    if let Some(text) = warnings_text(&answer) {
        call.ui.warn(&text);
    }
    let keys: Vec<String> = keys.iter().map(|key| plain(&Doc::from(key))).collect();
    let rows = detailed.then(|| details(&keys, &answer)).flatten();
    let rows = rows.unwrap_or_else(|| {
        let head = vec!["Keys".to_owned()];
        std::iter::once(head).chain(keys.iter().map(|key| vec![key.clone()])).collect()
    });
    call.ui.output(&table(&rows));
    Ok(0)
}

/// Programs get an empty object, people a sentence; both an exit code of 2.
fn nothing_listed(call: &mut Call<'_>, sentence: &str) -> Outcome {
    if call.is_table() {
        return Err(Failure::Server(sentence.to_owned()));
    }
    call.print_doc(&Doc::object([]))?;
    Ok(2)
}

/// A column for each field that any entry has.
fn details(keys: &[String], answer: &Answer) -> Option<Vec<Vec<String>>> {
    let entries = answer.field("key_info")?.as_object()?;
    let mut columns: Vec<&String> = Vec::new();
    for entry in entries.values().filter_map(Value::as_object) {
        columns.extend(entry.keys());
    }
    columns.sort();
    columns.dedup();
    let mut head = vec!["Keys".to_owned()];
    head.extend(columns.iter().map(|column| (*column).clone()));
    let row = |key: &String| {
        let entry = entries.get(key);
        let cell = |column: &&String| {
            entry
                .and_then(|entry| entry.field(column))
                .map(|value| plain(&Doc::from(value)))
                .unwrap_or_default()
        };
        std::iter::once(key.clone()).chain(columns.iter().map(cell)).collect()
    };
    Some(std::iter::once(head).chain(keys.iter().map(row)).collect())
}

fn unwrap(call: &mut Call<'_>) -> Outcome {
    let token = call.arg(0);
    let body = match token.as_str() {
        "" => Value::Null,
        token => Value::Object([("token".to_owned(), Value::from(token))].into()),
    };
    let request = Request::write("sys/wrapping/unwrap", &body)?;
    let answer = call.answer(&request).map_err(|error| error.during("Error unwrapping"))?;
    let Some(answer) = answer else {
        return Err(Failure::Server("Could not find wrapped response".to_owned()));
    };
    call.print_answer(&answer)
}
