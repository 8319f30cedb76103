//! Secrets engines and auth methods: two kinds of mounts, one set of commands.

use std::collections::BTreeMap;
use std::time::Duration;

use chancery_client::{Request, Value, format_duration};
use serde::Serialize;
use serde_json::json;

use crate::command::{Arguments, Call, Command, DETAILED, Failure, Group, HTTP, Outcome};
use crate::flags::{Flag, Flags, Kind};
use crate::output::{Doc, plain, table};

pub(super) const SECRETS: Group = Group {
    name: "secrets",
    synopsis: "Interact with secrets engines",
    help: "A secrets engine is mounted at a path and answers below it; pki, for one, issues \
           certificates.\n\nMount the PKI engine:\n\n$ {p} secrets enable pki\n\nA second one, elsewhere:\n\n\
           $ {p} secrets enable -path=istioca pki\n\nSee all of them:\n\n$ {p} secrets list",
};

pub(super) const AUTH: Group = Group {
    name: "auth",
    synopsis: "Interact with auth methods",
    help: "An auth method is mounted at a path and turns what a caller shows into a token. To log in, use \
           \"login\".\n\nMount AppRole:\n\n$ {p} auth enable approle\n\nSee all methods:\n\n$ {p} auth list",
};

macro_rules! tuning {
    ($($more:expr),* $(,)?) => {
        &[
            Flag::new("allowed-response-headers", Kind::Texts, "A response header that the mount may set. May be repeated."),
            Flag::new("audit-non-hmac-request-keys", Kind::Texts, "A key of requests that the audit log shows plainly. May be repeated."),
            Flag::new("audit-non-hmac-response-keys", Kind::Texts, "A key of responses that the audit log shows plainly. May be repeated."),
            Flag::new("default-lease-ttl", Kind::Duration, "How long tokens and leases of this mount live if nothing else is said; \"system\" for the server's default."),
            Flag::new("description", Kind::Text, "What the mount is for, in words for people."),
            Flag::new("listing-visibility", Kind::Text, "Whether the UI lists the mount before a login: \"unauth\" or \"hidden\"."),
            Flag::new("max-lease-ttl", Kind::Duration, "The longest that tokens, leases and certificates of this mount live; \"system\" for the server's default."),
            Flag::new("options", Kind::Pairs, "An option of the mount, as key=value. May be repeated."),
            Flag::new("passthrough-request-headers", Kind::Texts, "A request header that the mount gets to see. May be repeated."),
            Flag::new("plugin-version", Kind::Text, "The version of the plugin."),
            Flag::new("version", Kind::Int, "The version of the engine, where there are several."),
            $($more),*
        ]
    };
}

macro_rules! enabling {
    ($($more:expr),* $(,)?) => {
        tuning!(
            Flag::new("external-entropy-access", Kind::Bool, "Let the mount draw from an external source of randomness."),
            Flag::new("local", Kind::Bool, "Keep the mount on this cluster."),
            Flag::new("path", Kind::Text, "Where to mount it. The default is the name of its type."),
            Flag::new("plugin-name", Kind::Text, "The plugin's name in the catalog."),
            Flag::new("seal-wrap", Kind::Bool, "Wrap its critical values with the seal."),
            $($more),*
        )
    };
}

const TOKEN_TYPE: Flag = Flag::new(
    "token-type",
    Kind::Text,
    "The type of token that logins give: service, batch, default-service or default-batch.",
);
const NO_CACHE: Flag = Flag::new("force-no-cache", Kind::Bool, "Read everything from storage.");

