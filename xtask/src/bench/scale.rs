//! What grows with the number of certificates: start, signing, revocation, lists, OCSP, tidying.
//!
//! Each server has a durable store of its own and the machine to itself. OpenBao is filled with fewer certificates,
//! since its own figures grow; both counts stand in the table.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::milliseconds;
use crate::cargo::build_binary;
use crate::compat::binary;
use crate::load::{CONNECTIONS, JSON, Outcome, Work, each, run as load};
use crate::report::{Step, heading};
use crate::tally::Tally;
use crate::target::{Kind, Server};
use crate::tools::{Tools, must};

/// How long each rate is measured.
const TIME: Duration = Duration::from_secs(5);
/// How long a server may take to finish what it does in the background.
const SETTLING: Duration = Duration::from_secs(120);
/// How often OCSP is measured.
const OCSP_TURNS: usize = 5;
/// How many certificates are asked after once in each turn, at most.
const ONCE_ASKED: usize = 100_000;
/// Issuers that stand beside the one that is measured.
const OTHER_ISSUERS: usize = 50;
/// Revocations that are measured one after the other.
const MEASURED_REVOCATIONS: usize = 200;
/// Certificates read from the list at a time.
const PAGE: usize = 10_000;

/// How much a server is given.
#[derive(Debug, Clone, Copy)]
struct Size {
    certificates: usize,
    /// Revoked before revocations are measured.
    revoked: usize,
    /// Revoked before the large list is built; zero for no such list.
    listed: usize,
}

/// Measures and prints the table.
pub(crate) fn run(arguments: &[String]) -> Result<Tally> {
    let number = |name: &str, default: usize| -> Result<usize> {
        let given = arguments.iter().find_map(|argument| argument.strip_prefix(&format!("--{name}=")));
        given.map_or(Ok(default), |text| text.parse().with_context(|| format!("--{name}={text}")))
    };
    let ours = number("certificates", 1_000_000)?;
    let peers = number("peer-certificates", 100_000)?;
    let only = arguments.iter().find_map(|argument| argument.strip_prefix("--only="));
    let profile =
        arguments.iter().find_map(|argument| argument.strip_prefix("--profile=")).unwrap_or("release");
    if only != Some("peer") && !arguments.iter().any(|argument| argument == "--no-build") {
        build_binary(profile)?;
    }
    let tools = Tools::install()?;
    let folder = tempfile::Builder::new().prefix("bench-scale-").tempdir()?;
    let csr = csr(folder.path())?;
    let (mut columns, mut subjects) = (Vec::new(), Vec::new());
    let sizes = [
        (
            Kind::Chancery,
            binary(profile),
            "ours",
            Size { certificates: ours, revoked: ours / 10, listed: ours },
        ),
        (Kind::OpenBao, tools.bao(), "peer", Size { certificates: peers, revoked: peers / 10, listed: 0 }),
    ];
    for (kind, program, name, size) in sizes {
        if only.is_some_and(|only| only != name) {
            continue;
        }
        heading(kind.name());
        let place = folder.path().join(kind.name());
        fs::create_dir_all(&place)?;
        let server = Server::durable(kind, &program, &place)?;
        let mut subject = Subject { server, csr: csr.clone(), place, serials: Arc::default(), revoked: 0 };
        let rows = subject.fill(size)?;
        // Until its turn comes, beside another one.
        subject.server.signal("STOP")?;
        subjects.push(subject);
        columns.push((kind, size, rows));
    }
    heading("side by side");
    for ((.., rows), answers) in columns.iter_mut().zip(ocsp_in_turns(&subjects)?) {
        rows.extend(answers);
    }
    for ((kind, size, rows), subject) in columns.iter_mut().zip(&mut subjects) {
        heading(kind.name());
        subject.server.signal("CONT")?;
        rows.extend(subject.grow(*size)?);
        subject.server.signal("STOP")?;
    }
    for subject in &subjects {
        // It must be able to stop in an orderly way.
        subject.server.signal("CONT")?;
    }
    print(&columns);
    Ok(Tally::default())
}

