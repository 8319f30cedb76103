//! Mounts: enabled, tuned, moved, unmounted.

use super::*;

#[tokio::test]
async fn each_mount_has_its_own_accessor_and_keeps_it() {
    let server = Server::start().await;
    let names = async || {
        let (secret, auth) = (server.read("sys/mounts").await, server.read("sys/auth").await);
        ["sys/", "cubbyhole/"]
            .map(|path| secret["data"][path].clone())
            .into_iter()
            .chain([auth["data"]["token/"].clone()])
            .flat_map(|mount| [mount["accessor"].clone(), mount["uuid"].clone()])
            .collect::<Vec<_>>()
    };
    let before = names().await;
    let digits: std::collections::BTreeSet<&str> =
        before.iter().filter_map(|name| name.as_str()?.rsplit(['_', '-']).next()).collect();
    assert_eq!(digits.len(), 6, "{before:?}");
    server.core.seal().await;
    server.unseal().await;
    assert_eq!(names().await, before);

    let other = Server::start().await;
    assert_ne!(other.read("sys/mounts").await["data"]["sys/"]["accessor"], before[0]);
}

#[tokio::test]
async fn a_move_that_is_refused_takes_nothing_back() {
    let server = Server::start().await;
    for mount in ["a", "b"] {
        server.write(&format!("sys/mounts/{mount}"), json!({ "type": "pki" })).await;
    }
    server.write("a/root/generate/internal", json!({ "common_name": "root", "key_type": "ec" })).await;
    let role = json!({ "allow_any_name": true, "key_type": "ec", "generate_lease": true, "ttl": "1h" });
    server.write("a/roles/web", role).await;
    let issued = server.write("a/issue/web", json!({ "common_name": "a.example" })).await;
    for (to, words) in [
        ("b", "path already in use at \"b/\""),
        ("a", "path already in use at \"a/\""),
        ("sys/x", "cannot remount to destination sys/x/"),
    ] {
        let body = json!({ "from": "a", "to": to });
        assert_eq!(server.refusal(Operation::Update, "sys/remount", "root", body).await, invalid(words));
    }
    let lease = json!({ "lease_id": issued["lease_id"] });
    assert_eq!(server.write("sys/leases/lookup", lease).await["data"]["path"], "a/issue/web");
}

#[tokio::test]
async fn an_auth_method_is_unmounted_and_moved_as_one() {
    let server = Server::start().await;
    server.write("sys/auth/approle", json!({ "type": "approle" })).await;
    let rules = r#"path "sys/mounts/*" { capabilities = ["create", "read", "update", "delete"] }"#;
    let token = token(&server, rules).await;
    for who in [token.as_str(), "root"] {
        for (path, shown) in [
            ("sys/mounts/auth/approle", "auth/approle/"),
            ("sys/mounts/auth/approle/", "auth/approle/"),
            ("sys/mounts/auth/token", "auth/token/"),
            ("sys/mounts/sys", "sys/"),
        ] {
            let refusal = server.refusal(Operation::Delete, path, who, Value::Null).await;
            assert_eq!(refusal, invalid(&format!("cannot unmount {shown:?}")), "{path}");
        }
        let mount = json!({ "type": "approle" });
        let refusal = server.refusal(Operation::Update, "sys/mounts/auth/new", who, mount).await;
        assert_eq!(refusal, invalid("cannot mount \"auth/new/\""));
        // As with the peer: what is not there counts as unmounted, and reading and tuning ask for no more.
        server.ask(Operation::Delete, "sys/mounts/auth/none", who, Value::Null).await.unwrap();
        server.ask(Operation::Read, "sys/mounts/auth/approle", who, Value::Null).await.unwrap();
        let tune = json!({ "description": who });
        server.ask(Operation::Update, "sys/mounts/auth/approle/tune", who, tune).await.unwrap();
    }
    for (from, to, words) in [
        ("auth/approle", "x", "cannot remount auth mount to non-auth mount \"x/\""),
        ("auth/none", "x", "cannot remount auth mount to non-auth mount \"x/\""),
        ("x", "auth/y", "cannot remount to destination auth/y/"),
    ] {
        let body = json!({ "from": from, "to": to });
        assert_eq!(server.refusal(Operation::Update, "sys/remount", "root", body).await, invalid(words));
    }
    assert_eq!(server.read("sys/auth").await["data"]["approle/"]["type"], "approle");
    let refusal = server.refusal(Operation::Delete, "sys/auth/approle", &token, Value::Null).await;
    assert_eq!(refusal.0, Kind::PermissionDenied);
    server.ask(Operation::Delete, "sys/auth/approle", "root", Value::Null).await.unwrap();
    assert!(server.read("sys/auth").await["data"]["approle/"].is_null());
}

