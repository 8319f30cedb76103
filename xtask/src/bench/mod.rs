//! This server and OpenBao side by side: same machine, same minute, same client, same keys and roles, both on
//! durable storage (ours embedded, OpenBao on raft), HTTP without TLS, no audit device.
//!
//! Each figure is taken from one server and then at once from the other, which is stopped meanwhile. The CSR is the one that Istio's agent
//! makes by default: an RSA-2048 key, no subject, one SPIFFE name. The machine's raw signature rate is measured
//! with openssl before, as the ceiling.

mod controller;
mod mesh;
mod scale;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::cargo::build_binary;
use crate::compat::binary;
use crate::load::{CONNECTIONS, JSON, Outcome, Work, run as load};
use crate::report::{Step, heading};
use crate::tally::Tally;
use crate::target::{Kind, Server};
use crate::tools::{Tools, must};

/// A row of the table: its name and what ratio the project promises.
struct Figure {
    name: &'static str,
    target: Option<f64>,
    work: fn(&Subject) -> Work,
}

const RSA_STORED: &str = "sign, RSA-2048 issuer, stored";

const FIGURES: &[Figure] = &[
    Figure {
        name: "sign, P-256 issuer, stored",
        target: Some(10.0),
        work: |s| s.sign("ec", "cluster-local"),
    },
    Figure { name: "sign, P-256 issuer, no_store", target: None, work: |s| s.sign("ec", "not-stored") },
    Figure { name: RSA_STORED, target: Some(6.0), work: |s| s.sign("rsa", "cluster-local") },
    Figure { name: "sign, RSA-2048 issuer, no_store", target: None, work: |s| s.sign("rsa", "not-stored") },
    Figure { name: "issue, P-256 key and issuer", target: None, work: |s| s.issue("issue-ec") },
    Figure { name: "issue, RSA-2048 key, P-256 issuer", target: None, work: |s| s.issue("issue-rsa") },
    Figure { name: "AppRole login", target: Some(8.0), work: Subject::login },
    Figure { name: "GET ca/pem", target: Some(4.0), work: |_| Subject::ca() },
];

/// Measures and prints the table.
pub(crate) fn run(arguments: &[String]) -> Result<Tally> {
    match arguments.split_first() {
        Some((first, rest)) if first == "scale" => return scale::run(rest),
        Some((first, rest)) if first == "mesh" => return mesh::run(rest),
        Some((first, rest)) if first == "controller" => return controller::run(rest),
        _ => {}
    }
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let only = arguments.iter().find_map(|argument| match argument.as_str() {
        "--only=ours" => Some(Kind::Chancery),
        "--only=peer" => Some(Kind::OpenBao),
        _ => None,
    });
    let profile =
        arguments.iter().find_map(|argument| argument.strip_prefix("--profile=")).unwrap_or("release");
    let filter = arguments.iter().find(|argument| !argument.starts_with('-')).map_or("", String::as_str);
    let (warm_up, time) = if quick { (300, 2_000) } else { (2_000, 10_000) };

    if only != Some(Kind::OpenBao) && !arguments.iter().any(|argument| argument == "--no-build") {
        build_binary(profile)?;
    }
    let tools = Tools::install()?;
    let raw = if only.is_none() {
        heading("raw signature rates of this machine");
        Some(RawRates::measure()?)
    } else {
        None
    };

    heading("setting up");
    let folder = tempfile::Builder::new().prefix("bench-").tempdir()?;
    let keys = Material::make(folder.path())?;
    let mut subjects = Vec::new();
    for (kind, program) in [(Kind::Chancery, binary(profile)), (Kind::OpenBao, tools.bao())] {
        if only.is_some_and(|only| only != kind) {
            continue;
        }
        let step = Step::begin(kind.name());
        let place = folder.path().join(kind.name());
        fs::create_dir_all(&place)?;
        subjects.push(Subject::set_up(Server::durable(kind, &program, &place)?, &keys)?);
        step.end("ok", "");
    }

    heading("measuring");
    let mut rows = Vec::new();
    for figure in FIGURES.iter().filter(|figure| figure.name.contains(filter)) {
        let mut outcomes = Vec::new();
        for subject in &subjects {
            let step = Step::begin(format!("{}: {}", figure.name, subject.server.kind.name()));
            let work = (figure.work)(subject);
            let alone = Alone::make(subject, &subjects)?;
            let outcome =
                load(&subject.server.api, &work, Duration::from_millis(warm_up), Duration::from_millis(time))
                    .with_context(|| format!("{}: {}", subject.server.kind.name(), figure.name))?;
            drop(alone);
            step.end("ok", &format!("{:.0}/s", outcome.per_second));
            outcomes.push(outcome);
        }
        rows.push((figure, outcomes));
    }
    let ours = subjects.iter().find(|subject| subject.server.kind == Kind::Chancery);
    let shares = match (ours, RSA_STORED.contains(filter)) {
        (Some(ours), true) => shares_of_openssl(ours, &subjects, quick)?,
        _ => Vec::new(),
    };
    let ends = subjects.iter_mut().map(Subject::end).collect::<Result<Vec<End>>>()?;
    print(&rows, &ends, raw.as_ref(), &shares, time)?;
    Ok(Tally::default())
}

