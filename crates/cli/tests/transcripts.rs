//! Transcripts: commands as they are typed, and what they print.
//!
//! Each file of `tests/cmd` is a page of prose with `console` blocks. A line that begins with `$ ` is run
//! by a shell (`> ` continues it), in an empty folder, against a fresh server; what follows must be what
//! it prints, standard output before standard error. `? 2` before that is its exit code, if not 0. What is
//! different at each run (ids, tokens, times, PEM) is masked; `[..]` stands for anything within a line.
//!
//! The server is our own. With `CHANCERY_PEER=/path/to/bao` the same transcripts run against OpenBao:
//! the command line must print the same, whoever answers. `TRANSCRIPTS=overwrite` writes down what was
//! printed.

#![expect(clippy::expect_used, clippy::panic, reason = "what a helper of a test expects is part of the test")]

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_chancery");

#[test]
fn transcripts_are_true() {
    let peer = std::env::var_os("CHANCERY_PEER").map(PathBuf::from);
    let only = std::env::var("TRANSCRIPT").ok();
    let overwrite = std::env::var("TRANSCRIPTS").is_ok_and(|value| value == "overwrite");
    let mut files: Vec<PathBuf> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cmd"))
        .expect("the folder is there")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .collect();
    files.sort();
    let mut wrong = String::new();
    for file in files {
        let name = file.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned();
        if only.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let page = fs::read_to_string(&file).expect("readable");
        if peer.is_some() && page.contains("<!-- not with the peer -->") {
            continue;
        }
        let stage = Stage::set(&page, peer.as_deref());
        let played = stage.play(&page);
        if overwrite {
            fs::write(&file, played.page).expect("writable");
        } else if !played.differences.is_empty() {
            write!(wrong, "\n== {name}\n{}", played.differences).expect("a string takes it");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// A folder, a server, and the environment of the commands.
struct Stage {
    folder: tempfile::TempDir,
    address: String,
    server: Option<Child>,
}

struct Played {
    page: String,
    differences: String,
}

impl Stage {
    /// `<!-- server: dev -->` (the default), `sealed` or `none` says which server is wanted.
    fn set(page: &str, peer: Option<&Path>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("bin")).expect("a folder");
        fs::create_dir(folder.path().join("work")).expect("a folder");
        for name in ["chancery", "vault", "bao"] {
            std::os::unix::fs::symlink(PROGRAM, folder.path().join("bin").join(name)).expect("a link");
        }
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a free port").port();
        let address = format!("http://127.0.0.1:{port}");
        let mut stage = Self { folder, address, server: None };
        if page.contains("<!-- server: none -->") {
            return stage;
        }
        let mut command = Command::new(peer.unwrap_or_else(|| Path::new(PROGRAM)));
        command
            .env_clear()
            .env("HOME", stage.folder.path())
            .env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let sealed = page.contains("<!-- server: sealed -->");
        if sealed {
            let config = stage.folder.path().join("server.hcl");
            let text = format!(
                "storage \"inmem\" {{}}\nlistener \"tcp\" {{\n  address = \"127.0.0.1:{port}\"\n  tls_disable = true\n}}\n\
                 api_addr = \"http://127.0.0.1:{port}\"\n"
            );
            fs::write(&config, text).expect("writable");
            command.args(["server", "-log-level=error"]).arg(format!("-config={}", config.display()));
        } else {
            command.args([
                "server",
                "-dev",
                "-dev-no-store-token",
                "-dev-root-token-id=root",
                "-log-level=error",
            ]);
            command.arg(format!("-dev-listen-address=127.0.0.1:{port}"));
        }
        let server = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        stage.server = Some(server.expect("the server's program is there"));
        stage.wait(sealed);
        stage
    }

    fn wait(&self, sealed: bool) {
        let began = Instant::now();
        let ready = if sealed { 2 } else { 0 };
        while began.elapsed() < Duration::from_secs(60) {
            let (code, _) = self.run("chancery status");
            if code == ready {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the server at {} does not answer", self.address);
    }

    /// The exit code, and standard output before standard error.
    fn run(&self, typed: &str) -> (i32, String) {
        let folder = self.folder.path();
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", folder.join("bin").display());
        let output = Command::new("sh")
            .args(["-c", typed])
            .current_dir(folder.join("work"))
            .env_clear()
            .env("PATH", path)
            .env("HOME", folder.join("work"))
            .env("VAULT_ADDR", &self.address)
            .env("VAULT_TOKEN", "root")
            .stdin(Stdio::null())
            .output()
            .expect("a shell is there");
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        (output.status.code().unwrap_or(-1), text.replace(&self.address, "[ADDR]"))
    }

    fn play(&self, page: &str) -> Played {
        let mut played = Played { page: String::new(), differences: String::new() };
        let mut inside = false;
        let mut lines = page.lines().peekable();
        while let Some(line) = lines.next() {
            played.page.push_str(line);
            played.page.push('\n');
            if line.starts_with("```") {
                inside = line == "```console";
                continue;
            }
            let Some(first) = line.strip_prefix("$ ").filter(|_| inside) else { continue };
            let mut typed = first.to_owned();
            while let Some(more) = lines.next_if(|line| line.starts_with("> ")) {
                played.page.push_str(more);
                played.page.push('\n');
                typed.push('\n');
                typed.push_str(more.strip_prefix("> ").unwrap_or(more));
            }
            let mut expected = String::new();
            while let Some(more) = lines.next_if(|line| !line.starts_with("$ ") && !line.starts_with("```")) {
                expected.push_str(more);
                expected.push('\n');
            }
            let (code, text) = self.run(&typed);
            let mut printed = if code == 0 { String::new() } else { format!("? {code}\n") };
            printed.push_str(&masked(&text));
            // A page ends its lines; a field in a pipe does not.
            let printed: String = printed.lines().map(|line| format!("{}\n", line.trim_end())).collect();
            if !agrees(&expected, &printed) {
                write!(played.differences, "$ {typed}\n--- expected\n{expected}--- printed\n{printed}\n")
                    .expect("a string takes it");
            }
            played.page.push_str(if agrees(&expected, &printed) { &expected } else { &printed });
        }
        played
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            drop(server.kill());
            drop(server.wait());
        }
    }
}

/// Whether the lines are the same, where `[..]` stands for anything.
fn agrees(expected: &str, printed: &str) -> bool {
    let (expected, printed): (Vec<&str>, Vec<&str>) = (expected.lines().collect(), printed.lines().collect());
    expected.len() == printed.len()
        && expected.iter().zip(printed).all(|(pattern, line)| fits(pattern.trim_end(), line))
}

fn fits(pattern: &str, line: &str) -> bool {
    let Some((before, after)) = pattern.split_once("[..]") else { return pattern == line };
    let Some(rest) = line.strip_prefix(before) else { return false };
    (0..=rest.len()).any(|at| rest.get(at..).is_some_and(|rest| fits(after, rest)))
}

/// What is different at each run, masked.
fn masked(text: &str) -> String {
    let text = without_go_times(&without_pem(text));
    let is_word = |c: char| c.is_ascii_alphanumeric() || "._:+-".contains(c);
    let mut masked = String::new();
    let mut word = String::new();
    for c in text.chars().chain(std::iter::once('\n')) {
        if is_word(c) {
            word.push(c);
        } else {
            masked.push_str(&mask(&word));
            word.clear();
            masked.push(c);
        }
    }
    masked.pop();
    masked
}

fn mask(word: &str) -> String {
    if let Some(kind) = kind(word) {
        return format!("[{kind}]");
    }
    // Ids in maps and lists stand between colons, mounts' accessors behind their type.
    if word.contains(':') {
        return word.split(':').map(mask).collect::<Vec<_>>().join(":");
    }
    match word.rsplit_once('_') {
        Some((before, id)) if id.len() == 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            format!("{before}_[ID]")
        }
        _ => word.to_owned(),
    }
}

fn kind(word: &str) -> Option<&'static str> {
    let hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<&str> = word.split('-').collect();
    if parts.len() == 5
        && [8, 4, 4, 4, 12].iter().zip(&parts).all(|(length, part)| part.len() == *length && hex(part))
    {
        return Some("UUID");
    }
    if word.len() == 59 && word.split(':').all(|pair| pair.len() == 2 && hex(pair)) {
        return Some("SERIAL");
    }
    if word.len() >= 26 && (word.starts_with("s.") || word.starts_with("b.")) {
        return Some("TOKEN");
    }
    if word.len() > 18
        && parts.len() >= 3
        && parts.first().is_some_and(|year| year.len() == 4 && digits(year))
        && word.contains('T')
    {
        return Some("TIME");
    }
    if word.len() == 10 && digits(word) && word.starts_with(['1', '2']) {
        return Some("EPOCH");
    }
    let mixed = word.bytes().any(|byte| byte.is_ascii_uppercase())
        && word.bytes().any(|byte| byte.is_ascii_lowercase());
    // The peer's have 24 letters and digits, ours 29.
    if (24..=29).contains(&word.len()) && mixed && word.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Some("ACCESSOR");
    }
    None
}

