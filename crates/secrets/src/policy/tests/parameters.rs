//! Rules for parameters and for wrapping.

use super::*;

fn try_parameters(rules: &[&str], body: &Value) -> bool {
    let texts: Vec<_> = rules
        .iter()
        .map(|rule| {
            format!("path \"a\" {{ capabilities = [\"create\", \"update\", \"read\", \"list\"] {rule} }}")
        })
        .collect();
    let acl = acl(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let check = |operation, parameters| acl.check(operation, "a", parameters, None).is_ok();
    assert!(check(Operation::List, Parameters::default()), "listings are not judged by parameters");
    let answer = check(Operation::Update, Parameters { body: body.as_bytes(), query: &[] });
    assert_eq!(check(Operation::Create, Parameters { body: body.as_bytes(), query: &[] }), answer);
    answer
}

/// Rules on parameters, a body, and whether OpenBao 2.7.2 let it pass.
#[test]
fn parameter_rules() {
    let cases: &[(&[&str], Value, bool)] = &[
        (&["allowed_parameters = { x = [] }"], json!({"x": 1}), true),
        (&["allowed_parameters = { x = [] }"], json!({"X": 1}), true),
        (&["allowed_parameters = { X = [] }"], json!({"x": 1}), true),
        (&["allowed_parameters = { x = [] }"], json!({"y": 1}), false),
        (&["allowed_parameters = { x = [] }"], json!({"x": 1, "y": 1}), false),
        (&["allowed_parameters = { x = [] }"], json!({}), true),
        (&["allowed_parameters = { x = [] }"], json!(null), true),
        (&["allowed_parameters = { x = [\"a\", \"b*\", \"*c\", \"*d*\"] }"], json!({"x": "a"}), true),
        (&["allowed_parameters = { x = [\"a\", \"b*\", \"*c\", \"*d*\"] }"], json!({"x": "b"}), true),
        (&["allowed_parameters = { x = [\"a\", \"b*\", \"*c\", \"*d*\"] }"], json!({"x": "xc"}), true),
        (&["allowed_parameters = { x = [\"a\", \"b*\", \"*c\", \"*d*\"] }"], json!({"x": "xdy"}), true),
        (&["allowed_parameters = { x = [\"a\", \"b*\", \"*c\", \"*d*\"] }"], json!({"x": "ab"}), false),
        (&["allowed_parameters = { x = [\"a\", \"b*\", \"*c\", \"*d*\"] }"], json!({"x": "A"}), false),
        (&["allowed_parameters = { x = [true, \"3\"] }"], json!({"x": true}), true),
        (&["allowed_parameters = { x = [true, \"3\"] }"], json!({"x": "true"}), false),
        (&["allowed_parameters = { x = [true, \"3\"] }"], json!({"x": 3}), false),
        (&["allowed_parameters = { x = [\"*\"] }"], json!({"x": "1"}), false),
        (&["allowed_parameters = { x = [\"*\"] }"], json!({"x": "*"}), true),
        (&["allowed_parameters = { x = [\"**\"] }"], json!({"x": "1"}), true),
        (&["allowed_parameters = { \"*\" = [] }"], json!({"x": 1}), true),
        (&["allowed_parameters = { \"*\" = [] x = [\"a\"] }"], json!({"x": "1"}), false),
        (&["allowed_parameters = { \"*\" = [] x = [\"a\"] }"], json!({"x": "a", "y": 1}), true),
        (&["allowed_parameters = { \"*\" = [\"a\"] }"], json!({"x": 1}), true),
        (&["allowed_parameters = { }"], json!({"x": 1}), true),
        (&["denied_parameters = { x = [] }"], json!({"x": 1}), false),
        (&["denied_parameters = { x = [] }"], json!({"X": 1}), false),
        (&["denied_parameters = { x = [] }"], json!({"y": 1}), true),
        (&["denied_parameters = { x = [\"a\", \"b*\"] }"], json!({"x": "bc"}), false),
        (&["denied_parameters = { x = [\"a\", \"b*\"] }"], json!({"x": "c"}), true),
        (&["denied_parameters = { \"*\" = [] }"], json!({"x": 1}), false),
        (&["denied_parameters = { \"*\" = [] }"], json!({}), true),
        (&["denied_parameters = { \"*\" = [\"a\"] }"], json!({"x": 1}), false),
        (&["denied_parameters = { x = [] } allowed_parameters = { x = [] y = [] }"], json!({"x": 1}), false),
        (&["denied_parameters = { x = [] } allowed_parameters = { x = [] y = [] }"], json!({"y": 1}), true),
        (&["required_parameters = [\"x\", \"Y\"]"], json!({"x": 1}), false),
        (&["required_parameters = [\"x\", \"Y\"]"], json!({"x": 1, "y": 1}), true),
        (&["required_parameters = [\"x\", \"Y\"]"], json!({"x": 1, "Y": 1}), false),
        (
            &["allowed_parameters = { x = [\"a\"] }", "allowed_parameters = { x = [\"b\"] y = [] }"],
            json!({"x": "a"}),
            true,
        ),
        (
            &["allowed_parameters = { x = [\"a\"] }", "allowed_parameters = { x = [\"b\"] y = [] }"],
            json!({"x": "c"}),
            false,
        ),
        (
            &["allowed_parameters = { x = [\"a\"] }", "allowed_parameters = { x = [\"b\"] y = [] }"],
            json!({"y": "c"}),
            true,
        ),
        (
            &["allowed_parameters = { x = [\"a\"] }", "allowed_parameters = { x = [] }"],
            json!({"x": "c"}),
            true,
        ),
        (&["allowed_parameters = { x = [\"a\"] }", ""], json!({"x": "c"}), false),
        (
            &["denied_parameters = { x = [\"a\"] }", "denied_parameters = { x = [\"b\"] }"],
            json!({"x": "b"}),
            false,
        ),
        (&["required_parameters = [\"x\"]", "required_parameters = [\"y\"]"], json!({"x": 1}), false),
        // Here we differ: the peer takes no number for another.
        (&["allowed_parameters = { x = [1, 2.5] }"], json!({"x": 1}), true),
        (&["denied_parameters = { x = [1, 2.5] }"], json!({"x": 2.5}), false),
        (&["denied_parameters = { x = [1] }"], json!({"x": "1"}), true),
    ];
    for (rules, body, expected) in cases {
        assert_eq!(try_parameters(rules, body), *expected, "{body} under {rules:?}");
    }
}

#[test]
fn every_occurrence_of_a_parameter_is_judged() {
    let acl = acl(&["path \"a\" { capabilities = [\"update\"] allowed_parameters = { x = [\"good\"] } }"]);
    let query = [("x".to_owned(), "bad".to_owned())];
    let check = |body: &str, query| {
        acl.check(Operation::Update, "a", Parameters { body: body.as_bytes(), query }, None).is_ok()
    };
    assert!(check(r#"{"x": "good"}"#, &[]));
    assert!(!check(r#"{"x": "good", "x": "bad"}"#, &[]));
    assert!(!check(r#"{"x": "bad", "x": "good"}"#, &[]));
    assert!(!check(r#"{"x": "good"}"#, &query));
    assert!(!check("not json", &[]));
    assert!(!check("[1]", &[]));
}

#[test]
fn wrapping_bounds_require_wrapping() {
    let base = |rest: &str| format!("path \"a\" {{ capabilities = [\"read\"] {rest} }}");
    let both = base("min_wrapping_ttl = \"10s\" max_wrapping_ttl = 20");
    let check = |texts: &[&str], seconds: Option<u64>| {
        acl(texts)
            .check(Operation::Read, "a", Parameters::default(), seconds.map(Duration::from_secs))
            .is_ok()
    };
    for (seconds, expected) in [
        (None, false),
        (Some(0), false),
        (Some(5), false),
        (Some(10), true),
        (Some(20), true),
        (Some(21), false),
    ] {
        assert_eq!(check(&[&both], seconds), expected, "{seconds:?}");
    }
    assert!(check(&[&base("min_wrapping_ttl = 10")], Some(99)));
    assert!(!check(&[&base("max_wrapping_ttl = 10"), &base("")], None));
    assert!(check(&[&base("max_wrapping_ttl = \"-10s\"")], None));
    // Of two rules the smaller bounds stand, at both ends.
    assert!(check(&[&base("min_wrapping_ttl = 20"), &base("min_wrapping_ttl = 10")], Some(12)));
    assert!(!check(&[&base("max_wrapping_ttl = 20"), &base("max_wrapping_ttl = 10")], Some(12)));
    assert!(!check(&[&base("max_wrapping_ttl = 5"), &base("min_wrapping_ttl = 10")], Some(7)));
}