/// What is asked by OCSP.
#[derive(Debug, Clone, Copy)]
enum Question {
    /// After one certificate over and over, which is not revoked.
    Good,
    /// After one that is.
    Revoked,
    /// After another one each time, none of them revoked.
    Each,
}

/// OCSP by each server in turn, several times, since what else the machine does changes within minutes: the median.
fn ocsp_in_turns(subjects: &[Subject]) -> Result<Vec<Vec<Row>>> {
    let mut all = vec![Vec::new(); subjects.len()];
    let mut asked = Vec::new();
    for subject in subjects {
        subject.server.signal("CONT")?;
        asked.push(subject.good_and_revoked()?);
        subject.settle()?;
        subject.server.signal("STOP")?;
    }
    let questions = [
        (Question::Good, "OCSP, good", "OCSP, good: ratio of each turn"),
        (Question::Revoked, "OCSP, revoked", "OCSP, revoked: ratio of each turn"),
        (
            Question::Each,
            "OCSP, another certificate each time",
            "OCSP, another certificate each time: ratio of each turn",
        ),
    ];
    for (question, name, ratio) in questions {
        let mut outcomes = vec![Vec::new(); subjects.len()];
        for turn in 0..OCSP_TURNS {
            for ((subject, asked), outcomes) in subjects.iter().zip(&asked).zip(&mut outcomes) {
                subject.server.signal("CONT")?;
                outcomes.push(subject.ocsp(question, asked, turn)?);
                subject.server.signal("STOP")?;
            }
        }
        if let [one, other] = outcomes.as_slice()
            && let Some(rows) = all.first_mut()
        {
            let mut ratios: Vec<f64> =
                one.iter().zip(other).map(|(one, other)| one.per_second / other.per_second).collect();
            ratios.sort_by(f64::total_cmp);
            let each: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.1}")).collect();
            rows.push((ratio, each.join(", ")));
        }
        for (rows, mut outcomes) in all.iter_mut().zip(outcomes) {
            outcomes.sort_by(|one, other| one.per_second.total_cmp(&other.per_second));
            let outcome = outcomes.get(OCSP_TURNS / 2).context("no outcome")?;
            let text = format!("{:.0}/s, p99 {:.1} ms", outcome.per_second, milliseconds(outcome.p99));
            rows.push((name, text));
        }
    }
    Ok(all)
}

/// A request for a certificate as Istio's agent makes it.
fn csr(folder: &Path) -> Result<String> {
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "/dev/null", "-subj", "/"]);
    openssl.args(["-addext", "subjectAltName=URI:spiffe://cluster.local/ns/foo/sa/sleep"]);
    must(openssl.current_dir(folder), "making the CSR")
}

