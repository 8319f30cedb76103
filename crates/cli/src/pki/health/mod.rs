//! `pki health-check`: rates a mount against good practice.
//!
//! A check is a function of [`Facts`], which fetches what it is asked for and remembers it, and of its
//! [`Settings`]. It says what it found; the worst of all findings is the exit code.

mod checks;
mod facts;
mod finding;
mod settings;

use std::fs;

use chancery_client::{Answer, Client, Config, Error, Request, Value};

use super::{print, ready, told, warn_of_late_flags};
use crate::command::{Call, Failure, Outcome};
use crate::flags::{Flag, Kind};
use crate::kv;
use crate::output::{Doc, Format, table};
use checks::{CHECKS, Check};
use facts::{Facts, Fetched, Question};
use finding::{Finding, Status};
use settings::Settings;

pub(super) const FLAGS: &[Flag] = &[
    Flag::new("default-disabled", Kind::Bool, "Run only the checks that the configuration file turns on."),
    Flag::new("health-config", Kind::Text, "JSON file that turns checks on and off and moves their limits."),
    Flag::new("list", Kind::Bool, "Print all checks and their default configuration, and run none."),
    Flag::new(
        "return-indicator",
        Kind::Text,
        "From which severity on the exit code is not 0: \"permission\" (what could not be checked), \"critical\", \
         \"warning\", or \"informational\", each including those before it.",
    )
    .default("default"),
];

pub(super) fn run(call: &mut Call<'_>) -> Outcome {
    let list = call.flags.on("list");
    match call.args.len() {
        1 => {}
        0 if list => {}
        0 => {
            let sentence = "Not enough arguments (expected mount path, got nothing)";
            return Err(Failure::Local(sentence.to_owned()));
        }
        _ if list => {}
        got => {
            call.ui.error(&format!("Too many arguments (expected only mount path, got {got} arguments)"));
            warn_of_late_flags(call);
            return Ok(1);
        }
    }
    let indicator = call.flags.text("return-indicator").unwrap_or_default().to_owned();
    let cut_off = cut_off(&indicator).map_err(Failure::Local)?;
    ready(call)?;
    let mount = if call.args.len() == 1 { call.path(0) } else { "<mount>".to_owned() };
    must_be_pki(call, &mount)?;
    if list {
        return list_checks(call);
    }
    let settings = settings(call)?;
    let found = check(call, &mount, &settings)?;
    let printed = print(call, &doc(&found), |call| print_tables(call, &found));
    if let Err(failure) = printed {
        match told(failure, |text| format!("Failed to render results for display: {text}")) {
            Failure::Local(text) => call.ui.error(&text),
            other => return Err(other),
        }
    }
    Ok(exit_code(&found, cut_off))
}

/// The least severity that is not exit code 0.
fn cut_off(indicator: &str) -> Result<Status, String> {
    match indicator {
        "" | "default" | "informational" => Ok(Status::Informational),
        "warning" => Ok(Status::Warning),
        "critical" => Ok(Status::Critical),
        "permission" => Ok(Status::InvalidVersion),
        other => Err(format!(
            "Invalid flag -return-indicator={other}; known options are default, informational, warning, critical, and \
             permission"
        )),
    }
}

fn exit_code(found: &[(&Check, Vec<Finding>)], cut_off: Status) -> u8 {
    let worst = found.iter().flat_map(|(_, findings)| findings).map(|finding| finding.status).max();
    worst.filter(|worst| *worst >= cut_off).map_or(0, Status::code)
}

/// A token need not be allowed to read about mounts; then the mount itself is asked.
fn must_be_pki(call: &mut Call<'_>, mount: &str) -> Result<(), Failure> {
    if mount.starts_with("auth/") {
        return Err(Failure::Local(
            "refusing to run PKI health-check on auth mount; this command is only relevant to PKI secrets engines."
                .to_owned(),
        ));
    }
    let refused = |kind: &str| match kind {
        "pki" => Ok(()),
        kind => Err(Failure::Local(format!("refusing to run pki health-check on mount of type {kind}"))),
    };
    if let Some(kind) = type_of(call, format!("sys/mounts/{mount}"))? {
        return refused(&kind);
    }
    if let Some(kind) = type_of(call, format!("sys/internal/ui/mounts/{mount}"))? {
        refused(&kind)?;
    }
    let answer = call
        .answer(&Request::read(format!("{mount}/cert/ca")))
        .map_err(|failure| told(failure, |text| format!("detection of PKI mount failed:\n\t{text}")))?;
    let sentence = match answer {
        None => "path cert/ca did not exist: route entry not found",
        Some(answer) if answer.field("certificate").is_none() => "path cert/ca returned invalid data",
        Some(_) => return Ok(()),
    };
    Err(Failure::Local(format!("refusing to run PKI health-check on non-PKI mount: {sentence}")))
}

