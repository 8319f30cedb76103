//! Logging in.

use std::collections::BTreeMap;

use chancery_api::Secret;
use chancery_client::{Answer, Auth, Environment, Request, Value};
use serde_json::json;

use crate::command::{Arguments, Call, Command, FIELD, Failure, HTTP, Mode, Outcome};
use crate::flags::{Flag, Kind};
use crate::kv;
use crate::output::at_length;

const FLAGS: &[Flag] = &[
    Flag::new(
        "method",
        Kind::Text,
        "The type of the auth method: token, userpass, approle, kubernetes, cert, ldap or radius.",
    )
    .default("token"),
    Flag::new("path", Kind::Text, "Where the method is enabled, if not under the name of its type."),
    Flag::new("no-store", Kind::Bool, "Do not keep the token for later commands."),
    Flag::new("no-print", Kind::Bool, "Keep the token for later commands and print nothing."),
    Flag::new("token-only", Kind::Bool, "Print the token and nothing else; implies -no-store."),
];

pub(super) const COMMANDS: &[Command] = &[Command {
    name: "login",
    synopsis: "Log in and keep the token",
    usage: "[options] [TOKEN | AUTH K=V...]",
    help: "Logs in and keeps the token in ~/.vault-token, from where later commands take it. The default \
           method is \"token\"; without TOKEN it is asked for at the terminal, and - reads it from standard \
           input.\n\nLog in with a token:\n\n$ {p} login s.aBcDeF...\n\nLog in with name and password; the \
           password is asked for if it is not given:\n\n$ {p} login -method=userpass username=sally\n\nLog \
           in as a role:\n\n$ {p} login -method=approle role_id=... secret_id=@secret-id\n\nA method that is \
           enabled elsewhere:\n\n$ {p} login -method=approle -path=approle-prod role_id=...",
    flags: &[("HTTP Options", HTTP), ("Output Options", FIELD), ("Command Options", FLAGS)],
    arguments: Arguments::Any,
    run: login,
}];

fn login(call: &mut Call<'_>) -> Outcome {
    let token_only = call.flags.on("token-only");
    let no_store = call.flags.on("no-store") || token_only;
    let no_print = call.flags.on("no-print");
    if no_store && no_print {
        return Err(Failure::Local("-no-store and -no-print cannot be used together".to_owned()));
    }
    let method = call.flags.text("method").unwrap_or("token").to_owned();
    let mut pairs = call.args.clone();
    if let Some(first) = pairs.first_mut()
        && method == "token"
        && !first.contains('=')
    {
        *first = format!("token={first}");
    }
    let config = kv::parse_texts(&pairs, &mut call.ui.stdin);
    let mut config =
        config.map_err(|reason| Failure::Local(format!("Error parsing configuration: {reason}")))?;
    if let Some(path) = call.flags.non_empty("path") {
        config.entry("mount".to_owned()).or_insert_with(|| path.to_owned());
    }

    let mut answer = authenticate(call, &method, &config)?;
    let wrapped = answer.wrap_info.as_ref().map(|wrap| wrap.token.clone());
    if let Some(token) = wrapped {
        if token_only {
            return call.print_field("token", Some(token.expose().into()));
        }
        if no_store {
            return call.print_answer(&answer);
        }
        let request = Request::write("sys/wrapping/unwrap", &json!({}))?.token(token).plain();
        let opened = call.answer(&request).map_err(|error| error.during("Error unwrapping token"))?;
        answer = opened.unwrap_or_default();
    }
    let Some(auth) = &answer.auth else {
        return Err(Failure::Server(
            "Server returned a value, but the response was missing information about the token".to_owned(),
        ));
    };
    let token = auth.client_token.clone();
    if !no_store {
        store(call, &token)?;
    }
    if no_print {
        return Ok(0);
    }
    if token_only {
        return call.print_field("token", Some(token.expose().into()));
    }
    let quiet = call.flags.non_empty("field").is_some() || !call.is_table();
    if no_store {
        warn_not_stored(call);
    }
    if !quiet {
        announce(call, no_store);
    }
    call.print_answer(&answer)
}