/// RSA-2048 with storage as a share of what openssl signs on all cores, measured in turns, since what else the machine
/// does changes within minutes: sorted, so that the median stands in the middle.
fn shares_of_openssl(ours: &Subject, subjects: &[Subject], quick: bool) -> Result<Vec<f64>> {
    let (turns, warm_up, time) = if quick { (3, 300, 2_000) } else { (9, 500, 4_000) };
    let step = Step::begin(format!("{RSA_STORED}: in turns with openssl"));
    let (cores, work) = (std::thread::available_parallelism()?.get(), ours.sign("rsa", "cluster-local"));
    let mut shares = Vec::new();
    for _ in 0..turns {
        let _alone = Alone::make(ours, subjects)?;
        let [openssl] = openssl_speed(cores, [("rsa2048", "rsa 2048")])?;
        let outcome =
            load(&ours.server.api, &work, Duration::from_millis(warm_up), Duration::from_millis(time))?;
        shares.push(outcome.per_second / openssl);
    }
    shares.sort_unstable_by(f64::total_cmp);
    step.end("ok", "");
    Ok(shares)
}

/// What `openssl speed` signs in a second with so many processes: for each the name of the algorithm, and how its line begins.
fn openssl_speed<const N: usize>(processes: usize, algorithms: [(&str, &str); N]) -> Result<[f64; N]> {
    openssl_column(processes, algorithms, 1)
}

/// How many P-256 signatures `openssl speed` verifies in a second with so many processes.
fn openssl_verifies(processes: usize) -> Result<f64> {
    openssl_column(processes, [("ecdsap256", "256 bits ecdsa")], 0).map(|[rate]| rate)
}

/// A column of its table, counted from the last.
fn openssl_column<const N: usize>(
    processes: usize,
    algorithms: [(&str, &str); N],
    column: usize,
) -> Result<[f64; N]> {
    let mut command = Command::new("openssl");
    command.args(["speed", "-seconds", "2", "-multi", &processes.to_string()]);
    command.args(algorithms.map(|(name, _)| name));
    let output = must(&mut command, "openssl speed")?;
    let mut rates = [0.0; N];
    for (rate, (name, start)) in rates.iter_mut().zip(algorithms) {
        let line = output.lines().map(str::trim).find(|line| line.starts_with(start));
        let field = line.and_then(|line| line.split_whitespace().rev().nth(column));
        *rate = field.and_then(|field| field.parse().ok()).with_context(|| format!("no line for {name}"))?;
    }
    Ok(rates)
}

/// The processors and the disk belong to the server that is measured: the others are stopped, and what they and
/// earlier figures left to be written back is written. Dropped, it lets the others go on.
struct Alone<'a> {
    stopped: Vec<&'a Server>,
}