const ENABLE_SECRETS: &[Flag] = enabling!(NO_CACHE);
const ENABLE_AUTH: &[Flag] = enabling!(TOKEN_TYPE);
const TUNE_SECRETS: &[Flag] = tuning!();
const TUNE_AUTH: &[Flag] = tuning!(
    TOKEN_TYPE,
    Flag::new(
        "user-lockout-counter-reset-duration",
        Kind::Duration,
        "After how long without a failure the count of failed logins starts anew."
    ),
    Flag::new("user-lockout-disable", Kind::Bool, "Never lock anybody out."),
    Flag::new("user-lockout-duration", Kind::Duration, "How long somebody stays locked out."),
    Flag::new("user-lockout-threshold", Kind::Uint, "After how many failed logins somebody is locked out."),
);

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "secrets enable",
        synopsis: "Mounts a secrets engine",
        usage: "[options] TYPE",
        help: "Mounts a secrets engine of TYPE, at the path of that name or at -path.\n\n$ {p} secrets enable pki\n\
               $ {p} secrets enable -path=istioca -max-lease-ttl=43800h pki",
        flags: &[("HTTP Options", HTTP), ("Command Options", ENABLE_SECRETS)],
        arguments: Arguments::Exactly(1),
        run: |call| enable(call, &ENGINES),
    },
    Command {
        name: "secrets disable",
        synopsis: "Unmounts a secrets engine",
        usage: "[options] PATH",
        help: "Unmounts the secrets engine at PATH. Its secrets are revoked and its data is removed; there is no way \
               back.\n\n$ {p} secrets disable istioca/",
        flags: &[("HTTP Options", HTTP)],
        arguments: Arguments::Exactly(1),
        run: |call| disable(call, &ENGINES),
    },
    Command {
        name: "secrets list",
        synopsis: "Lists secrets engines",
        usage: "[options]",
        help: "Lists the mounted secrets engines. A TTL of \"system\" is the server's default.\n\n\
               $ {p} secrets list -detailed",
        flags: &[("HTTP Options", HTTP), ("Output Options", DETAILED)],
        arguments: Arguments::Exactly(0),
        run: |call| list(call, &ENGINES),
    },
    Command {
        name: "secrets tune",
        synopsis: "Changes a secrets engine's settings",
        usage: "[options] PATH",
        help: "Changes the settings of the secrets engine at PATH; what is not named stays as it is.\n\n\
               Let a CA issue for ten years:\n\n$ {p} secrets tune -max-lease-ttl=87600h pki",
        flags: &[("HTTP Options", HTTP), ("Command Options", TUNE_SECRETS)],
        arguments: Arguments::Exactly(1),
        run: |call| tune(call, &ENGINES),
    },
    Command {
        name: "secrets move",
        synopsis: "Moves a secrets engine to another path",
        usage: "[options] SOURCE DESTINATION",
        help: "Moves the secrets engine at SOURCE to DESTINATION, with all its data. Its leases are revoked.\n\n\
               $ {p} secrets move pki/ root-ca/",
        flags: &[("HTTP Options", HTTP)],
        arguments: Arguments::Exactly(2),
        run: |call| remount(call, &ENGINES),
    },
    Command {
        name: "auth enable",
        synopsis: "Mounts an auth method",
        usage: "[options] TYPE",
        help: "Mounts an auth method of TYPE, at the path of that name or at -path; logins then go to \
               auth/PATH.\n\n$ {p} auth enable approle\n$ {p} auth enable -path=approle-prod approle",
        flags: &[("HTTP Options", HTTP), ("Command Options", ENABLE_AUTH)],
        arguments: Arguments::Exactly(1),
        run: |call| enable(call, &METHODS),
    },
    Command {
        name: "auth disable",
        synopsis: "Unmounts an auth method",
        usage: "[options] PATH",
        help: "Unmounts the auth method at PATH and revokes all tokens it gave.\n\n$ {p} auth disable approle/",
        flags: &[("HTTP Options", HTTP)],
        arguments: Arguments::Exactly(1),
        run: |call| disable(call, &METHODS),
    },
    Command {
        name: "auth list",
        synopsis: "Lists auth methods",
        usage: "[options]",
        help: "Lists the mounted auth methods. A TTL of \"system\" is the server's default.\n\n\
               $ {p} auth list -detailed",
        flags: &[("HTTP Options", HTTP), ("Output Options", DETAILED)],
        arguments: Arguments::Exactly(0),
        run: |call| list(call, &METHODS),
    },
    Command {
        name: "auth tune",
        synopsis: "Changes an auth method's settings",
        usage: "[options] PATH",
        help: "Changes the settings of the auth method at PATH; what is not named stays as it is.\n\n\
               $ {p} auth tune -default-lease-ttl=1h approle/",
        flags: &[("HTTP Options", HTTP), ("Command Options", TUNE_AUTH)],
        arguments: Arguments::Exactly(1),
        run: |call| tune(call, &METHODS),
    },
    Command {
        name: "auth move",
        synopsis: "Moves an auth method to another path",
        usage: "[options] SOURCE DESTINATION",
        help: "Moves the auth method at SOURCE to DESTINATION, with all its roles. Its tokens are revoked.\n\n\
               $ {p} auth move approle/ approle-prod/",
        flags: &[("HTTP Options", HTTP)],
        arguments: Arguments::Exactly(2),
        run: |call| remount(call, &METHODS),
    },
    Command {
        name: "auth help",
        synopsis: "Prints how to log in with a method",
        usage: "[options] TYPE | PATH",
        help: "Prints how to log in with the auth method of TYPE, or with the one mounted at PATH.\n\n\
               $ {p} auth help approle\n$ {p} auth help approle-prod/",
        flags: &[("HTTP Options", HTTP)],
        arguments: Arguments::Exactly(1),
        run: auth_help,
    },
];

