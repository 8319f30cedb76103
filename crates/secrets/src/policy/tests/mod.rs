use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::request::Operation;

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

fn policy(text: &str) -> Policy {
    Policy::parse("test", text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn acl(texts: &[&str]) -> Acl {
    let policies: Vec<_> = texts.iter().map(|text| policy(text)).collect();
    Acl::new(&policies, &Identity::default(), NOW).expect("no templates")
}

/// `path=a,b` as a policy.
fn rule(short: &str) -> String {
    let (path, capabilities) = short.split_once('=').expect("path=capabilities");
    let capabilities: Vec<_> = capabilities.split(',').filter(|name| !name.is_empty()).collect();
    format!("path \"{path}\" {{ capabilities = {} }}", json!(capabilities))
}

fn short(rules: &[&str]) -> Acl {
    let texts: Vec<_> = rules.iter().map(|short| rule(short)).collect();
    acl(&texts.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Rules in short form, and what OpenBao 2.7.2 answered to `sys/capabilities` for each path.
#[test]
fn priority_table() {
    type Case = (&'static [&'static str], &'static [(&'static str, &'static str)]);
    let table: &[Case] = &[
        // Exact paths. The question is asked as for a listing, where the last slash may be missing.
        (
            &["a/b=read"],
            &[
                ("a/b", "read"),
                ("a/b/", "read"),
                ("a", "deny"),
                ("a/", "deny"),
                ("a/b/c", "deny"),
                ("/a/b", "read"),
                ("a//b", "deny"),
                ("A/b", "deny"),
            ],
        ),
        (&["a/b/=read"], &[("a/b", "deny"), ("a/b/", "read"), ("a/b/c", "deny")]),
        (&["/a=read"], &[("a", "read"), ("/a", "read")]),
        (&["=read"], &[("a", "deny"), ("/", "read")]),
        // Prefixes.
        (&["a/*=read"], &[("a", "deny"), ("a/", "read"), ("a/b", "read"), ("a/b/c", "read"), ("ab", "deny")]),
        (&["a*=read"], &[("a", "read"), ("a/", "read"), ("ab", "read"), ("b", "deny")]),
        (&["*=read"], &[("a", "read"), ("/", "read"), ("a/b", "read"), ("sys/x", "read")]),
        (&["a**=read"], &[("a", "deny"), ("ab", "deny"), ("a*", "read"), ("a*b", "read")]),
        (&["a*b=read"], &[("a*b", "read"), ("axb", "deny"), ("a", "deny")]),
        (&["*a=read"], &[("*a", "read"), ("ba", "deny"), ("a", "deny")]),
        // Segments.
        (
            &["a/+=read"],
            &[
                ("a", "deny"),
                ("a/", "read"),
                ("a/b", "read"),
                ("a/b/", "read"),
                ("a/b/c", "deny"),
                ("a//", "read"),
            ],
        ),
        (
            &["a/+/c=read"],
            &[("a/b/c", "read"), ("a//c", "read"), ("a/b/c/", "read"), ("a/b/c/d", "deny"), ("a/b", "deny")],
        ),
        (
            &["a/+/c/*=read"],
            &[("a/b/c", "deny"), ("a/b/c/", "read"), ("a/b/c/d", "read"), ("a/b/c/d/e", "read")],
        ),
        (&["a/+/c*=read"], &[("a/b/c", "read"), ("a/b/cd", "read"), ("a/b/c/d", "read"), ("a/b/x", "deny")]),
        (&["+/b=read"], &[("a/b", "read"), ("b", "deny"), ("/b", "deny"), ("a/b/", "read")]),
        (&["+=read"], &[("a", "read"), ("a/", "read"), ("a/b", "deny"), ("/", "read")]),
        (&["+/*=read"], &[("a", "deny"), ("a/", "read"), ("a/b", "read"), ("a/b/c", "read")]),
        (&["+/+=read"], &[("a/b", "read"), ("a/", "read"), ("a/b/", "read")]),
        (&["a/+b=read"], &[("a/+b", "read"), ("a/xb", "deny")]),
        (&["a+=read"], &[("a+", "read"), ("ab", "deny")]),
        (&["a/+b/*=read"], &[("a/+b/c", "read"), ("a/xb/c", "deny")]),
        (&["a/+/=read"], &[("a/b", "deny"), ("a/b/", "read")]),
        (&["a/+/*b=read"], &[("a/x/*b", "read"), ("a/x/yb", "deny"), ("a/x/", "deny")]),
        // Which of several decides.
        (
            &["a/b=read", "a/*=update", "a/+=delete", "*=list"],
            &[("a/b", "read"), ("a/c", "delete"), ("a/c/", "update"), ("a/c/d", "update"), ("b", "list")],
        ),
        (&["a/b=read", "a/*=update"], &[("a/b", "read"), ("a/b/", "read")]),
        (&["a/b/=read", "a/b=update"], &[("a/b", "update"), ("a/b/", "read")]),
        (&["a/b*=read", "a/+=delete"], &[("a/bc", "read"), ("a/b", "read"), ("a/c", "delete")]),
        (&["a/*=read", "a/+=delete"], &[("a/b", "delete"), ("a/b/c", "read")]),
        (&["a/*=read", "+/b=delete"], &[("a/b", "read")]),
        (&["a/*=read", "a/+/c=delete"], &[("a/b/c", "delete"), ("a/b/d", "read")]),
        (&["a/b/*=read", "a/+/c=delete"], &[("a/b/c", "read")]),
        (&["a/+/*=read", "a/*=delete"], &[("a/b", "delete"), ("a/b/c", "delete")]),
        (&["a/+/c=read", "a/+/*=delete"], &[("a/b/c", "read"), ("a/b/d", "delete")]),
        (&["a/+/c=read", "+/b/c=delete"], &[("a/b/c", "read")]),
        (&["+/+/c=read", "+/b/+=delete"], &[("a/b/c", "delete")]),
        (&["a/+/+=read", "a/+/c=delete"], &[("a/b/c", "delete")]),
        (&["a/+/+/d=read", "a/+/c/+=delete"], &[("a/b/c/d", "delete")]),
        (&["a/+/c/+=read", "a/+/+/d=delete"], &[("a/b/c/d", "read")]),
        (&["+/b/c*=read", "+/b/*=delete"], &[("a/b/cd", "read"), ("a/b/c/d", "read")]),
        (&["a/+/c*=read", "a/+/cd=delete"], &[("a/b/cd", "delete"), ("a/b/cde", "read")]),
        (&["a/+/*=read", "a/+/+=delete"], &[("a/b/c", "delete")]),
        (&["a/+/*=read", "a/+/+/d=delete"], &[("a/b/c/d", "delete")]),
        (&["a/+/+/*=read", "a/+/c/*=delete"], &[("a/b/c/d", "delete")]),
        (&["a/+/+/d*=read", "a/+/c*=delete"], &[("a/b/c/d", "delete")]),
        (&["a/+/c/d*=read", "a/+/+/d=delete"], &[("a/b/c/d", "delete")]),
        (&["a/+/+/*=read", "a/+/bcd*=delete"], &[("a/x/bcd/e", "delete"), ("a/x/bcde/e", "delete")]),
        (&["a*=read", "+/b=delete"], &[("a/b", "read"), ("ab/b", "read")]),
        (&["*=read", "+/b=delete"], &[("a/b", "delete")]),
        (&["*=read", "+=delete"], &[("a", "delete")]),
        (&["a/+=read", "a/*=update"], &[("a/b", "read"), ("a/b/", "update")]),
        (&["a/+=read", "*=update"], &[("a/b", "read"), ("a/b/", "update")]),
        (&["a/+/=read", "a/*=update"], &[("a/b", "update"), ("a/b/", "read")]),
        (&["a/+b*=read", "a/*=update"], &[("a/+bc", "read"), ("a/b", "update")]),
        (&["a/+b=read", "a/+/=update", "a/+=delete"], &[("a/+b", "read"), ("a/b", "delete")]),
        (&["a/x+y/+=deny", "a/x*=read"], &[("a/x+y/d", "deny"), ("a/xy/d", "read")]),
        // Rules for the same path add up; deny takes all.
        (&["a/b=read", "a/b=update,sudo"], &[("a/b", "read,sudo,update")]),
        (&["a/*=read", "a/*=deny"], &[("a/b", "deny")]),
        (&["a/+/c=read", "a/+/c=deny"], &[("a/b/c", "deny")]),
        (&["a/+/c=deny", "a/+/*=read"], &[("a/b/c", "deny"), ("a/b/d", "read")]),
        (&["a/b=deny", "a/b=read,sudo"], &[("a/b", "deny")]),
        (&["a/*=deny", "a/b=read"], &[("a/b", "read"), ("a/c", "deny")]),
        (&["a/b=read,deny"], &[("a/b", "deny")]),
        (&["a/b="], &[("a/b", "deny")]),
        (&["*=read", "a/b="], &[("a/b", "deny")]),
        (
            &["a/b=create,read,update,patch,delete,list,scan,sudo"],
            &[("a/b", "create,delete,list,patch,read,scan,sudo,update")],
        ),
    ];
    for (rules, answers) in table {
        let acl = short(rules);
        for (path, expected) in *answers {
            assert_eq!(acl.capabilities(path).join(","), *expected, "{path} under {rules:?}");
        }
    }
}

/// The order above once more, the slow way: every match of every rule, and the greatest of them.
fn slowly(rules: &[String], path: &str) -> Option<usize> {
    let path = path.trim_start_matches('/');
    let trimmed = path.strip_suffix('/');
    let strip = |rule: &str| rule.strip_prefix('/').unwrap_or(rule).to_owned();
    let rules: Vec<_> = rules.iter().map(|rule| strip(rule)).collect();
    let wild =
        |rule: &str| rule.ends_with('*') || rule == "+" || rule.starts_with("+/") || rule.contains("/+");
    let exact = |path: &str| rules.iter().position(|rule| !wild(rule) && rule == path);
    let fits = |rule: &str, path: &str| {
        let (text, prefix) = rule.strip_suffix('*').map_or((rule, false), |text| (text, true));
        let (parts, segments): (Vec<_>, Vec<_>) = (text.split('/').collect(), path.split('/').collect());
        (parts.len() == segments.len() || prefix && parts.len() < segments.len())
            && parts.iter().zip(&segments).enumerate().all(|(index, (part, segment))| {
                *part == "+"
                    || part == segment
                    || prefix && index + 1 == parts.len() && segment.starts_with(part)
            })
    };
    let pattern = |path: &str| {
        let matching = rules.iter().enumerate().filter(|(_, rule)| wild(rule) && fits(rule, path));
        let best = matching.max_by_key(|(index, rule)| {
            let text = rule.strip_suffix('*').unwrap_or(rule);
            let head = text.find('+').unwrap_or(text.len());
            let wildcards = text.split('/').filter(|part| *part == "+").count();
            // Of equal paths the first, as they are merged anyway.
            (
                head,
                !rule.ends_with('*'),
                usize::MAX - wildcards,
                text.len(),
                text.to_owned(),
                usize::MAX - index,
            )
        });
        best.map(|(index, _)| index)
    };
    exact(path)
        .or_else(|| trimmed.and_then(exact))
        .or_else(|| pattern(path))
        .or_else(|| trimmed.and_then(pattern))
}

fn any_path() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec!["a", "b", "ab", "abc", "", "x+y"]);
    prop::collection::vec(segment, 1..5).prop_map(|segments| segments.join("/"))
}

fn any_rule() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec!["a", "b", "ab", "abc", "+", "+", "+b", ""]);
    let segments = prop::collection::vec(segment, 1..5).prop_map(|segments| segments.join("/"));
    (segments, any::<bool>())
        .prop_map(|(path, glob)| if glob { format!("{path}*") } else { path })
        .prop_filter("+* is forbidden", |path| !path.contains("+*"))
}

