//! The second half of the demo: the mesh. The certificate service, two workload agents and, if there is an Envoy, two
//! of those that speak mutual TLS with what the agents give them.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine};
use chancery_issuance::Certificate;
use serde_json::Value;

use super::envoy::{self, Ports};
use super::processes::Running;
use super::steps::{Bench, Made, args};
use super::verify::{Verifier, openssl_fingerprints};

/// Who calls.
pub(super) const CLIENT: &str = "spiffe://cluster.local/ns/foo/sa/sleep";
/// Who is called.
pub(super) const SERVER: &str = "spiffe://cluster.local/ns/foo/sa/httpbin";

/// The service accounts of both.
const WORKLOADS: [&str; 2] = ["sleep", "httpbin"];

/// Certificates live an hour; at this part of it, some seconds after they were made, the agents of the demo renew them.
const RATIO: &str = "0.999";
/// How long that may take, on a machine that has much else to do.
const TRAFFIC: Duration = Duration::from_secs(60);
/// The pause between two requests.
const PAUSE: Duration = Duration::from_millis(5);

/// What the mesh's part of the demo needs.
pub(super) struct Mesh<'a, 'b> {
    pub(super) bench: &'a mut Bench<'b>,
    pub(super) made: &'a Made,
    pub(super) running: &'a Running,
    /// This program.
    pub(super) program: &'a Path,
    /// An Envoy, if there is one.
    pub(super) envoy: Option<PathBuf>,
}

/// Requests that were sent while certificates were renewed.
struct Traffic {
    answered: u64,
    failures: Vec<String>,
}

impl Mesh<'_, '_> {
    /// All steps in order, and who found what.
    pub(super) fn walk(&mut self) -> Result<Vec<Verifier>, String> {
        self.bench.report.chapter(self.bench.ui, "The mesh");
        self.tokens()?;
        let address = self.service()?;
        for workload in WORKLOADS {
            self.agent(workload, address)?;
        }
        let mut verifiers = vec![self.same_root("sleep/root-cert.pem")?];
        match self.envoy.clone() {
            Some(program) => verifiers.extend(self.envoys(&program)?),
            None => self.without_envoy()?,
        }
        Ok(verifiers)
    }

    fn tokens(&mut self) -> Result<(), String> {
        self.bench.run(
            "Let the role sign as agents and SPIFFE clients like it",
            "patch istioca/roles/cluster-local key_type=any basic_constraints_valid_for_non_ca=true",
            args([
                "patch",
                "istioca/roles/cluster-local",
                "key_type=any",
                "basic_constraints_valid_for_non_ca=true",
            ]),
        )?;
        let folder = format!("-folder={}", self.at("tokens"));
        for workload in WORKLOADS {
            let account = format!("-service-account={workload}");
            let token = self.bench.run(
                &format!("Make a token for {workload}, as Kubernetes would"),
                &format!("mesh dev-token -folder=tokens -namespace=foo {account} > {workload}.token"),
                args(["mesh", "dev-token", &folder, "-namespace=foo", &account]),
            )?;
            self.bench.save(&format!("{workload}.token"), &token)?;
        }
        Ok(())
    }

    /// Starts the certificate service and says where it is.
    fn service(&mut self) -> Result<u16, String> {
        let [serving, probes, metrics] = free_ports()?;
        let probes_flag = format!("-readiness-probe-port={probes}");
        let options = [
            &format!("-serving-address=127.0.0.1:{serving}"),
            &probes_flag,
            &format!("-metrics-port={metrics}"),
            "-serving-certificate-dns-names=istiod.istio-system.svc",
            "-root-ca-file=ca.crt",
            "-jwks-file=tokens/jwks.json",
            &format!("-jwks-issuer={}", chancery_mesh::token::dev::ISSUER),
            "-role-id-file=role-id",
            "-secret-id-file=secret-id",
            "-without-kubernetes",
        ];
        let server = self.bench.address.clone();
        let connection = self.bench.connection.clone();
        let mut variables: Vec<(&str, &str)> =
            connection.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        variables.push(("VAULT_ADDR", &server));
        let ready = || get(probes, "/readyz").is_ok_and(|(status, _)| status == 200);
        self.part("mesh-ca", "Start the certificate service", &["mesh", "ca"], &options, &variables, ready)?;
        Ok(serving)
    }

    fn agent(&mut self, workload: &str, service: u16) -> Result<(), String> {
        let options = [
            &format!("-ca-address=localhost:{service}"),
            "-ca-root-file=ca.crt",
            &format!("-token-file={workload}.token"),
            "-namespace=foo",
            &format!("-service-account={workload}"),
            &format!("-socket={workload}.sock"),
            &format!("-output-certs={workload}"),
            "-ttl=1h",
            &format!("-ratio={RATIO}"),
            "-jitter=0",
        ];
        let folder = self.bench.folder.join(workload);
        // The roots are written last.
        let ready = || folder.join("root-cert.pem").is_file();
        let title = format!("Start the agent of {workload}");
        self.part(&format!("agent-{workload}"), &title, &["mesh", "agent"], &options, &[], ready)
    }

