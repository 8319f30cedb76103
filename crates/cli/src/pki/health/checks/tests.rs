//! The checks on made-up mounts.

use std::collections::BTreeMap;

use chancery_client::Value;
use chancery_issuance::Time;

use super::super::facts::{Facts, Fetched, Question};
use super::super::settings::Settings;
use super::*;

const ROOT: &str = include_str!("../../../../tests/data/pki/root.pem");
const INTERMEDIATE: &str = include_str!("../../../../tests/data/pki/intermediate.pem");
const LEAF: &str = include_str!("../../../../tests/data/pki/leaf.pem");
const CRL: &str = include_str!("../../../../tests/data/pki/crl.pem");

/// A day after the certificates in `tests/data` were made.
const NOW: &str = "2026-11-27T17:00:00Z";

/// A mount, by what it answers to reads and lists of the paths below it; what is not here is missing.
#[derive(Default)]
struct Mount(BTreeMap<String, Fetched>);

impl Mount {
    fn with(mut self, path: &str, json: &str) -> Self {
        let value = Value::parse(json).expect("JSON");
        let fetched = Fetched::Data(value.as_object().cloned().expect("an object"));
        self.0.insert(path.to_owned(), fetched);
        self
    }

    fn but(mut self, path: &str, fetched: Fetched) -> Self {
        self.0.insert(path.to_owned(), fetched);
        self
    }

    fn pem(self, path: &str, field: &str, pem: &str) -> Self {
        let json = serde_json::to_string(&BTreeMap::from([(field, pem)])).expect("JSON");
        self.with(path, &json)
    }

    fn check(&self, name: &str, settings: &str) -> Result<Vec<Finding>, Failure> {
        let check = CHECKS.iter().find(|check| check.name == name).expect("a check");
        let given = Value::parse(settings).expect("JSON");
        let settings = Settings::merge(check, Some(&given), true).expect("settings");
        let mut ask = |question: &Question| {
            let path = match question {
                Question::Read(path) => path.clone(),
                Question::List(path) => format!("{path}/"),
                Question::Directory { server, path } => format!("{server}/v1/{path}"),
            };
            let path = path.strip_prefix("/pki/").unwrap_or(&path);
            Ok(self.0.get(path).cloned().unwrap_or(Fetched::Missing))
        };
        let now = Time::parse(NOW).expect("a time");
        (check.run)(&mut Facts::new("pki", true, now, &mut ask), &settings)
    }

    /// Status, endpoint and the beginning of the message of each finding.
    fn found(&self, name: &str, settings: &str) -> Vec<(Status, String, String)> {
        let findings = self.check(name, settings).expect("findings");
        let shown = |finding: Finding| {
            let message = finding.message.chars().take(40).collect();
            (finding.status, finding.endpoint, message)
        };
        findings.into_iter().map(shown).collect()
    }

    fn statuses(&self, name: &str, settings: &str) -> Vec<Status> {
        self.found(name, settings).into_iter().map(|(status, _, _)| status).collect()
    }
}

fn two_issuers() -> Mount {
    Mount::default().with("issuers/", r#"{"keys":["r","i"]}"#).pem("issuer/r/json", "certificate", ROOT).pem(
        "issuer/i/json",
        "certificate",
        INTERMEDIATE,
    )
}

#[test]
fn a_mount_without_issuers_is_not_checked() {
    for name in ["ca_validity_period", "crl_validity_period", "hardware_backed_root", "root_issued_leaves"] {
        assert!(Mount::default().check(name, "{}").is_err(), "{name}");
    }
}

