//! How the demo tells what it does.

use std::path::Path;
use std::time::Duration;

use chancery_api::Secret;

use super::server::DemoServer;
use super::verify::Verdict;
use crate::output::Doc;
use crate::ui::Ui;

/// At most so many lines of a step's output are shown.
const LINES: usize = 8;

/// What is told, to people at once or to programs at the end.
pub(super) struct Report {
    json: bool,
    colour: bool,
    count: usize,
    steps: Vec<Doc>,
}

impl Report {
    pub(super) fn new(json: bool, colour: bool) -> Self {
        Self { json, colour, count: 0, steps: Vec::new() }
    }

    pub(super) fn title(&self, ui: &mut Ui, program: &str, folder: &Path) {
        let title =
            self.bold(&format!("{program} demo: the CA of a service mesh, from nothing to mutual TLS"));
        self.say(ui, &format!("{title}\nFiles are in {} and go at the end.", folder.display()));
    }

    pub(super) fn started(&self, ui: &mut Ui, server: &DemoServer) {
        if server.is_new {
            let time = shown(server.start_time);
            self.say(
                ui,
                &format!("A server on a fresh embedded store answers at {} after {time}.", server.address),
            );
        } else {
            self.say(ui, &format!("The server is {}; it keeps what is made there.", server.address));
        }
    }

    /// This takes a while.
    pub(super) fn installing(&self, ui: &mut Ui, folder: &Path) {
        self.say(ui, &format!("Envoy is being installed into {}; that takes a minute.", folder.display()));
    }

    pub(super) fn chapter(&self, ui: &mut Ui, name: &str) {
        self.say(ui, &format!("\n{}", self.bold(name)));
    }

    /// A step without a command.
    pub(super) fn local(&mut self, ui: &mut Ui, title: &str, note: &str, elapsed: Duration) {
        self.head(ui, title, elapsed, true);
        self.say(ui, &format!("      {}", self.dim(note)));
        self.remember(title, "", elapsed, true);
    }

    /// A step and what it printed.
    #[expect(clippy::too_many_arguments, reason = "each is one thing that is told of a step")]
    pub(super) fn step(
        &mut self,
        ui: &mut Ui,
        title: &str,
        typed: &str,
        out: &str,
        err: &str,
        elapsed: Duration,
        as_expected: bool,
    ) {
        self.head(ui, title, elapsed, as_expected);
        let typed_lines: Vec<String> = typed.lines().map(|line| format!("      {line}")).collect();
        let typed_shown = typed_lines.join("\n").replacen("      ", "    $ ", 1);
        self.say(ui, &typed_shown);
        // What goes into a file is not shown on the terminal either.
        let shown = if typed.contains(" > ") { String::new() } else { abbreviate(out) };
        // A warning of several lines is worth seeing once; errors are the point of a refusal.
        let errors = if out.is_empty() || !as_expected { abbreviate(err) } else { String::new() };
        for line in shown.lines().chain(errors.lines()) {
            self.say(ui, &format!("      {}", self.dim(line)));
        }
        self.remember(title, typed, elapsed, as_expected);
    }

    /// The certificate, its chain, and who verified it.
    pub(super) fn verdict(&self, ui: &mut Ui, verdict: &Verdict, total: Duration) {
        if self.json {
            ui.output(&self.document(verdict, total).to_json());
            return;
        }
        self.chapter(ui, "The certificate");
        for (name, value) in &verdict.words {
            self.say(ui, &format!("    {name:13}  {value}"));
        }
        self.chapter(ui, "Its chain");
        for line in &verdict.chain {
            self.say(ui, &format!("    {line}"));
        }
        self.chapter(ui, "Verified by");
        for verifier in &verdict.verifiers {
            let line = match &verifier.complaint {
                None => format!("{} {}", self.green("ok"), verifier.name),
                Some(complaint) => format!("{} {}: {complaint}", self.red("NO"), verifier.name),
            };
            self.say(ui, &format!("    {line}"));
        }
        let outcome = if verdict.holds() { "All of it" } else { "It does not hold. All of it" };
        self.say(ui, &format!("\n{outcome} took {}, {} steps.", shown(total), self.count));
    }

    /// How to connect to the server that was kept.
    pub(super) fn kept(&self, ui: &mut Ui, program: &str, address: &str, token: &Secret, folder: &Path) {
        let text = format!(
            "\nThe server keeps running. In another terminal:\n\n    export VAULT_ADDR='{address}'\n    \
             export VAULT_TOKEN='{}'\n    {program} list istioca/certs\n\nThe files are in {}. Ctrl-C ends the server and \
             removes them.",
            token.expose(),
            folder.display()
        );
        // Also beside JSON: a person has to read it.
        if self.json { ui.hint(&text) } else { ui.output(&text) }
    }

