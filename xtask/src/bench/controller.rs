//! The controller of a cluster: how long a CertificateRequest waits, what a mesh that starts gets, what a large cluster costs,
//! and what a restart in it does. The API server is the double, in a process of its own; the signing server is durable.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use super::mesh::{Running, authority, number, ready};
use crate::cargo::{build_binary, build_example};
use crate::compat::binary;
use crate::report::{Step, heading};
use crate::tally::Tally;
use crate::target::{Kind, Server, free_address};
use crate::tools::must;

/// The controller is steady when nobody has asked the API server for anything for so long.
const STEADY: Duration = Duration::from_secs(3);

/// How many objects there are.
struct Sizes {
    idle: usize,
    burst: usize,
    certificates: usize,
    secrets: usize,
}

/// Measures and prints the table; with `--quick` a tenth of everything. `--certificates=N` and `--secrets=N` make another
/// cluster.
pub(super) fn run(arguments: &[String]) -> Result<Tally> {
    let given = |name: &str, usual: usize| -> Result<usize> {
        let prefix = format!("--{name}=");
        let found = arguments.iter().find_map(|argument| argument.strip_prefix(prefix.as_str()));
        found.map_or(Ok(usual), |number| number.parse().with_context(|| format!("--{name} is a number")))
    };
    let part = if arguments.iter().any(|argument| argument == "--quick") { 10 } else { 1 };
    let sizes = Sizes {
        idle: 200 / part,
        burst: given("burst", 5_000 / part)?,
        certificates: given("certificates", 10_000 / part)?,
        secrets: given("secrets", 50_000 / part)?,
    };
    if !arguments.iter().any(|argument| argument == "--no-build") {
        build_binary("release")?;
        build_example("chancery-controller", "cluster", "load")?;
    }
    let program = binary("release");
    let folder = tempfile::Builder::new().prefix("bench-controller-").tempdir()?;
    let place = folder.path();

    heading("setting up");
    let step = Step::begin("a durable server with a P-256 authority");
    let server = Server::durable(Kind::Chancery, &program, place)?;
    authority(&server, place)?;
    let csr = "openssl req -new -newkey rsa:2048 -nodes -keyout leaf.key -out leaf.csr -subj / \
        -addext subjectAltName=URI:spiffe://cluster.local/ns/foo/sa/sleep";
    must(Command::new("bash").args(["-c", csr]).current_dir(place), "making a CSR")?;
    step.end("ok", "");
    let step = Step::begin("a cluster, a controller, and a vault Issuer");
    let cluster = binary("load").with_file_name("examples").join("cluster");
    let mut cluster = Cluster::start(&cluster, place)?;
    let mut controller = Controller::start(&program, place)?;
    let read = |name: &str| fs::read_to_string(place.join(name)).with_context(|| format!("reading {name}"));
    let issuer = format!("issuer {} {} {}", server.url(), read("role-id")?.trim(), read("secret-id")?.trim());
    cluster.ask(&issuer)?;
    step.end("ok", "");

    heading("measuring");
    let mut rows = requests(&mut cluster, &server, &sizes)?;
    rows.extend(many_objects(&mut cluster, &controller, &server, &sizes)?);
    rows.extend(restart(&mut cluster, &mut controller, &program, place, &sizes)?);
    println!("\n| figure | measured |\n| --- | --- |");
    for (figure, measured) in rows {
        println!("| {figure} | {measured} |");
    }
    Ok(Tally::default())
}

type Rows = Vec<(String, String)>;

fn requests(cluster: &mut Cluster, server: &Server, sizes: &Sizes) -> Result<Rows> {
    let before = serials(server)?;
    cluster.ask("idle 20")?; // Warm: connections, the token, caches of the processor.
    let mut rows = Vec::new();
    for (figure, command) in [
        ("CertificateRequest created → certificate in its status, idle controller", "idle"),
        ("of that, the API server's own round trips (told by a watch, one write)", "round_trips"),
    ] {
        let step = Step::begin(figure);
        let told = cluster.ask(&format!("{command} {}", sizes.idle))?;
        let (p50, p99) = (number(&told, "p50_ms")?, number(&told, "p99_ms")?);
        step.end("ok", "");
        rows.push((figure.to_owned(), format!("p50 {p50:.1} ms, p99 {p99:.1} ms")));
    }
    let step = Step::begin(format!("{} CertificateRequests at once", sizes.burst));
    let told = cluster.ask(&format!("burst {}", sizes.burst))?;
    let (made, issued) = (number(&told, "made")?, number(&told, "issued")?);
    let per_second = sizes.burst as f64 / number(&told, "seconds")?;
    let signed = serials(server)?.saturating_sub(before);
    let lost = made - issued;
    let twice = signed as f64 - number(&told, "distinct")?;
    step.end(if lost == 0.0 && twice == 0.0 { "ok" } else { "FAIL" }, &format!("{per_second:.0}/s"));
    rows.push((
        format!("{} CertificateRequests at once", sizes.burst),
        format!("{per_second:.0}/s, {lost} lost, {twice} signed twice ({made} made since the start, {signed} serial numbers)"),
    ));
    Ok(rows)
}

