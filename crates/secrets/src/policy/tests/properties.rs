//! The table against a slow way to the same answer, and texts at random.

use super::*;

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