    fn head(&mut self, ui: &mut Ui, title: &str, elapsed: Duration, as_expected: bool) {
        self.count += 1;
        let mark = if as_expected { self.green("ok") } else { self.red("NO") };
        let time = format!("{:>8}", shown(elapsed));
        self.say(ui, &format!("{:>3} {mark} {title:46} {}", self.count, self.dim(&time)));
    }

    fn remember(&mut self, title: &str, typed: &str, elapsed: Duration, as_expected: bool) {
        self.steps.push(Doc::object([
            ("title", title.into()),
            ("command", typed.into()),
            ("milliseconds", milliseconds(elapsed)),
            ("as_expected", as_expected.into()),
        ]));
    }

    fn document(&self, verdict: &Verdict, total: Duration) -> Doc {
        let words = verdict
            .words
            .iter()
            .map(|(name, value)| (name.replace(' ', "_").to_lowercase(), value.as_str().into()));
        let verifiers = verdict.verifiers.iter().map(|verifier| {
            Doc::object([
                ("name", verifier.name.as_str().into()),
                ("holds", verifier.complaint.is_none().into()),
                ("complaint", verifier.complaint.as_deref().into()),
            ])
        });
        Doc::object([
            ("steps", Doc::Array(self.steps.clone())),
            ("certificate", Doc::Object(words.collect())),
            ("chain", Doc::texts(&verdict.chain)),
            ("verifiers", Doc::Array(verifiers.collect())),
            ("holds", verdict.holds().into()),
            ("milliseconds", milliseconds(total)),
        ])
    }

    fn say(&self, ui: &mut Ui, text: &str) {
        if !self.json {
            ui.output(text);
        }
    }

    fn painted(&self, text: &str, code: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn bold(&self, text: &str) -> String {
        self.painted(text, "1")
    }

    fn dim(&self, text: &str) -> String {
        self.painted(text, "2")
    }

    fn green(&self, text: &str) -> String {
        self.painted(text, "32")
    }

    fn red(&self, text: &str) -> String {
        self.painted(text, "31")
    }
}

fn milliseconds(elapsed: Duration) -> Doc {
    Doc::Number(format!("{:.1}", elapsed.as_secs_f64() * 1000.0))
}

/// `12 ms`, `1.4 s`.
fn shown(elapsed: Duration) -> String {
    match elapsed.as_millis() {
        0 => format!("{} µs", elapsed.as_micros()),
        1..1000 => format!("{} ms", elapsed.as_millis()),
        _ => format!("{:.1} s", elapsed.as_secs_f64()),
    }
}

/// The first lines, each PEM block in one.
fn abbreviate(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.contains("-----BEGIN ") && !line.contains("-----END ") {
            inside = true;
            lines.push(format!("{line} …"));
        } else if inside && line.contains("-----END ") {
            inside = false;
        } else if !inside {
            lines.push(shortened(line));
        }
    }
    let hidden = lines.len().saturating_sub(LINES);
    lines.truncate(LINES);
    if hidden > 0 {
        lines.push(format!("… {hidden} more lines"));
    }
    lines.retain(|line| !line.trim().is_empty());
    lines.join("\n")
}

fn shortened(line: &str) -> String {
    const WIDTH: usize = 110;
    if line.chars().count() <= WIDTH {
        return line.to_owned();
    }
    let start: String = line.chars().take(WIDTH).collect();
    format!("{start}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_output_is_shortened_and_keys_are_not_shown() {
        let out = "csr    -----BEGIN X-----\nAAAA\n-----END X-----\nkey    -----BEGIN K-----\nsecret\n-----END K-----\nlast";
        assert_eq!(abbreviate(out), "csr    -----BEGIN X----- …\nkey    -----BEGIN K----- …\nlast");
        let many: Vec<String> = (0..20).map(|number| number.to_string()).collect();
        assert!(abbreviate(&many.join("\n")).ends_with("7\n… 12 more lines"));
    }

    #[test]
    fn times_are_shown_in_the_unit_that_suits() {
        assert_eq!(shown(Duration::from_micros(80)), "80 µs");
        assert_eq!(shown(Duration::from_millis(12)), "12 ms");
        assert_eq!(shown(Duration::from_millis(1420)), "1.4 s");
    }
}