fn any_capabilities() -> impl Strategy<Value = Vec<&'static str>> {
    prop::collection::vec(prop::sample::select(vec!["read", "list", "update", "create", "sudo"]), 0..4)
}

proptest! {
    #[test]
    fn the_table_finds_what_the_slow_way_finds(
        rules in prop::collection::vec(any_rule(), 0..12),
        paths in prop::collection::vec(any_path(), 1..12),
    ) {
        // Each rule gets a parameter of its own as a mark. Equal paths keep the first one's.
        let policies: Vec<_> = rules.iter().enumerate().map(|(index, path)| {
            policy(&format!("path \"{path}\" {{ capabilities = [\"list\"] required_parameters = [\"{index}\"] }}"))
        }).collect();
        for path in paths {
            let expected = slowly(&rules, &path);
            let single = expected.map(|index| {
                let same = |other: &&Policy| other.rules[0].path == policies[index].rules[0].path;
                Acl::new(policies.iter().filter(same), &Identity::default(), NOW).unwrap()
            });
            let all = Acl::new(&policies, &Identity::default(), NOW).unwrap();
            let marks = |acl: &Acl| {
                let query: Vec<_> = (0..rules.len()).map(|index| (index.to_string(), String::new())).collect();
                (0..rules.len()).filter(|index| {
                    let without: Vec<_> = query.iter().filter(|(name, _)| *name != index.to_string()).cloned().collect();
                    // Listings ignore parameters; ask as a read at the same place.
                    let parameters = Parameters { body: b"", query: &without };
                    acl.check(Operation::Read, &path, parameters, None).is_err()
                }).count()
            };
            let expected_names = single.as_ref().map_or(vec!["deny"], |acl| acl.capabilities(&path));
            prop_assert_eq!(all.capabilities(&path), expected_names, "{} {:?}", path, rules);
            if let Some(single) = single {
                prop_assert_eq!(marks(&all), marks(&single), "{} {:?}", path, rules);
            }
        }
    }

    #[test]
    fn adding_a_deny_never_widens(
        rules in prop::collection::vec((any_rule(), any_capabilities()), 0..8),
        denied in any_rule(),
        path in any_path(),
    ) {
        let mut policies: Vec<_> = rules.iter().map(|(path, capabilities)| {
            policy(&format!("path \"{path}\" {{ capabilities = {} }}", json!(capabilities)))
        }).collect();
        let before = Acl::new(&policies, &Identity::default(), NOW).unwrap();
        policies.push(policy(&format!("path \"{denied}\" {{ capabilities = [\"deny\"] }}")));
        let after = Acl::new(&policies, &Identity::default(), NOW).unwrap();
        for operation in [Operation::Read, Operation::List, Operation::Update, Operation::Create, Operation::Delete] {
            let allowed = |acl: &Acl| acl.check(operation, &path, Parameters::default(), None);
            if let Ok(grant) = allowed(&after) {
                let earlier = allowed(&before);
                prop_assert!(earlier.is_ok(), "{} {} {:?} + {}", operation, path, rules, denied);
                prop_assert!(!grant.sudo || earlier.unwrap().sudo);
            }
        }
    }

    #[test]
    fn no_policy_text_panics(text in "(path|\"|\\{|\\}|a|=|\\[|\\]|capabilities|\\+|\\*|/| |1|,|\\{\\{|\\}\\})*") {
        if let Ok(policy) = Policy::parse("x", &text) {
            let _ = Acl::new([&policy], &Identity::default(), NOW);
        }
    }
}

