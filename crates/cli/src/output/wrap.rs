//! Breaking prose into lines of even length.

/// The length that messages are broken to.
const LINE: usize = 78;

/// Breaks a message into lines.
pub fn at_length(text: &str) -> String {
    lines(text, LINE).join("\n")
}

/// Breaks a message into lines that begin with `indent` spaces.
pub fn at_length_with_indent(text: &str, indent: usize) -> String {
    let padding = " ".repeat(indent);
    let lines = lines(text, LINE - indent);
    lines.iter().map(|line| format!("{padding}{line}")).collect::<Vec<_>>().join("\n")
}

/// Chooses the breaks so that the squares of the empty ends of all lines but the last are least in sum.
/// A line that is too long costs extra, but a word is never broken.
fn lines(text: &str, limit: usize) -> Vec<String> {
    const TOO_LONG: i64 = 100_000;
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut ends = vec![0_i64];
    for word in &words {
        let end = ends.last().copied().unwrap_or_default();
        ends.push(end + i64::try_from(word.chars().count()).unwrap_or(i64::MAX / 4));
    }
    // The length of the line that holds the words from `first` up to, not including, `after`.
    let length = |first: usize, after: usize| -> i64 {
        let letters = ends.get(after).zip(ends.get(first)).map_or(0, |(end, start)| end - start);
        letters + i64::try_from(after - first).unwrap_or_default() - 1
    };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX / 4);
    // For each word: the least cost of the lines from it to the end, and where the first of them ends.
    let mut best: Vec<(i64, usize)> = vec![(0, words.len()); words.len() + 1];
    for first in (0..words.len()).rev() {
        let mut choice = (i64::MAX, words.len());
        if length(first, words.len()) <= limit || first + 1 == words.len() {
            choice = (0, words.len());
        } else {
            for after in first + 1..words.len() {
                let empty = limit - length(first, after);
                let rest = best.get(after).map_or(0, |(cost, _)| *cost);
                let penalty = if empty < 0 { TOO_LONG } else { 0 };
                let cost = (empty.saturating_mul(empty)).saturating_add(rest).saturating_add(penalty);
                if cost < choice.0 {
                    choice = (cost, after);
                }
                // No later break can be better once the line is far too long.
                if empty < -limit {
                    break;
                }
            }
        }
        if let Some(slot) = best.get_mut(first) {
            *slot = choice;
        }
    }
    let mut lines = Vec::new();
    let mut first = 0;
    while first < words.len() {
        let after = best.get(first).map_or(words.len(), |(_, after)| *after);
        lines.push(words.get(first..after).unwrap_or_default().join(" "));
        first = after;
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_of_even_length() {
        let text = "* This mount hasn't configured any authority information access (AIA) fields; this may \
                    make it harder for systems to find missing certificates in the chain or to validate \
                    revocation status of certificates. Consider updating /config/urls or the newly \
                    generated issuer with this information.";
        assert_eq!(
            at_length_with_indent(text, 2),
            "  * This mount hasn't configured any authority information access (AIA)\n  \
             fields; this may make it harder for systems to find missing certificates\n  \
             in the chain or to validate revocation status of certificates. Consider\n  \
             updating /config/urls or the newly generated issuer with this information."
        );
    }

    #[test]
    fn a_word_longer_than_a_line_stays_whole() {
        let word = "x".repeat(200);
        // Breaking before the word would leave a line almost empty and the word as long as before.
        assert_eq!(at_length(&format!("a {word} b")), format!("a {word}\nb"));
        assert_eq!(at_length(""), "");
    }
}
