//! Policies as they are stored, and the access lists that are kept ready.

use chancery_storage::Memory;

use super::*;
use crate::token::tests::root_view;
use crate::token::{NewToken, TokenStore};

struct Bed {
    policies: Policies,
    tokens: TokenStore,
}

impl Bed {
    async fn open() -> Self {
        let root = root_view(&Memory::new()).await;
        let tokens = TokenStore::open(root.clone()).await.unwrap();
        Self { policies: Policies::open(root).await.unwrap(), tokens }
    }

    async fn write(&self, name: &str, text: &str) {
        let (_, replaced) = self.policies.read_to_replace(name).await.unwrap();
        assert!(self.policies.replace(&replaced, &record(name, text, 1)).await.unwrap());
    }

    async fn may_read(&self, new: &NewToken, path: &str) -> bool {
        let token = self.tokens.create(new.clone(), NOW).await.unwrap().entry;
        self.policies.acl(&token, NOW).await.unwrap().capabilities(path).contains(&"read")
    }
}

fn record(name: &str, text: &str, version: u64) -> PolicyRecord {
    PolicyRecord { name: name.to_owned(), text: text.to_owned(), version, ..PolicyRecord::default() }
}

fn with_policies(names: &[&str]) -> NewToken {
    NewToken { policies: names.iter().map(|name| (*name).to_owned()).collect(), ..NewToken::default() }
}

#[tokio::test]
async fn a_name_that_holds_other_names_has_nothing_of_theirs() {
    for joined in ["admin,default", "admin\ndefault", "admindefault", "default,admin", "admin,default\n\n\n"]
    {
        for joined_first in [false, true] {
            let bed = Bed::open().await;
            bed.write("admin", &rule("vault=read")).await;
            let mut tokens =
                [(with_policies(&["admin", "default"]), true), (with_policies(&[joined]), false)];
            if joined_first {
                tokens.reverse();
            }
            for (new, expected) in &tokens {
                assert_eq!(bed.may_read(new, "vault").await, *expected, "{joined:?} {joined_first}");
            }
        }
    }
}

#[tokio::test]
async fn a_list_with_templates_serves_only_the_identity_that_it_was_made_for() {
    let bed = Bed::open().await;
    let name = rule("of/{{identity.entity.aliases.acc.name}}=read");
    let team = rule("team/{{identity.entity.aliases.acc.metadata.team}}=read");
    bed.write("own", &format!("{name}\n{team}")).await;
    for _ in 0..2 {
        for (name, team) in [("bob", "red"), ("eve", "red"), ("bob", "blue")] {
            let new = NewToken {
                entity_id: "same".to_owned(),
                alias: Some(("acc".to_owned(), name.to_owned())),
                meta: Some(BTreeMap::from([("team".to_owned(), team.to_owned())])),
                ..with_policies(&["own"])
            };
            for other in ["bob", "eve"] {
                let path = format!("of/{other}");
                assert_eq!(bed.may_read(&new, &path).await, other == name, "{name} {team} {path}");
            }
            for other in ["red", "blue"] {
                let path = format!("team/{other}");
                assert_eq!(bed.may_read(&new, &path).await, other == team, "{name} {team} {path}");
            }
        }
    }
}

#[tokio::test]
async fn metadata_that_a_token_chose_for_its_child_opens_nothing() {
    let bed = Bed::open().await;
    bed.write("own", &rule("team/{{identity.entity.aliases.acc.metadata.team}}=read")).await;
    for (path, expected) in [("auth/approle/login", true), ("auth/token/create", false)] {
        let new = NewToken {
            path: path.to_owned(),
            entity_id: "same".to_owned(),
            alias: Some(("acc".to_owned(), "bob".to_owned())),
            meta: Some(BTreeMap::from([("team".to_owned(), "red".to_owned())])),
            ..with_policies(&["own"])
        };
        assert_eq!(bed.may_read(&new, "team/red").await, expected, "{path}");
    }
}

#[tokio::test]
async fn of_two_writers_who_read_the_same_only_the_first_writes() {
    let bed = Bed::open().await;
    let read = async |name: &str| bed.policies.read_to_replace(name).await.unwrap();
    // One that is not there, and one that is built in.
    for name in ["fresh", DEFAULT] {
        for version in [1, 2] {
            let ((_, first), (_, second)) = (read(name).await, read(name).await);
            assert!(bed.policies.replace(&first, &record(name, "", version)).await.unwrap());
            assert!(!bed.policies.replace(&second, &record(name, "", 7)).await.unwrap());
            assert_eq!(bed.policies.read(name).await.unwrap().unwrap().version, version, "{name}");
        }
        let (_, replaced) = read(name).await;
        bed.policies.delete(name).await.unwrap();
        assert!(!bed.policies.replace(&replaced, &record(name, "", 7)).await.unwrap());
    }
}
