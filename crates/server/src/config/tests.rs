use std::time::Duration;

use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(&[("c.hcl".into(), text.to_owned())])
}

fn listener(text: &str) -> Result<ListenerConfig, String> {
    let text = format!("storage \"inmem\" {{}}\nlistener \"tcp\" {{ {text} }}");
    parse(&text).map(|mut config| config.listeners.remove(0)).map_err(|error| error.to_string())
}

#[test]
fn a_usual_file_is_understood() {
    let config = parse(
        r#"
        # comments are fine
        ui            = true
        disable_mlock = true
        cluster_name  = "east"
        api_addr      = "https://ca.example:8200"
        default_lease_ttl = "1h" max_lease_ttl = 7200
        log_level = "DEBUG" log_format = "json"

        storage "embedded" { path = "/var/lib/chancery" }

        listener "tcp" {
          address       = "0.0.0.0:8200"
          tls_cert_file = "tls/cert.pem"
          tls_key_file  = "tls/key.pem"
          tls_min_version = "tls13"
          telemetry { unauthenticated_metrics_access = true }
        }
        listener "tcp" { address = "127.0.0.1:8201" tls_disable = 1, max_request_size = "1024" }
        listener "unix" { address = "/run/chancery.sock" socket_mode = "660" }

        seal "static" {
          current_key_id = "2026"
          current_key = "0000000000000000000000000000000000000000000000000000000000000000"
        }
        telemetry { prometheus_retention_time = "30s" disable_hostname = true }
        "#,
    )
    .expect("valid");
    assert_eq!(config.storage, StorageConfig::Embedded { path: "/var/lib/chancery".into() });
    assert!(config.ui && matches!(config.seal, SealConfig::Static(_)));
    assert_eq!((config.default_lease_ttl, config.max_lease_ttl), (Ttl::hours(1), Ttl::hours(2)));
    assert_eq!((config.log_level, config.log_format), (LogLevel::Debug, LogFormat::Json));
    assert!(config.telemetry.prometheus);
    assert_eq!(config.warnings, Vec::<String>::new());
    let [tls, plain, unix] = config.listeners.as_slice() else { panic!("three listeners") };
    let expected = TlsConfig {
        cert_file: "tls/cert.pem".into(),
        key_file: "tls/key.pem".into(),
        client_ca_file: None,
        require_client_cert: false,
        disable_client_certs: false,
        min_version: TlsVersion::Tls13,
        max_version: TlsVersion::Tls13,
    };
    assert_eq!(tls.tls.as_ref(), Some(&expected));
    assert!(tls.unauthenticated_metrics);
    assert_eq!(plain.bind, Bind::Tcp("127.0.0.1:8201".into()));
    assert_eq!((plain.max_request_size, &plain.tls), (1024, &None));
    assert_eq!(unix.bind, Bind::Unix { path: "/run/chancery.sock".into(), mode: Some(0o660) });
}

#[test]
fn json_and_the_old_name_of_storage_are_understood() {
    for text in [
        r#"{"listener": [{"tcp": {"address": "a:1", "tls_disable": 1}}], "backend": {"inmem": {}}}"#,
        r#"{"listener": {"tcp": {"address": "a:1", "tls_disable": "true"}}, "storage": {"inmem": {}}}"#,
        r#"backend "inmem" {} listener "tcp" { address = "a:1" tls_disable = true }"#,
    ] {
        let config = parse(text).expect(text);
        assert_eq!(config.storage, StorageConfig::Memory);
        assert_eq!(config.listeners, [ListenerConfig::new(Bind::Tcp("a:1".into()))]);
        assert_eq!((config.default_lease_ttl, config.max_lease_ttl), (Ttl::hours(768), Ttl::hours(768)));
    }
}

