//! Paths with a place for the caller's identity.

use super::*;

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
