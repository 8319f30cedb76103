//! The certificate service: how many certificates it gives out, whether a storm of renewals brings it down, and what an
//! agent costs. The signing server is durable, and all of it, the callers too, is on this machine.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::cargo::{build_binary, build_example};
use crate::compat::binary;
use crate::report::{Step, heading};
use crate::tally::Tally;
use crate::target::{Kind, Server, free_address};
use crate::tools::must;

/// Calls at a time of the measurement of the rate.
const STREAMS: &str = "64";
/// How often the rate is measured, since the machine's speed changes within minutes, and how long.
const TURNS: usize = 5;
const SECONDS: &str = "5";

/// One measurement of the rate, and what openssl verified just before.
struct Turn {
    per_second: f64,
    verifies: f64,
    p50: f64,
    p99: f64,
    failed: f64,
}

/// A process that ends with its value.
pub(super) struct Running(Child);

impl Running {
    pub(super) fn start(command: &mut Command, log: &Path) -> Result<Self> {
        let log = File::create(log)?;
        let child = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        Ok(Self(child.with_context(|| format!("starting {command:?}"))?))
    }

    /// Ends it at once.
    pub(super) fn kill(&mut self) {
        // Both fail only if the process is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// A field of `/proc/PID/status` in KiB.
    pub(super) fn memory(&self, field: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find(|line| line.starts_with(field)).context("no such field")?;
        Ok(line.split_whitespace().nth(1).context("no number")?.parse()?)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Measures and prints the table. `--workloads=N` and `--within=SECONDS` make another storm.
pub(super) fn run(arguments: &[String]) -> Result<Tally> {
    let given = |name: &str| {
        let prefix = format!("--{name}=");
        arguments.iter().find_map(|argument| argument.strip_prefix(prefix.as_str())).map(str::to_owned)
    };
    let workloads = given("workloads").unwrap_or_else(|| "20000".to_owned());
    let within = given("within").unwrap_or_else(|| "60".to_owned());
    if !arguments.iter().any(|argument| argument == "--no-build") {
        build_binary("release")?;
        build_example("chancery-mesh", "load", "load")?;
    }
    let program = binary("release");
    let load = binary("load").with_file_name("examples").join("load");
    let folder = tempfile::Builder::new().prefix("bench-mesh-").tempdir()?;
    let place = folder.path();

    heading("setting up");
    let step = Step::begin("a durable server with a P-256 authority");
    let server = Server::durable(Kind::Chancery, &program, place)?;
    authority(&server, place)?;
    must(
        Command::new(&program).args(["mesh", "dev-token", "-folder=tokens"]).current_dir(place),
        "making the keys of tokens",
    )?;
    step.end("ok", "");
    let service = Service::start(&program, &server, place)?;

    heading("measuring");
    let mut rows = Vec::new();
    let step = Step::begin("CreateCertificate");
    let cores = thread::available_parallelism()?.get();
    let mut turns = Vec::new();
    for _ in 0..TURNS {
        let verifies = super::openssl_verifies(cores)?;
        let told = service.load(&load, place, ["rate", STREAMS, SECONDS])?;
        let per_second = number(&told, "calls")? / SECONDS.parse::<f64>()?;
        turns.push(Turn {
            per_second,
            verifies,
            p50: number(&told, "p50_ms")?,
            p99: number(&told, "p99_ms")?,
            failed: number(&told, "failed")?,
        });
    }
    turns.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
    let median = turns.get(TURNS / 2).context("no turn")?;
    let each = |of: fn(&Turn) -> f64| {
        turns.iter().map(|turn| format!("{:.0}", of(turn))).collect::<Vec<_>>().join(", ")
    };
    let failed: f64 = turns.iter().map(|turn| turn.failed).sum();
    step.end("ok", &format!("{:.0}/s", median.per_second));
    rows.push((
        "CreateCertificate, P-256, 64 streams, the median turn",
        format!(
            "{:.0}/s, p50 {:.1} ms, p99 {:.1} ms; {failed} failed in all turns",
            median.per_second, median.p50, median.p99
        ),
    ));
    rows.push(("each turn", format!("{} /s", each(|turn| turn.per_second))));
    rows.push((
        "P-256 signatures that openssl verifies on all cores, before each",
        format!("{} /s", each(|turn| turn.verifies)),
    ));

    let step = Step::begin(format!("{workloads} workloads within {within} s"));
    let probing = Probing::start(service.probes);
    let told = service.load(&load, place, ["storm", &workloads, &within])?;
    let (probes, unready) = probing.end()?;
    step.end("ok", "");
    rows.push((
        "renewal storm",
        format!(
            "{} of {workloads} served in {:.0} s, {} failed, p99 {:.1} ms",
            number(&told, "calls")?,
            number(&told, "seconds")?,
            number(&told, "failed")?,
            number(&told, "p99_ms")?
        ),
    ));
    rows.push(("readiness meanwhile", format!("lost {unready} times in {probes} probes")));
    rows.push((
        "mesh ca, resident now, peak",
        format!(
            "{} MiB, {} MiB",
            service.process.memory("VmRSS")? / 1024,
            service.process.memory("VmHWM")? / 1024
        ),
    ));

    let step = Step::begin("an agent");
    let mut took = Vec::new();
    let mut resident = 0;
    for number in 0..5 {
        let (time, memory) = service.agent(&program, place, number)?;
        took.push(time);
        resident = memory.max(resident);
    }
    took.sort();
    let median = took.get(took.len() / 2).context("no agent")?.as_secs_f64() * 1e3;
    step.end("ok", "");
    rows.push(("agent: start to certificate and roots, with the round trip", format!("{median:.0} ms")));
    rows.push(("agent, resident", format!("{:.1} MiB", resident as f64 / 1024.0)));

    println!("\n| figure | measured |\n| --- | --- |");
    for (figure, measured) in rows {
        println!("| {figure} | {measured} |");
    }
    Ok(Tally::default())
}

/// A root outside, an intermediate in the server, a role, a policy and an AppRole.
pub(super) fn authority(server: &Server, place: &Path) -> Result<()> {
    let script = r#"
        set -e
        ca="-addext basicConstraints=critical,CA:true -addext keyUsage=critical,keyCertSign,cRLSign"
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout root.key -out root.crt -days 3650 -subj /CN=root $ca
        openssl req -x509 -CA root.crt -CAkey root.key -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key \
            -out ca.crt -days 1825 -subj /CN=istioca $ca
    "#;
    must(Command::new("bash").args(["-c", script]).current_dir(place), "making the keys")?;
    let read = |name: &str| fs::read_to_string(place.join(name)).with_context(|| format!("reading {name}"));
    let bundle = [read("ca.crt")?, read("ca.key")?, read("root.crt")?].concat();
    let api = &server.api;
    api.call(
        "POST",
        "sys/mounts/istioca",
        Some(&json!({ "type": "pki", "config": { "max_lease_ttl": "43800h" } })),
    )?;
    api.call("POST", "istioca/config/ca", Some(&json!({ "pem_bundle": bundle })))?;
    let role = json!({
        "allowed_domains": "svc", "allow_subdomains": true, "max_ttl": "720h", "require_cn": false,
        "allowed_uri_sans": "spiffe://cluster.local/*", "key_type": "any",
    });
    api.call("POST", "istioca/roles/cluster-local", Some(&role))?;
    api.call("POST", "sys/auth/approle", Some(&json!({ "type": "approle" })))?;
    let policy = "path \"istioca/sign/cluster-local\" { capabilities = [\"update\"] }";
    api.call("PUT", "sys/policies/acl/mesh", Some(&json!({ "policy": policy })))?;
    api.call(
        "POST",
        "auth/approle/role/mesh",
        Some(&json!({ "token_policies": "mesh", "token_ttl": "1h" })),
    )?;
    let text = |value: &Value, name: &str| -> Result<String> {
        let found = value.pointer(&format!("/data/{name}")).and_then(Value::as_str);
        Ok(found.with_context(|| format!("no {name} in the answer"))?.to_owned())
    };
    let id = api.call("GET", "auth/approle/role/mesh/role-id", None)?;
    fs::write(place.join("role-id"), text(&id, "role_id")?)?;
    let secret = api.call("POST", "auth/approle/role/mesh/secret-id", Some(&json!({})))?;
    fs::write(place.join("secret-id"), text(&secret, "secret_id")?)?;
    Ok(())
}

/// A certificate service that is ready.
struct Service {
    process: Running,
    serving: u16,
    probes: u16,
}

impl Service {
    fn start(program: &Path, server: &Server, place: &Path) -> Result<Self> {
        let step = Step::begin("a certificate service");
        let (serving, probes, metrics) =
            (free_address()?.port(), free_address()?.port(), free_address()?.port());
        let mut command = Command::new(program);
        command.args(["mesh", "ca"]).current_dir(place).env("VAULT_ADDR", server.url()).args([
            format!("-serving-address=127.0.0.1:{serving}"),
            format!("-readiness-probe-port={probes}"),
            format!("-metrics-port={metrics}"),
            "-serving-certificate-dns-names=istiod.istio-system.svc".to_owned(),
            "-root-ca-file=root.crt".to_owned(),
            "-jwks-file=tokens/jwks.json".to_owned(),
            "-jwks-issuer=https://kubernetes.default.svc.cluster.local".to_owned(),
            "-without-kubernetes".to_owned(),
            "-role-id-file=role-id".to_owned(),
            "-secret-id-file=secret-id".to_owned(),
        ]);
        let log = place.join("mesh-ca.log");
        let process = Running::start(&mut command, &log)?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while !ready(probes) {
            if Instant::now() > deadline {
                bail!(
                    "the certificate service is not ready:\n{}",
                    fs::read_to_string(&log).unwrap_or_default()
                );
            }
            sleep(Duration::from_millis(5));
        }
        step.end("ok", "");
        Ok(Self { process, serving, probes })
    }

    fn load(&self, load: &Path, place: &Path, what: [&str; 3]) -> Result<Value> {
        // As a batch: an answer that comes in does not throw the servers off a processor, as callers on machines of their
        // own would not.
        let mut command = Command::new("chrt");
        command.args(["--batch", "0"]).arg(load).arg(format!("127.0.0.1:{}", self.serving));
        command.args(["root.crt", "tokens"]).args(what);
        let told = must(command.current_dir(place), "calling the certificate service")?;
        serde_json::from_str(&told).with_context(|| format!("{told:?} is no JSON"))
    }

    /// Starts an agent: how long it takes until it has certificate and roots, and its resident memory in KiB.
    fn agent(&self, program: &Path, place: &Path, number: u32) -> Result<(Duration, u64)> {
        let output = place.join(format!("agent-{number}"));
        let account = format!("-service-account=agent-{number}");
        let mut command = Command::new(program);
        command.args(["mesh", "dev-token", "-folder=tokens", "-namespace=load", &account]);
        let token = must(command.current_dir(place), "making a token")?;
        fs::write(place.join("agent.token"), token)?;
        let mut command = Command::new(program);
        command.args(["mesh", "agent", "-namespace=load", &account]).current_dir(place).args([
            format!("-ca-address=localhost:{}", self.serving),
            "-ca-root-file=root.crt".to_owned(),
            "-token-file=agent.token".to_owned(),
            format!("-socket=agent-{number}.sock"),
            format!("-output-certs={}", output.display()),
        ]);
        let begin = Instant::now();
        let agent = Running::start(&mut command, &place.join("agent.log"))?;
        while !output.join("root-cert.pem").is_file() {
            if begin.elapsed() > Duration::from_secs(20) {
                bail!("the agent has no certificate:\n{}", fs::read_to_string(place.join("agent.log"))?);
            }
            sleep(Duration::from_micros(500));
        }
        let took = begin.elapsed();
        sleep(Duration::from_millis(500));
        Ok((took, agent.memory("VmRSS")?))
    }
}

/// Asks for readiness ten times a second.
struct Probing {
    stop: Arc<AtomicBool>,
    unready: Arc<AtomicUsize>,
    probes: thread::JoinHandle<usize>,
}

impl Probing {
    fn start(port: u16) -> Self {
        let (stop, unready) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (told, lost) = (Arc::clone(&stop), Arc::clone(&unready));
        let probes = thread::spawn(move || {
            let mut probes = 0;
            while !told.load(Ordering::Relaxed) {
                probes += 1;
                if !ready(port) {
                    lost.fetch_add(1, Ordering::Relaxed);
                }
                sleep(Duration::from_millis(100));
            }
            probes
        });
        Self { stop, unready, probes }
    }

    fn end(self) -> Result<(usize, usize)> {
        self.stop.store(true, Ordering::Relaxed);
        let Ok(probes) = self.probes.join() else { bail!("the probes ended early") };
        Ok((probes, self.unready.load(Ordering::Relaxed)))
    }
}

/// Whether `/readyz` answers 200 within a second.
pub(super) fn ready(port: u16) -> bool {
    let answer = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text.starts_with("HTTP/1.1 200"))
    };
    answer().unwrap_or(false)
}

pub(super) fn number(told: &Value, name: &str) -> Result<f64> {
    told.get(name).and_then(Value::as_f64).with_context(|| format!("no {name} in {told}"))
}
