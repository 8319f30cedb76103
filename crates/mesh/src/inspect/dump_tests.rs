use super::*;

const REAL: &str = include_str!("../../tests/data/inspect/envoy-1.40-config-dump.json");
const REAL_MASKED: &str = include_str!("../../tests/data/inspect/envoy-1.40-masked.json");
const CHAIN: &str = include_str!("../../tests/data/inspect/chain.pem");

fn base64(text: &str) -> String {
    BASE64.encode(text.as_bytes())
}

/// A dump of one certificate, in the names of protobuf.
fn snake(key: &str) -> String {
    format!(
        r#"{{"configs": [
            {{"@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump", "bootstrap": {{"node": {{"id": "x"}}}}}},
            {{"@type": "type.googleapis.com/example.Unknown", "anything": [1, {{"a": null}}]}},
            {{"@type": "type.googleapis.com/envoy.admin.v3.SecretsConfigDump",
              "dynamic_active_secrets": [{{"name": "default", "version_info": "0", "last_updated": "2022-04-13T12:28:17.402Z",
                "secret": {{"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret", "name": "default",
                  "tls_certificate": {{"certificate_chain": {{"inline_bytes": "{}"}}, "private_key": {key}}}}}}}],
              "dynamic_warming_secrets": [{{"name": "ROOTCA", "version_info": "uninitialized", "client_status": "NACKED",
                "secret": {{"name": "ROOTCA"}},
                "error_state": {{"details": "no", "last_update_attempt": "2022-04-13T12:28:18Z"}}}}]}}]}}"#,
        base64(CHAIN)
    )
}