    /// Starts a part of this program and waits until it is ready.
    fn part(
        &mut self,
        name: &str,
        title: &str,
        command: &[&str],
        options: &[&str],
        variables: &[(&str, &str)],
        ready: impl FnMut() -> bool,
    ) -> Result<(), String> {
        let arguments: Vec<String> =
            command.iter().chain(options).map(|argument| (*argument).to_owned()).collect();
        let process = self.running.start(name, self.program, &arguments, variables, self.bench.folder)?;
        let took = process.wait(ready)?;
        let typed = format!("{} {} &", command.join(" "), options.join(" "));
        self.bench.told(title, &typed, took);
        Ok(())
    }

    fn envoys(&mut self, program: &Path) -> Result<Vec<Verifier>, String> {
        self.bench.report.chapter(self.bench.ui, "Two Envoys");
        let [entry, server, client_admin, server_admin] = free_ports()?;
        let ports = Ports { entry, server, client_admin, server_admin };
        let bootstraps = [
            ("httpbin", envoy::server(ports, Path::new("httpbin.sock"))),
            ("sleep", envoy::client(ports, Path::new("sleep.sock"))),
        ];
        for (workload, bootstrap) in bootstraps {
            self.bench.save(&format!("envoy-{workload}.json"), &format!("{bootstrap:#}\n"))?;
            let options =
                ["-c".to_owned(), format!("envoy-{workload}.json"), "--disable-hot-restart".to_owned()];
            let admin = if workload == "sleep" { client_admin } else { server_admin };
            let name = format!("envoy-{workload}");
            let process = self.running.start(&name, program, &options, &[], self.bench.folder)?;
            let ready = || get(admin, "/ready").is_ok_and(|(status, _)| status == 200);
            let took = process.wait(ready)?;
            let typed = format!("envoy {} &", options.join(" "));
            self.bench.told_of(&format!("Start the Envoy of {workload}"), &typed, took);
        }
        self.traffic(ports)?;
        let admin = format!("-admin=127.0.0.1:{client_admin}");
        let typed = format!("mesh secrets {admin} -root-file=ca.crt");
        let root = format!("-root-file={}", self.at("ca.crt"));
        self.bench.run(
            "See what the client's Envoy holds",
            &typed,
            args(["mesh", "secrets", &admin, &root]),
        )?;
        let dump = self.bench.run(
            "Take its ROOTCA out",
            &format!("mesh secrets -o json {admin} > dump.json"),
            args(["mesh", "secrets", "-o", "json", &admin]),
        )?;
        self.bench.save("rootca.pem", &rootca(&dump)?)?;
        Ok(vec![self.same_root("rootca.pem")?])
    }

    /// Requests from Envoy to Envoy while both renew their certificates.
    fn traffic(&mut self, ports: Ports) -> Result<(), String> {
        let before = self.serials()?;
        let began = Instant::now();
        let stop = Arc::new(AtomicBool::new(false));
        let sender = {
            let stop = Arc::clone(&stop);
            thread::spawn(move || requests(ports.entry, &stop))
        };
        let renewed = loop {
            sleep(Duration::from_millis(50));
            let now = self.serials()?;
            let is_new = now.iter().zip(&before).all(|(now, before)| now != before);
            let admins = [ports.client_admin, ports.server_admin];
            if is_new && admins.into_iter().zip(&now).all(|(admin, serial)| holds(admin, serial)) {
                // What comes after the renewal counts too.
                sleep(Duration::from_millis(500));
                break true;
            }
            if began.elapsed() > TRAFFIC {
                break false;
            }
        };
        stop.store(true, Ordering::Relaxed);
        let traffic = sender.join().map_err(|_| "the requests ended early")?;
        let note = format!(
            "{} requests, each with a handshake of its own: {} failed; both certificates were {}",
            traffic.answered,
            traffic.failures.len(),
            if renewed { "renewed meanwhile" } else { "NOT renewed" }
        );
        self.bench.report.local(
            self.bench.ui,
            "Mutual TLS between them, through a renewal",
            &note,
            began.elapsed(),
        );
        if let Some(failure) = traffic.failures.first() {
            return Err(format!("a request from Envoy to Envoy failed: {failure}"));
        }
        if renewed && traffic.answered > 0 { Ok(()) } else { Err("no certificate was renewed".to_owned()) }
    }

