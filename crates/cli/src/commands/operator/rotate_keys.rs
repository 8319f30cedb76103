//! New unseal keys: `operator rotate-keys`, and `operator rekey` for servers that know the older paths.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chancery_client::{Method, Request, Value};
use serde::Serialize;
use serde_json::json;

use crate::command::{Arguments, Call, Command, FORMAT, Failure, HTTP, Outcome};
use crate::flags::{Flag, Kind};
use crate::kv::cannot_open;
use crate::output::{Doc, at_length, plain, table};

const FLAGS: &[Flag] = &[
    Flag::new("init", Kind::Bool, "Begin: say how many shares there shall be."),
    Flag::new("cancel", Kind::Bool, "Give up and forget the shares given so far."),
    Flag::new("status", Kind::Bool, "Print how far it is."),
    Flag::new("key-shares", Kind::Uint, "Into how many shares the new key is split.")
        .alias(&["n"])
        .default("5"),
    Flag::new("key-threshold", Kind::Uint, "How many of them unseal the server.").alias(&["t"]).default("3"),
    Flag::new("nonce", Kind::Text, "The nonce that -init printed; needed with each share that is not typed."),
    Flag::new(
        "pgp-keys",
        Kind::Text,
        "Files with PGP keys, separated by commas, one a share; each share is encrypted with its key.",
    ),
    Flag::new("target", Kind::Text, "\"barrier\", or \"recovery\" with auto-unseal.").default("barrier"),
    Flag::new(
        "verify",
        Kind::Bool,
        "The share, -status or -cancel is meant for the check of the new shares.",
    ),
];

const BACKUP: &[Flag] = &[
    Flag::new("backup", Kind::Bool, "Keep the shares, encrypted with their PGP keys, on the server."),
    Flag::new("backup-delete", Kind::Bool, "Delete the shares kept."),
    Flag::new("backup-retrieve", Kind::Bool, "Print the shares kept."),
];

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "operator rotate-keys",
        synopsis: "Makes new unseal keys",
        usage: "[options] [KEY]",
        help: "Makes a new set of unseal keys, if those who hold enough of the old ones agree.\n\nBegin:\n\n\
               $ {p} operator rotate-keys -init -key-shares=3 -key-threshold=2\n\nThen each of them gives a \
               share:\n\n$ {p} operator rotate-keys\n\nWhen enough are given, the new shares are printed, once.",
        flags: &[
            ("HTTP Options", HTTP),
            ("Output Options", FORMAT),
            ("Common Options", FLAGS),
            ("Backup Options", BACKUP),
        ],
        arguments: Arguments::Between(0, 1),
        run: |call| run(call, &ROTATE),
    },
    Command {
        name: "operator rekey",
        synopsis: "Makes new unseal keys, by the older paths",
        usage: "[options] [KEY]",
        help: "As \"operator rotate-keys\", by paths that need no token. A server may have them switched off.\n\n\
               $ {p} operator rekey -init -key-shares=3 -key-threshold=2\n$ {p} operator rekey",
        flags: &[
            ("HTTP Options", HTTP),
            ("Output Options", FORMAT),
            ("Common Options", FLAGS),
            ("Backup Options", BACKUP),
        ],
        arguments: Arguments::Between(0, 1),
        run: |call| run(call, &REKEY),
    },
];

/// In what the two ways differ.
struct Way {
    base: fn(recovery: bool) -> &'static str,
    /// How the older paths name the recovery key's endpoints.
    init_method: Method,
    noun: &'static str,
    status_noun: &'static str,
    done: &'static str,
    canceled: &'static str,
}

const ROTATE: Way = Way {
    base: |recovery| if recovery { "sys/rotate/recovery" } else { "sys/rotate/root" },
    init_method: Method::Post,
    noun: "rotation",
    status_noun: "rotate",
    done: "rotated",
    canceled: "rotation",
};

const REKEY: Way = Way {
    base: |recovery| if recovery { "sys/rekey-recovery-key" } else { "sys/rekey" },
    init_method: Method::Put,
    noun: "rekey",
    status_noun: "rekey",
    done: "rekeyed",
    canceled: "rekeying",
};

#[derive(Serialize)]
struct InitBody {
    secret_shares: i64,
    secret_threshold: i64,
    pgp_keys: Option<Vec<String>>,
    backup: bool,
    require_verification: bool,
}