/// `2026-11-24 02:21:18.7 +0000 UTC` as `[TIME]`.
fn without_go_times(text: &str) -> String {
    let mut shown = String::new();
    for line in text.split_inclusive('\n') {
        match line.strip_suffix(" +0000 UTC\n").and_then(|line| line.rsplit_once("    ")) {
            Some((before, _)) => shown.push_str(&format!("{before}    [TIME]\n")),
            None => shown.push_str(line),
        }
    }
    shown
}

/// Each PEM block as its label.
fn without_pem(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("-----BEGIN ") {
        shown.push_str(before);
        let label = after.split("-----").next().unwrap_or_default();
        let end = format!("-----END {label}-----");
        let Some((_, after)) = after.split_once(&end) else { break };
        write!(shown, "[{label}]").expect("a string takes it");
        rest = after;
    }
    shown.push_str(rest);
    shown
}

#[test]
fn what_changes_is_masked_and_nothing_else() {
    for (text, shown) in [
        (
            "serial_number    1e:d7:94:91:c2:fe:9b:02:aa:09:4c:7b:8e:9a:c9:a4:1d:7b:76:46",
            "serial_number    [SERIAL]",
        ),
        ("map[44dd7f09-940a-5759-37e5-8bdf16257482:]", "map[[UUID]:]"),
        ("pki_4577d455 allow_bare_domains", "pki_[ID] allow_bare_domains"),
        ("s.ARsnI6HGa305FAY6YgyvfTMN", "[TOKEN]"),
        ("2026-11-24T02:51:23.010026267Z 43800h 1795486883", "[TIME] 43800h [EPOCH]"),
        ("a -----BEGIN X-----\nAA\n-----END X----- b", "a [X] b"),
    ] {
        assert_eq!(masked(text), shown);
    }
    assert!(fits("a [..] c", "a b b c") && !fits("a [..] c", "a b"));
}