#[test]
fn slashes_at_the_end_matter_except_in_listings() {
    let cases = [
        ("a/b=list,read,scan", [true, true, true, false]),
        ("a/b/=list,read,scan", [false, true, false, true]),
        ("a/+=list,read,scan", [true, true, true, false]),
        ("a/+/=list,read,scan", [false, true, false, true]),
    ];
    for (rule, [list, list_slash, read, read_slash]) in cases {
        let acl = short(&[rule]);
        let ok = |operation, path| acl.check(operation, path, Parameters::default(), None).is_ok();
        for operation in [Operation::List, Operation::Scan] {
            assert_eq!(ok(operation, "a/b"), list, "{rule}");
            assert_eq!(ok(operation, "a/b/"), list_slash, "{rule}");
        }
        assert_eq!(ok(Operation::Read, "a/b"), read, "{rule}");
        assert_eq!(ok(Operation::Read, "a/b/"), read_slash, "{rule}");
    }
}

#[test]
fn each_operation_needs_its_own_capability() {
    use Operation::{Create, Delete, Help, List, Patch, Read, Scan, Update};
    let operations = [Read, Create, Update, Patch, Delete, List, Scan];
    for granted in operations {
        let acl = short(&[&format!("a={granted}")]);
        for asked in operations {
            let answer = acl.check(asked, "a", Parameters::default(), None);
            assert_eq!(answer.is_ok(), asked == granted, "{asked} with {granted}");
        }
        assert!(acl.check(Help, "anywhere", Parameters::default(), None).is_ok());
    }
    let grant = short(&["a=read,sudo"]).check(Read, "a", Parameters::default(), None).expect("granted");
    assert!(grant.sudo);
    assert_eq!(short(&["a=sudo"]).check(Read, "a", Parameters::default(), None), Err(Denied));
}

