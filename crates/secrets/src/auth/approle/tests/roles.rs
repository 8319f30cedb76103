//! Roles: written, read, changed and refused.

use super::*;

#[tokio::test]
async fn a_new_role_reads_as_the_peers_does() {
    let bed = Bed::new().await;
    assert_eq!(message(bed.read("role/web").await), (Kind::NotFound, String::new()));
    bed.write("role/web", json!({})).await.unwrap();
    assert_eq!(
        bed.read("role/web").await.unwrap(),
        json!({
            "bind_secret_id": true, "local_secret_ids": false, "secret_id_bound_cidrs": null,
            "secret_id_num_uses": 0, "secret_id_ttl": 0, "token_bound_cidrs": [], "token_explicit_max_ttl": 0,
            "token_max_ttl": 0, "token_no_default_policy": false, "token_num_uses": 0, "token_period": 0,
            "token_policies": [], "token_strictly_bind_ip": false, "token_ttl": 0, "token_type": "default",
        })
    );
}

#[tokio::test]
async fn old_field_names_work_and_are_shown_until_the_new_ones_are_used() {
    let bed = Bed::new().await;
    let given = json!({ "policies": "a,B ,a", "period": "1h", "bound_cidr_list": "10.0.0.0/8,127.0.0.1/32" });
    bed.write("role/web", given).await.unwrap();
    let read = bed.read("role/web").await.unwrap();
    assert_eq!(read["policies"], json!(["a", "b"]));
    assert_eq!(read["token_policies"], json!(["a", "b"]));
    assert_eq!((&read["period"], &read["token_period"]), (&json!(3600), &json!(3600)));
    assert_eq!(read["secret_id_bound_cidrs"], json!(["10.0.0.0/8", "127.0.0.1/32"]));

    // Both given: the new name wins, and both are shown.
    let given =
        json!({ "policies": "y", "token_policies": ["x", "default"], "period": "3h", "token_period": "2h" });
    bed.write("role/web", given).await.unwrap();
    let read = bed.read("role/web").await.unwrap();
    assert_eq!((&read["policies"], &read["period"]), (&json!(["x", "default"]), &json!(7200)));

    bed.write("role/web", json!({ "token_policies": "z", "token_period": 60 })).await.unwrap();
    let read = bed.read("role/web").await.unwrap();
    assert_eq!((&read["policies"], &read["period"]), (&Value::Null, &Value::Null));
    assert_eq!((&read["token_policies"], &read["token_period"]), (&json!(["z"]), &json!(60)));
}

#[tokio::test]
async fn what_a_role_cannot_be_is_refused_in_the_peers_words() {
    let bed = Bed::new().await;
    bed.write("role/web", json!({ "role_id": "taken" })).await.unwrap();
    for (name, body, text) in [
        ("new", json!({ "bind_secret_id": false }), "at least one constraint should be enabled on the role"),
        (
            "new",
            json!({ "bound_cidr_list": "127.0.0.1" }),
            "failed to validate CIDR blocks: invalid CIDR address: 127.0.0.1",
        ),
        ("new", json!({ "role_id": "taken" }), "role_id already in use"),
        ("new", json!({ "role_id": "" }), "invalid role_id supplied, or failed to generate a role_id"),
        ("new", json!({ "secret_id_num_uses": -1 }), "secret_id_num_uses cannot be negative"),
        (
            "web",
            json!({ "local_secret_ids": true }),
            "local_secret_ids can only be modified during role creation",
        ),
        (
            "web",
            json!({ "token_ttl": "2h", "token_max_ttl": "1h" }),
            "'token_ttl' cannot be greater than 'token_max_ttl'",
        ),
        (
            "web",
            json!({ "token_bound_cidrs": "x" }),
            "error parsing address \"x\": Unable to convert \"x\" to an IPv4 or IPv6 address, or a UNIX Socket",
        ),
    ] {
        assert_eq!(message(bed.write(&format!("role/{name}"), body).await), invalid(text));
    }
    assert_eq!(message(bed.read("role/new").await), (Kind::NotFound, String::new()));
    let long = "x".repeat(4097);
    assert_eq!(
        message(bed.write("role/web/role-id", json!({ "role_id": long })).await),
        invalid("role_id is longer than maximum of 4096 bytes")
    );
    assert_eq!(
        message(bed.write(&format!("role/{long}"), json!({})).await),
        invalid("role_name is longer than maximum of 4096 bytes")
    );
}