/// In what the two kinds differ.
struct MountKind {
    /// Where the server keeps its table.
    table: &'static str,
    /// What one of them is called.
    noun: &'static str,
    is_auth: bool,
}

const ENGINES: MountKind = MountKind { table: "sys/mounts", noun: "secrets engine", is_auth: false };
const METHODS: MountKind = MountKind { table: "sys/auth", noun: "auth method", is_auth: true };

#[derive(Serialize)]
struct EnableBody {
    #[serde(rename = "type")]
    kind: String,
    description: String,
    config: Config,
    local: bool,
    seal_wrap: bool,
    external_entropy_access: bool,
    options: Option<BTreeMap<String, String>>,
}

#[derive(Serialize)]
struct Config {
    options: Option<BTreeMap<String, String>>,
    default_lease_ttl: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    max_lease_ttl: String,
    force_no_cache: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    audit_non_hmac_request_keys: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    audit_non_hmac_response_keys: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    listing_visibility: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    passthrough_request_headers: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed_response_headers: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    token_type: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    plugin_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_lockout_config: Option<Value>,
}

impl Config {
    fn of(flags: &Flags) -> Self {
        let text = |name: &str| flags.text(name).unwrap_or_default().to_owned();
        let texts = |name: &str| flags.texts(name).to_vec();
        Self {
            options: None,
            default_lease_ttl: ttl(flags, "default-lease-ttl").unwrap_or_else(|| "0s".to_owned()),
            description: None,
            max_lease_ttl: ttl(flags, "max-lease-ttl").unwrap_or_else(|| "0s".to_owned()),
            force_no_cache: flags.on("force-no-cache"),
            audit_non_hmac_request_keys: texts("audit-non-hmac-request-keys"),
            audit_non_hmac_response_keys: texts("audit-non-hmac-response-keys"),
            listing_visibility: text("listing-visibility"),
            passthrough_request_headers: texts("passthrough-request-headers"),
            allowed_response_headers: texts("allowed-response-headers"),
            token_type: text("token-type"),
            plugin_version: text("plugin-version"),
            user_lockout_config: lockout(flags),
        }
    }
}

/// A flag's length of time in Go's notation; `-1s` stands for "the server's default".
fn ttl(flags: &Flags, name: &str) -> Option<String> {
    match flags.text(name)? {
        "system" | "-1" => Some("-1s".to_owned()),
        _ => flags.duration(name).map(format_duration),
    }
}

fn options(flags: &Flags) -> Option<BTreeMap<String, String>> {
    let mut options = flags.pairs("options");
    if let Some(version) = flags.text("version") {
        options.insert("version".to_owned(), version.to_owned());
    }
    (!options.is_empty()).then_some(options)
}

