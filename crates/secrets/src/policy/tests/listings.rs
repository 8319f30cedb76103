//! Limits and filters of listings.

use super::*;

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