#[test]
fn root_may_do_everything_and_other_policies_beside_it_take_nothing_away() {
    let deny = policy(&rule("*=deny"));
    let root = Policy::parse(ROOT, "").expect("empty");
    let acl = Acl::new([&deny, &root], &Identity::default(), NOW).expect("no templates");
    assert!(acl.check(Operation::Delete, "a", Parameters::default(), None).expect("granted").sudo);
    assert_eq!(acl.capabilities("a"), ["root"]);
    assert_eq!(Acl::root().capabilities("a"), ["root"]);
}

#[test]
fn old_and_new_forms_add_up() {
    let cases = [
        ("policy = \"write\"", "create,delete,list,read,update"),
        ("policy = \"sudo\"", "create,delete,list,read,sudo,update"),
        ("policy = \"read\"", "list,read"),
        ("policy = \"deny\"", "deny"),
        ("policy = \"\"", "deny"),
        ("policy = \"read\" capabilities = [\"update\"]", "list,read,update"),
        ("policy = \"deny\" capabilities = [\"update\"]", "deny"),
        ("capabilities = [\"read\"] capabilities = [\"update\"]", "read,update"),
        ("policy = \"read\" policy = \"write\"", "create,delete,list,read,update"),
        ("capabilities {}", "deny"),
    ];
    for (body, expected) in cases {
        assert_eq!(
            acl(&[&format!("path \"a\" {{ {body} }}")]).capabilities("a").join(","),
            expected,
            "{body}"
        );
    }
    let json = r#"{"path": {"a": {"policy": "read"}, "b/*": {"capabilities": ["sudo", "read"]}}}"#;
    assert_eq!(acl(&[json]).capabilities("a").join(","), "list,read");
    assert_eq!(acl(&[json]).capabilities("b/c").join(","), "read,sudo");
    assert_eq!(acl(&["path \"a\" \"b\" { policy = \"read\" }"]).capabilities("a").join(","), "list,read");
    assert_eq!(acl(&["path { policy = \"read\" }"]).capabilities("path").join(","), "list,read");
}

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
        ("path \"a\" { capabilities = [\"bogus\"] }", "path \"a\": invalid capability \"bogus\""),
        ("path \"a\" { capabilities = [\"READ\"] }", "path \"a\": invalid capability \"READ\""),
        ("path \"a\" { capabilities = [1] }", "path \"a\": invalid capability \"1\""),
        (
            "path \"a\" { capabilities = \"read\" }",
            "path \"a\": At 1:27: capabilities must be a list of strings",
        ),
        (
            "path \"a\" { capabilities = [true] }",
            "path \"a\": At 1:28: capabilities must be a list of strings",
        ),
        ("path \"a\" { policy = \"bogus\" }", "path \"a\": invalid policy \"bogus\""),
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

