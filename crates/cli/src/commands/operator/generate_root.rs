//! `operator generate-root`: a new root token, if those who hold enough unseal keys agree.

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use chancery_client::{Request, Value};
use serde_json::json;
use zeroize::Zeroizing;

use crate::command::{Arguments, Call, Command, FORMAT, Failure, HTTP, Mode, Outcome};
use crate::flags::{Flag, Kind};
use crate::output::{Doc, at_length, columns, plain};

const FLAGS: &[Flag] = &[
    Flag::new("init", Kind::Bool, "Begin."),
    Flag::new("cancel", Kind::Bool, "Give up and forget the shares given so far."),
    Flag::new("status", Kind::Bool, "Print how far it is."),
    Flag::new(
        "decode",
        Kind::Text,
        "Print the token in this encoded one; needs -otp. With - it is read from standard input.",
    ),
    Flag::new("generate-otp", Kind::Bool, "Print a one-time password for -init."),
    Flag::new("otp", Kind::Text, "The one-time password that hides the token on its way."),
    Flag::new("nonce", Kind::Text, "The nonce that -init printed; needed with each share that is not typed."),
    Flag::new(
        "pgp-key",
        Kind::Text,
        "File with the PGP key that the token is encrypted with, instead of -otp.",
    ),
];

pub(super) const COMMANDS: &[Command] = &[Command {
    name: "operator generate-root",
    synopsis: "Makes a new root token",
    usage: "[options] [KEY]",
    help: "Makes a new root token, if those who hold enough unseal keys agree.\n\nBegin; the one-time password that is \
           printed is needed at the end:\n\n$ {p} operator generate-root -init\n\nThen each gives a share:\n\n\
           $ {p} operator generate-root\n\nDecode the token that the last share brings:\n\n\
           $ {p} operator generate-root -decode=ENCODED -otp=OTP",
    flags: &[("HTTP Options", HTTP), ("Output Options", FORMAT), ("Command Options", FLAGS)],
    arguments: Arguments::Between(0, 1),
    run,
}];

/// Where the operation lives: the newer path, which needs a token, before the older one.
const BASES: [&str; 2] = ["sys/generate-root-token", "sys/generate-root"];

fn run(call: &mut Call<'_>) -> Outcome {
    if call.flags.given("decode") {
        return decode(call);
    }
    if call.flags.on("cancel") {
        let base = base(call)?;
        let request = Request::delete(format!("{base}/attempt"));
        call.send(&request).map_err(|error| error.during("Error canceling root token generation"))?;
        call.ui.output("Success! Root token generation canceled (if it was started)");
        return Ok(0);
    }
    if call.flags.on("init") {
        return begin(call);
    }
    let (base, status) = status(call)?;
    if call.flags.on("generate-otp") {
        let otp = one_time_password(&status)?;
        if call.is_table() {
            return call.print_field("otp", Some(otp.as_str().into()));
        }
        let doc =
            Doc::object([("otp", otp.as_str().into()), ("otp_length", Doc::Number(otp.len().to_string()))]);
        return call.print_doc(&doc);
    }
    if call.flags.on("status") {
        return print_status(call, &status);
    }
    provide(call, base, &status)
}