fn type_of(call: &mut Call<'_>, path: String) -> Result<Option<String>, Failure> {
    match call.answer(&Request::read(path)) {
        Ok(answer) => Ok(answer.as_ref().and_then(|answer| answer.text("type")).map(str::to_owned)),
        Err(Failure::Done(code)) => Err(Failure::Done(code)),
        Err(_) => Ok(None),
    }
}

fn list_checks(call: &mut Call<'_>) -> Outcome {
    if call.format == Format::Yaml {
        let sentence = "YAML output format is not supported by the --list command";
        return Err(Failure::Local(sentence.to_owned()));
    }
    if call.format != Format::Json {
        call.ui.output("Default health check config:");
    }
    let mut checks: Vec<(String, Doc)> =
        CHECKS.iter().map(|check| (check.name.to_owned(), settings::defaults(check))).collect();
    checks.sort_by(|(a, _), (b, _)| a.cmp(b));
    call.ui.output(&Doc::Object(checks).to_json());
    Ok(0)
}

/// Defaults and the configuration file, merged.
fn settings(call: &mut Call<'_>) -> Result<Vec<Settings>, Failure> {
    let given = match call.flags.non_empty("health-config") {
        None => Value::Object([].into()),
        Some(path) => {
            let text = fs::read_to_string(path).map_err(|error| {
                let reason = kv::cannot_open(path, &error);
                Failure::Local(format!("Failed to read configuration file {path}: {reason}"))
            })?;
            Value::parse(&text).map_err(|error| {
                Failure::Local(format!("Failed to parse configuration file {path}: {error}"))
            })?
        }
    };
    let Some(given) = given.as_object() else {
        let path = call.flags.text("health-config").unwrap_or_default();
        return Err(Failure::Local(format!(
            "Failed to parse configuration file {path}: it must be an object of checks"
        )));
    };
    let default_enabled = !call.flags.on("default-disabled");
    let settings = CHECKS.iter().map(|check| Settings::merge(check, given.get(check.name), default_enabled));
    settings
        .collect::<Result<_, _>>()
        .map_err(|reason| Failure::Local(format!("Failed to build health check configuration: {reason}")))
}

/// Runs what is enabled.
fn check(
    call: &mut Call<'_>,
    mount: &str,
    settings: &[Settings],
) -> Result<Vec<(&'static Check, Vec<Finding>)>, Failure> {
    let has_token = call.token()?.is_some();
    let now = super::issuer::now();
    let mut ask = |question: &Question| ask(call, question);
    let mut facts = Facts::new(mount, has_token, now, &mut ask);
    let mut found = Vec::new();
    for (check, settings) in CHECKS.iter().zip(settings) {
        if settings.enabled {
            let findings = (check.run)(&mut facts, settings).map_err(|failure| {
                told(failure, |text| {
                    format!("Failed to run health check: failed to fetch resources {}: {text}", check.name)
                })
            })?;
            found.push((check, findings));
        }
    }
    Ok(found)
}

/// Asks the server, or the ACME directory that it is said to have.
fn ask(call: &mut Call<'_>, question: &Question) -> Result<Fetched, Failure> {
    let request = match question {
        Question::Read(path) => Request::read(path.trim_start_matches('/')),
        Question::List(path) => Request::list(path.trim_start_matches('/')),
        Question::Directory { server, path } => return directory(call, server, path),
    };
    match call.send(&request) {
        Ok(response) => Ok(Fetched::of(response.answer()?)),
        Err(failure) => refusal(failure),
    }
}

/// What an error says about the check that came upon it: the words decide, as on the peer.
fn refusal(failure: Failure) -> Result<Fetched, Failure> {
    let Failure::Request { error, .. } = &failure else { return Err(failure) };
    let text = error.to_string();
    let nothing = matches!(&**error, Error::Api { status: 404, errors, raw: None, .. } if errors.is_empty());
    match () {
        () if text.contains("permission denied") => Ok(Fetched::Refused),
        () if text.contains("unsupported path") => Ok(Fetched::Unsupported),
        () if text.contains("unable to find") => Ok(Fetched::Missing),
        () if nothing => Ok(Fetched::Nothing),
        () => Err(failure),
    }
}