#[tokio::test]
async fn a_value_of_another_type_is_refused_in_the_peers_words() {
    let bed = Bed::new().await;
    bed.write("role/web", json!({})).await.unwrap();
    let negative = json!({ "secret_id_ttl": "-1m" });
    for (path, frame) in [("role/web", ""), ("role/web/secret-id-ttl", "Field validation failed: ")] {
        let text = format!(
            "{frame}error converting input for field \"secret_id_ttl\": cannot provide negative value '-60'"
        );
        assert_eq!(message(bed.write(path, negative.clone()).await), invalid(&text), "{path}");
    }
}

#[tokio::test]
async fn a_role_that_is_not_there_is_missed_before_its_new_role_id() {
    let bed = Bed::new().await;
    assert_eq!(message(bed.write("role/absent/role-id", json!({})).await).0, Kind::NotFound);
    bed.write("role/web", json!({})).await.unwrap();
    assert_eq!(message(bed.write("role/web/role-id", json!({})).await), invalid("missing role_id"));
}

#[tokio::test]
async fn a_role_that_outlives_its_mount_is_warned_about() {
    let bed = Bed::new().await;
    let given = json!({ "token_max_ttl": "20000h", "token_type": "default-batch", "nonsense": 1 });
    let response = bed.write("role/web", given).await.unwrap();
    assert_eq!(
        response.warnings,
        [
            "default-batch has no useful meaning; adjusting to batch",
            "token_max_ttl is greater than the backend mount's maximum TTL value; issued tokens' max TTL value will be truncated",
            "Endpoint ignored these unrecognized parameters: [nonsense]",
        ]
    );
}

#[tokio::test]
async fn role_names_are_the_same_in_any_case() {
    let bed = Bed::new().await;
    let role_id = bed.role("Web", json!({})).await;
    assert_eq!(bed.list("role", json!({})).await.unwrap(), ["web"]);
    let (secret_id, _) = bed.secret_id("WEB", json!({})).await;
    let login = bed.login(&role_id, &secret_id).await.unwrap();
    assert_eq!(login.metadata, BTreeMap::from([("role_name".to_owned(), "web".to_owned())]));
}

#[tokio::test]
async fn roles_are_listed_in_pages() {
    let bed = Bed::new().await;
    assert_eq!(message(bed.list("role", json!({})).await), (Kind::NotFound, String::new()));
    for name in ["c", "a", "b"] {
        bed.role(name, json!({})).await;
    }
    assert_eq!(bed.list("role/", json!({})).await.unwrap(), ["a", "b", "c"]);
    assert_eq!(bed.list("role", json!({ "after": "a", "limit": 1 })).await.unwrap(), ["b"]);
}