#[test]
fn expired_rules_count_for_nothing() {
    let rule = |seconds: i64, capability: &str| {
        format!("path \"a\" {{ capabilities = [\"{capability}\"] expiration = {seconds} }}")
    };
    let now = NOW.as_second();
    let texts = [rule(now, "deny"), rule(now + 60, "read"), rule(now + 30, "update")];
    let acl = acl(&texts.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(acl.capabilities("a"), ["read", "update"]);
    assert_eq!(acl.valid_until(), Timestamp::from_second(now + 30).ok());
    let text = "path \"a\" { policy = \"read\" expiration = \"2000-01-01T00:00:00Z\" }";
    assert_eq!(
        Acl::new([&policy(text)], &Identity::default(), NOW).expect("no templates").capabilities("a"),
        ["deny"]
    );
}

#[test]
fn listings_are_limited() {
    let rule = |limit: i64| {
        format!("path \"a\" {{ capabilities = [\"list\", \"scan\"] pagination_limit = {limit} }}")
    };
    let check = |limits: &[i64], asked: Option<&str>| {
        let texts: Vec<_> = limits.iter().map(|limit| rule(*limit)).collect();
        let query: Vec<_> = asked.map(|asked| ("limit".to_owned(), asked.to_owned())).into_iter().collect();
        let acl = acl(&texts.iter().map(String::as_str).collect::<Vec<_>>());
        acl.check(Operation::List, "a", Parameters { body: b"", query: &query }, None)
            .map(|grant| grant.list_limit)
    };
    assert_eq!(check(&[2], None), Ok(Some(2)));
    assert_eq!(check(&[2], Some("2")), Ok(Some(2)));
    assert_eq!(check(&[2], Some("0")), Ok(Some(2)));
    for refused in ["3", "-1", "x"] {
        assert_eq!(check(&[2], Some(refused)), Err(Denied), "{refused}");
    }
    for limits in [[2, 3], [3, 2], [0, 2], [2, -1]] {
        assert_eq!(check(&limits, Some("3")), Err(Denied), "{limits:?}");
    }
    assert_eq!(check(&[-2], Some("99")), Ok(None));
}

#[test]
fn listings_show_only_what_may_be_used() {
    for template in
        ["{{ .path }}{{ .key }}", "{{.path}}{{.key}}", "{{- .path -}} {{- .key -}}", "a/{{ .key }}"]
    {
        let list = format!(
            "path \"a/\" {{ capabilities = [\"list\"] list_scan_response_keys_filter_path = \"{template}\" }}"
        );
        for (rule, expected) in [
            (rule("a/b=read"), vec!["b"]),
            (rule("a/b=list"), vec!["b/"]),
            (rule("a/+=read"), vec!["b", "d"]),
            (rule("a/+=list"), vec!["b/"]),
            (rule("a/+=update"), vec![]),
        ] {
            let acl = acl(&[&list, &rule]);
            let grant = acl.check(Operation::List, "a/", Parameters::default(), None).expect("granted");
            let filter = grant.keys_filter.expect("filtered");
            let shown: Vec<_> =
                ["b", "b/", "d"].into_iter().filter(|key| acl.shows(&filter, "a/", key)).collect();
            assert_eq!(shown, expected, "{template} {rule}");
        }
    }
    for refused in ["{{ .path }}", "abc", "{{ .x }}", "{{ .key", "{{ .key | len }}"] {
        let text =
            format!("path \"a\" {{ policy = \"read\" list_scan_response_keys_filter_path = \"{refused}\" }}");
        assert!(Policy::parse("x", &text).is_err(), "{refused}");
    }
}

fn someone() -> Identity {
    let text = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    Identity {
        entity: Some(Entity {
            id: "e1".into(),
            name: "bobby".into(),
            metadata: text(&[
                ("team", "red"),
                ("star", "a*"),
                ("plus", "+"),
                ("slash", "x/y"),
                ("empty", ""),
            ]),
            aliases: vec![Alias {
                mount_accessor: "auth_userpass_1".into(),
                id: "a1".into(),
                name: "bob".into(),
                metadata: text(&[("k", "v1")]),
                custom_metadata: text(&[("k", "v2")]),
            }],
        }),
        groups: vec![Group { id: "g1".into(), name: "devs.eu".into(), metadata: text(&[("k", "v3")]) }],
    }
}

#[test]
fn templates_take_the_values_of_the_identity() {
    let cases = [
        ("identity.entity.id", Some("e1")),
        (" identity.entity.name ", Some("bobby")),
        ("identity.entity.metadata.team", Some("red")),
        ("identity.entity.metadata.empty", Some("")),
        ("identity.entity.metadata.none", None),
        ("identity.entity.aliases.auth_userpass_1.id", Some("a1")),
        ("identity.entity.aliases.auth_userpass_1.name", Some("bob")),
        ("identity.entity.aliases.auth_userpass_1.metadata.k", Some("v1")),
        ("identity.entity.aliases.auth_userpass_1.custom_metadata.k", Some("v2")),
        ("identity.entity.aliases.other.name", None),
        ("identity.groups.ids.g1.name", Some("devs.eu")),
        ("identity.groups.ids.g1.metadata.k", Some("v3")),
        ("identity.groups.names.devs.eu.id", Some("g1")),
        ("identity.groups.names.nobody.id", None),
        ("identity.entity.NAME", None),
        ("identity.bogus", None),
        ("time.now", None),
        ("", None),
    ];
    for (template, value) in cases {
        let policy = policy(&format!("path \"x/{{{{{template}}}}}/z\" {{ policy = \"read\" }}"));
        assert!(policy.is_templated());
        let acl = Acl::new([&policy], &someone(), NOW).expect("harmless");
        let place = value.map(|value| format!("x/{value}/z"));
        assert_eq!(
            acl.capabilities(place.as_deref().unwrap_or("x//z"))[0],
            if value.is_some() { "list" } else { "deny" }
        );
        let nobody = Acl::new([&policy], &Identity::default(), NOW).expect("harmless");
        assert_eq!(nobody.capabilities(place.as_deref().unwrap_or("x//z")), ["deny"], "{template}");
    }
}

#[test]
fn an_identity_cannot_bring_wildcards_into_a_path() {
    for (key, value) in [("star", '*'), ("plus", '+'), ("slash", '/')] {
        let text = format!("path \"x/{{{{identity.entity.metadata.{key}}}}}\" {{ policy = \"read\" }}");
        let error = Acl::new([&policy(&text)], &someone(), NOW).expect_err(key).to_string();
        assert!(
            error.ends_with(&format!("template substitution contains forbidden value: \"{value}\"")),
            "{error}"
        );
        let lax = policy(&text).with_substitution(Substitution { wildcards: true, slashes: true });
        assert!(Acl::new([&lax], &someone(), NOW).is_ok());
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

#[test]
fn a_check_stays_cheap_among_thousands_of_rules() {
    let mut text = String::new();
    for index in 0..2000 {
        use std::fmt::Write as _;
        let _ = write!(text, "path \"team{index}/pki/sign/*\" {{ policy = \"write\" }} ");
        let _ = write!(
            text,
            "path \"team{index}/+/issue\" {{ policy = \"write\" }} path \"x{index}\" {{ policy = \"read\" }} "
        );
    }
    let acl = acl(&[&text]);
    let rounds = 20_000_u32;
    let start = std::time::Instant::now();
    for index in 0..rounds {
        let path = if index % 2 == 0 { "team1234/pki/sign/role" } else { "team999/mount/issue" };
        assert!(
            acl.check(Operation::Update, std::hint::black_box(path), Parameters::default(), None).is_ok()
        );
    }
    // A scan of six thousand rules would take far longer, even optimised. A release build needs well
    // under a microsecond.
    let each = start.elapsed() / rounds;
    assert!(each < Duration::from_micros(50), "{each:?} for one check");
}
