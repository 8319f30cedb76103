//! Roles: how they are written, changed, listed and refused.

use super::*;

#[tokio::test]
async fn a_role_write_answers_the_whole_role_with_defaults_filled_in() {
    let bed = Bed::new().await;
    let answer = data(&bed.write("roles/web", json!({})).await.unwrap());
    let expected: Value = serde_json::from_str(
        r#"{
        "allow_any_name": false, "allow_bare_domains": false, "allow_glob_domains": false,
        "allow_globs_in_identity_templates": false, "allow_ip_sans": true, "allow_localhost": true,
        "allow_subdomains": false, "allow_token_displayname": false, "allow_wildcard_certificates": true,
        "allowed_domains": [], "allowed_domains_template": false, "allowed_ip_sans_cidr": [],
        "allowed_other_sans": [], "allowed_serial_numbers": [], "allowed_uri_sans": [],
        "allowed_uri_sans_template": false, "allowed_user_ids": [],
        "basic_constraints_valid_for_non_ca": false, "client_flag": true,
        "cn_validations": ["email", "hostname"], "code_signing_flag": false, "country": [],
        "email_protection_flag": false, "enforce_hostnames": true, "ext_key_usage": [],
        "ext_key_usage_oids": [], "generate_lease": false, "issuer_ref": "default", "key_bits": 2048,
        "key_type": "rsa", "key_usage": ["DigitalSignature", "KeyAgreement", "KeyEncipherment"],
        "locality": [], "max_ttl": 0, "no_store": false, "not_after": "", "not_after_bound": "permit",
        "not_before": "", "not_before_bound": "permit", "not_before_duration": 30, "organization": [],
        "ou": [], "policy_identifiers": [], "postal_code": [], "province": [], "require_cn": true,
        "server_flag": true, "signature_bits": 0, "street_address": [], "ttl": 0,
        "use_csr_common_name": true, "use_csr_sans": true, "use_pss": false
        }"#,
    )
    .unwrap();
    assert_eq!(answer, expected);
    assert_eq!(bed.read("roles/web").await.unwrap(), expected);
}

#[tokio::test]
async fn role_fields_are_refused_in_the_peers_words() {
    let bed = Bed::new().await;
    for (body, sentence) in [
        (json!({"ttl": "2h", "max_ttl": "1h"}), "\"ttl\" value must be less than \"max_ttl\" value"),
        (json!({"key_type": "foo"}), "unknown key type foo"),
        (json!({"key_type": ""}), "unknown key type "),
        (json!({"key_type": "ec", "key_bits": 123}), "unsupported bit length for EC key: 123"),
        (json!({"key_type": "ec", "key_bits": -1}), "unsupported bit length for EC key: -1"),
        (
            json!({"ext_key_usage_oids": "3.1"}),
            "\"3.1\" could not be parsed as a valid oid for an extended key usage",
        ),
        (json!({"key_bits": 1024}), "RSA keys < 2048 bits are unsafe and not supported: got 1024"),
        (json!({"key_bits": -1}), "RSA keys < 2048 bits are unsafe and not supported: got -1"),
        (
            json!({"ext_key_usage_oids": "1.2.3,,"}),
            "\"\" could not be parsed as a valid oid for an extended key usage",
        ),
        (
            json!({"cn_validations": "foo"}),
            "1 error occurred:\n\t* cn_validations value incorrect: unknown type: `foo`\n\n",
        ),
        (
            json!({"cn_validations": "disabled,email"}),
            "1 error occurred:\n\t* cn_validations value incorrect: cannot specify `disabled` along with `email` or `hostname`\n\n",
        ),
        (
            json!({"cn_validations": "email,email"}),
            "1 error occurred:\n\t* cn_validations value incorrect: `email` specified multiple times\n\n",
        ),
        (
            json!({"allowed_ip_sans_cidr": "10.0.0.0/8,1.2.3.4"}),
            "error parsing allowed_ip_sans_cidr: invalid CIDR address: 1.2.3.4",
        ),
        (
            json!({"allowed_other_sans": "foo"}),
            "error parsing allowed_other_sans: expected a semicolon in other SAN \"foo\"",
        ),
        (
            json!({"allowed_other_sans": ["1.2.3;UTF8"]}),
            "error parsing allowed_other_sans: expected a colon in other SAN \"1.2.3;UTF8\"",
        ),
        (
            json!({"allowed_other_sans": ["1.2.3;UTF8:a", "1.2.3;foo:bar"]}),
            "error parsing allowed_other_sans: only utf8 other SANs are supported; found non-supported type in other SAN \"1.2.3;foo:bar\"",
        ),
        (
            json!({"not_before_bound": "x"}),
            "Unknown value for field `not_before_bound`. Possible values are `permit` `duration` or `forbid`",
        ),
        (
            json!({"not_after_bound": "x"}),
            "Unknown value for field `not_after_bound`. Possible values are `permit`, `ttl-limited`, `forbid`, or an explicit timestamp.",
        ),
        (
            json!({"policy_identifiers": ["{\"notice\":\"1.3.6.1\"}"]}),
            "1 error occurred:\n\t* strconv.Atoi: parsing \"\": invalid syntax\n\n",
        ),
    ] {
        let error = bed.write("roles/web", body.clone()).await.unwrap_err();
        assert_eq!((error.kind, error.message().as_str()), (Kind::InvalidRequest, sentence), "{body}");
    }
    assert!(bed.keys("roles", json!({})).await.is_empty(), "a refused role must not be stored");
}