    /// The serial numbers of what the agents hold.
    fn serials(&self) -> Result<Vec<String>, String> {
        WORKLOADS
            .iter()
            .map(|workload| {
                let chain = self.bench.folder.join(workload).join("cert-chain.pem");
                let pem =
                    fs::read_to_string(&chain).map_err(|error| format!("{}: {error}", chain.display()))?;
                let leaf = Certificate::all_from_pem(&pem).map_err(|error| error.to_string())?;
                leaf.first()
                    .map(|leaf| leaf.serial_number().to_string())
                    .ok_or_else(|| "an empty chain".to_owned())
            })
            .collect()
    }

    /// What the agents hold, where no Envoy shows it.
    fn without_envoy(&mut self) -> Result<(), String> {
        let note = "there is no Envoy here; with -with-envoy one is installed, and the demo goes on with two of them";
        self.bench.report.local(self.bench.ui, "No Envoy", note, Duration::ZERO);
        for workload in WORKLOADS {
            let chain = fs::read_to_string(self.bench.folder.join(workload).join("cert-chain.pem"));
            let chain = chain.map_err(|error| format!("{workload}: {error}"))?;
            let chain = Certificate::all_from_pem(&chain).map_err(|error| error.to_string())?;
            let leaf = chain.first().ok_or("an empty chain")?;
            let names = leaf.sans().unwrap_or_default();
            let note = format!(
                "{}, serial number {}, until {}",
                names.uri.join(", "),
                leaf.serial_number(),
                leaf.not_after()
            );
            self.bench.report.local(
                self.bench.ui,
                &format!("What the agent of {workload} holds"),
                &note,
                Duration::ZERO,
            );
        }
        Ok(())
    }

    /// Whether these roots are the root of the first step.
    fn same_root(&self, file: &str) -> Result<Verifier, String> {
        let pem =
            fs::read_to_string(self.bench.folder.join(file)).map_err(|error| format!("{file}: {error}"))?;
        let held = Certificate::all_from_pem(&pem).map_err(|error| format!("{file}: {error}"))?;
        let root = Certificate::from_pem(&self.made.root).map_err(|error| format!("the root: {error}"))?;
        let ours = held.len() == 1 && held.first().is_some_and(|held| held.der() == root.der());
        let by_openssl = openssl_fingerprints(self.bench.folder, &["ca.crt", file]);
        let (name, same) = match by_openssl {
            Some(prints) => (
                "openssl x509 -fingerprint",
                ours && prints.windows(2).all(|pair| pair.first() == pair.last()),
            ),
            None => ("Chancery's own reader", ours),
        };
        let complaint = (!same).then(|| "they are different certificates".to_owned());
        Ok(Verifier { name: format!("{name}: ca.crt and {file} are one certificate"), complaint })
    }

    fn at(&self, file: &str) -> String {
        self.bench.folder.join(file).display().to_string()
    }
}

/// Sends one request after the other.
fn requests(port: u16, stop: &AtomicBool) -> Traffic {
    let mut traffic = Traffic { answered: 0, failures: Vec::new() };
    while !stop.load(Ordering::Relaxed) {
        match get(port, "/") {
            Ok((200, _)) => traffic.answered += 1,
            Ok((status, body)) => traffic.failures.push(format!("{status} {}", body.trim())),
            Err(error) => traffic.failures.push(error.to_string()),
        }
        sleep(PAUSE);
    }
    traffic
}

/// GET on this machine: the status and the body.
fn get(port: u16, path: &str) -> io::Result<(u16, String)> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no HTTP"))?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    Ok((status, body))
}

/// Ports that are free now.
fn free_ports<const N: usize>() -> Result<[u16; N], String> {
    let failed = |error: io::Error| format!("no free port: {error}");
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        // Held until all are found, so that none is found twice.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
        *port = listener.local_addr().map_err(failed)?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// Whether an Envoy's TLS holds the certificate with this serial number.
fn holds(admin: u16, serial: &str) -> bool {
    let digits: String = serial.chars().filter(char::is_ascii_hexdigit).collect();
    let certificates = get(admin, "/certs");
    certificates.is_ok_and(|(_, told)| told.contains(digits.trim_start_matches('0')))
}

/// The roots in a dump of secrets, in PEM.
fn rootca(dump: &str) -> Result<String, String> {
    let dump: Value = serde_json::from_str(dump).map_err(|error| format!("the dump: {error}"))?;
    let secrets =
        dump.get("dynamicActiveSecrets").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let found = secrets.iter().find(|secret| secret.get("name").and_then(Value::as_str) == Some("ROOTCA"));
    let bytes = found.and_then(|secret| secret.pointer("/secret/validationContext/trustedCa/inlineBytes"));
    let bytes = bytes.and_then(Value::as_str).ok_or("the dump holds no ROOTCA")?;
    let pem = BASE64_STANDARD.decode(bytes).map_err(|error| format!("ROOTCA: {error}"))?;
    String::from_utf8(pem).map_err(|error| format!("ROOTCA: {error}"))
}
