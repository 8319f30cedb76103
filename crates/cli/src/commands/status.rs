//! Seal status, as `status` and `operator unseal` print it.

use chancery_client::{Request, Value};

use crate::command::{Arguments, Call, Command, FIELD, Failure, HTTP, Outcome};
use crate::output::{Doc, plain, table};

pub(super) const COMMANDS: &[Command] = &[Command {
    name: "status",
    synopsis: "Print whether the server is sealed",
    usage: "[options]",
    help: "Prints whether the server is initialised and sealed, its version and storage, and who leads. It \
           needs no token.\n\nThe exit code is 0 if the server is unsealed, 2 if it is sealed, and 1 if it \
           cannot be asked.",
    flags: &[("HTTP Options", HTTP), ("Output Options", FIELD)],
    arguments: Arguments::Exactly(0),
    run: status,
}];

fn status(call: &mut Call<'_>) -> Outcome {
    let answer: Result<Value, Failure> = call.data(&Request::read("sys/seal-status"));
    let status = answer.map_err(|error| {
        let error = error.during("Error checking seal status");
        // A server that cannot be asked is exit code 1 here, for scripts that tell it from a sealed one.
        match error {
            Failure::Request { context, error } => {
                call.ui.error(&format!("{context}: {error}"));
                crate::hint(call.ui, &error);
                Failure::Done(1)
            }
            other => other,
        }
    })?;
    let sealed = status.field("sealed").and_then(Value::as_bool).unwrap_or_default();
    print(call, &status)?;
    Ok(if sealed { 2 } else { 0 })
}

/// Prints a seal status, with what is known of the cluster's leader.
pub(super) fn print(call: &mut Call<'_>, status: &Value) -> Outcome {
    let leader: Value = match call.data(&Request::read("sys/leader")) {
        Ok(leader) => leader,
        Err(Failure::Done(code)) => return Err(Failure::Done(code)),
        // Old servers and sealed ones may not know.
        Err(_) => Value::Null,
    };
    let doc = document(status, &leader);
    if let Some(name) = call.flags.non_empty("field").map(str::to_owned) {
        let value = doc.field(&name).cloned();
        return call.print_field(&name, value);
    }
    if !call.is_table() {
        return call.print_doc(&doc);
    }
    call.ui.output(&table(&rows(&doc)));
    Ok(0)
}

fn document(status: &Value, leader: &Value) -> Doc {
    let field = |name: &str, default: Doc| status.field(name).map(Doc::from).unwrap_or(default);
    let text = |name: &str| field(name, Doc::from(""));
    let number = |name: &str| field(name, Doc::from(0_i64));
    let flag = |name: &str| field(name, Doc::from(false));
    let mut fields = vec![
        ("type", text("type")),
        ("initialized", flag("initialized")),
        ("sealed", flag("sealed")),
        ("t", number("t")),
        ("n", number("n")),
        ("progress", number("progress")),
        ("nonce", text("nonce")),
        ("version", text("version")),
        ("commit_date", text("commit_date")),
        ("migration", flag("migration")),
    ];
    for name in ["cluster_name", "cluster_id"] {
        if let Some(value) = status.field(name).filter(|value| value.as_str() != Some("")) {
            fields.push((name, value.into()));
        }
    }
    fields.push(("recovery_seal", flag("recovery_seal")));
    fields.push(("storage_type", text("storage_type")));
    fields.push(("build_date", text("build_date")));
    let enabled = leader.field("ha_enabled").and_then(Value::as_bool).unwrap_or_default();
    fields.push(("ha_enabled", enabled.into()));
    for name in [
        "is_self",
        "active_time",
        "leader_address",
        "leader_cluster_address",
        "performance_standby",
        "performance_standby_last_remote_wal",
        "raft_committed_index",
        "raft_applied_index",
    ] {
        let value = leader.field(name).map(Doc::from);
        let says_nothing = value.as_ref().is_none_or(|value| {
            *value == Doc::from("") || *value == Doc::from(0_i64) || *value == Doc::from(false)
        });
        if enabled && !says_nothing {
            fields.extend(value.map(|value| (name, value)));
        }
    }
    Doc::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn rows(doc: &Doc) -> Vec<Vec<String>> {
    let text = |name: &str| doc.field(name).map(plain).unwrap_or_default();
    let on = |name: &str| doc.field(name) == Some(&Doc::Bool(true));
    let recovery = if on("recovery_seal") { "Recovery " } else { "" };
    let mut rows: Vec<(String, String)> = Vec::new();
    let mut row = |name: &str, value: String| rows.push((name.to_owned(), value));
    row("Key", "Value".to_owned());
    row(&format!("{recovery}Seal Type"), text("type"));
    row("Initialized", text("initialized"));
    row("Sealed", text("sealed"));
    row(&format!("Total {recovery}Shares"), text("n"));
    row("Threshold", text("t"));
    if on("sealed") {
        row("Unseal Progress", format!("{}/{}", text("progress"), text("t")));
        row("Unseal Nonce", text("nonce"));
    }
    if on("migration") {
        row("Seal Migration in Progress", "true".to_owned());
    }
    row("Version", text("version"));
    if !text("build_date").is_empty() {
        row("Build Date", text("build_date"));
    } else {
        row("Commit Date", text("commit_date"));
    }
    row("Storage Type", text("storage_type"));
    if doc.field("cluster_name").is_some() {
        row("Cluster Name", text("cluster_name"));
        row("Cluster ID", text("cluster_id"));
    }
    row("HA Enabled", text("ha_enabled"));
    if on("ha_enabled") {
        row("HA Cluster", text("leader_cluster_address"));
        row("HA Mode", if on("is_self") { "active" } else { "standby" }.to_owned());
        let active = text("active_time");
        if on("is_self") && !active.is_empty() && !active.starts_with("0001-") {
            row("Active Since", active);
        }
        if !on("is_self") {
            row("Active Node Address", text("leader_address"));
        }
        for (name, field) in
            [("Raft Committed Index", "raft_committed_index"), ("Raft Applied Index", "raft_applied_index")]
        {
            if doc.field(field).is_some() {
                row(name, text(field));
            }
        }
    }
    rows.into_iter().map(|(name, value)| vec![name, value]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_server_shows_its_progress_and_an_unsealed_one_its_cluster() {
        let sealed = Value::parse(
            r#"{"type":"shamir","initialized":true,"sealed":true,"t":2,"n":3,"progress":1,"nonce":"x"}"#,
        )
        .expect("valid JSON");
        let shown = table(&rows(&document(&sealed, &Value::Null)));
        assert!(shown.contains("Unseal Progress    1/2\nUnseal Nonce       x\n"), "{shown}");
        let open = Value::parse(r#"{"type":"shamir","sealed":false,"cluster_name":"c","cluster_id":"i"}"#);
        let shown = table(&rows(&document(&open.expect("valid JSON"), &Value::Null)));
        assert!(!shown.contains("Unseal"), "{shown}");
        assert!(shown.contains("Cluster ID      i\nHA Enabled      false"), "{shown}");
    }
}
