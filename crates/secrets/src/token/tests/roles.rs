//! `auth/token/roles/` and what a role decides.

use super::*;

#[tokio::test]
async fn roles_decide_policies_lifetimes_and_parents() {
    let api = Api::open().await;
    assert_eq!(api.create("root", true, "create/c", json!({})).await.unwrap_err(), "unknown role c");
    let sub = api.text("root", "create", json!({"policies": ["sub"], "ttl": "5h"})).await;
    let subset = |asked: &str, allowed: &str, globs: &str| {
        format!(
            "token policies ({asked}) must be subset of the role's allowed policies ({allowed}) or glob policies ({globs})"
        )
    };
    for (role, who, body, expected) in [
        (json!({"allowed_policies": "sub,foo"}), "root", json!({}), Ok(json!(["default", "foo", "sub"]))),
        (
            json!({"allowed_policies": "sub,foo"}),
            "root",
            json!({"policies": ["other"]}),
            Err(subset(r#"["default" "other"]"#, r#"["default" "foo" "sub"]"#, "[]")),
        ),
        (
            json!({"allowed_policies": "sub"}),
            "root",
            json!({"policies": ["root"]}),
            Err(subset(r#"["root"]"#, r#"["default" "sub"]"#, "[]")),
        ),
        (json!({"allowed_policies_glob": "s*"}), "root", json!({}), Ok(json!(["default"]))),
        (
            json!({"allowed_policies_glob": "s*"}),
            "root",
            json!({"policies": ["sub"]}),
            Ok(json!(["default", "sub"])),
        ),
        (
            json!({"disallowed_policies_glob": "s*"}),
            "root",
            json!({"policies": ["sub", "x"]}),
            Err("token policy \"sub\" is disallowed by this role".to_owned()),
        ),
        (json!({"disallowed_policies": "default"}), "root", json!({"policies": ["x"]}), Ok(json!(["x"]))),
        (
            json!({"disallowed_policies": "default"}),
            &*sub,
            json!({}),
            Err("token policy \"default\" is disallowed by this role".to_owned()),
        ),
        (
            json!({"disallowed_policies": "x"}),
            &*sub,
            json!({"policies": ["other"]}),
            Ok(json!(["default", "other"])),
        ),
        (json!({"allowed_policies": "other"}), &*sub, json!({}), Ok(json!(["default", "other"]))),
        (
            json!({"allowed_policies": "root"}),
            &*sub,
            json!({"policies": ["root"]}),
            Err("root tokens may not be created without parent token being root".to_owned()),
        ),
        (
            json!({}),
            &*sub,
            json!({"policies": ["other"]}),
            Err("child policies must be subset of parent".to_owned()),
        ),
        (
            json!({"allowed_policies": "sub", "token_no_default_policy": true}),
            "root",
            json!({}),
            Ok(json!(["sub"])),
        ),
    ] {
        api.role(role.clone()).await;
        let outcome = api.create(who, who == "root", "create/c", body.clone()).await;
        assert_eq!(outcome.map(|(auth, _)| auth["policies"].clone()), expected, "{role} {body}");
    }

    api.role(
        json!({"orphan": true, "path_suffix": "zzz", "token_period": "1h", "token_explicit_max_ttl": "2h",
        "token_num_uses": 3, "token_bound_cidrs": "127.0.0.1/32", "renewable": false}),
    )
    .await;
    let body = json!({"policies": ["sub"], "ttl": "30m", "period": "10m", "explicit_max_ttl": "15m", "num_uses": 10});
    let (auth, warnings) = api.create("root", true, "create/c", body).await.unwrap();
    assert_eq!(
        (&auth["lease_duration"], &auth["num_uses"], &auth["orphan"], &auth["renewable"]),
        (&json!(600), &json!(3), &json!(true), &json!(false))
    );
    assert_eq!(
        warnings,
        [
            "Explicit max TTL specified both during creation call and in role; using the lesser value of 900 seconds",
            "Period specified both during creation call and in role; using the lesser value of 600 seconds",
        ]
    );
    let text = api.text("root", "create/c", json!({"policies": ["sub"]})).await;
    let shown = api.data("root", "lookup", json!({"token": text})).await;
    assert_eq!(
        (
            &shown["path"],
            &shown["role"],
            &shown["bound_cidrs"],
            &shown["explicit_max_ttl"],
            shown.get("period")
        ),
        (&json!("auth/token/create/c/zzz"), &json!("c"), &json!(["127.0.0.1"]), &json!(0), None)
    );
}

#[tokio::test]
async fn a_role_names_callers_by_alias() {
    let api = Api::open().await;
    api.role(json!({"allowed_entity_aliases": "al,b*"})).await;
    let refused =
        api.create("root", true, "create/c", json!({"policies": ["sub"], "entity_alias": "zz"})).await;
    assert_eq!(refused.unwrap_err(), "invalid 'entity_alias' value");
    for alias in ["AL", "bob"] {
        let body = json!({"policies": ["sub"], "entity_alias": alias});
        let (auth, _) = api.create("root", true, "create/c", body).await.unwrap();
        assert_eq!(auth["entity_id"].as_str().map(str::len), Some(36));
    }
}

#[tokio::test]
async fn roles_are_read_back_as_written() {
    let api = Api::open().await;
    api.role(json!({"allowed_policies": "Foo,bar", "period": "1h", "bound_cidrs": "10.0.0.0/8", "token_num_uses": 3})).await;
    let read = async || -> Value {
        let response = api.ask("root", true, Operation::Read, "roles/c", Value::Null).await.unwrap();
        serde_json::from_str(response.data.unwrap().get()).unwrap()
    };
    assert_eq!(
        read().await,
        json!({"allowed_entity_aliases": null, "allowed_policies": ["bar", "foo"], "allowed_policies_glob": [],
            "bound_cidrs": ["10.0.0.0/8"], "disallowed_policies": [], "disallowed_policies_glob": [],
            "explicit_max_ttl": 0, "name": "c", "orphan": false, "path_suffix": "", "period": 3600, "renewable": true,
            "token_bound_cidrs": ["10.0.0.0/8"], "token_explicit_max_ttl": 0, "token_no_default_policy": false,
            "token_num_uses": 3, "token_period": 3600, "token_type": "default-service"})
    );
    let change = json!({"period": "3h", "token_period": "2h"});
    let response = api.ask("root", true, Operation::Update, "roles/c", change).await.unwrap();
    assert_eq!(
        response.warnings,
        ["Both 'token_period' and deprecated 'period' value supplied, ignoring the deprecated value"]
    );
    let role = read().await;
    assert_eq!((&role["period"], &role["token_period"]), (&json!(0), &json!(7200)));
    for (body, refusal) in [
        (
            json!({"path_suffix": "a/"}),
            r"given role path suffix contains invalid characters; must match \w[\w-.]+\w",
        ),
        (
            json!({"path_suffix": "zz"}),
            r"given role path suffix contains invalid characters; must match \w[\w-.]+\w",
        ),
        (json!({"token_type": "x"}), "invalid 'token_type' value \"x\""),
        (
            json!({"token_type": "batch"}),
            "'token_type' cannot be 'batch' when role is set to generate non-orphan tokens",
        ),
        (json!({"token_num_uses": -1}), "error parsing role fields: 'token_num_uses' cannot be negative"),
    ] {
        let refused = api.ask("root", true, Operation::Update, "roles/c", body.clone()).await.unwrap_err();
        assert_eq!(refused.message(), refusal, "{body}");
    }
    assert!(api.ask("root", true, Operation::Read, "roles/none", Value::Null).await.is_err());
}

#[tokio::test]
async fn renewals_follow_the_role_as_it_is_now() {
    let api = Api::open().await;
    api.role(json!({"token_explicit_max_ttl": "1h"})).await;
    let text = api.text("root", "create/c", json!({"policies": ["sub"], "ttl": "10m"})).await;
    let renew = async |now: Timestamp| {
        let body = json!({"token": text, "increment": "5h"});
        api.at(now, "root", true, Operation::Update, "renew", body)
            .await
            .map(|response| (response.auth.unwrap().lease_duration, response.warnings.len()))
    };
    assert_eq!(renew(after(60)).await.unwrap(), (3540, 1));
    api.role(json!({"token_period": "20m"})).await;
    assert_eq!(renew(after(120)).await.unwrap(), (1200, 0));
    api.ask("root", true, Operation::Delete, "roles/c", json!({})).await.unwrap();
    assert_eq!(
        renew(after(180)).await.unwrap_err().message(),
        "1 error occurred:\n\t* failed to renew entry: original token role \"c\" could not be found, not renewing\n\n"
    );
}