#[tokio::test]
async fn role_fields_are_brought_into_normal_form() {
    let bed = Bed::new().await;
    for (body, field, normal) in [
        (json!({"key_type": "ec"}), "key_bits", json!(256)),
        (json!({"key_type": "any", "key_bits": 17}), "key_bits", json!(17)),
        (
            json!({"allowed_domains": "a.com,,b.com, c.com"}),
            "allowed_domains",
            json!(["a.com", "", "b.com", "c.com"]),
        ),
        (json!({"ou": ["a,b", " c "]}), "ou", json!(["a,b", "c"])),
        (
            json!({"allowed_ip_sans_cidr": "10.1.2.3/8,fe80::/10"}),
            "allowed_ip_sans_cidr",
            json!(["10.0.0.0/8", "fe80::/10"]),
        ),
        (json!({"issuer_ref": ""}), "issuer_ref", json!("default")),
        (json!({"cn_validations": []}), "cn_validations", json!(["email", "hostname"])),
        (json!({"cn_validations": "HOSTNAME,Email"}), "cn_validations", json!(["hostname", "email"])),
        (json!({"max_ttl": "90000h", "ttl": "1.5h"}), "ttl", json!(5400)),
        (json!({"server_flag": null}), "server_flag", json!(false)),
        (json!({"key_usage": null}), "key_usage", json!([])),
        (json!({"not_before_duration": null}), "not_before_duration", json!(30)),
        (
            json!({"policy_identifiers": "1.3.6.1.4.1.1, 2.5.29.32.0"}),
            "policy_identifiers",
            json!(["1.3.6.1.4.1.1", "2.5.29.32.0"]),
        ),
        (
            json!({"policy_identifiers": "[{\"oid\":\"1.3.6.1.4.1.7.8\",\"notice\":\"hi\",\"cps\":\"http://x\"}]"}),
            "policy_identifiers",
            json!(["{\"oid\":\"1.3.6.1.4.1.7.8\",\"cps\":\"http://x\",\"notice\":\"hi\"}"]),
        ),
    ] {
        let answer = data(&bed.write("roles/web", body.clone()).await.unwrap());
        assert_eq!(answer[field], normal, "{body}");
    }
}

#[tokio::test]
async fn a_role_that_may_surprise_is_written_with_a_warning() {
    let bed = Bed::new().await;
    let both = bed.write("roles/web", json!({"no_store": true, "generate_lease": true})).await.unwrap();
    assert_eq!(
        both.warnings,
        [
            "mutually exclusive values no_store=true and generate_lease=true were both specified; no_store=true takes priority"
        ]
    );
    assert_eq!(data(&both)["generate_lease"], json!(false));
    let lease = bed.write("roles/web", json!({"generate_lease": true})).await.unwrap();
    assert!(lease.warnings[0].starts_with("it is encouraged to disable generate_lease"));
    assert_eq!(lease.warnings.len(), 1);
    let gone = bed.write("roles/web", json!({"issuer_ref": "gone"})).await.unwrap();
    assert_eq!(
        gone.warnings,
        ["Issuing Certificate was set to gone but no issuing certificate currently has that name"]
    );
    assert!(bed.write("roles/web", json!({"issuer_ref": "root"})).await.unwrap().warnings.is_empty());

    let empty = Bed::empty().await.write("roles/web", json!({})).await.unwrap();
    assert_eq!(
        empty.warnings,
        [
            "Issuing Certificate was set to default, but no default issuing certificate (configurable at /config/issuers) is currently set"
        ]
    );
}

#[tokio::test]
async fn a_patch_changes_the_given_fields_and_nothing_else() {
    let bed = Bed::new().await;
    bed.role(
        "web",
        json!({"key_type": "ec", "max_ttl": "1h", "ttl": "1h", "ou": "x", "allowed_domains": "a.com"}),
    )
    .await;
    let patch = json!({"key_bits": 384, "allowed_domains": null, "ttl": null});
    let answer = data(&bed.ask(Operation::Patch, "roles/web", patch).await.unwrap());
    assert_eq!(answer["key_bits"], json!(384));
    assert_eq!(answer["allowed_domains"], json!([]));
    assert_eq!((&answer["ttl"], &answer["ou"]), (&json!(3600), &json!(["x"])));
    assert_eq!(bed.read("roles/web").await.unwrap(), answer);

    let error = bed.ask(Operation::Patch, "roles/gone", json!({})).await.unwrap_err();
    assert_eq!(error.message(), "Unable to fetch role entry to patch");
}

