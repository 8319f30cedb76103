//! `auth/token/create` in the peer's words.

use super::*;

#[tokio::test]
async fn a_root_token_makes_tokens_in_the_peers_words() {
    let api = Api::open().await;
    for (body, refusal) in [
        (json!({"id": "s.abc"}), "custom token ID cannot have the 's.' prefix"),
        (json!({"id": "hvs.abc"}), "custom token ID cannot have the 'hvs.' prefix"),
        (json!({"id": "x.y"}), "custom token ID cannot have a '.' in the value"),
        (json!({"id": "root"}), "cannot create a token with a duplicate ID"),
        (json!({"type": "batch"}), "batch tokens cannot be root tokens"),
        (json!({"type": "batch", "num_uses": 2}), "batch tokens cannot have \"num_uses\" set"),
        (json!({"type": "batch", "period": "1h"}), "batch tokens cannot have \"period\" set"),
        (
            json!({"type": "batch", "explicit_max_ttl": "1h"}),
            "batch tokens cannot have \"explicit_max_ttl\" set",
        ),
        (json!({"type": "other"}), "invalid 'token_type' value"),
        (json!({"num_uses": -1}), "number of uses cannot be negative"),
        (json!({"ttl": "abc"}), "time: invalid duration \"abc\""),
        (json!({"ttl": "-1s"}), "ttl must be positive"),
        (json!({"period": "-1s"}), "period must be positive"),
        (json!({"explicit_max_ttl": "-1s"}), "explicit_max_ttl must be positive"),
        (json!({"policies": ["response-wrapping"]}), "cannot assign policy \"response-wrapping\""),
        (json!({"entity_alias": "foo"}), "'entity_alias' is only allowed in combination with token role"),
    ] {
        assert_eq!(api.create("root", true, "create", body.clone()).await.unwrap_err(), refusal, "{body}");
    }
}

#[tokio::test]
async fn lifetimes_are_granted_within_limits_with_the_peers_warnings() {
    let api = Api::open().await;
    let capped = |what: &str, asked: &str, limit: &str, value: &str| {
        vec![format!(
            "{what} of \"{asked}\" exceeded the effective max_ttl of \"{limit}\"; {value} value is capped accordingly"
        )]
    };
    let none = Vec::<String>::new;
    for (body, seconds, renewable, warnings) in [
        (json!({}), 0, false, none()),
        (json!({"ttl": "1h"}), 3600, true, none()),
        (json!({"policies": ["sub"]}), 2_764_800, true, none()),
        (json!({"policies": ["sub"], "period": "1h"}), 3600, true, none()),
        (json!({"period": "1h"}), 3600, true, none()),
        (
            json!({"policies": ["sub"], "ttl": "9000h"}),
            2_764_800,
            true,
            capped("TTL", "9000h", "768h", "TTL"),
        ),
        (
            json!({"policies": ["sub"], "explicit_max_ttl": "1h"}),
            3600,
            true,
            capped("TTL", "768h", "1h", "TTL"),
        ),
        (
            json!({"policies": ["sub"], "period": "9000h"}),
            2_764_800,
            true,
            capped("period", "9000h", "768h", "period"),
        ),
        (json!({"policies": ["sub"], "ttl": "1h", "period": "30m"}), 1800, true, none()),
        (
            json!({"policies": ["sub"], "ttl": "1h", "explicit_max_ttl": "30m", "period": "2h"}),
            1800,
            true,
            capped("period", "2h", "30m", "period"),
        ),
        (json!({"policies": ["sub"], "lease": "1h"}), 3600, true, none()),
        (json!({"policies": ["sub"], "lease": "1h", "ttl": "2h"}), 7200, true, none()),
        (json!({"policies": ["sub"], "renewable": false}), 2_764_800, false, none()),
        (json!({"policies": ["sub"], "ttl": 0}), 2_764_800, true, none()),
        (json!({"policies": ["foo"]}), 2_764_800, true, vec!["Policy \"foo\" does not exist".to_owned()]),
    ] {
        let (auth, given) = api.create("root", true, "create", body.clone()).await.unwrap();
        assert_eq!(
            (&auth["lease_duration"], &auth["renewable"]),
            (&json!(seconds), &json!(renewable)),
            "{body}"
        );
        assert_eq!(given, warnings, "{body}");
    }
}

#[tokio::test]
async fn policies_of_a_child_follow_the_parent_and_sudo() {
    let api = Api::open().await;
    let sub = api.text("root", "create", json!({"policies": ["sub"], "ttl": "5h"})).await;
    for (sudo, body, expected) in [
        (false, json!({}), Ok(json!(["default", "sub"]))),
        (false, json!({"policies": ["sub"]}), Ok(json!(["default", "sub"]))),
        (false, json!({"policies": ["sub"], "no_default_policy": true}), Ok(json!(["sub"]))),
        (false, json!({"no_default_policy": true}), Ok(json!(["sub"]))),
        (false, json!({"policies": ["other"]}), Err("child policies must be subset of parent")),
        (false, json!({"policies": ["root"]}), Err("child policies must be subset of parent")),
        (false, json!({"id": "foo"}), Err("root or sudo privileges required to specify token id")),
        (false, json!({"no_parent": true}), Err("root or sudo privileges required to create orphan token")),
        (false, json!({"period": "1h"}), Err("root or sudo privileges required to create periodic token")),
        (true, json!({"policies": ["other"]}), Ok(json!(["default", "other"]))),
        (true, json!({"policies": "a,b"}), Ok(json!(["a,b", "default"]))),
        (
            true,
            json!({"policies": ["root"]}),
            Err("root tokens may not be created without parent token being root"),
        ),
        (true, json!({"id": "foo"}), Ok(json!(["default", "sub"]))),
    ] {
        let outcome =
            api.create(&sub, sudo, "create", body.clone()).await.map(|(auth, _)| auth["policies"].clone());
        assert_eq!(outcome, expected.map_err(str::to_owned), "{body}");
    }
    let (auth, _) = api.create(&sub, false, "create-orphan", json!({})).await.unwrap();
    assert_eq!(auth["orphan"], true);
}

#[tokio::test]
async fn some_tokens_cannot_make_others() {
    let api = Api::open().await;
    let limited = api.text("root", "create", json!({"policies": ["sub"], "num_uses": 10})).await;
    let refusal = api.create(&limited, false, "create", json!({})).await.unwrap_err();
    assert_eq!(refusal, "restricted use token cannot generate child tokens");
    let batch = api.text("root", "create", json!({"policies": ["sub"], "type": "batch"})).await;
    let refusal = api.create(&batch, false, "create", json!({})).await.unwrap_err();
    assert_eq!(refusal, "batch tokens cannot create more tokens");
    let mortal = api.text("root", "create", json!({"policies": ["root"], "ttl": "1h"})).await;
    let refusal = api.create(&mortal, true, "create", json!({})).await.unwrap_err();
    assert_eq!(refusal, "expiring root tokens cannot create non-expiring root tokens");
    assert!(api.create(&mortal, true, "create", json!({"ttl": "2h"})).await.is_ok());
}