fn store(call: &mut Call<'_>, token: &Secret) -> Result<(), Failure> {
    let Some(file) = call.token_file() else {
        return Err(Failure::Server("Error storing token: there is no home folder to hold it".to_owned()));
    };
    file.write(token).map_err(|reason| Failure::Server(format!("Error storing token: {reason}")))?;
    let set = ["BAO_TOKEN", "VAULT_TOKEN"].into_iter().find(|name| call.ui.named(name).is_some());
    if let Some(name) = set {
        let text = format!(
            "WARNING! The {name} environment variable is set! The value of this variable will take \
             precedence; if this is unwanted please unset {name} or update its value accordingly."
        );
        call.ui.warn(&format!("{}\n", at_length(&text)));
    }
    Ok(())
}

fn warn_not_stored(call: &mut Call<'_>) {
    let text = "The token was not stored in token helper. Set the VAULT_TOKEN environment variable or pass the \
                token below with each request.";
    call.ui.warn(&format!("{}\n", at_length(text)));
}

fn announce(call: &mut Call<'_>, no_store: bool) {
    let program = &call.ui.program;
    let text = if no_store {
        "Success! You are now authenticated. The token information is displayed below.".to_owned()
    } else {
        format!(
            "Success! You are now authenticated. The token information displayed below is already stored in \
             the token helper. You do NOT need to run \"{program} login\" again. Future requests will \
             automatically use this token."
        )
    };
    call.ui.output(&format!("{}\n", at_length(&text)));
}

type Given = BTreeMap<String, String>;

fn authenticate(call: &mut Call<'_>, method: &str, config: &Given) -> Result<Answer, Failure> {
    let failed = |reason: String| Failure::Server(format!("Error authenticating: {reason}"));
    if method == "token" {
        return with_token(call, config);
    }
    let mount = config.get("mount").map_or(method, String::as_str).trim_matches('/').to_owned();
    let mut given = config.clone();
    given.remove("mount");
    let take = |given: &mut Given, name: &str| given.remove(name).filter(|value| !value.is_empty());
    let request = match method {
        "userpass" | "ldap" | "radius" => {
            let username = take(&mut given, "username")
                .or_else(|| (method == "ldap").then(|| call.ui.named("LOGNAME")).flatten());
            let username = username.ok_or_else(|| failed("'username' must be specified".to_owned()))?;
            let password = match take(&mut given, "password") {
                Some(password) => Secret::new(password),
                None => ask(call, "Password (will be hidden): ", "a password").map_err(failed)?,
            };
            Request::write(
                format!("auth/{mount}/login/{username}"),
                &json!({ "password": password.expose() }),
            )?
        }
        "approle" => {
            if !given.contains_key("role_id") {
                return Err(failed("'role_id' must be specified".to_owned()));
            }
            for name in ["role_id", "secret_id"] {
                if let Some(value) = given.get_mut(name) {
                    // Files end in a line feed, ids do not.
                    *value = value.trim().to_owned();
                }
            }
            Request::write(format!("auth/{mount}/login"), &given)?
        }
        "kubernetes" | "jwt" => {
            if !given.contains_key("jwt") && method == "kubernetes" {
                let path = "/var/run/secrets/kubernetes.io/serviceaccount/token";
                let jwt = std::fs::read_to_string(path);
                let jwt = jwt.map_err(|error| {
                    failed(format!("'jwt' must be specified: {}", kv::cannot_open(path, &error)))
                })?;
                given.insert("jwt".to_owned(), jwt.trim().to_owned());
            }
            Request::write(format!("auth/{mount}/login"), &given)?
        }
        "cert" => Request::write(format!("auth/{mount}/login"), &given)?,
        other => {
            let program = &call.ui.program;
            let text = format!(
                "Unknown auth method: {other}. Use \"{program} auth list\" to see the complete list of auth \
                 methods. Additionally, some auth methods are only available via the HTTP API."
            );
            return Err(Failure::Local(at_length(&text)));
        }
    };
    let answer = call.answer(&request.anonymous()).map_err(|error| error.during("Error authenticating"))?;
    answer.ok_or_else(|| failed("the server answered without a token".to_owned()))
}

fn ask(call: &mut Call<'_>, prompt: &str, what: &str) -> Result<Secret, String> {
    if call.flags.on("non-interactive") {
        return Err(format!("{what} is needed, and -non-interactive forbids to ask for it"));
    }
    call.ui.ask_secret(prompt).map_err(|reason| {
        format!(
            "An error occurred attempting to ask for {what}. The raw error message is shown below, but usually \
             this is because you attempted to pipe a value into the command or you are executing outside of a \
             terminal (tty). If you want to pipe the value, pass \"-\" as the argument to read from stdin. The \
             raw error was: {reason}"
        )
    })
}