/// The path that this server knows.
fn base(call: &mut Call<'_>) -> Result<&'static str, Failure> {
    if call.mode != Mode::Send {
        return Ok(BASES[0]);
    }
    status(call).map(|(base, _)| base)
}

fn status(call: &mut Call<'_>) -> Result<(&'static str, Value), Failure> {
    let [newer, older] = BASES;
    let known = |error: &chancery_client::Error| !matches!(error.status(), Some(404 | 405));
    let context = "Error getting root generation status";
    match call.data(&Request::read(format!("{newer}/attempt"))) {
        Ok(status) => Ok((newer, status)),
        Err(failure) if failure.error().is_none_or(known) => Err(failure.during(context)),
        Err(_) => {
            let status = call.data(&Request::read(format!("{older}/attempt")));
            status.map(|status| (older, status)).map_err(|error| error.during(context))
        }
    }
}

fn begin(call: &mut Call<'_>) -> Outcome {
    let otp = call.flags.text("otp").unwrap_or_default().to_owned();
    let key = super::rotate_keys::pgp_keys(call, "pgp-key")?.unwrap_or_default().join(",");
    let base = base(call)?;
    let request = Request::write(format!("{base}/attempt"), &json!({ "otp": otp, "pgp_key": key }))?;
    let status: Result<Value, Failure> = call.data(&request);
    let status = status.map_err(|error| error.during("Error initializing root generation"))?;
    let made = status.field("otp").and_then(Value::as_str).is_some_and(|otp| !otp.is_empty());
    if made && call.is_table() {
        let text = "A One-Time-Password has been generated for you and is shown in the OTP field. You will need this \
                    value to decode the resulting root token, so keep it safe.";
        call.ui.warn(&at_length(text));
    }
    print_status(call, &status)
}

fn provide(call: &mut Call<'_>, base: &str, status: &Value) -> Outcome {
    let started = status.field("started").and_then(Value::as_bool).unwrap_or_default();
    if !started {
        let program = &call.ui.program;
        let length = status.field("otp_length").and_then(Value::as_i64).unwrap_or_default();
        let first = format!(
            "No root generation is in progress. Start a root generation by running \"{program} operator generate-root -init\"."
        );
        let second = format!(
            "If starting root generation using the OTP method and generating your own OTP, the length of the OTP string needs to be {length} characters in length."
        );
        return Err(Failure::Local(format!("{}\n{}", at_length(&first), at_length(&second))));
    }
    let current = status.field("nonce").and_then(Value::as_str).unwrap_or_default().to_owned();
    let given = call.flags.non_empty("nonce").map(str::to_owned);
    let nonce = match (call.args.is_empty(), given) {
        (_, Some(nonce)) => nonce,
        (true, None) => {
            call.ui.output(&format!("Operation nonce: {current}"));
            current
        }
        (false, None) => {
            return Err(Failure::Local("Missing nonce value: specify it via the -nonce flag".to_owned()));
        }
    };
    let share = super::key_share(call, "Unseal Key (will be hidden): ", "the unseal key")?;
    let request =
        Request::write(format!("{base}/update"), &json!({ "key": share.expose(), "nonce": nonce }))?;
    let status: Result<Value, Failure> = call.data(&request);
    let status = status.map_err(|error| error.during("Error posting unseal key"))?;
    print_status(call, &status)
}

fn print_status(call: &mut Call<'_>, status: &Value) -> Outcome {
    let order = [
        "nonce",
        "started",
        "progress",
        "required",
        "complete",
        "encoded_token",
        "encoded_root_token",
        "pgp_fingerprint",
        "otp",
        "otp_length",
    ];
    let default = |name: &str| match name {
        "started" | "complete" => Doc::Bool(false),
        "progress" | "required" | "otp_length" => Doc::from(0_i64),
        _ => Doc::from(""),
    };
    let order = order.map(|name| (name, Some(default(name))));
    if !call.is_table() {
        return call.print_doc(&super::super::mounts::ordered(status, &order));
    }
    let field = |name: &str| status.field(name).filter(|value| !value.is_null());
    let text = |name: &str| field(name).map(|value| plain(&Doc::from(value))).unwrap_or_default();
    let mut rows = vec![
        ("Nonce", text("nonce")),
        ("Started", text("started")),
        ("Progress", format!("{}/{}", text("progress"), text("required"))),
        ("Complete", text("complete")),
    ];
    let encoded =
        if text("encoded_token").is_empty() { text("encoded_root_token") } else { text("encoded_token") };
    let complete = text("complete") == "true";
    for (title, value) in
        [("PGP Fingerprint", text("pgp_fingerprint")), ("Encoded Token", encoded), ("OTP", text("otp"))]
    {
        if !value.is_empty() {
            rows.push((title, value));
        }
    }
    if !complete && field("otp_length").and_then(Value::as_i64).is_some_and(|length| length > 0) {
        rows.push(("OTP Length", text("otp_length")));
    }
    let rows: Vec<Vec<String>> = rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect();
    call.ui.output(&columns(&rows));
    Ok(0)
}

/// Letters and digits, as many as the server asks for, each as likely as the other.
fn one_time_password(status: &Value) -> Result<Zeroizing<String>, Failure> {
    const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let length =
        status.field("otp_length").and_then(Value::as_i64).and_then(|length| usize::try_from(length).ok());
    let length = length.filter(|length| (1..=1024).contains(length)).unwrap_or(26);
    let mut otp = Zeroizing::new(String::with_capacity(length));
    while otp.len() < length {
        let mut bytes = Zeroizing::new([0_u8; 64]);
        rand::fill(bytes.as_mut_slice())
            .map_err(|_| Failure::Local("the system gives no random bytes".to_owned()))?;
        // 248 is the largest multiple of 62 in a byte: what lies above would favour the first letters.
        for byte in bytes.iter().filter(|byte| **byte < 248).take(length - otp.len()) {
            otp.extend(LETTERS.get(usize::from(byte % 62)).map(|letter| char::from(*letter)));
        }
    }
    Ok(otp)
}

fn decode(call: &mut Call<'_>) -> Outcome {
    let otp = call.flags.text("otp").unwrap_or_default().to_owned();
    if otp.is_empty() {
        return Err(Failure::Local("Missing otp: use -otp to supply it".to_owned()));
    }
    let mut encoded = call.flags.text("decode").unwrap_or_default().trim().to_owned();
    if encoded == "-" {
        encoded = call
            .ui
            .read_stdin()
            .map_err(|reason| Failure::Local(format!("Failed to read from stdin: {reason}")))?;
    }
    if encoded.trim().is_empty() {
        return Err(Failure::Local("Missing encoded value: use -decode=<string> to supply it".to_owned()));
    }
    let token = unveil(encoded.trim(), &otp)
        .map_err(|reason| Failure::Local(format!("Error decoding root token: {reason}")))?;
    if call.is_table() {
        call.ui.output(&token);
        return Ok(0);
    }
    call.print_doc(&Doc::object([("token", token.as_str().into())]))
}

/// The token is the encoded bytes, each combined with the password's byte at its place.
fn unveil(encoded: &str, otp: &str) -> Result<String, String> {
    let bytes = STANDARD_NO_PAD.decode(encoded).or_else(|_| STANDARD.decode(encoded));
    let bytes = Zeroizing::new(bytes.map_err(|error| error.to_string())?);
    if bytes.len() != otp.len() {
        return Err(format!("the token has {} bytes and the otp has {}", bytes.len(), otp.len()));
    }
    let token = bytes.iter().zip(otp.bytes()).map(|(byte, otp)| byte ^ otp).collect();
    String::from_utf8(token).map_err(|_| "the otp is not the one the token was hidden with".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_unveiled_with_its_password() {
        let token = unveil("Mm8oDXklFRsuMAQZFCB2dBAgIC8IMgcwETU", "AAAAAAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(token.as_deref(), Ok("s.iL8dTZoqEXUa75QaanIsFqPt"));
        assert!(unveil("Mm8o", "AAAA").is_err());
    }

    #[test]
    fn a_password_is_as_long_as_asked_and_all_letters_and_digits() {
        let status = Value::parse(r#"{"otp_length":26}"#).expect("valid JSON");
        let otp = one_time_password(&status).expect("random");
        assert_eq!(otp.len(), 26);
        assert!(otp.chars().all(|c| c.is_ascii_alphanumeric()));
    }
}
