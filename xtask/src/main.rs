//! Every task a developer runs, so that a fresh machine needs nothing but Rust.
//!
//! `cargo xtask` alone prints the list below. CI calls the same tasks and nothing else.
//!
//! - [`cargo`] runs the checks and the test suites that Cargo knows, and counts their results.
//! - [`tools`] installs other people's clients, pinned, under the target folder.
//! - [`target`] starts and stops a server: ours or the peer (OpenBao).
//! - [`compat`] runs `compat/suites/*` step by step against such a server.
//! - [`bench`] and [`load`] measure both servers side by side.
//! - [`layers`] checks that imports point down the floors of ARCHITECTURE.md.

mod bench;
mod cargo;
mod compat;
mod http;
mod layers;
mod load;
mod report;
mod tally;
mod target;
mod tools;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::tally::Tally;

/// One line of the list: name, arguments, what it is for, and the function behind it. An option that is not among the
/// arguments is refused.
struct Task {
    name: &'static str,
    arguments: &'static str,
    purpose: &'static str,
    run: fn(&[String]) -> Result<Tally>,
}

const TASKS: &[Task] = &[
    Task {
        name: "check",
        arguments: "",
        purpose: "before every push: format, lints, layers, licences, unit tests",
        run: |_| cargo::check(),
    },
    Task {
        name: "test",
        arguments: "",
        purpose: "everything, other people's clients included; what CI runs",
        run: |_| cargo::test(),
    },
    Task {
        name: "compat",
        arguments: "[suite…] [--against peer] [--dev] [--keep] [--minutes N]",
        purpose: "other people's clients against our release binary (or against the peer)",
        run: compat::run,
    },
    Task {
        name: "envtest",
        arguments: "",
        purpose: "the Kubernetes scenarios with the kube-apiserver and etcd in KUBEBUILDER_ASSETS",
        run: |_| cargo::envtest(),
    },
    Task {
        name: "demo",
        arguments: "[--keep] [--with-envoy] [--address=A] [--format=F] [--no-color]",
        purpose: "the founding walkthrough on a fresh store, ending in a verified certificate",
        run: cargo::demo,
    },
    Task {
        name: "bench",
        arguments: "[scale|mesh|controller] [--quick] [--only=ours|peer] [--profile=P] [--no-build] [--certificates=N] \
                    [--peer-certificates=N] [--workloads=N] [--within=SECONDS] [--burst=N] [--secrets=N] [filter]",
        purpose: "this server and OpenBao side by side, as a table for docs/performance.md; `scale`: with a full store; `mesh`: the certificate service; `controller`: the one of a cluster",
        run: bench::run,
    },
    Task {
        name: "gen",
        arguments: "[proto|crds]",
        purpose: "write golden files, snapshots and transcripts anew from the code; with proto, the code of .proto files; with crds, the CRDs",
        run: |arguments| match arguments {
            [only] if only == "proto" => cargo::generate_proto(),
            [only] if only == "crds" => cargo::generate_crds(),
            _ => cargo::generate(),
        },
    },
    Task {
        name: "fuzz",
        arguments: "[seconds] [target…]",
        purpose: "each fuzz target for so many seconds (10)",
        run: cargo::fuzz,
    },
    Task {
        name: "layers",
        arguments: "",
        purpose: "imports between our crates point down the floors of ARCHITECTURE.md",
        run: |_| layers::run(),
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        return list(TASKS);
    };
    if asks_for_help(name) {
        return list(TASKS);
    }
    let done = find(name).and_then(|task| {
        if rest.iter().any(|argument| asks_for_help(argument)) {
            list([task]);
            return Ok(Tally::default());
        }
        if let Some(unknown) = task.unknown_option(rest) {
            bail!("there is no option {unknown}; there are {}", task.arguments);
        }
        (task.run)(rest)
    });
    match done {
        Ok(tally) => tally.conclude(),
        Err(error) => {
            eprintln!("cargo xtask {name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Task {
    /// The first option that is not among the arguments. One dash or two are the same, as for the program itself.
    fn unknown_option<'a>(&self, given: &'a [String]) -> Option<&'a str> {
        let given = given.iter().map(|option| option.split('=').next().unwrap_or(option));
        given.filter(|option| option.starts_with('-')).find(|option| {
            let name = option.trim_start_matches('-');
            !self.arguments.split(['[', ']', '=', ' ']).any(|known| known.strip_prefix("--") == Some(name))
        })
    }
}

fn asks_for_help(argument: &str) -> bool {
    matches!(argument, "help" | "-h" | "-help" | "--help")
}

fn list(tasks: impl IntoIterator<Item = &'static Task>) -> ExitCode {
    println!("cargo xtask TASK\n");
    for task in tasks {
        println!("  {:7} {}", task.name, task.purpose);
        if !task.arguments.is_empty() {
            println!("          {}", task.arguments);
        }
    }
    ExitCode::SUCCESS
}

fn find(name: &str) -> Result<&'static Task> {
    match TASKS.iter().find(|task| task.name == name) {
        Some(task) => Ok(task),
        None => {
            let names: Vec<&str> = TASKS.iter().map(|task| task.name).collect();
            bail!("there is no such task; there are {}", names.join(", "))
        }
    }
}

/// The folder that holds the workspace's `Cargo.toml`: by Cargo's word when it started us, else where we were built.
pub(crate) fn root() -> PathBuf {
    let ours = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&ours).parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Cargo's target folder: `CARGO_TARGET_DIR`, else `target` in the workspace.
pub(crate) fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_no_task_knows_is_refused() {
        let unknown = |task, given: &str| {
            let given: Vec<String> = given.split(' ').map(str::to_owned).collect();
            find(task).unwrap().unknown_option(&given).map(str::to_owned)
        };
        assert_eq!(unknown("bench", "mesh --no-build --workloads=100 --within=1"), None);
        assert_eq!(unknown("bench", "--quik"), Some("--quik".into()));
        assert_eq!(unknown("bench", "--work=1"), Some("--work".into()));
        assert_eq!(unknown("demo", "-with-envoy"), None);
        assert_eq!(unknown("compat", "kill9 --minutes 3 --against=peer"), None);
        assert_eq!(unknown("layers", "--verbose"), Some("--verbose".into()));
    }
}