/// A token needs no login, only a look at it.
fn with_token(call: &mut Call<'_>, config: &Given) -> Result<Answer, Failure> {
    let failed = |reason: String| Failure::Server(format!("Error authenticating: {reason}"));
    let token = match config.get("token").map(|token| token.trim()).filter(|token| !token.is_empty()) {
        Some(token) => Secret::new(token),
        None => ask(call, "Token (will be hidden): ", "a token").map_err(failed)?,
    };
    let token = Secret::new(token.expose().trim());
    let looks_up = match config.get("lookup").map(String::as_str) {
        None => true,
        Some(text) => crate::flags::boolean(text)
            .ok_or_else(|| failed(format!("Failed to parse \"lookup\" as boolean: {text:?}")))?,
    };
    if !looks_up && call.mode == Mode::Send {
        let auth = Auth { client_token: token, ..Auth::default() };
        return Ok(Answer { auth: Some(auth), ..Answer::default() });
    }
    let request = Request::read("auth/token/lookup-self").token(token.clone());
    let answer = call
        .answer(&request)
        .map_err(|error| error.during("Error authenticating: error looking up token"))?;
    let answer = answer.unwrap_or_default();
    if answer.wrap_info.is_some() {
        return Ok(answer);
    }
    let texts = |name: &str| {
        let list = answer.field(name)?.as_array()?;
        Some(list.iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>())
    };
    let token_policies = texts("policies");
    let identity_policies = texts("identity_policies");
    let mut policies = token_policies.clone();
    if let (Some(all), Some(more)) = (&mut policies, &identity_policies) {
        all.extend(more.iter().cloned());
    }
    let auth = Auth {
        client_token: token,
        accessor: answer.text("accessor").unwrap_or_default().to_owned(),
        policies,
        token_policies,
        identity_policies,
        metadata: answer.field("meta").filter(|meta| !meta.is_null()).and_then(|meta| meta.decode().ok()),
        lease_duration: answer.field("ttl").and_then(Value::as_i64).unwrap_or_default(),
        renewable: answer.field("renewable").and_then(Value::as_bool).unwrap_or_default(),
        ..Auth::default()
    };
    Ok(Answer { auth: Some(auth), ..Answer::default() })
}

/// What `auth help` says of a method.
pub(super) fn help_of(method: &str, program: &str) -> Option<String> {
    let text = match method {
        "token" => format!(
            "Usage: {program} login TOKEN [CONFIG K=V...]\n\n  Logs in with a token that you have already.\n\n      \
             $ {program} login s.aBcDeF...\n\nConfiguration:\n\n  token=<string>\n      The token. If it is not given, \
             it is asked for.\n\n  lookup=<bool>\n      Whether to look the token up. The default is true."
        ),
        "userpass" | "ldap" | "radius" => format!(
            "Usage: {program} login -method={method} [CONFIG K=V...]\n\n  Logs in with a name and a password.\n\n      \
             $ {program} login -method={method} username=sally\n      Password (will be hidden):\n\n\
             Configuration:\n\n  password=<string>\n      The password. If it is not given, it is asked for.\n\n  \
             username=<string>\n      The name."
        ),
        "approle" => format!(
            "Usage: {program} login -method=approle [CONFIG K=V...]\n\n  Logs in as a role, with its secret.\n\n      \
             $ {program} login -method=approle role_id=@role-id secret_id=@secret-id\n\n\
             Configuration:\n\n  role_id=<string>\n      The role's id.\n\n  secret_id=<string>\n      The secret id, \
             unless the role needs none."
        ),
        "kubernetes" => format!(
            "Usage: {program} login -method=kubernetes [CONFIG K=V...]\n\n  Logs in as a service account.\n\n      \
             $ {program} login -method=kubernetes role=web\n\nConfiguration:\n\n  jwt=<string>\n      The service \
             account's token. The default is the one mounted into the pod.\n\n  role=<string>\n      The role."
        ),
        "cert" => format!(
            "Usage: {program} login -method=cert [CONFIG K=V...]\n\n  Logs in with a client certificate.\n\n      \
             $ {program} login -method=cert -client-cert=me.pem -client-key=me.key name=web\n\n\
             Configuration:\n\n  name=<string>\n      The role; the default is to try all."
        ),
        _ => return None,
    };
    Some(text)
}