#[test]
fn issuers_are_judged_by_what_is_left_of_their_lives() {
    let statuses = |settings: &str| two_issuers().statuses("ca_validity_period", settings);
    use Status::{Critical, Informational, Ok, Warning};
    assert_eq!(statuses("{}"), [Ok, Ok]);
    assert_eq!(statuses(r#"{"root_expiry_critical":"3700d"}"#), [Critical, Ok]);
    assert_eq!(statuses(r#"{"root_expiry_warning":"3700d"}"#), [Warning, Ok]);
    assert_eq!(statuses(r#"{"intermediate_expiry_informational":"3700d"}"#), [Ok, Informational]);
    let message = &two_issuers().check("ca_validity_period", "{}").expect("findings")[0].message;
    assert_eq!(message, "Issuer's validity (2036-11-23) is OK");
}

#[test]
fn crls_are_judged_by_what_is_left_of_their_time() {
    let mount = two_issuers()
        .pem("issuer/r/crl", "crl", CRL)
        .pem("issuer/r/crl/delta", "crl", CRL)
        .with("config/crl", r#"{"disable":false}"#);
    let paths: Vec<String> =
        mount.found("crl_validity_period", "{}").into_iter().map(|(_, path, _)| path).collect();
    assert_eq!(paths, ["/pki/issuer/r/crl", "/pki/issuer/r/crl/delta"]);
    let stale = r#"{"crl_expiry_pct_critical":10}"#;
    assert_eq!(mount.statuses("crl_validity_period", stale), [Status::Critical, Ok]);
    let mount = mount.with("config/crl", r#"{"disable":true}"#);
    assert_eq!(mount.statuses("crl_validity_period", stale), [Status::Informational, Ok]);
    let mount = mount.but("config/crl", Fetched::Refused).but("issuer/r/crl/delta", Fetched::Unsupported);
    use Status::{InsufficientPermissions, InvalidVersion, Ok};
    assert_eq!(mount.statuses("crl_validity_period", "{}"), [InsufficientPermissions, InvalidVersion, Ok]);
}

#[test]
fn only_roots_with_keys_are_asked_for_hardware() {
    let mount = Mount::default()
        .with("issuers/", r#"{"keys":["r","i"]}"#)
        .pem("issuer/i", "certificate", INTERMEDIATE)
        .with("key/k", "{}");
    let root = |key: &str| {
        format!(r#"{{"certificate":{},"key_id":"{key}"}}"#, serde_json::to_string(ROOT).expect("JSON"))
    };
    let on = r#"{"enabled":true}"#;
    let mount = mount.with("issuer/r", &root(""));
    assert_eq!(mount.statuses("hardware_backed_root", on), []);
    let mount = mount.with("issuer/r", &root("k"));
    assert_eq!(mount.statuses("hardware_backed_root", on), [Status::Informational]);
    let mount = mount.with("key/k", r#"{"managed_key_id":"m"}"#);
    assert_eq!(mount.statuses("hardware_backed_root", on), [Status::Ok]);
    let mount = mount.but("key/k", Fetched::Refused);
    assert_eq!(mount.statuses("hardware_backed_root", on), [Status::InsufficientPermissions]);
}

#[test]
fn a_leaf_of_a_root_is_found_and_authorities_are_no_leaves() {
    let mount = two_issuers()
        .with("certs/", r#"{"keys":["01","02"]}"#)
        .pem("cert/01", "certificate", INTERMEDIATE)
        .pem("cert/02", "certificate", ROOT);
    assert_eq!(mount.statuses("root_issued_leaves", "{}"), [Status::Ok]);
    let mount = mount.pem("cert/02", "certificate", LEAF);
    let found = mount.found("root_issued_leaves", r#"{"certs_to_fetch":1}"#);
    assert_eq!(found[0].0, Status::Warning);
    assert_eq!(found[0].1, "/pki/issuer/r");
    let mount = mount.but("certs/", Fetched::Refused);
    use Status::InsufficientPermissions;
    assert_eq!(
        mount.statuses("root_issued_leaves", "{}"),
        [InsufficientPermissions, InsufficientPermissions]
    );
}

#[test]
fn certificates_are_counted() {
    let mount = Mount::default();
    assert_eq!(mount.statuses("too_many_certs", "{}"), [Status::Ok]);
    let mount = mount.with("certs/", r#"{"keys":["01","02"]}"#);
    assert_eq!(mount.statuses("too_many_certs", r#"{"count_warning":2}"#), [Status::Warning]);
    assert_eq!(mount.statuses("too_many_certs", r#"{"count_critical":2}"#), [Status::Critical]);
    let mount = mount.but("certs/", Fetched::Unsupported);
    assert_eq!(mount.statuses("too_many_certs", "{}"), [Status::InvalidVersion]);
}

#[test]
fn roles_are_judged_one_by_one() {
    let role = |fields: &str| {
        let common = r#""allow_wildcard_certificates":true,"allowed_domains":["*.a.example"]"#;
        Mount::default()
            .with("roles/", r#"{"keys":["web"]}"#)
            .with("roles/web", &format!("{{{common},{fields}}}"))
    };
    let careful = role(r#""allow_localhost":false,"allow_glob_domains":false,"no_store":true"#);
    let careless = role(r#""allow_localhost":true,"allow_glob_domains":true,"no_store":false"#);
    for name in ["role_allows_localhost", "role_allows_glob_wildcards", "role_no_store_false"] {
        assert_eq!(careful.found(name, "{}")[0].1, "/pki/roles");
        assert_eq!(careful.statuses(name, "{}"), [Status::Ok], "{name}");
        assert_eq!(careless.found(name, "{}")[0].1, "/pki/roles/web");
        assert_eq!(careless.statuses(name, "{}"), [Status::Warning], "{name}");
        assert_eq!(Mount::default().statuses(name, "{}"), [], "{name}");
        let refused = Mount::default().but("roles/", Fetched::Refused);
        assert_eq!(refused.statuses(name, "{}"), [Status::InsufficientPermissions], "{name}");
        let one = Mount::default().with("roles/", r#"{"keys":["web"]}"#).but("roles/web", Fetched::Refused);
        assert_eq!(one.statuses(name, "{}"), [Status::InsufficientPermissions], "{name}");
    }
    let allowed = careless.statuses("role_no_store_false", r#"{"allowed_roles":["web"]}"#);
    assert_eq!(allowed, [Status::Ok]);
    let rebuilding = careless.with("config/crl", r#"{"auto_rebuild":true}"#);
    assert_eq!(rebuilding.statuses("role_no_store_false", "{}"), [Status::Informational]);
    let old = Mount::default().with("roles/", r#"{"keys":["web"]}"#).with("roles/web", "{}");
    assert_eq!(old.statuses("role_allows_glob_wildcards", "{}"), [Status::InvalidVersion]);
}

const TUNE: &str = "/sys/mounts/pki/tune";

#[test]
fn what_the_audit_log_shows_and_hides_is_judged_name_by_name() {
    let mount = Mount::default().with(TUNE, "{}");
    let found = mount.found("audit_visibility", "{}");
    assert_eq!(found.len(), 30);
    assert!(found.iter().all(|(status, _, _)| *status == Status::Informational));
    assert_eq!(mount.found("audit_visibility", r#"{"ignored_parameters":["csr","certificate"]}"#).len(), 27);
    let hidden = mount.with(TUNE, r#"{"audit_non_hmac_response_keys":["private_key"]}"#);
    let warnings = hidden.statuses("audit_visibility", "{}");
    assert_eq!(warnings.iter().filter(|status| **status == Status::Warning).count(), 1);
    let broken = hidden.with(TUNE, r#"{"audit_non_hmac_response_keys":7}"#);
    assert!(broken.check("audit_visibility", "{}").is_err());
}

#[test]
fn both_headers_are_needed_to_ask_only_for_what_has_changed() {
    let tuned = |json: &str| Mount::default().with(TUNE, json).statuses("allow_if_modified_since", "{}");
    assert_eq!(tuned("{}"), [Status::Informational]);
    assert_eq!(tuned(r#"{"allowed_response_headers":["last-modified"]}"#), [Status::Informational]);
    assert_eq!(
        tuned(
            r#"{"allowed_response_headers":["last-modified"],
                "passthrough_request_headers":["If-Modified-Since"]}"#
        ),
        [Status::Ok]
    );
}

#[test]
fn auto_tidy_is_on_and_not_slow() {
    let config = |fields: &str| {
        let json = format!(r#"{{"enabled":true,{fields}}}"#);
        Mount::default().with("config/auto-tidy", &json).statuses("enable_auto_tidy", "{}")
    };
    use Status::{Critical, Informational, Ok, Warning};
    assert_eq!(config(r#""interval_duration":43200,"pause_duration":"0s""#), [Ok]);
    assert_eq!(config(r#""interval_duration":172800,"pause_duration":"1s""#), [Warning, Critical]);
    assert_eq!(config(r#""interval_duration":604800,"pause_duration":"200ms""#), [Critical, Warning]);
    let off = Mount::default().with("config/auto-tidy", r#"{"enabled":false}"#);
    assert_eq!(off.statuses("enable_auto_tidy", "{}"), [Informational]);
    let broken = off.with("config/auto-tidy", r#"{"enabled":true,"interval_duration":"x"}"#);
    assert!(broken.check("enable_auto_tidy", "{}").is_err());
}

#[test]
fn tidy_has_run_lately() {
    let status = |finished: &str| {
        let json = format!(r#"{{"time_finished":{finished}}}"#);
        Mount::default().with("tidy-status", &json).statuses("tidy_last_run", "{}")
    };
    assert_eq!(status("null"), [Status::Critical]);
    assert_eq!(status(r#""2026-11-27T16:00:00.123456789Z""#), [Status::Ok]);
    assert_eq!(status(r#""2026-11-24T16:00:00Z""#), [Status::Warning]);
    assert_eq!(status(r#""2026-11-10T16:00:00Z""#), [Status::Critical]);
    assert!(
        Mount::default()
            .with("tidy-status", r#"{"time_finished":"x"}"#)
            .check("tidy_last_run", "{}")
            .is_err()
    );
}

#[test]
fn acme_is_wanted_where_there_are_intermediates() {
    let off = |mount: Mount| {
        mount.with("config/acme", r#"{"enabled":false}"#).statuses("enable_acme_issuance", "{}")
    };
    let only_root =
        Mount::default().with("issuers/", r#"{"keys":["r"]}"#).pem("issuer/r/json", "certificate", ROOT);
    let unreadable = Mount::default().with("issuers/", r#"{"keys":["r"]}"#);
    assert_eq!(off(two_issuers()), [Status::Informational]);
    assert_eq!(off(only_root), [Status::NotApplicable]);
    assert_eq!(off(unreadable), [Status::NotApplicable]);
}

#[test]
fn acme_that_is_on_must_be_within_reach() {
    let with_path = |path: &str| {
        two_issuers()
            .with("config/acme", r#"{"enabled":true}"#)
            .with("config/cluster", &format!(r#"{{"path":"{path}"}}"#))
            .with("https://ca.example/v1/pki/acme/directory", "{}")
            .found("enable_acme_issuance", "{}")
    };
    assert_eq!(with_path("https://ca.example/v1/pki")[0].0, Status::Ok);
    assert_eq!(with_path("https://ca.example/v1/pki/")[0].0, Status::Ok);
    for path in ["", "http://ca.example/v1/pki", "https://ca.example/elsewhere"] {
        let found = with_path(path);
        assert_eq!((found[0].0, found[0].1.as_str()), (Status::Warning, "/pki/config/cluster"), "{path}");
    }
}

#[test]
fn acme_needs_its_headers() {
    let mount = |tune: &str| {
        Mount::default()
            .with("config/acme", r#"{"enabled":true}"#)
            .with(TUNE, tune)
            .statuses("allow_acme_headers", "{}")
    };
    assert_eq!(mount(r#"{"allowed_response_headers":["Link","Location"]}"#), [Status::Warning]);
    assert_eq!(mount(r#"{"allowed_response_headers":["link","LOCATION","replay-nonce"]}"#), [Status::Ok]);
}

#[test]
fn what_the_server_does_not_have_or_does_not_show_is_said_by_each_check() {
    for (name, path) in [
        ("ca_validity_period", "issuers/"),
        ("crl_validity_period", "issuers/"),
        ("root_issued_leaves", "issuers/"),
        ("audit_visibility", TUNE),
        ("allow_if_modified_since", TUNE),
        ("enable_auto_tidy", "config/auto-tidy"),
        ("tidy_last_run", "tidy-status"),
        ("too_many_certs", "certs/"),
        ("enable_acme_issuance", "config/acme"),
        ("allow_acme_headers", "config/acme"),
    ] {
        let mount = || if path == "issuers/" { Mount::default() } else { two_issuers() };
        let unsupported = mount().but(path, Fetched::Unsupported);
        assert_eq!(unsupported.statuses(name, "{}"), [Status::InvalidVersion], "{name}");
        if path != "issuers/" {
            let refused = mount().but(path, Fetched::Refused);
            assert_eq!(refused.statuses(name, "{}"), [Status::InsufficientPermissions], "{name}");
        }
    }
}