#[test]
fn later_files_are_laid_over_earlier_ones() {
    let files = [
        ("a.hcl".into(), "storage \"inmem\" {} ui = true log_level = \"warn\"".to_owned()),
        ("b.hcl".into(), "storage \"embedded\" { path = \"x\" } log_level = \"debug\"".to_owned()),
    ];
    let config = Config::parse(&files).expect("valid");
    assert_eq!(config.storage, StorageConfig::Embedded { path: "x".into() });
    assert!(config.ui);
    assert_eq!(config.log_level, LogLevel::Debug);
}

#[test]
fn a_directory_is_read_in_the_order_of_names() {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in [
        ("2.hcl", "log_level = \"warn\""),
        ("1.hcl", "storage \"inmem\" {} log_level = \"debug\""),
        ("3.json", "{\"ui\": true}"),
        ("4.txt", "not { read"),
    ] {
        std::fs::write(folder.path().join(name), text).expect("written");
    }
    let config = Config::load(&[folder.path().to_owned()]).expect("valid");
    assert_eq!((config.log_level, config.ui), (LogLevel::Warn, true));
    let missing = Config::load(&[folder.path().join("nope")]).expect_err("missing").to_string();
    assert!(missing.contains("nope: No such file"), "{missing}");
}

#[test]
fn unknown_keys_are_warnings_with_a_place() {
    let config = parse(
        "storage \"inmem\" { x = 1 }\nbogus = 1\ncache_size = 5\nlistener \"tcp\" {\n  tls_disable = true\n  what = 2\n}",
    )
    .expect("valid");
    assert_eq!(
        config.warnings,
        [
            "unknown or unsupported field what found in configuration at c.hcl:6:3",
            "unknown or unsupported field x found in configuration at c.hcl:1:19",
            "unknown or unsupported field bogus found in configuration at c.hcl:2:1",
            "field cache_size has no effect here; found in configuration at c.hcl:3:1",
        ]
    );
}

#[test]
fn wrong_values_are_errors_with_file_and_place() {
    let cases = [
        ("storage \"inmem\" {}\nui = \"maybe\"", "c.hcl:2:6: ui must be true or false"),
        (
            "storage \"inmem\" {} max_lease_ttl = \"x\"",
            "c.hcl:1:36: max_lease_ttl must be a duration, such as 3600 or \"1h\"",
        ),
        (
            "storage \"inmem\" {} log_level = \"loud\"",
            "c.hcl:1:32: log_level must be one of trace, debug, info, warn, error, notice, warning, err",
        ),
        (
            "storage \"raft\" {}",
            "c.hcl:1:1: storage \"raft\" is not offered: offered are \"embedded\", a path on this machine, and \"inmem\"",
        ),
        ("storage \"embedded\" {}", "c.hcl:1:1: storage \"embedded\" needs a path"),
        ("storage \"inmem\" {}\nstorage \"inmem\" {}", "c.hcl:2:1: only one \"storage\" block is permitted"),
        ("storage = \"inmem\"", "c.hcl:1:1: storage must be a block with a type: storage \"…\" { … }"),
        (
            "storage \"inmem\" {} seal \"awskms\" {}",
            "c.hcl:1:20: seal \"awskms\" is not offered: offered are \"shamir\" and \"static\"",
        ),
        (
            "storage \"inmem\" {} seal \"static\" {}",
            "c.hcl:1:20: seal \"static\" needs current_key_id and current_key",
        ),
        (
            "storage \"inmem\" {} seal \"static\" { current_key_id = \"a\" current_key = \"short\" }",
            "c.hcl:1:71: the key \"a\" must be 32 bytes: raw, in hex or in base64",
        ),
        ("storage \"inmem\" {} }", "c.hcl:1:20: expected: IDENT | STRING | ASSIGN | LBRACE got: RBRACE"),
    ];
    for (text, expected) in cases {
        let error = parse(text).expect_err(text).to_string();
        assert_eq!(error, format!("error loading configuration from {expected}"), "{text}");
    }
    assert_eq!(parse("ui = true").expect_err("none").to_string(), "a storage backend must be specified");
    let text = "storage \"inmem\" {} default_lease_ttl = \"2h\" max_lease_ttl = \"1h\"";
    let error = parse(text).expect_err(text).to_string();
    assert_eq!(error, "cannot have DefaultLeaseTTL larger than MaxLeaseTTL");
}

