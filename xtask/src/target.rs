//! A running server: ours or the peer, in memory or durable, always torn down.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::http::Api;
use crate::tools::must;

/// Which program serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Chancery,
    OpenBao,
}

impl Kind {
    /// The name in tables and in the `TARGET` variable of the suites.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Chancery => "chancery",
            Self::OpenBao => "openbao",
        }
    }
}

/// The token of every in-memory server that the tasks start.
pub(crate) const DEV_TOKEN: &str = "root";

/// A server process; dropping it ends the process.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) api: Api,
    binary: PathBuf,
    folder: PathBuf,
    child: Child,
    unseal_key: Option<String>,
}

impl Server {
    /// Starts an unsealed server in memory, whose root token is [`DEV_TOKEN`]. Its log is written to `folder`.
    pub(crate) fn dev(kind: Kind, binary: &Path, folder: &Path) -> Result<Self> {
        let address = free_address()?;
        let arguments = [
            "server".to_owned(),
            "-dev".to_owned(),
            "-dev-no-store-token".to_owned(),
            format!("-dev-root-token-id={DEV_TOKEN}"),
            format!("-dev-listen-address={address}"),
        ];
        let child = spawn(kind, binary, &arguments, folder)?;
        let api = Api { address, token: DEV_TOKEN.to_owned() };
        let mut server =
            Self { kind, api, binary: binary.into(), folder: folder.into(), child, unseal_key: None };
        server.wait_for(&[200])?;
        Ok(server)
    }

    /// Starts a server on durable storage in `folder`, initialises it with one key share and unseals it.
    pub(crate) fn durable(kind: Kind, binary: &Path, folder: &Path) -> Result<Self> {
        let address = free_address()?;
        let data = folder.join("data");
        fs::create_dir_all(&data).with_context(|| format!("creating {}", data.display()))?;
        let storage = match kind {
            Kind::Chancery => format!("storage \"embedded\" {{ path = {data:?} }}\n"),
            Kind::OpenBao => format!(
                "storage \"raft\" {{ path = {data:?} node_id = \"one\" }}\ncluster_addr = \"http://{}\"\n",
                free_address()?
            ),
        };
        let configuration = format!(
            "{storage}listener \"tcp\" {{ address = \"{address}\" tls_disable = true }}\n\
             api_addr = \"http://{address}\"\n"
        );
        fs::write(folder.join("server.hcl"), configuration)?;
        let child = spawn(kind, binary, &configured(folder), folder)?;
        let api = Api { address, token: String::new() };
        let mut server =
            Self { kind, api, binary: binary.into(), folder: folder.into(), child, unseal_key: None };
        server.wait_for(&[501])?;
        let made = server.api.call(
            "PUT",
            "sys/init",
            Some(&json!({ "secret_shares": 1, "secret_threshold": 1 })),
        )?;
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        server.unseal_key = text(made.pointer("/keys_base64/0"));
        server.api.token = text(made.get("root_token")).context("sys/init must answer a root_token")?;
        server.unseal()?;
        Ok(server)
    }

    /// Gives the key share and waits until the server is active.
    pub(crate) fn unseal(&mut self) -> Result<()> {
        let key = self.unseal_key.as_deref().context("only a durable server is unsealed")?;
        self.api.call("PUT", "sys/unseal", Some(&json!({ "key": key })))?;
        self.wait_for(&[200])
    }

    /// Stops the process in an orderly way and starts it again on the same storage. Returns the instant of the
    /// start, once it has answered for the first time; the server is then sealed.
    pub(crate) fn restart(&mut self) -> Result<Instant> {
        self.stop();
        let start = Instant::now();
        self.child = spawn(self.kind, &self.binary, &configured(&self.folder), &self.folder)?;
        self.wait_for(&[200, 429, 503])?;
        Ok(start)
    }

    /// A field of `/proc/PID/status` in KiB, such as `VmRSS` or `VmHWM`.
    pub(crate) fn memory(&self, field: &str) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with(field))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// The processor time that it has had.
    pub(crate) fn processor_time(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The second field is a name in parentheses; user and system time are the 14th and 15th, in hundredths of a second.
        let (_, fields) = stat.rsplit_once(')').context("no process state")?;
        let ticks =
            fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        Ok(Duration::from_millis(ticks * 10))
    }

    /// Sends a signal, by its name without `SIG`.
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        let process = self.child.id().to_string();
        must(Command::new("kill").args([format!("-{name}"), process]), "sending a signal to a server")?;
        Ok(())
    }

    /// The base URL that clients are given.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.api.address)
    }

    /// The last lines of the server's log, for a report of a failure.
    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.folder.join(log_name(self.kind))).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(15)..).unwrap_or_default().join("\n")
    }

    fn wait_for(&mut self, statuses: &[u16]) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Ok((status, _)) = self.api.send("GET", "sys/health", None)
                && statuses.contains(&status)
            {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended while starting ({status}):\n{}", self.kind.name(), self.log_tail());
            }
            if Instant::now() > deadline {
                bail!("{} did not answer within 30 s:\n{}", self.kind.name(), self.log_tail());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Asks the process to end (SIGTERM), and ends it after five seconds if it has not.
    fn stop(&mut self) {
        let asked = Command::new("kill").arg(self.child.id().to_string()).status();
        let deadline = Instant::now() + Duration::from_secs(5);
        while asked.as_ref().is_ok_and(|status| status.success()) && Instant::now() < deadline {
            if self.child.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        // Both fail only if the process is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.stop();
        }
    }
}

/// An address of this machine that nobody listened on a moment ago.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

fn configured(folder: &Path) -> [String; 2] {
    ["server".to_owned(), format!("-config={}", folder.join("server.hcl").display())]
}

fn log_name(kind: Kind) -> String {
    format!("{}.log", kind.name())
}

fn spawn(kind: Kind, binary: &Path, arguments: &[String], folder: &Path) -> Result<Child> {
    let log = File::options().create(true).append(true).open(folder.join(log_name(kind)))?;
    Command::new(binary)
        .args(arguments)
        .env("HOME", folder)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("starting {}", binary.display()))
}
