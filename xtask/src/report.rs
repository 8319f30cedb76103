//! What a person sees while a task runs: a heading, then a line for each step with its time.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// A heading, printed before work that takes longer than a second.
pub(crate) fn heading(text: &str) {
    println!("\n==> {text}");
}

/// A step that is under way. On a terminal its name shows at once; elsewhere only the outcome is printed.
pub(crate) struct Step {
    name: String,
    start: Instant,
    shown: bool,
}

impl Step {
    pub(crate) fn begin(name: impl Into<String>) -> Self {
        let name = name.into();
        let shown = std::io::stdout().is_terminal();
        if shown {
            print!("      …  {name}");
            // A terminal that went away is no reason to stop the work.
            let _ = std::io::stdout().flush();
        }
        Self { name, start: Instant::now(), shown }
    }

    /// Prints the outcome (`ok`, `FAIL`, `skip`) and the time it took.
    pub(crate) fn end(self, outcome: &str, remark: &str) {
        let start = if self.shown { "\r\x1b[K" } else { "" };
        let space = if remark.is_empty() { "" } else { "  " };
        println!("{start}   {outcome:>4}  {} {}{space}{remark}", self.name, seconds(self.start.elapsed()));
    }
}

/// A duration as a person reads it.
pub(crate) fn seconds(elapsed: Duration) -> String {
    format!("({:.1} s)", elapsed.as_secs_f64())
}