#[test]
fn wrong_listeners_are_errors() {
    let cases = [
        ("", "2:1: a listener needs tls_cert_file and tls_key_file, or tls_disable = true"),
        ("tls_disable = \"x\"", "2:32: tls_disable must be true or false"),
        (
            "tls_disable = true max_request_size = \"x\"",
            "2:56: max_request_size must be a whole number, at least 0",
        ),
        (
            "tls_disable = true tls_min_version = \"tls10\"",
            "2:55: tls_min_version must be one of tls12, tls13",
        ),
        (
            "tls_cert_file = \"a\" tls_key_file = \"b\" tls_require_and_verify_client_cert = true",
            "2:94: tls_require_and_verify_client_cert needs a tls_client_ca_file",
        ),
        (
            "tls_disable = true x_forwarded_for_authorized_addrs = [\"x\"]",
            "2:72: \"x\" is neither an address nor a network",
        ),
        (
            "tls_disable = true telemetry { metrics_only = true }",
            "2:64: metrics_only is not offered: the listener would serve the whole API all the same",
        ),
        (
            "tls_disable = true telemetry { disallow_metrics = true }",
            "2:68: disallow_metrics is not offered: the listener would serve metrics all the same",
        ),
        ("tls_disable = true telemetry { metrics_only = 7 }", "2:64: metrics_only must be true or false"),
    ];
    for (text, expected) in cases {
        let error = listener(text).expect_err(text);
        assert_eq!(error, format!("error loading configuration from c.hcl:{expected}"), "{text}");
    }
    let error = parse("storage \"inmem\" {} listener \"udp\" {}").expect_err("udp").to_string();
    assert!(
        error.ends_with("unsupported listener type \"udp\": offered are \"tcp\" and \"unix\""),
        "{error}"
    );
}

#[test]
fn what_is_not_offered_may_be_switched_off() {
    let text = "storage \"inmem\" {} listener \"tcp\" { tls_disable = true telemetry { metrics_only = false disallow_metrics = false } }";
    assert_eq!(parse(text).expect("valid").warnings, Vec::<String>::new());
}

#[test]
fn zero_is_the_usual_time() {
    let usual = ListenerConfig::new(Bind::Tcp("127.0.0.1:8200".into()));
    let keys = "max_request_duration = 0 http_read_header_timeout = 0 http_idle_timeout = \"0s\"";
    assert_eq!(listener(&format!("tls_disable = true {keys}")), Ok(usual));
    let given = listener("tls_disable = true max_request_duration = \"5s\"").expect("valid");
    assert_eq!(given.max_request_duration, Duration::from_secs(5));
}

#[test]
fn no_retention_switches_the_format_of_prometheus_off() {
    for (text, expected) in [
        ("", true),
        ("telemetry {}", true),
        ("telemetry { prometheus_retention_time = \"24h\" }", true),
        ("telemetry { prometheus_retention_time = 0 }", false),
        ("telemetry { prometheus_retention_time = \"0s\" }", false),
    ] {
        let config = parse(&format!("storage \"inmem\" {{}} {text}")).expect(text);
        assert_eq!(config.telemetry.prometheus, expected, "{text}");
    }
}

#[test]
fn keys_of_features_that_are_not_here_have_no_effect() {
    let text = "storage \"inmem\" {}\nraw_storage_endpoint = true\ncluster_addr = \"https://a:8201\"";
    assert_eq!(
        parse(text).expect("valid").warnings,
        [
            "field raw_storage_endpoint has no effect here; found in configuration at c.hcl:2:1",
            "field cluster_addr has no effect here; found in configuration at c.hcl:3:1",
        ]
    );
}