fn lockout(flags: &Flags) -> Option<Value> {
    let mut fields = BTreeMap::new();
    if let Some(threshold) = flags.text("user-lockout-threshold") {
        fields.insert("lockout_threshold".to_owned(), Value::from(threshold));
    }
    for (flag, field) in [
        ("user-lockout-duration", "lockout_duration"),
        ("user-lockout-counter-reset-duration", "lockout_counter_reset_duration"),
    ] {
        if let Some(duration) = ttl(flags, flag) {
            fields.insert(field.to_owned(), Value::from(duration));
        }
    }
    if flags.given("user-lockout-disable") {
        fields.insert("lockout_disable".to_owned(), Value::from(flags.on("user-lockout-disable")));
    }
    (!fields.is_empty()).then_some(Value::Object(fields))
}

fn enable(call: &mut Call<'_>, kind: &MountKind) -> Outcome {
    let mut type_name = call.arg(0);
    if type_name == "plugin" {
        let name = call.flags.non_empty("plugin-name").map(str::to_owned);
        let sentence = "Missing plugin name, use -plugin-name to supply it";
        type_name = name.ok_or_else(|| Failure::Local(sentence.to_owned()))?;
    }
    let path = call.flags.non_empty("path").unwrap_or(&type_name).trim_matches('/').to_owned();
    let flags = &call.flags;
    let body = EnableBody {
        kind: type_name.clone(),
        description: flags.text("description").unwrap_or_default().to_owned(),
        config: Config::of(flags),
        local: flags.on("local"),
        seal_wrap: flags.on("seal-wrap"),
        external_entropy_access: flags.on("external-entropy-access"),
        options: options(flags),
    };
    let request = Request::post(format!("{}/{path}", kind.table), &body)?;
    let context =
        if kind.is_auth { format!("Error enabling {type_name} auth") } else { "Error enabling".to_owned() };
    call.send(&request).map_err(|error| error.during(context))?;
    let text = if kind.is_auth {
        format!("Success! Enabled {type_name} auth method at: {path}/")
    } else {
        format!("Success! Enabled the {type_name} secrets engine at: {path}/")
    };
    call.ui.output(&text);
    Ok(0)
}

fn disable(call: &mut Call<'_>, kind: &MountKind) -> Outcome {
    let path = call.mount(0);
    let request = Request::delete(format!("{}/{}", kind.table, call.path(0)));
    let context = format!("Error disabling {} at {path}", kind.noun);
    call.send(&request).map_err(|error| error.during(context))?;
    call.ui.output(&format!("Success! Disabled the {} (if it existed) at: {path}", kind.noun));
    Ok(0)
}

fn tune(call: &mut Call<'_>, kind: &MountKind) -> Outcome {
    let path = call.mount(0);
    let flags = &call.flags;
    // Here an empty text leaves the setting as it is.
    let kept = |name: &str| ttl(flags, name).filter(|ttl| ttl != "0s").unwrap_or_default();
    let body = Config {
        options: options(flags),
        default_lease_ttl: kept("default-lease-ttl"),
        description: flags
            .given("description")
            .then(|| flags.text("description").unwrap_or_default().to_owned()),
        max_lease_ttl: kept("max-lease-ttl"),
        ..Config::of(flags)
    };
    let below = if kind.is_auth { "auth/" } else { "" };
    let request = Request::post(format!("sys/mounts/{below}{}/tune", call.path(0)), &body)?;
    let context = format!("Error tuning {} {path}", kind.noun);
    call.send(&request).map_err(|error| error.during(context))?;
    call.ui.output(&format!("Success! Tuned the {} at: {path}", kind.noun));
    Ok(0)
}

