//! PEM (RFC 7468), read as forgivingly as clients need and written in one form.

use zeroize::Zeroize as _;

/// One block of a PEM text. Wiped when dropped, if it is a private key.
pub(crate) struct Block<'a> {
    pub(crate) label: &'a str,
    /// RFC 1421 headers (`Proc-Type: 4,ENCRYPTED`), if any.
    pub(crate) headers: Vec<&'a str>,
    pub(crate) der: Vec<u8>,
}

impl Drop for Block<'_> {
    fn drop(&mut self) {
        if is_secret(self.label) {
            self.der.zeroize();
        }
    }
}

/// Certificates and requests are for everybody; wiping them costs more than decoding them.
fn is_secret(label: &str) -> bool {
    label.contains("KEY") && !label.contains("PUBLIC")
}

/// The well-formed blocks of a text, in order; anything between them is skipped, as are blocks
/// that do not decode.
pub(crate) fn blocks(text: &str) -> impl Iterator<Item = Block<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let (label, body) = next_begin(rest)?;
            match block_body(label, body) {
                Some((block, after)) => {
                    rest = after;
                    return Some(block);
                }
                None => rest = body,
            }
        }
    })
}

/// The well-formed blocks of a text, and what stands behind the last of them.
pub(crate) fn blocks_and_rest(text: &str) -> (Vec<Block<'_>>, &str) {
    let mut found = Vec::new();
    let mut rest = text;
    let mut ahead = text;
    while let Some((label, body)) = next_begin(ahead) {
        ahead = match block_body(label, body) {
            Some((block, after)) => {
                found.push(block);
                rest = after;
                after
            }
            None => body,
        };
    }
    (found, rest)
}

const DASHES: &str = "-----";

/// The first `-----BEGIN label-----` at the start of a line, and what follows its line.
///
/// Neither this nor [`block_body`] looks further than the next dashes, so that reading takes time in proportion
/// to the text, whatever it is.
fn next_begin(text: &str) -> Option<(&str, &str)> {
    const BEGIN: &str = "-----BEGIN ";
    let mut from = 0;
    loop {
        let at = from + text.get(from..)?.find(BEGIN)?;
        let at_line_start = at == 0 || text.get(..at).is_some_and(|before| before.ends_with(['\n', '\r']));
        let after = text.get(at + BEGIN.len()..)?;
        if at_line_start && let Some((label, tail)) = after.split_once(DASHES) {
            let tail = tail.trim_start_matches([' ', '\t', '\r']);
            if tail.is_empty() {
                return Some((label, tail));
            }
            if let Some(body) = tail.strip_prefix('\n') {
                return Some((label, body));
            }
        }
        from = at + BEGIN.len();
    }
}

fn block_body<'a>(label: &'a str, body: &'a str) -> Option<(Block<'a>, &'a str)> {
    let (content, tail) = body.split_once(DASHES)?;
    let after = tail.strip_prefix("END ")?.strip_prefix(label)?.strip_prefix(DASHES)?;

    let mut headers = Vec::new();
    let mut base64 = Vec::with_capacity(content.len());
    for line in content.lines() {
        if line.contains(':') {
            headers.push(line.trim());
        } else {
            for word in line.split_ascii_whitespace() {
                base64.extend_from_slice(word.as_bytes());
            }
        }
    }
    let der = data_encoding::BASE64.decode(&base64);
    if is_secret(label) {
        base64.zeroize();
    }
    Some((Block { label, headers, der: der.ok()? }, after))
}

/// One block with lines of 64 characters and a final newline.
pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    let base64 = data_encoding::BASE64.encode(der);
    let mut text = String::with_capacity(base64.len() + base64.len() / 64 + 2 * label.len() + 40);
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    let mut rest = base64.as_str();
    while let Some((line, after)) = rest.split_at_checked(64) {
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    if !rest.is_empty() {
        text.push_str(rest);
        text.push('\n');
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_private_keys_are_secret() {
        for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"] {
            assert!(is_secret(label), "{label}");
        }
        for label in ["CERTIFICATE", "CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST", "PUBLIC KEY"] {
            assert!(!is_secret(label), "{label}");
        }
    }

    #[test]
    fn lines_have_64_characters() {
        for length in [0, 1, 47, 48, 49, 96, 100] {
            let der = vec![0xa5; length];
            let text = encode("CERTIFICATE", &der);
            assert!(text.lines().all(|line| line.len() <= 64));
            let read: Vec<_> = blocks(&text).collect();
            assert_eq!(read.len(), 1);
            assert_eq!(read[0].der, der);
            assert_eq!(read[0].label, "CERTIFICATE");
        }
    }

    #[test]
    fn text_around_and_between_blocks_is_skipped() {
        let text = format!(
            "subject=/CN=x\r\n{}noise -----BEGIN X-----\n{}tail",
            encode("A", b"one").replace('\n', "\r\n"),
            encode("B", b"two")
        );
        let read: Vec<_> = blocks(&text).map(|block| (block.label.to_owned(), block.der.clone())).collect();
        assert_eq!(read, [("A".to_owned(), b"one".to_vec()), ("B".to_owned(), b"two".to_vec())]);
    }

    #[test]
    fn a_block_that_does_not_decode_is_skipped() {
        let text = format!("-----BEGIN A-----\n!!!!\n-----END A-----\n{}", encode("B", b"two"));
        assert_eq!(blocks(&text).map(|block| block.label.to_owned()).collect::<Vec<_>>(), ["B"]);
    }

    #[test]
    fn a_text_of_beginnings_takes_time_in_proportion() {
        let block = encode("B", b"two");
        for beginning in
            ["-----BEGIN A-----\n", "-----BEGIN A\r", "-----BEGIN ", "-----BEGIN A-----\nx: y\nAAAA\n"]
        {
            let text = format!("{}\n{block}", beginning.repeat((4 << 20) / beginning.len()));
            let begin = std::time::Instant::now();
            assert_eq!(blocks(&text).map(|block| block.label.to_owned()).collect::<Vec<_>>(), ["B"]);
            // Hours if each looked for an end of its own; far less than this limit otherwise.
            assert!(begin.elapsed() < std::time::Duration::from_secs(20), "{beginning:?}");
        }
    }

    #[test]
    fn what_stands_behind_the_last_block_is_told() {
        let text = format!("before\n{}between\n{} after", encode("A", b"one"), encode("B", b"two"));
        let (blocks, rest) = blocks_and_rest(&text);
        assert_eq!(blocks.iter().map(|block| block.label).collect::<Vec<_>>(), ["A", "B"]);
        assert_eq!(rest.trim(), "after");
        assert_eq!(blocks_and_rest("nothing").1, "nothing");
        let cut_off = format!("{}-----BEGIN B-----\nAAAA", encode("A", b"one"));
        assert!(blocks_and_rest(&cut_off).1.contains("BEGIN B"));
    }

    #[test]
    fn headers_are_kept_apart_from_the_content() {
        let text = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES\n\nb25l\n-----END RSA PRIVATE KEY-----\n";
        let block = blocks(text).next().unwrap();
        assert_eq!(block.headers, ["Proc-Type: 4,ENCRYPTED", "DEK-Info: AES"]);
        assert_eq!(block.der, b"one");
    }
}