#[tokio::test]
async fn a_patch_that_meets_a_deletion_does_not_bring_the_role_back() {
    let bed = Bed::new().await;
    bed.role("web", json!({"ou": "old"})).await;
    let store = &bed.engine.store;
    let (record, version) = store.stored_role("web").await.unwrap().unwrap();
    bed.ask(Operation::Delete, "roles/web", json!({})).await.unwrap();
    assert!(!store.replace_role("web", &record, &version).await.unwrap());
    assert_eq!(bed.read("roles/web").await.unwrap_err().kind, Kind::NotFound);
    // Nor does it undo what was written meanwhile.
    bed.role("web", json!({"ou": "new"})).await;
    assert!(!store.replace_role("web", &record, &version).await.unwrap());
    assert_eq!(bed.read("roles/web").await.unwrap()["ou"], json!(["new"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn patches_of_one_role_at_the_same_time_lose_nothing() {
    const ROUNDS: usize = 5;

    let bed = Arc::new(Bed::new().await);
    bed.role("web", json!({})).await;
    let fields = ["ou", "organization", "country", "locality"];
    let patching: Vec<_> = fields
        .map(|field| {
            let bed = Arc::clone(&bed);
            tokio::spawn(async move {
                for round in 1..=ROUNDS {
                    let patch = json!({ field: round.to_string() });
                    bed.ask(Operation::Patch, "roles/web", patch).await.unwrap();
                }
            })
        })
        .into_iter()
        .collect();
    for one in patching {
        one.await.unwrap();
    }
    let role = bed.read("roles/web").await.unwrap();
    for field in fields {
        assert_eq!(role[field], json!([ROUNDS.to_string()]), "{field}");
    }
}

#[tokio::test]
async fn a_role_is_refused_if_no_certificate_could_carry_its_identifiers() {
    let bed = Bed::new().await;
    for oid in ["1.3.6.1.4.1.99999", "2.39.1", "2.40.1", "2.999.1", "1.2.4294967296"] {
        for (field, value) in [
            ("ext_key_usage_oids", json!(oid)),
            ("policy_identifiers", json!(oid)),
            ("policy_identifiers", json!([json!({ "oid": oid, "notice": "n" }).to_string()])),
        ] {
            let role = json!({"allow_any_name": true, "key_type": "ec", field: value});
            let written = bed.write("roles/web", role.clone()).await;
            assert!(written.is_ok() || oid != "1.3.6.1.4.1.99999", "{role}");
            match written {
                Ok(_) => drop(bed.write("issue/web", json!({"common_name": "a.com"})).await.unwrap()),
                Err(error) => assert!(
                    error.kind == Kind::InvalidRequest && error.message().contains(oid),
                    "{role}: {error:?}"
                ),
            }
        }
    }
}

#[tokio::test]
async fn a_deleted_role_is_gone_and_a_rewritten_one_takes_effect_at_once() {
    let bed = Bed::new().await;
    bed.role("web", json!({"key_type": "ec", "allow_any_name": true})).await;
    let sign = json!({"csr": csr("a.example.com", &[])});
    bed.write("sign/web", sign.clone()).await.unwrap();
    bed.role("web", json!({"key_type": "ec", "allowed_domains": "other.org"})).await;
    assert!(bed.write("sign/web", sign.clone()).await.is_err());
    bed.ask(Operation::Delete, "roles/web", json!({})).await.unwrap();
    bed.ask(Operation::Delete, "roles/web", json!({})).await.unwrap();
    let error = bed.write("sign/web", sign).await.unwrap_err();
    assert_eq!(error.message(), "unknown role: web");
    assert_eq!(bed.read("roles/web").await.unwrap_err().kind, Kind::NotFound);
}

#[tokio::test]
async fn roles_are_listed_page_by_page() {
    let bed = Bed::new().await;
    for name in ["b", "a", "web"] {
        bed.role(name, json!({})).await;
    }
    assert_eq!(bed.keys("roles", json!({})).await, ["a", "b", "web"]);
    assert_eq!(bed.keys("roles", json!({"after": "a"})).await, ["b", "web"]);
    assert_eq!(bed.keys("roles", json!({"limit": 1})).await, ["a"]);
    assert_eq!(bed.keys("roles", json!({"after": "a", "limit": "1"})).await, ["b"]);
}