#[tokio::test]
async fn an_unmounting_that_failed_is_finished_by_asking_again() {
    for fault in [Fault::Fails, Fault::FailsAfterPersisting] {
        for failing in 0_usize.. {
            // How many commits work before the one that fails; unarmed before and after.
            let fuse = Arc::new(AtomicUsize::new(usize::MAX));
            let left = Arc::clone(&fuse);
            let memory = Memory::new().with_faults(move |_| {
                let commits = left.load(Ordering::Relaxed);
                if commits == usize::MAX {
                    return Fault::None;
                }
                left.store(commits.wrapping_sub(1), Ordering::Relaxed);
                if commits == 0 { fault } else { Fault::None }
            });
            let server = Server::start_over(Arc::new(memory)).await;
            let before = server.memory.dump().len();
            mount_with_leases(&server).await;
            leased(&server).await;

            fuse.store(failing, Ordering::Relaxed);
            let outcome = server.ask(Operation::Delete, "sys/mounts/pki", "root", Value::Null).await;
            if fuse.swap(usize::MAX, Ordering::Relaxed) != usize::MAX {
                assert!(outcome.is_ok() && failing >= 4, "{failing} commits");
                break;
            }
            assert!(outcome.is_err(), "commit {failing} failed and nobody noticed");
            server.ask(Operation::Delete, "sys/mounts/pki", "root", Value::Null).await.unwrap();

            let again = server.restarted().await;
            assert!(again.read("sys/mounts").await["data"]["pki/"].is_null(), "after commit {failing}");
            again.clock.advance(std::time::Duration::from_secs(1_000_000));
            for _ in 0..2 {
                let errors = again.core.upkeep().await;
                assert!(errors.is_empty(), "{errors:?}");
            }
            assert_eq!(again.memory.dump().len(), before, "after commit {failing}, {fault:?}");
            again.write("sys/mounts/pki", json!({ "type": "pki" })).await;
        }
    }
}

#[tokio::test]
async fn tunes_at_the_same_time_keep_what_the_others_set() {
    let (server, _) = slow(&Server::start().await);
    server.unseal().await;
    server.write("sys/mounts/pki", json!({ "type": "pki" })).await;
    tokio::join!(
        server.write("sys/mounts/pki/tune", json!({ "description": "d" })),
        server.write("sys/mounts/pki/tune", json!({ "max_lease_ttl": "5h" })),
        server.write("sys/mounts/pki/tune", json!({ "listing_visibility": "unauth" })),
    );
    let again = server.restarted().await;
    for server in [&server, &again] {
        let shown = server.read("sys/mounts/pki").await["data"].clone();
        let config = &shown["config"];
        assert_eq!(
            (&shown["description"], &config["max_lease_ttl"], &config["listing_visibility"]),
            (&json!("d"), &json!(18_000), &json!("unauth"))
        );
    }
}

#[tokio::test]
async fn what_was_tuned_of_the_servers_own_mounts_is_there_after_a_restart() {
    let server = Server::start().await;
    server.write("sys/auth/token/tune", json!({ "default_lease_ttl": "1h", "description": "d" })).await;
    for path in ["sys/mounts/sys/tune", "sys/mounts/cubbyhole/tune"] {
        server.write(path, json!({ "audit_non_hmac_request_keys": ["a"] })).await;
    }
    let again = server.restarted().await;
    for server in [&server, &again] {
        let shown = server.read("sys/auth/token/tune").await["data"].clone();
        assert_eq!((&shown["default_lease_ttl"], &shown["description"]), (&json!(3600), &json!("d")));
        for path in ["sys/mounts/sys/tune", "sys/mounts/cubbyhole/tune"] {
            assert_eq!(server.read(path).await["data"]["audit_non_hmac_request_keys"], json!(["a"]));
        }
    }
    for (path, body, words) in [
        (
            "sys/mounts/sys/tune",
            json!({ "default_lease_ttl": "" }),
            "cannot tune parameter default_lease_ttl of sys/",
        ),
        (
            "sys/mounts/cubbyhole/tune",
            json!({ "description": "d" }),
            "cannot tune parameter description of cubbyhole/",
        ),
        (
            "sys/mounts/sys/tune",
            json!({ "plugin_version": "v1" }),
            "cannot tune parameter plugin_version of sys/",
        ),
        (
            "sys/auth/token/tune",
            json!({ "token_type": "batch" }),
            "'token_type' cannot be set for 'token' or 'ns_token' auth mounts",
        ),
    ] {
        assert_eq!(server.refusal(Operation::Update, path, "root", body).await, invalid(words), "{path}");
    }
}