/// An ACME directory (RFC 8555, 7.1.1). Whether its server is who it should be is another question: the
/// certificate is not looked at, and no token is sent.
fn directory(call: &mut Call<'_>, server: &str, path: &str) -> Result<Fetched, Failure> {
    let overlay = |name: &str| (name == "BAO_ADDR").then(|| server.to_owned());
    let config = Config::from_env(&overlay).map_err(|error| Failure::Local(error.to_string()))?;
    let config = Config { danger_skip_verify: true, max_retries: 0, token: None, ..config };
    let client = Client::new(config).map_err(|error| Failure::Local(error.to_string()))?;
    let response = call.send_by(&client, &Request::read(path).anonymous())?;
    let answer: Answer = response.answer()?.unwrap_or_default();
    match answer.text("newOrder") {
        Some(_) => Ok(Fetched::of(Some(answer))),
        None => Err(Failure::Local("it is no ACME directory".to_owned())),
    }
}

fn doc(found: &[(&Check, Vec<Finding>)]) -> Doc {
    let mut checks: Vec<(String, Doc)> = found
        .iter()
        .map(|(check, findings)| {
            (check.name.to_owned(), Doc::Array(findings.iter().map(Finding::doc).collect()))
        })
        .collect();
    checks.sort_by(|(a, _), (b, _)| a.cmp(b));
    Doc::Object(checks)
}

fn print_tables(call: &mut Call<'_>, found: &[(&Check, Vec<Finding>)]) {
    for (check, findings) in found {
        let head = ["status", "endpoint", "message"].map(str::to_owned).to_vec();
        let rows = findings.iter().map(Finding::row);
        let rows: Vec<_> = std::iter::once(head).chain(rows).collect();
        let underline = "-".repeat(check.name.len());
        call.ui.output(&format!("{}\n{underline}\n{}\n\n", check.name, table(&rows)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(statuses: &[Status]) -> Vec<(&'static Check, Vec<Finding>)> {
        let findings = statuses.iter().map(|status| Finding::new(*status, "/pki", "a sentence")).collect();
        vec![(&CHECKS[0], findings)]
    }

    #[test]
    fn the_exit_code_is_the_worst_finding_from_the_indicator_on() {
        use Status::{
            Critical, Informational, InsufficientPermissions, InvalidVersion, NotApplicable, Ok, Warning,
        };
        for (indicator, statuses, code) in [
            ("default", &[][..], 0),
            ("default", &[Ok, NotApplicable], 0),
            ("", &[Ok, Informational], 2),
            ("informational", &[Warning, Informational], 3),
            ("warning", &[Informational], 0),
            ("warning", &[Informational, Critical], 4),
            ("critical", &[Warning], 0),
            ("critical", &[InvalidVersion, Warning], 5),
            ("permission", &[Critical], 0),
            ("permission", &[InvalidVersion], 5),
            ("permission", &[InsufficientPermissions, Critical], 6),
        ] {
            let cut_off = cut_off(indicator).expect("an indicator");
            assert_eq!(exit_code(&found(statuses), cut_off), code, "{indicator} {statuses:?}");
        }
        assert!(cut_off("x").is_err());
    }

    #[test]
    fn the_words_of_a_refusal_decide_what_it_means() {
        let error = |status, errors: &[&str]| Failure::Request {
            context: String::new(),
            error: Box::new(Error::Api {
                method: "GET".into(),
                url: "http://h/v1/pki/x".into(),
                status,
                errors: errors.iter().map(|error| (*error).to_owned()).collect(),
                raw: None,
            }),
        };
        for (status, errors, meaning) in [
            (403, &["permission denied"][..], Fetched::Refused),
            (404, &["1 error occurred:\n\t* unsupported path\n\n"], Fetched::Unsupported),
            (500, &["unable to find PKI issuer for reference: x"], Fetched::Missing),
            (404, &[], Fetched::Nothing),
        ] {
            assert_eq!(refusal(error(status, errors)).expect("no failure"), meaning);
        }
        assert!(refusal(error(500, &["another"])).is_err() && refusal(Failure::Done(0)).is_err());
    }
}