impl<'a> Alone<'a> {
    fn make(measured: &Subject, subjects: &'a [Subject]) -> Result<Self> {
        let others = subjects.iter().map(|subject| &subject.server);
        let stopped = others.filter(|server| server.kind != measured.server.kind).collect::<Vec<_>>();
        for server in &stopped {
            server.signal("STOP")?;
        }
        must(&mut Command::new("sync"), "writing back what earlier figures wrote")?;
        Ok(Self { stopped })
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        for server in &self.stopped {
            // A server that cannot go on fails when it is asked next.
            let _ = server.signal("CONT");
        }
    }
}

/// Keys, certificates and the CSR that both servers are given.
struct Material {
    /// Intermediate certificate, its key and the root, for each kind of issuer.
    bundles: Vec<(&'static str, String)>,
    csr: String,
}

impl Material {
    fn make(folder: &Path) -> Result<Self> {
        let script = r#"
            set -e
            ca="-addext basicConstraints=critical,CA:true -addext keyUsage=critical,keyCertSign,cRLSign"
            for kind in ec rsa; do
                case $kind in
                    ec) new="ec -pkeyopt ec_paramgen_curve:P-256" ;;
                    rsa) new="rsa:2048" ;;
                esac
                openssl req -x509 -newkey $new -nodes -keyout $kind-root.key -out $kind-root.crt -days 3650 -subj /CN=root $ca
                openssl req -x509 -CA $kind-root.crt -CAkey $kind-root.key -newkey $new -nodes -keyout $kind.key \
                    -out $kind.crt -days 1825 -subj /CN=istioca $ca
            done
            openssl req -new -newkey rsa:2048 -nodes -keyout leaf.key -out leaf.csr -subj / \
                -addext subjectAltName=URI:spiffe://cluster.local/ns/foo/sa/sleep
        "#;
        // `req -x509 -CA` needs OpenSSL 3, which the suites need anyway.
        must(Command::new("bash").args(["-c", script]).current_dir(folder), "making the keys")?;
        let read =
            |name: String| fs::read_to_string(folder.join(&name)).with_context(|| format!("reading {name}"));
        let mut bundles = Vec::new();
        for kind in ["ec", "rsa"] {
            let parts = [format!("{kind}.crt"), format!("{kind}.key"), format!("{kind}-root.crt")];
            bundles.push((kind, parts.into_iter().map(read).collect::<Result<Vec<String>>>()?.concat()));
        }
        Ok(Self { bundles, csr: read("leaf.csr".to_owned())? })
    }
}

/// A server with mounts, roles and an AppRole, ready to be measured.
struct Subject {
    server: Server,
    csr: String,
    role_id: String,
    secret_id: String,
}

/// The state of a server after the run.
struct End {
    kind: Kind,
    resident: u64,
    peak: u64,
    start: Duration,
    start_and_unseal: Duration,
}