fn run(call: &mut Call<'_>, way: &Way) -> Outcome {
    let target = call.flags.text("target").unwrap_or("barrier").trim().to_lowercase();
    let recovery = match target.as_str() {
        "barrier" => false,
        "recovery" | "hsm" => true,
        other => return Err(Failure::Local(format!("Unknown target: {other}"))),
    };
    let base = (way.base)(recovery);
    let on = |name: &str| call.flags.on(name);
    if on("backup-delete") {
        let request = Request::delete(format!("{base}/backup"));
        call.send(&request)
            .map_err(|error| error.during(format!("Error deleting {} backed up keys", way.noun)))?;
        call.ui.output("Success! Deleted backed up keys (if they existed)");
        return Ok(0);
    }
    if on("backup-retrieve") {
        let request = Request::read(format!("{base}/backup"));
        let answer = call.answer(&request);
        let answer =
            answer.map_err(|error| error.during(format!("Error retrieving {} backed up keys", way.noun)))?;
        return call.print_answer(&answer.unwrap_or_default());
    }
    let step = if on("verify") { "verify" } else { "init" };
    if on("status") {
        let status = status(call, base, step);
        let status =
            status.map_err(|error| error.during(format!("Error reading {} status", way.status_noun)))?;
        return print_status(call, &status, "");
    }
    if on("cancel") {
        let request = Request::delete(format!("{base}/{step}"));
        call.send(&request).map_err(|error| error.during(format!("Error canceling {}", way.noun)))?;
        call.ui.output(&format!("Success! Canceled {} (if it was started)", way.canceled));
        return Ok(0);
    }
    if on("init") { begin(call, way, base) } else { provide(call, way, base) }
}

fn status(call: &mut Call<'_>, base: &str, step: &str) -> Result<Value, Failure> {
    call.data(&Request::read(format!("{base}/{step}")))
}

fn begin(call: &mut Call<'_>, way: &Way, base: &str) -> Outcome {
    let body = InitBody {
        secret_shares: call.flags.int("key-shares").unwrap_or(5),
        secret_threshold: call.flags.int("key-threshold").unwrap_or(3),
        pgp_keys: pgp_keys(call, "pgp-keys")?,
        backup: call.flags.on("backup"),
        require_verification: call.flags.on("verify"),
    };
    let request = Request::new(way.init_method, format!("{base}/init")).json(&body)?;
    let status: Result<Value, Failure> = call.data(&request);
    let status = status.map_err(|error| error.during(format!("Error initializing {}", way.noun)))?;
    if !call.is_table() {
        return print_status(call, &status, "");
    }
    if body.pgp_keys.is_none() {
        let text = "WARNING! If you lose the keys after they are returned, there is no recovery. Consider canceling \
                    this operation and re-initializing with the -pgp-keys flag to protect the returned unseal keys \
                    along with -backup to allow recovery of the encrypted keys in case of emergency. You can delete \
                    the stored keys later using the -backup-delete flag.";
        call.ui.warn(&at_length(text));
    }
    print_status(call, &status, "\n")
}

fn provide(call: &mut Call<'_>, way: &Way, base: &str) -> Outcome {
    let verifying = call.flags.on("verify");
    let step = if verifying { "verify" } else { "init" };
    let current = status(call, base, step);
    let current = current.map_err(|error| error.during(format!("Error getting {} status", way.noun)))?;
    let started = current.field("started").and_then(Value::as_bool).unwrap_or_default();
    if !started && !verifying {
        let program = &call.ui.program;
        let text = format!(
            "No {} is in progress. Start one by running \"{program} {} -init\".",
            way.noun, call.command.name
        );
        return Err(Failure::Local(at_length(&text)));
    }
    let current_nonce = current.field("nonce").and_then(Value::as_str).unwrap_or_default().to_owned();
    let given = call.flags.non_empty("nonce").map(str::to_owned);
    let nonce = match (call.args.is_empty(), given) {
        (_, Some(nonce)) => nonce,
        // At the terminal the nonce is shown, so that it can be compared.
        (true, None) => {
            call.ui.output(&format!("Operation nonce: {current_nonce}"));
            current_nonce
        }
        (false, None) => {
            return Err(Failure::Local("Missing nonce value: specify it via the -nonce flag".to_owned()));
        }
    };
    let share = super::key_share(call, "Unseal Key (will be hidden): ", "an unseal key")?;
    let update = if verifying { format!("{base}/verify") } else { format!("{base}/update") };
    let request = Request::write(update, &json!({ "key": share.expose(), "nonce": nonce }))?;
    let answer: Result<Value, Failure> = call.data(&request);
    let answer = answer.map_err(|error| error.during("Error posting unseal key"))?;
    let complete = answer.field("complete").and_then(Value::as_bool).unwrap_or_default();
    if !complete {
        let progress = status(call, base, step);
        let progress =
            progress.map_err(|error| error.during(format!("Error getting {} status", way.noun)))?;
        return print_status(call, &progress, "");
    }
    if !call.is_table() {
        let order = [
            "nonce",
            "complete",
            "keys",
            "keys_base64",
            "pgp_fingerprints",
            "backup",
            "verification_required",
        ];
        let order = order.map(|name| (name, Some(Doc::Null)));
        let doc = super::super::mounts::ordered(&answer, &order);
        return call.print_doc(&without_empty(doc, "verification_nonce"));
    }
    print_keys(call, way, &current, &answer);
    Ok(0)
}

