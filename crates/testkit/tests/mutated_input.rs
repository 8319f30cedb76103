//! What strangers send may be refused, but nothing that they send ends in a panic.
//!
//! A little of what `cargo xtask fuzz` does, on any compiler: a number of inputs that is the same on every machine, or as
//! many as fit into `CHANCERY_FUZZ_SECONDS` for each parser.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chancery_testkit::mutate::{Dice, mutate};
use chancery_testkit::parsers::{ALL, Parser};

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz")
}

/// Names of what a folder holds, without extensions.
fn names_in(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

fn seeds(name: &str) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(fuzz().join("seeds").join(name)).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).unwrap()).collect()
}

fn try_one(parser: &Parser, input: &[u8]) {
    if catch_unwind(AssertUnwindSafe(|| (parser.parse)(input))).is_err() {
        panic!("{} panics at b\"{}\"", parser.name, input.escape_ascii());
    }
}

fn throw_at(name: &str) {
    let parser = ALL.iter().find(|parser| parser.name == name).unwrap();
    let seeds = seeds(name);
    for seed in &seeds {
        try_one(parser, seed);
    }
    let mut dice = Dice::new(1);
    let enough = enough(parser);
    for round in 0.. {
        if enough(round) {
            return;
        }
        let seed = &seeds[round % seeds.len()];
        let other = &seeds[dice.below(seeds.len())];
        try_one(parser, &mutate(seed, other, &mut dice));
    }
}

/// When a parser has seen enough: after its rounds, or after so many seconds as `CHANCERY_FUZZ_SECONDS` says.
fn enough(parser: &Parser) -> Box<dyn Fn(usize) -> bool> {
    let seconds = std::env::var("CHANCERY_FUZZ_SECONDS").ok().map(|text| text.parse().unwrap());
    let (rounds, start) = (parser.rounds, Instant::now());
    match seconds.map(Duration::from_secs) {
        Some(time) => Box::new(move |_| start.elapsed() >= time),
        None => Box::new(move |round| round >= rounds),
    }
}

macro_rules! no_mutated_input_panics {
    ($($name:ident),* $(,)?) => {
        mod no_mutated_input_panics {
            $(#[test] fn $name() { super::throw_at(stringify!($name)); })*
        }

        #[test]
        fn every_parser_has_a_test_a_fuzz_target_and_seeds() {
            let parsers: BTreeSet<String> = ALL.iter().map(|parser| parser.name.to_owned()).collect();
            assert_eq!(parsers, BTreeSet::from([$(stringify!($name).to_owned()),*]));
            assert_eq!(parsers, names_in(&fuzz().join("fuzz_targets")));
            assert_eq!(parsers, names_in(&fuzz().join("seeds")));
            assert!(parsers.iter().all(|name| !seeds(name).is_empty()));
        }
    };
}

no_mutated_input_panics!(
    acme_jws,
    admission_review,
    cel,
    certificate,
    config,
    crl,
    csr,
    duration,
    envoy_dump,
    forwarded,
    hcl,
    http_request,
    json_fields,
    mesh_answer,
    mesh_csr,
    mesh_token,
    names,
    ocsp,
    overlay,
    overlay_path,
    path,
    pem_bundle,
    pipeline,
    policy,
    private_key,
    serial,
    shares,
    token,
    unseal_key,
);

#[test]
fn the_same_dice_make_the_same_inputs_and_most_differ_from_their_seed() {
    let inputs = |seed| {
        let mut dice = Dice::new(seed);
        (0..100).map(|_| mutate(b"some seed", b"another", &mut dice)).collect::<Vec<_>>()
    };
    assert_eq!(inputs(1), inputs(1));
    assert_ne!(inputs(1), inputs(2));
    assert!(inputs(1).iter().filter(|input| input.as_slice() != b"some seed").count() > 80);
}