#[tokio::test]
async fn every_setting_is_written_read_and_cleared_by_its_own_path() {
    let bed = Bed::new().await;
    bed.role("web", json!({})).await;
    for (path, given, read, cleared) in [
        (
            "policies",
            json!({"policies": "a,b"}),
            json!({"policies": ["a", "b"], "token_policies": ["a", "b"]}),
            json!({"token_policies": []}),
        ),
        (
            "policies",
            json!({"token_policies": "c"}),
            json!({"token_policies": ["c"]}),
            json!({"token_policies": []}),
        ),
        (
            "bound-cidr-list",
            json!({"bound_cidr_list": "10.0.0.0/8"}),
            json!({"bound_cidr_list": ["10.0.0.0/8"]}),
            json!({"bound_cidr_list": null}),
        ),
        (
            "secret-id-bound-cidrs",
            json!({"secret_id_bound_cidrs": "10.0.0.0/8"}),
            json!({"secret_id_bound_cidrs": ["10.0.0.0/8"]}),
            json!({"secret_id_bound_cidrs": null}),
        ),
        (
            "token-bound-cidrs",
            json!({"token_bound_cidrs": "10.0.0.0/8,192.0.2.1"}),
            json!({"token_bound_cidrs": ["10.0.0.0/8", "192.0.2.1"]}),
            json!({"token_bound_cidrs": null}),
        ),
        (
            "secret-id-num-uses",
            json!({"secret_id_num_uses": "3"}),
            json!({"secret_id_num_uses": 3}),
            json!({"secret_id_num_uses": 0}),
        ),
        (
            "secret-id-ttl",
            json!({"secret_id_ttl": "1h"}),
            json!({"secret_id_ttl": 3600}),
            json!({"secret_id_ttl": 0}),
        ),
        (
            "period",
            json!({"period": "1h"}),
            json!({"period": 3600, "token_period": 3600}),
            json!({"token_period": 0}),
        ),
        ("period", json!({"token_period": "1h"}), json!({"token_period": 3600}), json!({"token_period": 0})),
        ("token-ttl", json!({"token_ttl": "1h"}), json!({"token_ttl": 3600}), json!({"token_ttl": 0})),
        (
            "token-max-ttl",
            json!({"token_max_ttl": "2h"}),
            json!({"token_max_ttl": 7200}),
            json!({"token_max_ttl": 0}),
        ),
        (
            "token-num-uses",
            json!({"token_num_uses": 5}),
            json!({"token_num_uses": 5}),
            json!({"token_num_uses": 0}),
        ),
        (
            "bind-secret-id",
            json!({"bind_secret_id": true}),
            json!({"bind_secret_id": true}),
            json!({"bind_secret_id": true}),
        ),
    ] {
        let at = format!("role/web/{path}");
        bed.write(&at, given.clone()).await.unwrap();
        assert_eq!(bed.read(&at).await.unwrap(), read, "{path}");
        assert_eq!(bed.restarted().await.read(&at).await.unwrap(), read, "{path} after a restart");
        bed.delete(&at, json!({})).await.unwrap();
        assert_eq!(bed.read(&at).await.unwrap(), cleared, "{path}");

        let nowhere = format!("role/none/{path}");
        assert_eq!(message(bed.read(&nowhere).await), (Kind::NotFound, String::new()), "{path}");
        assert_eq!(
            bed.write(&nowhere, given).await.unwrap_err().message(),
            Error::unsupported_path().message()
        );
        bed.delete(&nowhere, json!({})).await.unwrap();
    }
    assert_eq!(bed.read("role/web/local-secret-ids").await.unwrap(), json!({"local_secret_ids": false}));
    for (path, text) in [
        ("policies", "missing token_policies"),
        ("period", "missing period"),
        ("secret-id-num-uses", "missing secret_id_num_uses"),
        ("secret-id-ttl", "missing secret_id_ttl"),
        ("token-ttl", "missing token_ttl"),
        ("token-max-ttl", "missing token_max_ttl"),
        ("token-num-uses", "missing token_num_uses"),
        ("role-id", "missing role_id"),
    ] {
        assert_eq!(message(bed.write(&format!("role/web/{path}"), json!({})).await), invalid(text));
    }
}

#[tokio::test]
async fn the_last_constraint_of_a_role_cannot_be_cleared() {
    let bed = Bed::new().await;
    bed.role("web", json!({ "bind_secret_id": false, "secret_id_bound_cidrs": "10.0.0.0/8" })).await;
    let cleared = bed.delete("role/web/secret-id-bound-cidrs", json!({})).await;
    assert_eq!(message(cleared), invalid("at least one constraint should be enabled on the role"));
}

#[tokio::test]
async fn a_changed_role_id_replaces_the_old_one_and_frees_it() {
    let bed = Bed::new().await;
    let old = bed.role("web", json!({})).await;
    let (secret_id, _) = bed.secret_id("web", json!({})).await;
    bed.login(&old, &secret_id).await.unwrap();
    bed.write("role/web/role-id", json!({ "role_id": "mine" })).await.unwrap();
    bed.login("mine", &secret_id).await.unwrap();
    assert_eq!(message(bed.login(&old, &secret_id).await), invalid("invalid role or secret ID"));
    bed.write("role/other", json!({ "role_id": old })).await.unwrap();
}

#[tokio::test]
async fn a_deleted_role_takes_its_secret_ids_with_it_even_if_it_is_made_again() {
    let bed = Bed::new().await;
    let empty = bed.memory.dump().len();
    let role_id = bed.role("web", json!({})).await;
    let (secret_id, _) = bed.secret_id("web", json!({})).await;
    bed.login(&role_id, &secret_id).await.unwrap();
    bed.delete("role/web", json!({})).await.unwrap();
    bed.delete("role/web", json!({})).await.unwrap();
    assert_eq!(bed.memory.dump().len(), empty, "nothing is left behind");
    bed.write("role/web", json!({ "role_id": role_id })).await.unwrap();
    assert_eq!(message(bed.login(&role_id, &secret_id).await), invalid("invalid role or secret ID"));
}
