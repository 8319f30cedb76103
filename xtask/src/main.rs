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

/// One line of the list: name, arguments, what it is for, and the function behind it.
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
        arguments: "[--keep]",
        purpose: "the founding walkthrough on a fresh store, ending in a verified certificate",
        run: cargo::demo,
    },
    Task {
        name: "bench",
        arguments: "[scale|mesh|controller] [--quick] [--only=ours|peer] [--profile=P] [--no-build] [filter]",
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
        println!("cargo xtask TASK\n");
        for task in TASKS {
            println!("  {:7} {:64} {}", task.name, task.arguments, task.purpose);
        }
        return ExitCode::SUCCESS;
    };
    match find(name).and_then(|task| (task.run)(rest)) {
        Ok(tally) => tally.conclude(),
        Err(error) => {
            eprintln!("cargo xtask {name}: {error:#}");
            ExitCode::FAILURE
        }
    }
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
