//! The floors of ARCHITECTURE.md as a test: an import may only point to a crate that is named here.

use std::process::Command;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::report::Step;
use crate::root;
use crate::tally::Tally;
use crate::tools::must;

/// Each crate from the ground up, with all that it may import of ours (tests may also use the test kit).
const FLOORS: &[(&str, &[&str])] = &[
    ("issuance", &[]),
    ("storage", &[]),
    ("api", &[]),
    ("client", &["api"]),
    ("kubernetes", &["client", "api", "issuance"]),
    ("secrets", &["issuance", "storage", "api"]),
    ("server", &["secrets", "storage", "api"]),
    ("controller", &["kubernetes", "client", "api", "issuance"]),
    ("mesh", &["kubernetes", "client", "api", "issuance"]),
    (
        "cli",
        &["issuance", "storage", "api", "client", "kubernetes", "secrets", "server", "controller", "mesh"],
    ),
    (
        "testkit",
        &["issuance", "storage", "api", "client", "kubernetes", "secrets", "server", "controller", "mesh"],
    ),
];

/// Reads `cargo metadata` and reports every import that points up.
pub(crate) fn run() -> Result<Tally> {
    let step = Step::begin("layers");
    let metadata = must(
        Command::new("cargo").args(["metadata", "--format-version=1", "--no-deps"]).current_dir(root()),
        "reading cargo metadata",
    )?;
    let wrong = upward(&serde_json::from_str(&metadata)?).context("cargo metadata has another form")?;
    let mut tally = Tally::default();
    step.end(if wrong.is_empty() { "ok" } else { "FAIL" }, "");
    if wrong.is_empty() {
        tally.pass();
    }
    for sentence in wrong {
        tally.fail(sentence);
    }
    Ok(tally)
}

fn upward(metadata: &Value) -> Option<Vec<String>> {
    let floor = |name: &str| {
        let name = if name == "chancery" { "cli" } else { name.strip_prefix("chancery-")? };
        FLOORS.iter().find(|(floor, _)| *floor == name)
    };
    let mut wrong = Vec::new();
    for package in metadata.get("packages")?.as_array()? {
        let Some((name, allowed)) = floor(package.get("name")?.as_str()?) else { continue };
        for dependency in package.get("dependencies")?.as_array()? {
            let Some((import, _)) = floor(dependency.get("name")?.as_str()?) else { continue };
            let in_tests = dependency.get("kind")?.as_str() == Some("dev");
            let is_allowed = allowed.contains(import) || (in_tests && *import == "testkit");
            if !is_allowed {
                wrong.push(format!("{name} imports {import}; it may import only {allowed:?}"));
            }
        }
    }
    Some(wrong)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::upward;

    #[test]
    fn an_import_that_points_up_is_named() {
        let package = |name, import, kind: Option<&str>| {
            json!({ "packages": [{ "name": name, "dependencies": [
                { "name": import, "kind": kind }, { "name": "serde", "kind": null },
            ]}]})
        };
        let down = package("chancery-secrets", "chancery-storage", None);
        let up = package("chancery-issuance", "chancery-secrets", None);
        let test = package("chancery-issuance", "chancery-testkit", Some("dev"));
        assert_eq!(upward(&down), Some(vec![]));
        assert_eq!(upward(&test), Some(vec![]));
        assert_eq!(upward(&up), Some(vec!["issuance imports secrets; it may import only []".to_owned()]));
    }
}