fn print_status(call: &mut Call<'_>, status: &Value, before: &str) -> Outcome {
    let order = [
        "nonce",
        "started",
        "t",
        "n",
        "progress",
        "required",
        "pgp_fingerprints",
        "backup",
        "verification_required",
    ];
    let default = |name: &str| match name {
        "pgp_fingerprints" => Doc::Null,
        "started" | "backup" | "verification_required" => Doc::Bool(false),
        "nonce" => Doc::from(""),
        _ => Doc::from(0_i64),
    };
    let mut order: Vec<(&str, Option<Doc>)> = order.map(|name| (name, Some(default(name)))).to_vec();
    order.push(("verification_nonce", Some(Doc::from(""))));
    if !call.is_table() {
        return call.print_doc(&super::super::mounts::ordered(status, &order));
    }
    let field = |name: &str| status.field(name).filter(|value| !value.is_null());
    let text = |name: &str| field(name).map(|value| plain(&Doc::from(value))).unwrap_or_default();
    let mut rows = vec![("Key", "Value".to_owned()), ("Nonce", text("nonce")), ("Started", text("started"))];
    if text("started") == "true" {
        rows.push(("Progress", format!("{}/{}", text("progress"), text("required"))));
        rows.push(("New Shares", text("n")));
        rows.push(("New Threshold", text("t")));
        rows.push(("Verification Required", text("verification_required")));
        if !text("verification_nonce").is_empty() {
            rows.push(("Verification Nonce", text("verification_nonce")));
        }
    }
    if let Some(fingerprints) = field("pgp_fingerprints") {
        rows.push(("PGP Fingerprints", plain(&Doc::from(fingerprints))));
        rows.push(("Backup", text("backup")));
    }
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    call.ui.output(&format!("{before}{}", table(&rows)));
    Ok(0)
}

/// The same object without a field that says nothing.
fn without_empty(doc: Doc, name: &str) -> Doc {
    let Doc::Object(mut fields) = doc else { return doc };
    fields.retain(|(field, value)| field != name || *value != Doc::from(""));
    Doc::Object(fields)
}

fn print_keys(call: &mut Call<'_>, way: &Way, status: &Value, answer: &Value) {
    let keys = answer.field("keys_base64").and_then(Value::as_array).unwrap_or_default();
    let keys: Vec<&str> = keys.iter().filter_map(Value::as_str).collect();
    let text = |value: &Value, name: &str| {
        value.field(name).map(|value| plain(&Doc::from(value))).unwrap_or_default()
    };
    call.ui.output("");
    for (index, key) in keys.iter().enumerate() {
        call.ui.output(&format!("Key {}: {key}", index + 1));
    }
    call.ui.output(&format!("\nOperation nonce: {}\n", text(answer, "nonce")));
    let (shares, threshold) = (text(status, "n"), text(status, "t"));
    if text(answer, "verification_required") == "true" {
        let program = &call.ui.program;
        let paragraph = format!(
            "The new keys are not in force yet. Give {threshold} of them with \"{program} {} -verify \
             -nonce={}\" to put them into force.",
            call.command.name,
            text(answer, "verification_nonce")
        );
        call.ui.output(&at_length(&paragraph));
        return;
    }
    let paragraph = format!(
        "The unseal keys are {} to {shares} key shares and a key threshold of {threshold}. Please securely distribute \
         the key shares printed above. When the server is re-sealed, restarted, or stopped, you must supply at least \
         {threshold} of these keys to unseal it before it can start servicing requests.",
        way.done
    );
    call.ui.output(&at_length(&paragraph));
}

/// The PGP keys in the files that a flag names, in base64, as the server wants them.
///
/// # Errors
/// A file cannot be read.
pub(super) fn pgp_keys(call: &Call<'_>, flag: &str) -> Result<Option<Vec<String>>, Failure> {
    let Some(paths) = call.flags.non_empty(flag) else { return Ok(None) };
    let mut keys = Vec::new();
    for path in paths.split(',').map(str::trim) {
        let invalid =
            |reason: String| Failure::Local(format!("invalid value {path:?} for flag -{flag}: {reason}"));
        if path.starts_with("keybase:") {
            return Err(invalid(
                "keys cannot be fetched from keybase; save the key to a file and name that".to_owned(),
            ));
        }
        let path = path.strip_prefix('@').unwrap_or(path);
        let bytes = fs::read(path).map_err(|error| invalid(cannot_open(path, &error)))?;
        let text = std::str::from_utf8(&bytes).map(str::trim).unwrap_or_default();
        let encoded = STANDARD.decode(text).is_ok() && !text.is_empty();
        keys.push(if encoded { text.to_owned() } else { STANDARD.encode(&bytes) });
    }
    Ok(Some(keys))
}
