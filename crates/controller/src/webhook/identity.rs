//! Who made a CertificateRequest: written at its creation, and never changed.
//!
//! Approvers decide by it, so that nobody may write it but the webhook itself.

use chancery_kubernetes::cert_manager::CertificateRequestSpec;
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::field::{Errors, Path};
use super::review::{Operation, UserInfo};

/// Which of these members are there.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Members {
    #[serde(deserialize_with = "there")]
    username: bool,
    #[serde(deserialize_with = "there")]
    uid: bool,
    #[serde(deserialize_with = "there")]
    groups: bool,
    #[serde(deserialize_with = "there")]
    extra: bool,
}

fn there<'de, D: Deserializer<'de>>(value: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(value).map(|_| true)
}

/// The patch that writes the requester into the spec of a request that is being created.
pub(crate) fn patch(spec: Option<&RawValue>, user: &UserInfo) -> Vec<Operation> {
    // Without a spec there is nothing to write to, and the object is refused anyway.
    let spec = spec.map(RawValue::get).filter(|spec| spec.starts_with('{'));
    let Some(Ok(found)) = spec.map(serde_json::from_str::<Members>) else { return Vec::new() };
    let UserInfo { username, uid, groups, extra } = user;
    let mut patch = Vec::new();
    let mut set = |path: &'static str, is_there: bool, value: Value, is_empty: bool| {
        if !is_empty {
            patch.push(Operation::Add { path, value });
        } else if is_there {
            patch.push(Operation::Remove { path });
        }
    };
    set("/spec/username", found.username, json!(username), username.is_empty());
    set("/spec/uid", found.uid, json!(uid), uid.is_empty());
    set("/spec/groups", found.groups, json!(groups), groups.is_empty());
    set("/spec/extra", found.extra, json!(extra), extra.is_empty());
    patch
}

/// At creation: the requester that is written there is the requester.
pub(crate) fn check_create(spec: &CertificateRequestSpec, user: &UserInfo, errors: &mut Errors) {
    let path = Path::new("spec");
    let mut sorted = [spec.groups.clone(), user.groups.clone()];
    sorted.iter_mut().for_each(|groups| groups.sort_unstable());
    let [groups, asking] = sorted;
    for (name, is_right) in [
        ("username", spec.username.as_deref().unwrap_or_default() == user.username),
        ("uid", spec.uid.as_deref().unwrap_or_default() == user.uid),
        ("groups", groups == asking),
        ("extra", spec.extra == user.extra),
    ] {
        if !is_right {
            errors.forbidden(&path.child(name), &format!("{name} identity must be that of the requester"));
        }
    }
}

/// Later: it stays as it was.
pub(crate) fn check_update(old: &CertificateRequestSpec, new: &CertificateRequestSpec, errors: &mut Errors) {
    let path = Path::new("spec");
    for (name, is_same) in [
        ("username", old.username == new.username),
        ("uid", old.uid == new.uid),
        ("groups", old.groups == new.groups),
        ("extra", old.extra == new.extra),
    ] {
        if !is_same {
            errors.forbidden(&path.child(name), &format!("{name} identity cannot be changed once set"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn user() -> UserInfo {
        UserInfo {
            username: "system:serviceaccount:a:b".into(),
            uid: "u".into(),
            groups: vec!["g1".into(), "g2".into()],
            extra: BTreeMap::from([("k".into(), vec!["v".into()])]),
        }
    }

    fn spec() -> CertificateRequestSpec {
        let UserInfo { username, uid, groups, extra } = user();
        CertificateRequestSpec {
            username: Some(username),
            uid: Some(uid),
            groups,
            extra,
            ..CertificateRequestSpec::default()
        }
    }

    #[test]
    fn the_requester_is_written_over_whatever_stands_there() {
        let raw = |spec: Value| serde_json::value::to_raw_value(&spec).expect("JSON");
        let spec = raw(json!({ "username": "root", "extra": { "x": ["y"] } }));
        let patch = patch(Some(&spec), &UserInfo { extra: BTreeMap::new(), ..user() });
        assert_eq!(
            serde_json::to_value(patch).expect("JSON"),
            json!([
                { "op": "add", "path": "/spec/username", "value": "system:serviceaccount:a:b" },
                { "op": "add", "path": "/spec/uid", "value": "u" },
                { "op": "add", "path": "/spec/groups", "value": ["g1", "g2"] },
                { "op": "remove", "path": "/spec/extra" },
            ])
        );
        assert!(super::patch(Some(&raw(json!([]))), &user()).is_empty());
        assert!(super::patch(None, &user()).is_empty());
        assert!(super::patch(Some(&raw(json!({}))), &UserInfo::default()).is_empty());
        let null = super::patch(Some(&raw(json!({ "uid": null }))), &UserInfo::default());
        assert_eq!(null, [Operation::Remove { path: "/spec/uid" }]);
    }

    #[test]
    fn another_identity_than_the_requesters_is_refused() {
        let refusal = |change: fn(&mut CertificateRequestSpec)| {
            let mut spec = spec();
            change(&mut spec);
            let mut errors = Errors::default();
            check_create(&spec, &user(), &mut errors);
            errors.to_string()
        };
        assert_eq!(refusal(|spec| spec.groups.reverse()), "[]");
        for (change, name) in [
            ((|spec| spec.username = None) as fn(&mut CertificateRequestSpec), "username"),
            (|spec| spec.uid = Some("v".into()), "uid"),
            (|spec| spec.groups.push("system:masters".into()), "groups"),
            (|spec| spec.extra.clear(), "extra"),
        ] {
            assert_eq!(
                refusal(change),
                format!("spec.{name}: Forbidden: {name} identity must be that of the requester")
            );
        }
    }

    #[test]
    fn an_identity_does_not_change() {
        let mut errors = Errors::default();
        check_update(&spec(), &spec(), &mut errors);
        assert!(errors.is_empty());
        check_update(&spec(), &CertificateRequestSpec::default(), &mut errors);
        let text = errors.to_string();
        for name in ["username", "uid", "groups", "extra"] {
            let expected = format!("spec.{name}: Forbidden: {name} identity cannot be changed once set");
            assert!(text.contains(&expected), "{text}");
        }
    }
}
