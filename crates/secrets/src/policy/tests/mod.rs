mod capabilities;
mod listings;
mod parameters;
mod priority;
mod properties;
mod stored;
mod templates;
mod texts;

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
