//! `operator init`.

use chancery_client::{Request, Value};
use serde::Serialize;

use crate::command::{Arguments, Call, Command, FORMAT, Failure, HTTP, Outcome};
use crate::flags::{Flag, Kind};
use crate::output::{Doc, at_length};

const FLAGS: &[Flag] = &[
    Flag::new("key-shares", Kind::Uint, "Into how many shares the root key is split. The default is 5.")
        .alias(&["n"]),
    Flag::new("key-threshold", Kind::Uint, "How many of them unseal the server. The default is 3.")
        .alias(&["t"]),
    Flag::new(
        "pgp-keys",
        Kind::Text,
        "Files with PGP keys, separated by commas, one a share; each share is encrypted with its key.",
    ),
    Flag::new("recovery-pgp-keys", Kind::Text, "The same for recovery shares."),
    Flag::new(
        "recovery-shares",
        Kind::Uint,
        "With auto-unseal: into how many shares the recovery key is split. The default is 5.",
    ),
    Flag::new(
        "recovery-threshold",
        Kind::Uint,
        "With auto-unseal: how many of them are needed. The default is 3.",
    ),
    Flag::new(
        "root-token-pgp-key",
        Kind::Text,
        "File with the PGP key that the root token is encrypted with.",
    ),
    Flag::new(
        "status",
        Kind::Bool,
        "Print whether the server is initialised: exit code 0 if it is, 2 if not.",
    ),
];

pub(super) const COMMANDS: &[Command] = &[Command {
    name: "operator init",
    synopsis: "Initialises a server",
    usage: "[options]",
    help: "Initialises a new server: makes its root key, splits it into shares, and prints these and the first root \
           token. They are shown this once.\n\n$ {p} operator init\n$ {p} operator init -key-shares=1 -key-threshold=1",
    flags: &[("HTTP Options", HTTP), ("Output Options", FORMAT), ("Command Options", FLAGS)],
    arguments: Arguments::Exactly(0),
    run: init,
}];

#[derive(Serialize)]
struct Body {
    secret_shares: u64,
    secret_threshold: u64,
    pgp_keys: Option<Vec<String>>,
    recovery_shares: u64,
    recovery_threshold: u64,
    recovery_pgp_keys: Option<Vec<String>>,
    root_token_pgp_key: String,
}

fn init(call: &mut Call<'_>) -> Outcome {
    if call.flags.on("status") {
        return status(call);
    }
    let number =
        |call: &Call<'_>, name: &str| call.flags.int(name).and_then(|number| u64::try_from(number).ok());
    let auto_unseal = match call.mode {
        crate::command::Mode::Send => {
            let seal: Value = call.data(&Request::read("sys/seal-status"))?;
            seal.field("recovery_seal").and_then(Value::as_bool).unwrap_or_default()
        }
        _ => false,
    };
    let or = |value: Option<u64>, default: u64, asked: bool| value.unwrap_or(if asked { default } else { 0 });
    let body = Body {
        secret_shares: or(number(call, "key-shares"), 5, !auto_unseal),
        secret_threshold: or(number(call, "key-threshold"), 3, !auto_unseal),
        pgp_keys: super::rotate_keys::pgp_keys(call, "pgp-keys")?,
        recovery_shares: or(number(call, "recovery-shares"), 5, auto_unseal),
        recovery_threshold: or(number(call, "recovery-threshold"), 3, auto_unseal),
        recovery_pgp_keys: super::rotate_keys::pgp_keys(call, "recovery-pgp-keys")?,
        root_token_pgp_key: super::rotate_keys::pgp_keys(call, "root-token-pgp-key")?
            .unwrap_or_default()
            .join(","),
    };
    let request = Request::write("sys/init", &body)?;
    let answer: Result<Value, Failure> = call.data(&request);
    let answer = answer.map_err(|error| error.during("Error initializing"))?;
    if !call.is_table() {
        let doc = document(&body, &answer);
        return call.print_doc(&doc);
    }
    print(call, &body, &answer);
    Ok(0)
}

fn status(call: &mut Call<'_>) -> Outcome {
    let answer: Value = call.data(&Request::read("sys/init"))?;
    let initialized = answer.field("initialized").and_then(Value::as_bool).unwrap_or_default();
    if call.is_table() {
        call.ui.output(if initialized { "Vault is initialized" } else { "Vault is not initialized" });
    } else {
        call.print_doc(&Doc::object([("Initialized", initialized.into())]))?;
    }
    Ok(if initialized { 0 } else { 2 })
}

fn document(body: &Body, answer: &Value) -> Doc {
    let list = |name: &str| match answer.field(name).map(Doc::from) {
        Some(Doc::Array(items)) if items.is_empty() => Doc::Null,
        Some(list) => list,
        None => Doc::Null,
    };
    Doc::object([
        ("unseal_keys_b64", list("keys_base64")),
        ("unseal_keys_hex", list("keys")),
        ("unseal_shares", body.secret_shares.into()),
        ("unseal_threshold", body.secret_threshold.into()),
        ("recovery_keys_b64", list("recovery_keys_base64")),
        ("recovery_keys_hex", list("recovery_keys")),
        ("recovery_keys_shares", body.recovery_shares.into()),
        ("recovery_keys_threshold", body.recovery_threshold.into()),
        ("root_token", answer.field("root_token").map_or(Doc::from(""), Doc::from)),
    ])
}

fn print(call: &mut Call<'_>, body: &Body, answer: &Value) {
    let keys = |name: &str| {
        let list = answer.field(name).and_then(Value::as_array).unwrap_or_default();
        list.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
    };
    for (title, name) in [("Unseal", "keys_base64"), ("Recovery", "recovery_keys_base64")] {
        for (index, key) in keys(name).iter().enumerate() {
            call.ui.output(&format!("{title} Key {}: {key}", index + 1));
        }
    }
    let token = answer.field("root_token").and_then(Value::as_str).unwrap_or_default();
    call.ui.output(&format!("\nInitial Root Token: {token}"));
    let program = call.ui.program.clone();
    let paragraphs = if body.recovery_shares > 0 {
        vec![format!(
            "Success! The server is initialized. The recovery key has {} shares, of which {} are needed. Keep them \
             apart and safe.",
            body.recovery_shares, body.recovery_threshold
        )]
    } else {
        vec![
            format!(
                "Vault initialized with {} key shares and a key threshold of {}. Please securely distribute the key \
                 shares printed above. When the server is re-sealed, restarted, or stopped, you must supply at least \
                 {} of these keys to unseal it before it can start servicing requests.",
                body.secret_shares, body.secret_threshold, body.secret_threshold
            ),
            format!(
                "The root key itself is not stored. Without at least {} keys to reconstruct it, the server will \
                 remain permanently sealed!",
                body.secret_threshold
            ),
            format!(
                "It is possible to generate new unseal keys, provided you have a quorum of existing unseal keys \
                 shares. See \"{program} operator rotate-keys\" for more information."
            ),
        ]
    };
    for paragraph in paragraphs {
        call.ui.output(&format!("\n{}", at_length(&paragraph)));
    }
}
