//! The texts of policies: kept, refused, built in.

use super::*;

#[test]
fn the_text_comes_back_letter_for_letter() {
    let text = "  # mine\npath \"a\"{policy=\"read\"} \n\n";
    let policy = Policy::parse(" My-Policy ", text).expect("valid");
    assert_eq!((&*policy.text, policy.name.as_str()), (text, "my-policy"));
}

#[test]
fn malformed_policies_are_refused_with_path_and_place() {
    let cases = [
        (
            "path \"a\" {\n  bogus = 1\n}",
            "path \"a\": 1 error occurred:\n\t* invalid key \"bogus\" on line 2\n\n",
        ),
        (
            "x = 1\ny {}",
            "2 errors occurred:\n\t* invalid key \"x\" on line 1\n\t* invalid key \"y\" on line 2\n\n",
        ),
        ("PATH \"a\" {}", "1 error occurred:\n\t* invalid key \"PATH\" on line 1\n\n"),
        ("path \"a\" { capabilities = [\"bogus\"] }", "path \"a\": path \"a\": invalid capability \"bogus\""),
        ("path \"a\" { capabilities = [\"READ\"] }", "path \"a\": path \"a\": invalid capability \"READ\""),
        ("path \"a\" { capabilities = [1] }", "path \"a\": path \"a\": invalid capability \"1\""),
        (
            "path \"a\" { capabilities = \"read\" }",
            "path \"a\": At 1:27: capabilities must be a list of strings",
        ),
        (
            "path \"a\" { capabilities = [true] }",
            "path \"a\": At 1:28: capabilities must be a list of strings",
        ),
        ("path \"a\" { policy = \"bogus\" }", "path \"a\": path \"a\": invalid policy \"bogus\""),
        ("path \"a\" { policy = [\"read\"] }", "path \"a\": At 1:21: policy must be a string"),
        ("path \"a/+*\" {}", "path \"a/+*\": invalid use of wildcards ('+*' is forbidden)"),
        (
            "path \"a}}\" {}",
            "path \"a}}\": failed to validate policy templating: unbalanced templating characters",
        ),
        (
            "path \"{{a\" {}",
            "path \"{{a\": failed to validate policy templating: unbalanced templating characters",
        ),
        (
            "path \"a\" { min_wrapping_ttl = 5 max_wrapping_ttl = 3 }",
            "path \"a\": max_wrapping_ttl cannot be less than min_wrapping_ttl",
        ),
        (
            "path \"a\" { expiration = \"soon\" }",
            "path \"a\": invalid expiration time: could not parse string as date and time",
        ),
        (
            "path \"a\" { allowed_parameters = [] }",
            "path \"a\": At 1:33: allowed_parameters must be an object",
        ),
        (
            "path \"a\" { denied_parameters = { x = 1 } }",
            "path \"a\": At 1:38: the values of x must be a list",
        ),
        (
            "path \"a\" { required_parameters = \"x\" }",
            "path \"a\": At 1:34: required_parameters must be a list of strings",
        ),
        (
            "path \"a\" { pagination_limit = \"x\" }",
            "path \"a\": At 1:31: pagination_limit must be a whole number",
        ),
        (
            "path \"a\" { policy = \"read\" control_group = {} }",
            "path \"a\": At 1:28: control groups are not supported",
        ),
        (
            "path \"a\" { capabilities = [\"scan\"] list_scan_response_keys_filter_path = \"{{ .key }}\" }",
            "path \"a\": list_scan_response_keys_filter_path needs to be used on a path with the list capability",
        ),
        ("path = \"a\"", "path \"path\": At 1:8: a path needs a block of rules"),
        ("path \"a\" {", "At 1:11: object expected closing RBRACE got: EOF"),
    ];
    for (text, expected) in cases {
        let error = Policy::parse("x", text).expect_err(text).to_string();
        assert_eq!(error, format!("failed to parse policy: {expected}"), "{text}");
    }
}

#[test]
fn what_the_peer_tolerates_is_tolerated() {
    for text in [
        "name = \"x\" path \"a\" { comment = [1] mfa_methods = [\"x\"] }",
        "x =",
        "# nothing",
        "{}",
        "path \"a\" { min_wrapping_ttl = -5 max_wrapping_ttl = \"-1s\" }",
        "path \"a\" { min_wrapping_ttl = \"5d\" expiration = 1893456000 }",
        "path \"a\" { allowed_parameters { \"x\" = [[1], {a = 1}] } allowed_parameters = {} }",
        "path \"a{{}}\" {} path \"b{{identity.bogus}}\" {} path \"{{ time.now }}\" {}",
    ] {
        policy(text);
    }
}

#[test]
fn the_built_in_texts_are_policies() {
    let default = Policy::parse(DEFAULT, DEFAULT_TEXT).expect("valid");
    let acl = Acl::new([&default], &someone(), NOW).expect("harmless");
    // Paths and answers of the peer's own default policy.
    for (path, expected) in [
        ("auth/token/lookup-self", "read"),
        ("auth/token/renew-self", "update"),
        ("auth/token/revoke-self", "update"),
        ("sys/capabilities-self", "update"),
        ("identity/entity/id/e1", "read"),
        ("identity/entity/name/bobby", "read"),
        ("sys/internal/ui/resultant-acl", "read"),
        ("sys/leases/renew", "update"),
        ("sys/leases/lookup", "update"),
        ("cubbyhole/x", "create,delete,list,read,update"),
        ("sys/wrapping/wrap", "update"),
        ("sys/wrapping/lookup", "update"),
        ("sys/wrapping/unwrap", "update"),
        ("sys/tools/hash", "update"),
        ("sys/tools/hash/sha2-256", "update"),
        ("identity/oidc/provider/p/authorize", "read,update"),
        ("sys/mounts", "deny"),
        ("auth/token/create", "deny"),
    ] {
        assert_eq!(acl.capabilities(path).join(","), expected, "{path}");
    }
    assert_eq!(default.rules.len(), 16);
    let wrapping = Policy::parse(RESPONSE_WRAPPING, RESPONSE_WRAPPING_TEXT).expect("valid");
    assert_eq!(wrapping.rules.len(), 3);
    assert_eq!(chancery_api::hcl::format(DEFAULT_TEXT).as_deref(), Ok(DEFAULT_TEXT));
}

#[test]
fn built_in_policies_are_protected() {
    assert_eq!(normal_name(" Root "), ROOT);
    assert_eq!(may_be_written("root"), Err("cannot update \"root\" policy".to_owned()));
    assert_eq!(
        may_be_written("response-wrapping"),
        Err("cannot update \"response-wrapping\" policy".to_owned())
    );
    assert_eq!(may_be_written("default"), Ok(()));
    assert_eq!(may_be_deleted("root"), Err("cannot delete \"root\" policy".to_owned()));
    assert_eq!(may_be_deleted("default"), Err("cannot delete default policy".to_owned()));
    assert_eq!(may_be_deleted("mine"), Ok(()));
}