impl Subject {
    fn set_up(server: Server, material: &Material) -> Result<Self> {
        let api = server.api.clone();
        let write = |path: &str, body: Value| {
            api.call("POST", path, Some(&body)).with_context(|| format!("setting up {}", server.kind.name()))
        };
        for (kind, bundle) in &material.bundles {
            let mount = format!("pki-{kind}");
            write(
                &format!("sys/mounts/{mount}"),
                json!({ "type": "pki", "config": { "max_lease_ttl": "43800h" } }),
            )?;
            let made = write(&format!("{mount}/config/ca"), json!({ "pem_bundle": bundle }))?;
            // Only the intermediate has a key; the root that came with it is a second issuer.
            let mapping = made.pointer("/data/mapping").and_then(Value::as_object).context("no mapping")?;
            let intermediate = mapping
                .iter()
                .find_map(|(issuer, key)| key.as_str().is_some_and(|key| !key.is_empty()).then_some(issuer))
                .context("the imported key belongs to no issuer")?;
            write(&format!("{mount}/config/issuers"), json!({ "default": intermediate }))?;
            for (role, no_store) in [("cluster-local", false), ("not-stored", true)] {
                write(
                    &format!("{mount}/roles/{role}"),
                    json!({
                        "allowed_domains": "svc", "allow_subdomains": true, "max_ttl": "720h", "require_cn": false,
                        "allowed_uri_sans": "spiffe://cluster.local/*", "no_store": no_store,
                    }),
                )?;
            }
        }
        for (role, key_type, key_bits) in [("issue-ec", "ec", 256), ("issue-rsa", "rsa", 2048)] {
            write(
                &format!("pki-ec/roles/{role}"),
                json!({
                    "allowed_domains": "svc", "allow_subdomains": true, "max_ttl": "720h",
                    "key_type": key_type, "key_bits": key_bits,
                }),
            )?;
        }
        write("sys/auth/approle", json!({ "type": "approle" }))?;
        let policy = "path \"pki-ec/sign/cluster-local\" { capabilities = [\"update\"] }";
        write("sys/policies/acl/cert-manager", json!({ "policy": policy }))?;
        let role = "auth/approle/role/cert-manager";
        write(role, json!({ "token_policies": "cert-manager", "token_ttl": "1h", "token_max_ttl": "4h" }))?;
        let text = |value: &Value, at: &str| value.pointer(at).and_then(Value::as_str).map(str::to_owned);
        let role_id = text(&api.call("GET", &format!("{role}/role-id"), None)?, "/data/role_id");
        let secret_id = text(&write(&format!("{role}/secret-id"), json!({}))?, "/data/secret_id");
        Ok(Self {
            server,
            csr: material.csr.clone(),
            role_id: role_id.context("no role_id")?,
            secret_id: secret_id.context("no secret_id")?,
        })
    }

    fn sign(&self, issuer: &str, role: &str) -> Work {
        Work {
            method: "POST",
            path: format!("pki-{issuer}/sign/{role}"),
            media: JSON,
            body: json!({ "csr": self.csr }).to_string().into_bytes(),
            holds: "-----BEGIN CERTIFICATE-----",
        }
    }

    fn issue(&self, role: &str) -> Work {
        Work {
            method: "POST",
            path: format!("pki-ec/issue/{role}"),
            media: JSON,
            body: json!({ "common_name": "sleep.foo.svc" }).to_string().into_bytes(),
            holds: "PRIVATE KEY-----",
        }
    }

    fn login(&self) -> Work {
        Work {
            method: "POST",
            path: "auth/approle/login".to_owned(),
            media: JSON,
            body: json!({ "role_id": self.role_id, "secret_id": self.secret_id }).to_string().into_bytes(),
            holds: "client_token",
        }
    }

    fn ca() -> Work {
        Work {
            method: "GET",
            path: "pki-ec/ca/pem".to_owned(),
            media: JSON,
            body: Vec::new(),
            holds: "-----BEGIN CERTIFICATE-----",
        }
    }

    fn end(&mut self) -> Result<End> {
        let memory = |field| self.server.memory(field).context("the server must still run");
        let (resident, peak) = (memory("VmRSS")?, memory("VmHWM")?);
        let begin = self.server.restart()?;
        let start = begin.elapsed();
        self.server.unseal()?;
        let answer = self.server.api.send("GET", "pki-ec/ca/pem", None)?;
        if answer.0 != 200 {
            bail!("{} does not serve after its restart: {answer:?}", self.server.kind.name());
        }
        Ok(End { kind: self.server.kind, resident, peak, start, start_and_unseal: begin.elapsed() })
    }
}

/// Signatures per second by `openssl speed`, with one process and with one for each core.
struct RawRates {
    cores: usize,
    one: [f64; 2],
    all: [f64; 2],
}