/// A row: what was measured, in words.
type Row = (&'static str, String);

struct Subject {
    server: Server,
    csr: String,
    place: std::path::PathBuf,
    /// Of all certificates that were there when they were listed.
    serials: Arc<Vec<String>>,
    /// How many of them are revoked.
    revoked: usize,
}

impl Subject {
    /// Up to a full store with a tenth of its certificates revoked.
    fn fill(&mut self, size: Size) -> Result<Vec<Row>> {
        let mut rows = Rows::default();
        self.set_up()?;
        rows.add("start to serving, empty", format!("{:.0} ms", milliseconds(self.restart()?)));
        let empty = self.signing()?;
        rows.add("sign, empty store", format!("{:.0}/s", empty.per_second));

        let step = Step::begin(format!("storing {} certificates", size.certificates));
        let signed = (empty.per_second * TIME.as_secs_f64()) as usize;
        let fill = self.sign();
        each(&self.server.api, CONNECTIONS, size.certificates.saturating_sub(signed), move |_| fill.clone())?;
        step.end("ok", "");
        rows.add("start to serving, full", format!("{:.0} ms", milliseconds(self.restart()?)));
        let full = self.signing()?;
        let share = full.per_second / empty.per_second * 100.0;
        rows.add("sign, full store", format!("{:.0}/s ({share:.0} % of empty)", full.per_second));

        let before = self.memory()?;
        let (serials, took) = self.serials()?;
        let after = self.memory()?;
        rows.add(
            "listing all serial numbers",
            format!("{:.1} s, {} → {after} MiB", took.as_secs_f64(), before),
        );
        self.serials = Arc::new(serials);
        self.revoke_many(size.revoked)?;
        let revoking = self.revoke(self.revoked, MEASURED_REVOCATIONS, 1)?;
        rows.add(
            "revoke, one after the other",
            format!(
                "p50 {:.2} ms, p99 {:.2} ms with {} revoked",
                milliseconds(revoking.p50),
                milliseconds(revoking.p99),
                size.revoked
            ),
        );
        self.revoked += MEASURED_REVOCATIONS;
        let (quiet, busy, lists) = self.signing_while_lists_are_built()?;
        rows.add(
            "sign p99, quiet → while lists are built",
            format!(
                "{:.1} ms → {:.1} ms ({lists} lists read)",
                milliseconds(quiet.p99),
                milliseconds(busy.p99)
            ),
        );
        Ok(rows.0)
    }

    /// Up to many issuers, and a store of which every certificate is revoked.
    fn grow(&mut self, size: Size) -> Result<Vec<Row>> {
        let mut rows = Rows::default();
        let (took, touched) = self.add_issuer()?;
        rows.add(
            "adding an issuer beside 50",
            format!(
                "{:.1} ms, {}",
                milliseconds(took),
                if touched { "other list rebuilt" } else { "other list untouched" }
            ),
        );
        if size.listed > self.revoked {
            self.revoke_many(size.listed.min(self.serials.len()))?;
            rows.add("list of all certificates", self.large_list()?);
            let start = self.restart()?;
            rows.add("start to serving, all revoked", format!("{:.0} ms", milliseconds(start)));
            let begin = Instant::now();
            let bytes = self.server.api.send("GET", "pki/crl/pem", None)?.1.len();
            rows.add(
                "that list after a restart",
                format!("{:.2} s, {:.0} MB as PEM", begin.elapsed().as_secs_f64(), bytes as f64 / 1e6),
            );
        }
        let before = self.memory()?;
        let took = self.tidy()?;
        rows.add(
            "tidy over all certificates",
            format!("{:.1} s, {before} → {} MiB", took.as_secs_f64(), self.memory()?),
        );
        let peak = self.server.memory("VmHWM").context("the server must run")?;
        rows.add("resident memory since the last start, peak", format!("{} MiB", peak / 1024));
        Ok(rows.0)
    }

    fn set_up(&self) -> Result<()> {
        let api = &self.server.api;
        let post = |path: &str, body: Value| api.call("POST", path, Some(&body));
        post("sys/mounts/pki", json!({ "type": "pki", "config": { "max_lease_ttl": "87600h" } }))?;
        let root = json!({ "common_name": "root", "key_type": "ec", "key_bits": 256, "ttl": "87600h" });
        let made = post("pki/root/generate/internal", root)?;
        let pem = made.pointer("/data/certificate").and_then(Value::as_str).context("no certificate")?;
        fs::write(self.place.join("root.pem"), pem)?;
        let serial =
            made.pointer("/data/serial_number").and_then(Value::as_str).context("no serial number")?;
        fs::write(self.place.join("root.serial"), serial)?;
        let role = json!({
            "require_cn": false, "allowed_uri_sans": "spiffe://cluster.local/*", "max_ttl": "720h", "key_type": "any",
        });
        post("pki/roles/leaf", role)?;
        Ok(())
    }

    fn restart(&mut self) -> Result<Duration> {
        let step = Step::begin("restart");
        let begin = self.server.restart()?;
        self.server.unseal()?;
        let (status, answer) = self.server.api.send("GET", "pki/ca/pem", None)?;
        if status != 200 {
            bail!("no service after the restart: {status} {answer}");
        }
        let took = begin.elapsed();
        step.end("ok", &format!("{:.0} ms", milliseconds(took)));
        Ok(took)
    }

    fn memory(&self) -> Result<u64> {
        Ok(self.server.memory("VmRSS").context("the server must run")? / 1024)
    }

    fn sign(&self) -> Work {
        Work {
            method: "POST",
            path: "pki/sign/leaf".to_owned(),
            media: JSON,
            body: json!({ "csr": self.csr, "ttl": "700h" }).to_string().into_bytes(),
            holds: "-----BEGIN CERTIFICATE-----",
        }
    }

    fn signing(&self) -> Result<Outcome> {
        let step = Step::begin("signing");
        let outcome = load(&self.server.api, &self.sign(), Duration::from_millis(500), TIME)?;
        step.end("ok", &format!("{:.0}/s", outcome.per_second));
        Ok(outcome)
    }

    fn serials(&self) -> Result<(Vec<String>, Duration)> {
        let step = Step::begin("listing");
        let begin = Instant::now();
        let mut all: Vec<String> = Vec::new();
        loop {
            let after = all.last().map_or(String::new(), |last| format!("&after={last}"));
            let path = format!("pki/certs?list=true&limit={PAGE}{after}");
            let (status, answer) = self.server.api.send("GET", &path, None)?;
            if status == 404 {
                break;
            }
            let answer: Value = serde_json::from_str(&answer)?;
            let keys = answer.pointer("/data/keys").and_then(Value::as_array).context("no keys")?;
            all.extend(keys.iter().filter_map(Value::as_str).map(str::to_owned));
            if keys.len() < PAGE {
                break;
            }
        }
        let took = begin.elapsed();
        step.end("ok", &format!("{} in {:.1} s", all.len(), took.as_secs_f64()));
        // The root is among them; it shall stay as it is.
        let root = fs::read_to_string(self.place.join("root.serial")).unwrap_or_default();
        all.retain(|serial| *serial != root);
        Ok((all, took))
    }

    fn revoke(&self, from: usize, count: usize, connections: usize) -> Result<Outcome> {
        let serials = Arc::clone(&self.serials);
        each(&self.server.api, connections, count, move |index| {
            let serial = serials.get(from + index).map_or("", String::as_str);
            Work {
                method: "POST",
                path: "pki/revoke".to_owned(),
                media: JSON,
                body: json!({ "serial_number": serial }).to_string().into_bytes(),
                holds: "revocation_time",
            }
        })
    }

    /// Revokes all up to one, and tells the server to build no list meanwhile: the first one after it is built from all of them.
    fn revoke_many(&mut self, to: usize) -> Result<()> {
        let count = to - self.revoked;
        let step = Step::begin(format!("revoking {count} certificates"));
        let later = |auto: bool| {
            self.server.api.call("POST", "pki/config/crl", Some(&json!({ "auto_rebuild": auto })))
        };
        later(true)?;
        let outcome = self.revoke(self.revoked, count, CONNECTIONS)?;
        later(false)?;
        self.revoked = to;
        step.end("ok", &format!("{:.0}/s", outcome.per_second));
        Ok(())
    }

    fn signing_while_lists_are_built(&mut self) -> Result<(Outcome, Outcome, usize)> {
        let quiet = self.signing()?;
        let over = AtomicBool::new(false);
        let from = self.revoked;
        let (busy, lists) = thread::scope(|scope| {
            let builder = scope.spawn(|| -> Result<usize> {
                let mut lists = 0;
                while !over.load(Ordering::Relaxed) {
                    self.revoke(from + lists, 1, 1)?;
                    self.server.api.send("GET", "pki/crl", None)?;
                    lists += 1;
                }
                Ok(lists)
            });
            let busy = self.signing();
            over.store(true, Ordering::Relaxed);
            let lists =
                builder.join().map_err(|_| anyhow::anyhow!("the thread that reads lists panicked"))?;
            anyhow::Ok((busy?, lists?))
        })?;
        self.revoked += lists;
        Ok((quiet, busy, lists))
    }

    /// The serial numbers of two new certificates, of which the second is revoked.
    fn good_and_revoked(&self) -> Result<[String; 2]> {
        let sign = || -> Result<String> {
            let body = json!({ "csr": self.csr, "ttl": "700h" });
            let signed = self.server.api.call("POST", "pki/sign/leaf", Some(&body))?;
            let serial = signed.pointer("/data/serial_number").and_then(Value::as_str);
            Ok(serial.context("no serial number")?.to_owned())
        };
        let serials = [sign()?, sign()?];
        let [_, revoked] = &serials;
        self.server.api.call("POST", "pki/revoke", Some(&json!({ "serial_number": revoked })))?;
        Ok(serials)
    }

    /// Waits until the server has nothing to do any more, such as lists to build.
    fn settle(&self) -> Result<()> {
        let step = Step::begin("settling");
        let begin = Instant::now();
        let mut before = self.server.processor_time()?;
        while begin.elapsed() < SETTLING {
            thread::sleep(Duration::from_secs(2));
            let now = self.server.processor_time()?;
            if now - before < Duration::from_millis(100) {
                break;
            }
            before = now;
        }
        step.end("ok", "");
        Ok(())
    }

    fn ocsp(&self, question: Question, asked: &[String; 2], turn: usize) -> Result<Outcome> {
        let step = Step::begin("OCSP");
        let [good, revoked] = asked;
        let (serial, status) = match question {
            Question::Good | Question::Each => (good, "good"),
            Question::Revoked => (revoked, "revoked"),
        };
        let body = self.ocsp_request(serial, status)?;
        let work = Work {
            method: "POST",
            path: "pki/ocsp".to_owned(),
            media: "application/ocsp-request",
            body,
            holds: "",
        };
        let outcome = match question {
            Question::Good | Question::Revoked => {
                load(&self.server.api, &work, Duration::from_millis(500), TIME)?
            }
            Question::Each => self.ocsp_each(&work, serial, turn)?,
        };
        step.end("ok", &format!("{:.0}/s", outcome.per_second));
        Ok(outcome)
    }

    /// A request for this certificate, after openssl was told what is known of it.
    fn ocsp_request(&self, serial: &str, status: &str) -> Result<Vec<u8>> {
        let hex = format!("0x{}", serial.replace(':', ""));
        let openssl = |more: &[&str]| {
            let mut openssl = Command::new("openssl");
            openssl.args(["ocsp", "-issuer", "root.pem", "-serial", &hex, "-no_nonce"]).args(more);
            must(openssl.current_dir(&self.place), "asking by OCSP")
        };
        let url = format!("{}/v1/pki/ocsp", self.server.url());
        let told = openssl(&["-CAfile", "root.pem", "-url", &url])?;
        if !told.contains(&format!("{hex}: {status}")) {
            bail!("OCSP does not say {status}: {told}");
        }
        openssl(&["-reqout", "request.der"])?;
        Ok(fs::read(self.place.join("request.der"))?)
    }

    /// Asks after certificates that are not revoked, each once in all turns.
    fn ocsp_each(&self, work: &Work, serial: &str, turn: usize) -> Result<Outcome> {
        let bytes = |serial: &str| -> Vec<u8> {
            serial.split(':').filter_map(|byte| u8::from_str_radix(byte, 16).ok()).collect()
        };
        // It is replaced in the request, and so must be as long.
        let known = bytes(serial);
        let at = work.body.windows(known.len()).position(|window| window == known);
        let at = at.context("the serial number is not in the request")?;
        let serials: Vec<Vec<u8>> =
            self.serials.iter().skip(self.revoked).map(|serial| bytes(serial)).collect();
        let fit = |serial: &Vec<u8>| {
            serial.len() == known.len() && (1..0x80).contains(serial.first().unwrap_or(&0))
        };
        let serials: Vec<Vec<u8>> = serials.into_iter().filter(fit).collect();
        let share = serials.len() / OCSP_TURNS;
        let count = share.min(ONCE_ASKED);
        let template = work.clone();
        each(&self.server.api, CONNECTIONS, count, move |index| {
            let mut work = template.clone();
            if let Some(serial) = serials.get(turn * share + index)
                && let Some(room) = work.body.get_mut(at..at + serial.len())
            {
                room.copy_from_slice(serial);
            }
            work
        })
    }

    /// The time that one more issuer takes, and whether it touched the list of the first.
    fn add_issuer(&self) -> Result<(Duration, bool)> {
        let step = Step::begin("adding issuers");
        let api = &self.server.api;
        let add = |name: &str| {
            let root = json!({ "common_name": name, "key_type": "ec", "key_bits": 256, "ttl": "87600h" });
            api.call("POST", "pki/root/generate/internal", Some(&root))
        };
        for number in 0..OTHER_ISSUERS {
            add(&format!("root {number}"))?;
        }
        let list = || api.send("GET", "pki/crl/pem", None);
        let before = list()?;
        let begin = Instant::now();
        add("the last root")?;
        let took = begin.elapsed();
        let touched = list()? != before;
        step.end("ok", &format!("{:.1} ms", milliseconds(took)));
        Ok((took, touched))
    }

    fn large_list(&self) -> Result<String> {
        let step = Step::begin("building the list of all");
        let begin = Instant::now();
        let (status, answer) = self.server.api.send("GET", "pki/crl/rotate", None)?;
        if status != 200 {
            bail!("the list was not built: {status} {answer}");
        }
        let took = begin.elapsed();
        let peak = self.server.memory("VmHWM").context("the server must run")? / 1024;
        let row = format!("{:.2} s, peak {peak} MiB", took.as_secs_f64());
        step.end("ok", &row);
        Ok(row)
    }

    fn tidy(&self) -> Result<Duration> {
        let step = Step::begin("tidying");
        let api = &self.server.api;
        let begin = Instant::now();
        let switches = json!({ "tidy_cert_store": true, "tidy_revoked_certs": true, "safety_buffer": "1h" });
        api.call("POST", "pki/tidy", Some(&switches))?;
        loop {
            let status = api.call("GET", "pki/tidy-status", None)?;
            match status.pointer("/data/state").and_then(Value::as_str) {
                Some("Finished") => break,
                Some("Error") => bail!("tidying failed: {status}"),
                _ => thread::sleep(Duration::from_millis(50)),
            }
        }
        let took = begin.elapsed();
        step.end("ok", &format!("{:.1} s", took.as_secs_f64()));
        Ok(took)
    }
}

#[derive(Default)]
struct Rows(Vec<Row>);

impl Rows {
    fn add(&mut self, name: &'static str, value: String) {
        self.0.push((name, value));
    }
}

fn print(columns: &[(Kind, Size, Vec<Row>)]) {
    print!("\n| figure |");
    for (kind, size, _) in columns {
        print!(" {}, {} certificates |", kind.name(), size.certificates);
    }
    println!("\n| --- |{}", " --- |".repeat(columns.len()));
    let names = columns.first().map_or(&[][..], |(_, _, rows)| rows);
    for (name, _) in names {
        print!("| {name} |");
        for (_, _, rows) in columns {
            let value = rows.iter().find(|(other, _)| other == name).map_or("–", |(_, value)| value);
            print!(" {value} |");
        }
        println!();
    }
}
