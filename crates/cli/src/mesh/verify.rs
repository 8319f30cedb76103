//! `mesh verify`: Whether workload, ConfigMap and CA agree.

use chancery_client::{Request, Value};
use chancery_issuance::Certificate;
use chancery_mesh::inspect::{Authority, Check, Verdict, verify};

use super::secrets::{SOURCE, dump, local, now, root_file, source};
use crate::command::{Arguments, Call, Command, Failure, HTTP, Outcome};
use crate::flags::{Flag, Kind};

const FLAGS: &[Flag] = &[
    Flag::new(
        "config-map",
        Kind::Text,
        "File with the ConfigMap istio-ca-root-cert, as kubectl get -o yaml or -o json prints it.",
    ),
    Flag::new(
        "issuer-path",
        Kind::Text,
        "The CA's issuer, such as istioca/issuer/default; or istioca/ca_chain, which needs no token.",
    ),
    Flag::new("root-file", Kind::Text, "File with the mesh's roots in PEM, instead of -config-map."),
];

pub(super) const COMMANDS: &[Command] = &[Command {
    name: "mesh verify",
    synopsis: "Tell whether workload, ConfigMap and CA agree",
    usage: "[options] [SOURCE]",
    help: "Compares what a workload's Envoy holds with the mesh's root of the ConfigMap that is given out to namespaces, and \
           with the CA that is to have issued it. What is not named is not compared. SOURCE is the address of an Envoy's \
           administration interface, a file with its dump, or -.\n\n\
           The exit code is 0 if all that was compared agrees, 1 if something could not be read, 2 if something differs.\n\n\
           $ kubectl get configmap istio-ca-root-cert -n foo -o yaml > root.yaml\n\
           $ {p} mesh verify -admin=127.0.0.1:15000 -config-map=root.yaml -issuer-path=istioca/issuer/default",
    flags: &[("Command Options", SOURCE), ("What to Compare", FLAGS), ("HTTP Options", HTTP)],
    arguments: Arguments::Between(0, 1),
    run,
}];

fn run(call: &mut Call<'_>) -> Outcome {
    let source = source(call)?;
    let roots = match (root_file(call, "config-map")?, root_file(call, "root-file")?) {
        (Some(_), Some(_)) => {
            return Err(Failure::Local("Name -config-map or -root-file, not both".to_owned()));
        }
        (one, other) => one.or(other),
    };
    let authority = match call.flags.non_empty("issuer-path").map(|path| path.trim_matches('/').to_owned()) {
        Some(path) => Some(authority(call, &path)?),
        None => None,
    };
    let dump = dump(call, &source)?;
    let checks = verify(&dump, roots.as_deref(), authority.as_ref(), now());
    call.ui.raw(Check::table(&checks).as_bytes());
    Ok(if checks.iter().any(|check| check.verdict == Verdict::Fail) { 2 } else { 0 })
}

/// The certificates of the CA: the issuer's first.
fn authority(call: &mut Call<'_>, path: &str) -> Result<Authority, Failure> {
    // 2 is for what differs; a CA that cannot be asked is 1.
    let failed = |failure: Failure| match failure {
        Failure::Request { error, .. } => Failure::Local(format!("Error reading {path}: {error}")),
        Failure::Server(text) => Failure::Local(text),
        other => other,
    };
    // A path that answers in PEM, to everybody.
    if path.ends_with("/ca_chain") {
        let response = call.send(&Request::read(path)).map_err(failed)?;
        let text = String::from_utf8_lossy(&response.body).into_owned();
        return Ok(Authority { chain: certificates(path, &[&text])? });
    }
    let json = if path.ends_with("/json") { path.to_owned() } else { format!("{path}/json") };
    let answer = call.answer(&Request::read(&json)).map_err(failed)?;
    let none = || Failure::Local(format!("There is no issuer at {path}"));
    let answer = answer.ok_or_else(none)?;
    let own = answer.text("certificate").ok_or_else(none)?;
    let above = answer.field("ca_chain").and_then(Value::as_array).unwrap_or_default();
    let mut texts = vec![own];
    texts.extend(above.iter().filter_map(Value::as_str));
    Ok(Authority { chain: certificates(path, &texts)? })
}

/// Each certificate once, in order.
fn certificates(path: &str, texts: &[&str]) -> Result<Vec<Certificate>, Failure> {
    let mut all: Vec<Certificate> = Vec::new();
    for text in texts {
        let read = Certificate::all_from_pem(text);
        for certificate in read.map_err(|error| local(format!("{path}: {error}")))? {
            if !all.contains(&certificate) {
                all.push(certificate);
            }
        }
    }
    if all.is_empty() {
        return Err(Failure::Local(format!("There is no certificate at {path}")));
    }
    Ok(all)
}