#[test]
fn both_spellings_say_the_same() {
    let one = Dump::parse(&snake(r#"{"inline_bytes": "W3JlZGFjdGVkXQ=="}"#)).expect("a dump");
    // What is printed is the section alone, in camel case, and is a dump again.
    let json = one.to_json();
    assert!(json.starts_with("{\n    \"dynamicActiveSecrets\": [\n        {\n            \"name\": \"default\",\n            \"versionInfo\": \"0\","), "{json}");
    assert_eq!(Dump::parse(&json).as_ref(), Ok(&one));
    let configs = format!(
        r#"{{"configs": [{{"@type": "{}", {}]}}"#,
        Dump::TYPE,
        json.strip_prefix('{').expect("a map")
    );
    assert_eq!(Dump::parse(&configs).as_ref(), Ok(&one));
    let yaml = one.to_yaml();
    assert!(yaml.starts_with("dynamicActiveSecrets:\n- name: default\n  versionInfo: \"0\"\n"), "{yaml}");

    let [warming, active] = one.secrets() else { panic!("{:?}", one.secrets()) };
    assert_eq!(
        (active.name.as_str(), active.status, active.version.as_str()),
        ("default", Status::Active, "0")
    );
    assert_eq!(active.content.bundles().len(), 1);
    let Content::Certificate(bundle) = &active.content else { panic!("{active:?}") };
    assert_eq!(bundle.certificates().expect("certificates").len(), 3);
    assert_eq!(
        bundle.first().expect("a certificate").not_after(),
        bundle.certificates().expect("certificates")[0].not_after()
    );
    assert_eq!(
        (warming.status, warming.client_status.as_str(), &warming.content),
        (Status::Warming, "NACKED", &Content::Other)
    );
    assert_eq!(warming.failure.as_ref().map(|failure| failure.details.as_str()), Some("no"));
}

#[test]
fn the_last_section_counts() {
    let section = |name: &str| {
        format!(r#"{{"@type": "{}", "dynamic_active_secrets": [{{"name": "{name}"}}]}}"#, Dump::TYPE)
    };
    let text = format!(r#"{{"configs": [{}, {}]}}"#, section("first"), section("last"));
    let dump = Dump::parse(&text).expect("a dump");
    assert_eq!(dump.secrets()[0].name, "last");
    assert!(dump.secret("first").is_none());
}

#[test]
fn other_sections_may_hold_whatever_they_like() {
    let deep = format!("{}{}", "[".repeat(1000), "]".repeat(1000));
    let text = format!(
        r#"{{"configs": [{{"@type": "other", "twice": 1, "twice": 2, "large": 1e999, "deep": {deep}}}, {{"@type": "{}", "dynamic_active_secrets": [{{"name": "a"}}]}}, 5]}}"#,
        Dump::TYPE
    );
    assert_eq!(Dump::parse(&text).expect("a dump").secrets()[0].name, "a");
}

#[test]
fn what_is_secret_is_never_kept() {
    let key = "-----BEGIN PRIVATE KEY-----";
    for source in [
        format!(r#"{{"inline_bytes": "{}"}}"#, base64(key)),
        format!(r#"{{"inline_string": "{key}"}}"#),
        format!(r#"{{"filename": "{key}"}}"#),
    ] {
        let dump = Dump::parse(&snake(&source)).expect("a dump");
        for text in [dump.to_json(), dump.to_yaml(), format!("{dump:?}")] {
            assert!(
                !text.contains(key)
                    && !text.contains(&base64(key))
                    && text.contains("redacted") | text.contains("W3JlZGFjdGVkXQ==")
            );
        }
    }
    let other = r#"{"staticSecrets": [
        {"name": "a", "secret": {"genericSecret": {"secret": {"inlineString": "hidden"}, "secrets": {"k": {"inlineBytes": "aGlkZGVu"}}}}},
        {"name": "b", "secret": {"sessionTicketKeys": {"keys": [{"inlineBytes": "aGlkZGVu"}, "hidden"]}}},
        {"name": "c", "secret": {"tlsCertificate": {"password": {"inlineString": "hidden"}, "pkcs12": {"inlineBytes": "aGlkZGVu"},
            "privateKeyProvider": {"providerName": "p", "typedConfig": {"private_key": {"inline_string": "hidden"}}}}}}]}"#;
    let dump = Dump::parse(other).expect("a dump");
    let text = dump.to_json();
    assert!(!text.contains("hidden") && !text.contains("aGlkZGVu"), "{text}");
    assert_eq!(text.matches("[redacted]").count(), 4);
    assert_eq!(text.matches("W3JlZGFjdGVkXQ==").count(), 3);
    assert!(text.contains("\"providerName\": \"p\""));
}

#[test]
fn what_is_no_dump_is_refused() {
    for (text, reason) in [
        ("", "the dump is no JSON: EOF while parsing a value at line 1 column 0"),
        (
            "[null]",
            "config dump has no configuration type type.googleapis.com/envoy.admin.v3.SecretsConfigDump",
        ),
        (
            r#"{"configs": []}"#,
            "config dump has no configuration type type.googleapis.com/envoy.admin.v3.SecretsConfigDump",
        ),
        (
            r#"{"a": 1}"#,
            "config dump has no configuration type type.googleapis.com/envoy.admin.v3.SecretsConfigDump",
        ),
        (
            r#"{"configs": {}}"#,
            "the dump is no JSON: invalid type: map, expected a sequence at line 1 column 12",
        ),
        (
            r#"[[{"@type": "type.googleapis.com/envoy.admin.v3.SecretsConfigDump"}]]"#,
            "config dump has no configuration type type.googleapis.com/envoy.admin.v3.SecretsConfigDump",
        ),
        (
            r#"{"configs": [1, null, {"@type": 5}]}"#,
            "config dump has no configuration type type.googleapis.com/envoy.admin.v3.SecretsConfigDump",
        ),
        (
            r#"{"dynamicActiveSecrets": {}}"#,
            "dynamicActiveSecrets.dynamicActiveSecrets must be a list, and is a map",
        ),
        (r#"{"dynamicActiveSecrets": [1]}"#, "dynamicActiveSecrets[0] must be a map, and is a number"),
        (
            r#"{"dynamicActiveSecrets": [{"name": 5}]}"#,
            "dynamicActiveSecrets[0].name must be a text, and is a number",
        ),
        (
            r#"{"dynamicActiveSecrets": [{"secret": {"tls_certificate": {"certificate_chain": "x"}}}]}"#,
            "dynamicActiveSecrets[0].secret.tlsCertificate.certificateChain must be a map, and is a text",
        ),
        (
            r#"{"dynamicActiveSecrets": [{"error_state": []}]}"#,
            "dynamicActiveSecrets[0].errorState must be a map, and is a list",
        ),
    ] {
        assert_eq!(Dump::parse(text).map_err(|error| error.to_string()), Err(reason.to_owned()), "{text}");
    }
    let deep = "[".repeat(100_000);
    assert!(matches!(Dump::parse(&deep), Err(DumpError::Json(_))));
    let real = &REAL[..REAL.len() / 2];
    assert!(matches!(Dump::parse(real), Err(DumpError::Json(_))));
    let huge = " ".repeat(Dump::MOST + 1);
    assert_eq!(Dump::parse(&huge), Err(DumpError::TooLong));
}

#[test]
fn nothing_and_null_are_nothing() {
    for text in [
        "{}",
        r#"{"dynamicActiveSecrets": null}"#,
        r#"{"dynamic_active_secrets": [{"secret": null, "name": null}]}"#,
    ] {
        let dump = Dump::parse(text).expect("a dump");
        assert!(dump.secrets().iter().all(|secret| secret.content == Content::Other));
    }
}

#[test]
fn certificates_that_are_elsewhere_or_garbled_are_told_apart() {
    for (source, expected) in [
        (r#"{"filename": "/etc/a.pem"}"#, Bundle::File("/etc/a.pem".to_owned())),
        (r#"{"environment_variable": "A"}"#, Bundle::Variable("A".to_owned())),
        (r#"{"inline_bytes": "*"}"#, Bundle::Garbled),
        (r#"{"inline_bytes": "_-8"}"#, Bundle::Pem(vec![0xff, 0xef])),
        (r#"{"inline_string": "x"}"#, Bundle::Pem(b"x".to_vec())),
    ] {
        let text = format!(
            r#"{{"dynamicActiveSecrets": [{{"secret": {{"validation_context": {{"trusted_ca": {source}}}}}}}]}}"#
        );
        let dump = Dump::parse(&text).expect("a dump");
        assert_eq!(dump.secrets()[0].content, Content::Trusted(expected.clone()));
        assert!(expected.first().is_err());
    }
}

#[test]
fn the_dump_of_a_real_envoy_is_read() {
    let dump = Dump::parse(REAL).expect("a dump");
    let names: Vec<_> = dump.secrets().iter().map(|secret| (secret.name.as_str(), secret.status)).collect();
    assert_eq!(
        names,
        [
            ("missing", Status::Warming),
            ("default", Status::Active),
            ("ROOTCA", Status::Active),
            ("spiffe", Status::Active),
            ("static-files", Status::Static),
            ("static-inline", Status::Static),
        ]
    );
    let Content::TrustDomains(domains) = &dump.secret("spiffe").expect("it is there").content else {
        panic!("a SPIFFE validator has trust domains")
    };
    assert_eq!(
        domains.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["cluster.local", "other.example"]
    );
    let masked = Dump::parse(REAL_MASKED).expect("a dump");
    assert_eq!(masked.secrets(), &dump.secrets()[..4]);
}
