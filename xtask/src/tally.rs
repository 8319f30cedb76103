//! Counting what passed, and the last line that says so.

use std::process::ExitCode;

/// How many passed, failed and were skipped, and the names of those that did not pass.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) skipped: usize,
    failures: Vec<String>,
    skips: Vec<String>,
}

impl Tally {
    pub(crate) fn pass(&mut self) {
        self.passed += 1;
    }

    pub(crate) fn fail(&mut self, what: impl Into<String>) {
        self.failed += 1;
        self.failures.push(what.into());
    }

    pub(crate) fn skip(&mut self, what: impl Into<String>) {
        self.skipped += 1;
        self.skips.push(what.into());
    }

    /// Adds counts that another program printed; `what` names them if any failed.
    pub(crate) fn count(&mut self, what: &str, [passed, failed, skipped]: [usize; 3]) {
        self.passed += passed;
        self.failed += failed;
        self.skipped += skipped;
        if failed > 0 {
            self.failures.push(format!("{what} ({failed})"));
        }
        if skipped > 0 {
            self.skips.push(format!("{what} ({skipped})"));
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        let Self { passed, failed, skipped, failures, skips } = other;
        self.passed += passed;
        self.failed += failed;
        self.skipped += skipped;
        self.failures.extend(failures);
        self.skips.extend(skips);
    }

    /// Prints the summary, its counts on the last line. A task that counted nothing prints nothing.
    pub(crate) fn conclude(self) -> ExitCode {
        let Self { passed, failed, skipped, failures, skips } = self;
        if passed + failed + skipped == 0 {
            return ExitCode::SUCCESS;
        }
        println!();
        for skip in &skips {
            println!("skipped: {skip}");
        }
        for failure in &failures {
            println!("FAILED:  {failure}");
        }
        println!("{passed} passed, {failed} failed, {skipped} skipped");
        if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

/// The counts in a test runner's closing line, whichever of the known forms it has:
/// `cargo test`, `cargo nextest`, or the plain `N passed, N failed, N skipped`.
pub(crate) fn counts(line: &str) -> Option<[usize; 3]> {
    let line = line.trim();
    let known = line.starts_with("test result:")
        || line.starts_with("Summary [")
        || (line.starts_with(|c: char| c.is_ascii_digit()) && line.contains(" passed, "));
    if !known {
        return None;
    }
    let number_before = |word: &str| {
        let words: Vec<&str> = line.split([' ', ',', ';']).filter(|word| !word.is_empty()).collect();
        words.windows(2).find_map(|pair| match pair {
            [number, w] if *w == word => number.parse().ok(),
            _ => None,
        })
    };
    let failed = number_before("failed").unwrap_or(0) + number_before("timed").unwrap_or(0);
    let skipped = number_before("ignored").or_else(|| number_before("skipped")).unwrap_or(0);
    Some([number_before("passed").unwrap_or(0), failed, skipped])
}

#[cfg(test)]
mod tests {
    use super::counts;

    #[test]
    fn the_closing_lines_of_the_known_runners_are_read() {
        for (line, expected) in [
            ("test result: ok. 5 passed; 1 failed; 2 ignored; 0 measured; 9 filtered out", Some([5, 1, 2])),
            (
                "     Summary [   0.012s] 7 tests run: 4 passed, 2 failed, 1 timed out, 3 skipped",
                Some([4, 3, 3]),
            ),
            ("     Summary [   0.012s] 4 tests run: 4 passed (1 slow), 0 skipped", Some([4, 0, 0])),
            ("12 passed, 0 failed, 1 skipped", Some([12, 0, 1])),
            ("running 5 tests", None),
        ] {
            assert_eq!(counts(line), expected, "{line}");
        }
    }
}