fn many_objects(
    cluster: &mut Cluster,
    controller: &Controller,
    server: &Server,
    sizes: &Sizes,
) -> Result<Rows> {
    let Sizes { certificates, secrets, .. } = sizes;
    let before = serials(server)?;
    let step = Step::begin(format!("{secrets} unrelated Secrets"));
    cluster.ask(&format!("secrets {secrets}"))?;
    step.end("ok", "");
    let step = Step::begin(format!("{certificates} Certificates"));
    let told = cluster.ask(&format!("certificates {certificates}"))?;
    let (seconds, ready) = (number(&told, "seconds")?, number(&told, "ready")?);
    let signed = serials(server)?.saturating_sub(before);
    step.end("ok", &format!("{:.0}/s", ready / seconds));
    cluster.steady()?;
    // What was freed goes back to the system within seconds.
    sleep(Duration::from_secs(10));
    let memory = |field| Ok::<_, anyhow::Error>(controller.process.memory(field)? / 1024);
    Ok(vec![
        (
            format!("{certificates} Certificates, until all are ready"),
            format!("{seconds:.0} s ({:.0}/s), {ready} ready, {signed} certificates signed", ready / seconds),
        ),
        (
            format!("controller with them and {secrets} unrelated Secrets, resident now, peak"),
            format!("{} MiB, {} MiB", memory("VmRSS")?, memory("VmHWM")?),
        ),
    ])
}

fn restart(
    cluster: &mut Cluster,
    controller: &mut Controller,
    program: &Path,
    place: &Path,
    sizes: &Sizes,
) -> Result<Rows> {
    let step = Step::begin("a restart");
    let before = cluster.ask("counts")?;
    controller.process.kill();
    let begin = Instant::now();
    *controller = Controller::start(program, place)?;
    let started = begin.elapsed();
    let steady = cluster.steady()?.saturating_duration_since(begin);
    let after = cluster.ask("counts")?;
    let more = |name: &str| -> Result<f64> { Ok(number(&after, name)? - number(&before, name)?) };
    let (writes, issuances) = (more("writes")?, more("issuances")?);
    step.end(if issuances == 0.0 { "ok" } else { "FAIL" }, "");
    sleep(Duration::from_secs(5));
    let resident = controller.process.memory("VmRSS")? / 1024;
    Ok(vec![(
        format!("restart with {} Certificates", sizes.certificates),
        format!(
            "ready after {:.1} s, steady after {:.1} s, {issuances} issuances, {writes} writes, {resident} MiB resident",
            started.as_secs_f64(),
            steady.as_secs_f64()
        ),
    )])
}

/// How many certificates the server has signed and kept.
fn serials(server: &Server) -> Result<usize> {
    let (status, listed) = server.api.send("LIST", "istioca/certs", None)?;
    if status == 404 {
        return Ok(0);
    }
    ensure!(status == 200, "the list of certificates: {status} {listed}");
    let listed: Value = serde_json::from_str(&listed)?;
    Ok(listed
        .pointer("/data/keys")
        .and_then(Value::as_array)
        .context("no keys in the list of certificates")?
        .len())
}

/// The double of the API server. It ends with its value.
struct Cluster {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Cluster {
    fn start(program: &Path, place: &Path) -> Result<Self> {
        let log = File::create(place.join("cluster.log"))?;
        let mut command = Command::new(program);
        command.arg("leaf.csr").current_dir(place).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut process = command.spawn().with_context(|| format!("starting {}", program.display()))?;
        let input = process.stdin.take().context("no input")?;
        let output = BufReader::new(process.stdout.take().context("no output")?);
        let mut cluster = Self { process, input, output };
        let told = cluster.answer()?;
        let url = told.get("url").context("no url")?;
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "bench",
            "clusters": [{ "name": "bench", "cluster": { "server": url } }],
            "users": [{ "name": "bench", "user": {} }],
            "contexts": [{ "name": "bench", "context": { "cluster": "bench", "user": "bench" } }],
        });
        fs::write(place.join("kubeconfig"), kubeconfig.to_string())?;
        Ok(cluster)
    }

    fn ask(&mut self, command: &str) -> Result<Value> {
        writeln!(self.input, "{command}")?;
        let word = command.split(' ').next().unwrap_or_default();
        self.answer().with_context(|| format!("asking the cluster: {word}"))
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        ensure!(self.output.read_line(&mut line)? > 0, "the cluster's process ended: see its log");
        Ok(serde_json::from_str(&line)?)
    }

    /// Waits until the controller asks for nothing any more. When it asked for the last time.
    fn steady(&mut self) -> Result<Instant> {
        let deadline = Instant::now() + Duration::from_secs(300);
        let (mut last, mut count) = (Instant::now(), -1.0);
        while last.elapsed() < STEADY {
            let now = number(&self.ask("counts")?, "all")?;
            if now != count {
                (last, count) = (Instant::now(), now);
            }
            if Instant::now() > deadline {
                bail!("the controller does not come to rest");
            }
            sleep(Duration::from_millis(100));
        }
        Ok(last)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Both fail only if the process is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A controller that is ready.
struct Controller {
    process: Running,
}

impl Controller {
    fn start(program: &Path, place: &Path) -> Result<Self> {
        let (metrics, health) = (free_address()?, free_address()?);
        let mut command = Command::new(program);
        command.arg("controller").current_dir(place).args([
            "-kubeconfig=kubeconfig".to_owned(),
            "-leader-elect=false".to_owned(),
            "-webhook=false".to_owned(),
            format!("-metrics-address={metrics}"),
            format!("-health-address={health}"),
        ]);
        let log: PathBuf = place.join("controller.log");
        let process = Running::start(&mut command, &log)?;
        let deadline = Instant::now() + Duration::from_secs(60);
        while !ready(health.port()) {
            if Instant::now() > deadline {
                bail!("the controller is not ready:\n{}", fs::read_to_string(&log).unwrap_or_default());
            }
            sleep(Duration::from_millis(5));
        }
        Ok(Self { process })
    }
}