fn remount(call: &mut Call<'_>, kind: &MountKind) -> Outcome {
    let (from, to) = (call.mount(0), call.mount(1));
    let below = if kind.is_auth { "auth/" } else { "" };
    let full =
        |path: &str| if path.starts_with("auth/") { path.to_owned() } else { format!("{below}{path}") };
    let what = format!("{} {from} to {to}", kind.noun);
    let request = Request::post("sys/remount", &json!({ "from": full(&from), "to": full(&to) }))?;
    let answer = call.answer(&request).map_err(|error| error.during(format!("Error moving {what}")))?;
    let id = answer.as_ref().and_then(|answer| answer.text("migration_id")).unwrap_or_default().to_owned();
    if id.is_empty() {
        call.ui.output(&format!("Success! Finished moving {what}"));
        return Ok(0);
    }
    call.ui.output(&format!("Started moving {what}, with migration ID {id}"));
    let mut pause = Duration::from_millis(50);
    loop {
        let request = Request::read(format!("sys/remount/status/{id}"));
        let context = format!("Error checking migration status of {what}");
        let answer = call.answer(&request).map_err(|error| error.during(context))?.unwrap_or_default();
        let info = answer.field("migration_info");
        match info.and_then(|info| info.field("status")).and_then(Value::as_str) {
            Some("success") => {
                call.ui.output(&format!("Success! Finished moving {what}, with migration ID {id}"));
                return Ok(0);
            }
            Some("failure") => {
                return Err(Failure::Server(format!(
                    "Failure! Error encountered moving {what}, with migration ID {id}"
                )));
            }
            _ => call.sleep(pause)?,
        }
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

/// A heading, and what stands below it for a mount.
type Column = (&'static str, fn(&Value) -> String);

fn list(call: &mut Call<'_>, kind: &MountKind) -> Outcome {
    let plural = if kind.is_auth { "enabled authentications" } else { "secrets engines" };
    let mounts: Result<BTreeMap<String, Value>, Failure> = call.data(&Request::read(kind.table));
    let mounts = mounts.map_err(|error| error.during(format!("Error listing {plural}")))?;
    if !call.is_table() {
        let doc = Doc::Object(mounts.iter().map(|(path, mount)| (path.clone(), mount_doc(mount))).collect());
        return call.print_doc(&doc);
    }
    let detailed = call.flags.on("detailed");
    let mut columns: Vec<Column> = Vec::new();
    if detailed {
        columns.push(("Plugin", |mount| text(mount, "type")));
        columns.push(("Accessor", |mount| text(mount, "accessor")));
        columns.push(("Default TTL", |mount| shown_ttl(mount, "default_lease_ttl")));
        columns.push(("Max TTL", |mount| shown_ttl(mount, "max_lease_ttl")));
        if kind.is_auth {
            columns.push(("Token Type", |mount| config(mount, "token_type")));
        } else {
            columns.push(("Force No Cache", |mount| config(mount, "force_no_cache")));
        }
        columns.push(("Replication", |mount| {
            let local = mount.field("local").and_then(Value::as_bool).unwrap_or_default();
            if local { "local" } else { "replicated" }.to_owned()
        }));
        columns.push(("Seal Wrap", |mount| boolean(mount, "seal_wrap")));
        columns.push(("External Entropy Access", |mount| boolean(mount, "external_entropy_access")));
        columns.push(("Options", |mount| match mount.field("options") {
            Some(options) if !options.is_null() => plain(&Doc::from(options)),
            _ => "map[]".to_owned(),
        }));
        columns.push(("Description", |mount| text(mount, "description")));
        columns.push(("UUID", |mount| text(mount, "uuid")));
        columns.push(("Version", |mount| text(mount, "plugin_version")));
        columns.push(("Running Version", |mount| text(mount, "running_plugin_version")));
        columns.push(("Running SHA256", |mount| text(mount, "running_sha256")));
        columns.push(("Deprecation Status", |mount| text(mount, "deprecation_status")));
    } else {
        columns.push(("Type", |mount| text(mount, "type")));
        columns.push(("Accessor", |mount| text(mount, "accessor")));
        columns.push(("Description", |mount| text(mount, "description")));
        if kind.is_auth {
            columns.push(("Version", |mount| text(mount, "plugin_version")));
        }
    }
    let head =
        std::iter::once("Path").chain(columns.iter().map(|(name, _)| *name)).map(str::to_owned).collect();
    let row = |(path, mount): (&String, &Value)| {
        std::iter::once(path.clone()).chain(columns.iter().map(|(_, cell)| cell(mount))).collect()
    };
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(mounts.iter().map(row)).collect();
    call.ui.output(&table(&rows));
    Ok(0)
}

fn text(mount: &Value, name: &str) -> String {
    mount.field(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn boolean(mount: &Value, name: &str) -> String {
    mount.field(name).and_then(Value::as_bool).unwrap_or_default().to_string()
}

fn config(mount: &Value, name: &str) -> String {
    let value = mount.field("config").and_then(|config| config.field(name));
    value.map(|value| plain(&Doc::from(value))).unwrap_or_default()
}

/// Zero is the server's default; what has no leases at all shows nothing.
fn shown_ttl(mount: &Value, name: &str) -> String {
    if matches!(mount.field("type").and_then(Value::as_str), Some("system" | "cubbyhole")) {
        return String::new();
    }
    match config(mount, name).as_str() {
        "" | "0" => "system".to_owned(),
        seconds => seconds.to_owned(),
    }
}

/// The fields of a mount in the peer's order, and then whatever else the server says.
fn mount_doc(mount: &Value) -> Doc {
    let order = [
        ("uuid", Some(Doc::from(""))),
        ("type", Some(Doc::from(""))),
        ("description", Some(Doc::from(""))),
        ("accessor", Some(Doc::from(""))),
        ("config", None),
        ("options", Some(Doc::Null)),
        ("local", Some(Doc::Bool(false))),
        ("seal_wrap", Some(Doc::Bool(false))),
        ("external_entropy_access", Some(Doc::Bool(false))),
        ("plugin_version", Some(Doc::from(""))),
        ("running_plugin_version", Some(Doc::from(""))),
        ("running_sha256", Some(Doc::from(""))),
        ("deprecation_status", Some(Doc::from(""))),
    ];
    let config_order = [
        ("default_lease_ttl", Some(Doc::from(0_i64))),
        ("max_lease_ttl", Some(Doc::from(0_i64))),
        ("force_no_cache", Some(Doc::Bool(false))),
        ("audit_non_hmac_request_keys", None),
        ("audit_non_hmac_response_keys", None),
        ("listing_visibility", None),
        ("passthrough_request_headers", None),
        ("allowed_response_headers", None),
        ("token_type", None),
        ("user_lockout_config", None),
    ];
    let Doc::Object(mut fields) = ordered(mount, &order) else { return Doc::Null };
    for (name, value) in &mut fields {
        if name == "config"
            && let Some(config) = mount.field("config")
        {
            *value = ordered(config, &config_order);
        }
    }
    Doc::Object(fields)
}

/// An object's fields in a given order; the rest after them. A null counts as absent where there is a default.
pub(super) fn ordered(object: &Value, order: &[(&str, Option<Doc>)]) -> Doc {
    let mut fields: Vec<(String, Doc)> = Vec::new();
    for (name, default) in order {
        let value = object.field(name).filter(|value| !value.is_null() || default.is_none());
        let value = value.map(Doc::from).or_else(|| default.clone());
        fields.extend(value.map(|value| ((*name).to_owned(), value)));
    }
    for (name, value) in object.as_object().into_iter().flatten() {
        if !order.iter().any(|(known, _)| known == name) {
            fields.push((name.clone(), value.into()));
        }
    }
    Doc::Object(fields)
}

fn auth_help(call: &mut Call<'_>) -> Outcome {
    let name = call.arg(0);
    let program = call.ui.program.clone();
    if let Some(help) = super::login::help_of(&name, &program) {
        call.ui.output(&help);
        return Ok(0);
    }
    let methods: Result<BTreeMap<String, Value>, Failure> = call.data(&Request::read("sys/auth"));
    let methods = methods.map_err(|error| error.during("Error listing auth methods"))?;
    let path = call.mount(0);
    let Some(method) = methods.get(&path) else {
        return Err(Failure::Local(format!("No auth method available on the server at {path:?}")));
    };
    let kind = text(method, "type");
    let help = super::login::help_of(&kind, &program).ok_or_else(|| {
        Failure::Server(format!("No method-specific CLI handler available for auth method {kind:?}"))
    })?;
    call.ui.output(&help);
    Ok(0)
}
