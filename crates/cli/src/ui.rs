//! The terminal, or what stands in for it in a test.

use std::fmt;
use std::io::{self, ErrorKind, IsTerminal, Read, Write};
use std::path::PathBuf;

use chancery_api::Secret;
use chancery_client::Environment;

/// How variables of the environment are looked up.
pub type Variables = Box<dyn Fn(&str) -> Option<String> + Send>;

/// Where a command reads and writes.
pub struct Ui {
    /// The name the program was started under.
    pub program: String,
    /// Standard input.
    pub stdin: Box<dyn Read + Send>,
    /// Standard output.
    pub stdout: Box<dyn Write + Send>,
    /// Standard error.
    pub stderr: Box<dyn Write + Send>,
    /// Whether a person is at the keyboard.
    pub stdin_is_terminal: bool,
    /// Whether a person reads the output.
    pub stdout_is_terminal: bool,
    /// Whether errors may be coloured.
    pub colour: bool,
    /// The environment.
    pub env: Variables,
    /// The folder that holds the token file.
    pub home: Option<PathBuf>,
    /// Why output was lost, the first time that it was. [`crate::run`] ends with it.
    pub write_error: Option<io::Error>,
}

impl fmt::Debug for Ui {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ui").field("program", &self.program).finish_non_exhaustive()
    }
}

impl Environment for Ui {
    fn variable(&self, name: &str) -> Option<String> {
        (self.env)(name)
    }
}

impl Ui {
    /// The process's own terminal and environment.
    pub fn system(program: String) -> Self {
        let env = |name: &str| std::env::var(name).ok();
        let plain = ["NO_COLOR", "BAO_CLI_NO_COLOR", "VAULT_CLI_NO_COLOR"];
        let plain = plain.into_iter().any(|name| env(name).is_some_and(|value| !value.is_empty()));
        Self {
            program,
            stdin: Box::new(io::stdin()),
            stdout: Box::new(io::stdout()),
            stderr: Box::new(io::stderr()),
            stdin_is_terminal: io::stdin().is_terminal(),
            stdout_is_terminal: io::stdout().is_terminal(),
            colour: io::stderr().is_terminal() && !plain,
            env: Box::new(env),
            home: std::env::home_dir(),
            write_error: None,
        }
    }

    /// A line, or several, of what was asked for.
    pub fn output(&mut self, text: &str) {
        let written = writeln!(self.stdout, "{text}").and_then(|()| self.stdout.flush());
        self.remember(written);
    }

    /// The same without an end of line.
    pub fn raw(&mut self, bytes: &[u8]) {
        let written = self.stdout.write_all(bytes).and_then(|()| self.stdout.flush());
        self.remember(written);
    }

    /// The command goes on after output was lost, as what it does at the server must not stop half way; the
    /// run's end says that it was. A reader that has gone away wanted no more, and is no error.
    fn remember(&mut self, written: io::Result<()>) {
        if let Err(error) = written
            && error.kind() != ErrorKind::BrokenPipe
        {
            self.write_error.get_or_insert(error);
        }
    }

    /// What went wrong.
    pub fn error(&mut self, text: &str) {
        self.coloured(text, "31");
    }

    /// What to know although it went well.
    pub fn warn(&mut self, text: &str) {
        self.coloured(text, "33");
    }

    /// What may help, without alarm.
    pub fn hint(&mut self, text: &str) {
        self.coloured(text, "2");
    }

    fn coloured(&mut self, text: &str, colour: &str) {
        if self.colour && !text.is_empty() {
            drop(writeln!(self.stderr, "\x1b[{colour}m{text}\x1b[0m"));
        } else {
            drop(writeln!(self.stderr, "{text}"));
        }
    }

    /// Asks a person for a secret, without showing it.
    ///
    /// # Errors
    /// Nobody is at the keyboard.
    pub fn ask_secret(&mut self, prompt: &str) -> Result<Secret, String> {
        drop(write!(self.stderr, "{prompt}"));
        drop(self.stderr.flush());
        if !self.stdin_is_terminal {
            drop(writeln!(self.stderr));
            return Err("file descriptor 0 is not a terminal".to_owned());
        }
        rpassword::read_password().map(Secret::new).map_err(|error| error.to_string())
    }

    /// All of standard input.
    ///
    /// # Errors
    /// It cannot be read, or is no text.
    pub fn read_stdin(&mut self) -> Result<String, String> {
        let mut text = String::new();
        self.stdin.read_to_string(&mut text).map_err(|error| error.to_string())?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Output to which each write fails with the next of these.
    struct Failing(Vec<ErrorKind>);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.pop().unwrap_or(ErrorKind::Other).into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_first_loss_of_output_is_remembered_and_a_reader_that_has_gone_away_is_none() {
        let kinds = vec![ErrorKind::QuotaExceeded, ErrorKind::StorageFull, ErrorKind::BrokenPipe];
        let mut ui = Ui { stdout: Box::new(Failing(kinds)), ..Ui::system("chancery".to_owned()) };
        let kind = |ui: &Ui| ui.write_error.as_ref().map(io::Error::kind);
        ui.output("x");
        assert_eq!(kind(&ui), None);
        ui.raw(b"x");
        assert_eq!(kind(&ui), Some(ErrorKind::StorageFull));
        ui.output("x");
        assert_eq!(kind(&ui), Some(ErrorKind::StorageFull));
    }
}
