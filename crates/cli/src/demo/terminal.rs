//! A terminal that only remembers.

use std::collections::BTreeMap;
use std::io::{self, Cursor, Write};
use std::sync::{Arc, Mutex, PoisonError};

use crate::ui::Ui;

/// What a command printed.
#[derive(Clone, Default)]
pub(super) struct Recorder(Arc<Mutex<Vec<u8>>>);

impl Recorder {
    /// All of it, as text.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

impl Write for Recorder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A terminal with these variables and this on standard input; nobody is at it.
pub(super) fn recording(
    program: &str,
    variables: BTreeMap<String, String>,
    stdin: String,
) -> (Ui, Recorder, Recorder) {
    let (stdout, stderr) = (Recorder::default(), Recorder::default());
    let ui = Ui {
        program: program.to_owned(),
        stdin: Box::new(Cursor::new(stdin)),
        stdout: Box::new(stdout.clone()),
        stderr: Box::new(stderr.clone()),
        stdin_is_terminal: false,
        stdout_is_terminal: false,
        colour: false,
        env: Box::new(move |name| variables.get(name).cloned()),
        home: None,
        write_error: None,
    };
    (ui, stdout, stderr)
}