impl RawRates {
    fn measure() -> Result<Self> {
        let cores = std::thread::available_parallelism()?.get();
        let rates = |processes: usize| -> Result<[f64; 2]> {
            let step = Step::begin(format!("openssl speed, {processes} at a time"));
            let rates = openssl_speed(processes, [("rsa2048", "rsa 2048"), ("ecdsap256", "256 bits ecdsa")])?;
            step.end("ok", "");
            Ok(rates)
        };
        Ok(Self { cores, one: rates(1)?, all: rates(cores)? })
    }
}

fn print(
    rows: &[(&Figure, Vec<Outcome>)],
    ends: &[End],
    raw: Option<&RawRates>,
    shares: &[f64],
    time: u64,
) -> Result<()> {
    let first_line = |program: &str, arguments: &[&str]| must(Command::new(program).args(arguments), program);
    let today = first_line("date", &["-u", "+%Y-%m-%d"])?;
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
    println!(
        "\n{}, {} × {}; {} connections, {:.0} s for each figure.\n",
        today.trim(),
        std::thread::available_parallelism()?,
        model.trim_start_matches(['\t', ' ', ':']),
        CONNECTIONS,
        Duration::from_millis(time).as_secs_f64()
    );
    if let Some(raw) = raw {
        println!(
            "| raw signatures per second (openssl) | one process | {} processes |\n| --- | ---: | ---: |",
            raw.cores
        );
        for (name, one, all) in [("RSA-2048", raw.one[0], raw.all[0]), ("P-256", raw.one[1], raw.all[1])] {
            println!("| {name} | {one:.0} | {all:.0} |");
        }
    }
    let first = ends.first().map_or("", |end| end.kind.name());
    println!(
        "\n| figure | {first} /s | openbao /s | ratio | wanted | p50 ms | openbao | p99 ms | openbao | p99 ratio |"
    );
    println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for (figure, outcomes) in rows {
        let wanted = figure.target.map_or(String::new(), |target| format!("{target:.0} ×"));
        if let [ours, rest @ ..] = outcomes.as_slice() {
            let peer = rest.first();
            println!(
                "| {} | {:.0} | {} | {} | {wanted} | {:.1} | {} | {:.1} | {} | {} |",
                figure.name,
                ours.per_second,
                or_dash(peer, |peer| format!("{:.0}", peer.per_second)),
                or_dash(peer, |peer| format!("{:.1} ×", ours.per_second / peer.per_second)),
                milliseconds(ours.p50),
                or_dash(peer, |peer| format!("{:.1}", milliseconds(peer.p50))),
                milliseconds(ours.p99),
                or_dash(peer, |peer| format!("{:.1}", milliseconds(peer.p99))),
                or_dash(peer, |peer| format!("{:.2}", ours.p99.as_secs_f64() / peer.p99.as_secs_f64())),
            );
        }
    }
    println!(
        "\n| after the run | resident MiB | peak MiB | start to first answer, ms | start, unseal, serve, ms |"
    );
    println!("| --- | ---: | ---: | ---: | ---: |");
    for end in ends {
        println!(
            "| {} | {:.0} | {:.0} | {:.0} | {:.0} |",
            end.kind.name(),
            end.resident as f64 / 1024.0,
            end.peak as f64 / 1024.0,
            milliseconds(end.start),
            milliseconds(end.start_and_unseal)
        );
    }
    if let Ok(file) = fs::metadata(binary("release")) {
        println!("\nRelease binary: {:.2} MB.", file.len() as f64 / 1e6);
    }
    if let Some(median) = shares.get(shares.len() / 2) {
        let turns: Vec<String> = shares.iter().map(|share| format!("{:.0}", share * 100.0)).collect();
        println!(
            "RSA-2048, stored: {:.0} % of what openssl signs on all cores, in the median of the turns: {} (70 % wanted).",
            median * 100.0,
            turns.join(", ")
        );
    }
    Ok(())
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn or_dash(peer: Option<&Outcome>, text: impl Fn(&Outcome) -> String) -> String {
    peer.map_or_else(|| "–".to_owned(), text)
}