#[test]
fn proxies_are_believed_only_if_listed() {
    assert_eq!(listener("tls_disable = true").expect("valid").forwarded, None);
    let forwarded = listener("tls_disable = true x_forwarded_for_authorized_addrs = \"10.0.0.0/8,::1\"");
    let expected = Forwarded {
        authorized: vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
        hop_skips: 0,
        reject_not_present: true,
        reject_not_authorized: true,
    };
    assert_eq!(forwarded.expect("valid").forwarded, Some(expected));
}

#[test]
fn a_static_key_has_a_name_and_a_name_has_a_key() {
    let key = "0".repeat(64);
    let current = format!("current_key_id = \"a\" current_key = \"{key}\"");
    for (keys, expected) in [
        (format!("{current}\nprevious_key_id = \"b\""), "2:19: previous_key_id needs previous_key beside it"),
        (
            format!("{current}\nprevious_key = \"{key}\""),
            "2:16: previous_key needs previous_key_id beside it",
        ),
        (
            format!("{current}\nprevious_key_id = \"b\" previous_key = \"\""),
            "2:19: previous_key_id needs previous_key beside it",
        ),
        ("\ncurrent_key_id = \"a\"".to_owned(), "2:18: current_key_id needs current_key beside it"),
    ] {
        let error = parse(&format!("storage \"inmem\" {{}} seal \"static\" {{ {keys} }}")).expect_err(&keys);
        assert_eq!(error.to_string(), format!("error loading configuration from c.hcl:{expected}"));
    }
    let both = format!("{current} previous_key_id = \"b\" previous_key = \"{}\"", "1".repeat(64));
    for keys in [both, format!("{current} previous_key_id = \"\" previous_key = \"\"")] {
        let config = parse(&format!("storage \"inmem\" {{}} seal \"static\" {{ {keys} }}")).expect(&keys);
        assert!(matches!(config.seal, SealConfig::Static(_)));
    }
}

#[test]
fn a_static_key_may_be_kept_in_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("key");
    std::fs::write(&path, [7_u8; 32]).expect("written");
    let seal = |place: &str| {
        parse(&format!(
            "storage \"inmem\" {{}} seal \"static\" {{ current_key_id = \"a\" current_key = \"{place}\" }}"
        ))
    };
    assert!(seal(&format!("file://{}", path.display())).is_ok());
    let error = seal("file:///nope").expect_err("missing").to_string();
    assert!(error.contains("current_key: /nope: No such file"), "{error}");
    let error = seal("env://CHANCERY_NO_SUCH_VARIABLE").expect_err("missing").to_string();
    assert!(error.contains("environment variable not found"), "{error}");
}

#[test]
fn strangers_hosts_are_public_and_asked_at_the_usual_ports_unless_the_file_says_otherwise() {
    let acme = |text: &str| {
        parse(&format!("storage \"inmem\" {{}}\nacme {{ {text} }}"))
            .map(|config| config.acme)
            .map_err(|error| error.to_string())
    };
    let usual = parse("storage \"inmem\" {}").expect("valid").acme;
    assert_eq!((usual.permitted_networks.len(), usual.http_port, usual.tls_port), (0, 80, 443));
    assert_eq!(acme(""), Ok(usual));
    let given = acme("permitted_networks = [\"10.0.0.0/8\", \"::1\"] http_port = 5002 tls_port = 5001");
    let expected = ProbeConfig {
        permitted_networks: vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()],
        http_port: 5002,
        tls_port: 5001,
    };
    assert_eq!(given, Ok(expected));
    for (text, reason) in [
        ("permitted_networks = \"home\"", "2:29: permitted_networks: \"home\" is no network"),
        ("http_port = 0", "2:20: http_port must be a port, from 1 to 65535"),
        ("tls_port = 65536", "2:19: tls_port must be a port, from 1 to 65535"),
    ] {
        assert_eq!(acme(text), Err(format!("error loading configuration from c.hcl:{reason}")), "{text}");
    }
}