#[tokio::test]
async fn settings_that_a_mount_cannot_have_are_refused() {
    let server = Server::start().await;
    server.write("sys/mounts/pki", json!({ "type": "pki" })).await;
    for (body, words) in [
        (json!({ "token_type": "batch" }), "'token_type' can only be modified on auth mounts"),
        (
            json!({ "user_lockout_config": { "lockout_threshold": "5" } }),
            "tuning of user lockout configuration for auth type \"pki\" not allowed",
        ),
        (json!({ "plugin_version": "v1" }), "plugin not found in the catalog: pki, version=v1.0.0"),
        (json!({ "max_lease_ttl": "nonsense" }), "time: invalid duration \"nonsense\""),
        (
            json!({ "default_lease_ttl": "10h", "max_lease_ttl": "5h" }),
            "backend max lease TTL of 18000 would be less than backend default lease TTL of 36000",
        ),
    ] {
        let refusal = server.refusal(Operation::Update, "sys/mounts/pki/tune", "root", body).await;
        assert_eq!(refusal, invalid(words));
    }
    // Beyond the server's own limit it is only shortened when it is used.
    server.write("sys/mounts/pki/tune", json!({ "default_lease_ttl": "100000h" })).await;
    for kind in ["token", "system", "cubbyhole"] {
        let refusal =
            server.refusal(Operation::Update, "sys/mounts/x", "root", json!({ "type": kind })).await;
        assert_eq!(refusal, invalid(&format!("mount type of {kind:?} is not mountable")));
    }
    let body = json!({ "type": "pki", "config": "nonsense" });
    let (kind, message) = server.refusal(Operation::Update, "sys/mounts/x", "root", body).await;
    assert_eq!(kind, Kind::InvalidRequest);
    assert!(message.contains("field \"config\": '' expected type 'map[string]interface {}'"), "{message}");
}

#[tokio::test]
async fn mounts_are_tuned_moved_and_described_as_clients_read_them() {
    let server = Server::start().await;
    server
        .write(
            "sys/auth/approle",
            json!({ "type": "approle", "config": { "user_lockout_config": { "lockout_threshold": "3" } } }),
        )
        .await;
    let shown = server.read("sys/auth").await;
    assert_eq!(shown["approle/"], shown["data"]["approle/"]);
    assert_eq!(shown["approle/"]["config"]["user_lockout_config"]["user_lockout_threshold"], 3);
    server
        .write(
            "sys/mounts/auth/approle/tune",
            json!({ "user_lockout_config": { "lockout_duration": "1m", "lockout_disable": true } }),
        )
        .await;
    let tuned = server.read("sys/auth/approle/tune").await;
    assert_eq!((&tuned["user_lockout_duration"], &tuned["user_lockout_disable"]), (&json!(60), &json!(true)));
    assert_eq!(tuned["data"]["user_lockout_threshold"], 3);
    assert_eq!(tuned["default_lease_ttl"], 2_764_800);

    server.write("sys/mounts/pki", json!({ "type": "pki" })).await;
    let moved = server.write("sys/remount", json!({ "from": "pki", "to": "ca" })).await;
    let id = moved["migration_id"].as_str().unwrap();
    let status = server.read(&format!("sys/remount/status/{id}")).await;
    assert_eq!(
        status["data"]["migration_info"],
        json!({ "source_mount": "pki/", "target_mount": "ca/", "status": "success" })
    );
    for (operation, path, body, text) in [
        (
            Operation::Update,
            "sys/remount",
            json!({ "from": "none", "to": "b" }),
            "no matching mount at \"none/\"",
        ),
        (
            Operation::Update,
            "sys/remount",
            json!({ "from": "ca", "to": "auth/b" }),
            "cannot remount to destination auth/b/",
        ),
        (
            Operation::Update,
            "sys/remount",
            json!({}),
            "both 'from' and 'to' path must be specified as a string",
        ),
        (
            Operation::Update,
            "sys/mounts/x",
            json!({ "type": "none" }),
            "plugin not found in the catalog: none",
        ),
        (Operation::Update, "sys/mounts/x", json!({}), "backend type must be specified as a string"),
        (Operation::Update, "sys/mounts/ca/x", json!({ "type": "pki" }), "path is already in use at ca/"),
        (Operation::Delete, "sys/auth/token", Value::Null, "token credential backend cannot be disabled"),
        (Operation::Read, "sys/mounts/none", Value::Null, "No secret engine mount at none/"),
        (Operation::Read, "sys/auth/none", Value::Null, "No auth engine at none/"),
        (Operation::Read, "sys/auth/none/tune", Value::Null, "cannot fetch sysview for path \"auth/none/\""),
    ] {
        assert_eq!(server.refusal(operation, path, "root", body).await, invalid(text), "{path}");
    }
}
