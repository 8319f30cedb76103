//! Every path of the server has help on the command line, and a policy that suffices for it.

#![expect(clippy::expect_used, reason = "what a helper of a test expects is part of the test")]

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use chancery_cli::Ui;
use chancery_server::config::StorageConfig;
use chancery_server::{Config, DevOptions, start_dev};
use serde_json::{Map, Value};

/// What a command printed.
#[derive(Clone, Default)]
struct Printed(Arc<Mutex<Vec<u8>>>);

impl Write for Printed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Runs a command that must succeed against the server at `address`; what it printed.
fn run(address: &str, arguments: &[&str]) -> String {
    let (printed, complaints) = (Printed::default(), Printed::default());
    let address = address.to_owned();
    let mut ui = Ui {
        program: "chancery".to_owned(),
        stdin: Box::new(std::io::empty()),
        stdout: Box::new(printed.clone()),
        stderr: Box::new(complaints.clone()),
        stdin_is_terminal: false,
        stdout_is_terminal: false,
        colour: false,
        env: Box::new(move |name| match name {
            "VAULT_ADDR" => Some(address.clone()),
            "VAULT_TOKEN" => Some("root".to_owned()),
            _ => None,
        }),
        home: None,
        write_error: None,
    };
    let owned: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    let code = chancery_cli::run(&owned, &mut ui);
    let text = |printed: &Printed| {
        let bytes = printed.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        String::from_utf8(bytes).expect("text")
    };
    assert_eq!(code, 0, "{arguments:?}: {}", text(&complaints));
    text(&printed)
}

/// The paths below a mount with what the server says of them, captures filled in.
fn paths(address: &str, mount: &str) -> Vec<(String, Value)> {
    let document: Value =
        serde_json::from_str(&run(address, &["path-help", "-format=json", mount])).expect("JSON");
    let paths: Map<String, Value> =
        document.get("paths").and_then(Value::as_object).cloned().expect("an OpenAPI document");
    let filled = |path: &str| {
        let segments = path.trim_start_matches('/').split('/');
        let segments = segments.map(|segment| if segment.starts_with('{') { "x1" } else { segment });
        segments.collect::<Vec<_>>().join("/")
    };
    paths.into_iter().map(|(path, item)| (filled(&path), item)).collect()
}

#[test]
fn every_path_has_help_and_a_policy_that_suffices() {
    let options = DevOptions {
        root_token_id: Some("root".to_owned()),
        listen_address: "127.0.0.1:0".to_owned(),
        no_store_token: true,
        ..DevOptions::default()
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = runtime.block_on(start_dev(&options, Config::new(StorageConfig::Memory))).expect("a server");
    let address = server.running.url();
    run(&address, &["secrets", "enable", "pki"]);
    run(&address, &["auth", "enable", "approle"]);
    let mut seen = 0;
    for mount in ["sys/", "auth/token/", "auth/approle/", "pki/", "cubbyhole/"] {
        for (path, item) in paths(&address, mount) {
            let help = run(&address, &["path-help", &path]);
            assert!(help.contains("Matching Route: "), "{path}: {help}");
            assert!(help.contains("## OPERATIONS"), "{path}: {help}");
            // Where a mount stands is not known to the command line, so what is privileged in it is not either.
            if mount == "sys/" || mount == "auth/token/" {
                let policy = run(&address, &["read", "-output-policy", &path]);
                // Some handlers judge by themselves, and other servers ask for more.
                let judged = ["auth/token/revoke-orphan", "sys/rotate/root/", "sys/rotate/recovery/"];
                let judged = judged.iter().any(|judged| path.starts_with(judged));
                let privileged = item["x-vault-sudo"] == true || judged;
                assert_eq!(policy.contains("\"sudo\""), privileged, "{path}: {policy}");
            }
            seen += 1;
        }
    }
    assert!(seen > 150, "{seen} paths");
    runtime.block_on(server.running.shutdown());
}
