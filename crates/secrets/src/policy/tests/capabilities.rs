//! What each operation needs, and what root may.

use super::*;

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
