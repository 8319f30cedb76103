//! YAML as the peer writes it.
//!
//! The style is that of Go's YAML 1.1 library: keys in natural order, lists not indented under their
//! key, texts of several lines as literal blocks, long texts folded near column 80, and quotes around
//! whatever YAML 1.1 would read as something else than a text.

use std::cmp::Ordering;

use super::Doc;

/// Lines are folded at the first space after this column.
const WIDTH: usize = 80;

/// The document, ending in a line feed.
pub(super) fn render(doc: &Doc) -> String {
    let mut writer = Writer { text: String::new(), column: 0 };
    writer.node(doc, 0, Place::Root);
    if !writer.text.ends_with('\n') {
        writer.text.push('\n');
    }
    writer.text
}

/// Where a node stands, which decides what separates it from what came before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Value,
    Item,
}

struct Writer {
    text: String,
    column: usize,
}

impl Writer {
    fn push(&mut self, text: &str) {
        self.text.push_str(text);
        self.column += text.chars().count();
    }

    fn line(&mut self, indent: usize) {
        if !self.text.is_empty() && !self.text.ends_with('\n') {
            self.text.push('\n');
        }
        self.text.push_str(&" ".repeat(indent));
        self.column = indent;
    }

    fn node(&mut self, doc: &Doc, indent: usize, place: Place) {
        if place == Place::Value && !is_block(doc) {
            self.push(" ");
        }
        match doc {
            Doc::Null => self.push("null"),
            Doc::Bool(value) => self.push(if *value { "true" } else { "false" }),
            Doc::Number(number) => self.push(&canonical_number(number)),
            Doc::String(text) => self.scalar(text, indent, place),
            Doc::Array(items) if items.is_empty() => self.push("[]"),
            Doc::Object(fields) if fields.is_empty() => self.push("{}"),
            Doc::Array(items) => {
                // Under a key, a list stands at the key's own indentation.
                let indent = if place == Place::Value { indent.saturating_sub(2) } else { indent };
                for (index, item) in items.iter().enumerate() {
                    if index > 0 || place != Place::Item {
                        self.line(indent);
                    }
                    self.push("- ");
                    self.node(item, indent + 2, Place::Item);
                }
            }
            Doc::Object(fields) => {
                let mut fields: Vec<&(String, Doc)> = fields.iter().collect();
                fields.sort_by(|a, b| natural(&a.0, &b.0));
                for (index, (name, value)) in fields.into_iter().enumerate() {
                    if index > 0 || place != Place::Item {
                        self.line(indent);
                    }
                    self.key(name);
                    self.push(":");
                    self.node(value, indent + 2, Place::Value);
                }
            }
        }
    }

    fn key(&mut self, name: &str) {
        match style(name) {
            Style::Plain => self.push(name),
            Style::Single => self.push(&format!("'{}'", name.replace('\'', "''"))),
            Style::Double | Style::Literal => self.push(&double_quoted(name)),
        }
    }

    fn scalar(&mut self, text: &str, indent: usize, place: Place) {
        let indent = if place == Place::Root { 2 } else { indent };
        match style(text) {
            Style::Plain => self.folded(text, indent, ""),
            Style::Single => {
                self.push("'");
                self.folded(&text.replace('\'', "''"), indent, "");
                self.push("'");
            }
            Style::Double => self.double(text, indent),
            Style::Literal => self.literal(text, indent),
        }
    }

    /// Words, with a new line at the first single space after the column where lines end.
    fn folded(&mut self, text: &str, indent: usize, continuation: &str) {
        let chars: Vec<char> = text.chars().collect();
        for (index, c) in chars.iter().enumerate() {
            let alone = index > 0
                && chars.get(index + 1).is_some_and(|next| *next != ' ')
                && chars.get(index.wrapping_sub(1)).is_some_and(|before| *before != ' ');
            if *c == ' ' && alone && self.column > WIDTH {
                self.push(continuation);
                self.line(indent);
            } else {
                self.push(c.encode_utf8(&mut [0; 4]));
            }
        }
    }

    fn double(&mut self, text: &str, indent: usize) {
        let quoted = double_quoted(text);
        let inner = quoted.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(&quoted);
        self.push("\"");
        self.folded(inner, indent, "");
        self.push("\"");
    }

    /// `|` keeps one line feed at the end, `|-` none, `|+` all.
    fn literal(&mut self, text: &str, indent: usize) {
        let hint = if text.starts_with([' ', '\n']) { "2" } else { "" };
        let keep = match text.strip_suffix('\n') {
            None => "-",
            Some(rest) if rest.is_empty() || rest.ends_with('\n') => "+",
            Some(_) => "",
        };
        self.push(&format!("|{hint}{keep}"));
        for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
            self.text.push('\n');
            if !line.is_empty() {
                self.text.push_str(&" ".repeat(indent));
                self.text.push_str(line);
            }
        }
        if keep == "+" {
            self.text.push('\n');
        }
        self.column = 0;
    }
}

fn is_block(doc: &Doc) -> bool {
    match doc {
        Doc::Array(items) => !items.is_empty(),
        Doc::Object(fields) => !fields.is_empty(),
        _ => false,
    }
}

/// Numbers pass through JSON on their way: what has a fraction or an exponent becomes a float.
fn canonical_number(number: &str) -> String {
    if number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok() {
        return number.to_owned();
    }
    let Ok(float) = number.parse::<f64>() else { return number.to_owned() };
    let exponent = if float == 0.0 { 0 } else { float.abs().log10().floor() as i32 };
    if !(-4..6).contains(&exponent) {
        // Go writes at least two digits of exponent, with its sign.
        let text = format!("{float:e}");
        let Some((mantissa, exponent)) = text.split_once('e') else { return text };
        let (sign, digits) = match exponent.strip_prefix('-') {
            Some(digits) => ('-', digits),
            None => ('+', exponent),
        };
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    format!("{float}")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Single,
    Double,
    Literal,
}

fn style(text: &str) -> Style {
    let special = text.chars().any(|c| !is_printable(c) && c != '\n');
    if special {
        return Style::Double;
    }
    if text.contains('\n') {
        // A literal block cannot show a space before a line's end at the very start or end.
        let awkward = text.ends_with(' ') || text.contains(" \n") && text.starts_with(' ');
        return if awkward { Style::Double } else { Style::Literal };
    }
    if resolves_to_something_else(text) {
        return Style::Double;
    }
    if can_be_plain(text) {
        return Style::Plain;
    }
    Style::Single
}

/// What the peer's library writes as it is. (It escapes everything beyond the basic plane.)
fn is_printable(c: char) -> bool {
    matches!(c, '\n' | ' '..='~' | '\u{a0}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}')
        && !matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}')
}

/// Whether YAML 1.1 reads the text, unquoted, as a null, a boolean, a number or a time.
fn resolves_to_something_else(text: &str) -> bool {
    let words = [
        "", "~", "null", "Null", "NULL", "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On",
        "ON", "n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF", ".nan", ".NaN",
        ".NAN", ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF",
    ];
    words.contains(&text) || is_number(text) || is_time(text) || is_base_60(text)
}

fn is_number(text: &str) -> bool {
    if !text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
        return false;
    }
    let plain = text.replace('_', "");
    let unsigned = plain.strip_prefix(['+', '-']).unwrap_or(&plain);
    let digits = |text: &str, radix: u32| !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
    let prefixed = |prefixes: [&str; 2], radix: u32| {
        prefixes.iter().any(|prefix| unsigned.strip_prefix(prefix).is_some_and(|rest| digits(rest, radix)))
    };
    if prefixed(["0x", "0X"], 16) || prefixed(["0b", "0b"], 2) || prefixed(["0o", "0o"], 8) {
        return true;
    }
    if digits(unsigned, 10) {
        return true;
    }
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (unsigned.get(..at).unwrap_or_default(), unsigned.get(at + 1..)),
        None => (unsigned, None),
    };
    let exponent_fits =
        exponent.is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent), 10));
    let mantissa_fits = match mantissa.split_once('.') {
        None => digits(mantissa, 10),
        Some(("", fraction)) => digits(fraction, 10),
        Some((whole, "")) => digits(whole, 10),
        Some((whole, fraction)) => digits(whole, 10) && digits(fraction, 10),
    };
    mantissa_fits && exponent_fits
}

/// `2026-11-24`; with a time behind a blank, as it is; with one behind a `T`, only with a zone.
fn is_time(text: &str) -> bool {
    let numbers = |text: &str, separator: char, limits: [(usize, u32, u32); 3]| {
        let parts: Vec<&str> = text.split(separator).collect();
        parts.len() == 3
            && parts.iter().zip(limits).all(|(part, (digits, least, most))| {
                let fits =
                    (1..=digits).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
                fits && part.parse().is_ok_and(|number: u32| (least..=most).contains(&number))
            })
    };
    let is_date =
        |text: &str| text.find('-') == Some(4) && numbers(text, '-', [(4, 0, 9999), (2, 1, 12), (2, 1, 31)]);
    let is_clock = |text: &str| {
        let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = !fraction.is_empty() && fraction.bytes().all(|byte| byte.is_ascii_digit());
        digits && numbers(clock, ':', [(2, 0, 23), (2, 0, 59), (2, 0, 59)])
    };
    let Some(at) = text.find(['T', 't', ' ']) else { return is_date(text) };
    let (date, rest) = text.split_at(at);
    let Some(time) = rest.get(1..) else { return false };
    if !is_date(date) {
        return false;
    }
    if rest.starts_with(' ') {
        return is_clock(time);
    }
    if let Some(clock) = time.strip_suffix('Z') {
        return is_clock(clock);
    }
    let Some((clock, zone)) = time.rfind(['+', '-']).map(|at| time.split_at(at)) else { return false };
    let zone: Vec<&str> = zone.get(1..).unwrap_or_default().split(':').collect();
    let is_zone = zone.len() == 2
        && zone.iter().all(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit()));
    is_zone && is_clock(clock)
}

/// `190:20:30.15` is a number to YAML 1.1; to nobody else.
fn is_base_60(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mut parts = unsigned.split(':');
    let Some(first) = parts.next() else { return false };
    let rest: Vec<&str> = parts.collect();
    let Some((last, middle)) = rest.split_last() else { return false };
    let sixty = |part: &str| {
        let valid = part.len() <= 2 && !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        valid && part.parse::<u8>().is_ok_and(|number| number < 60)
    };
    let (whole, fraction) = last.split_once('.').unwrap_or((last, ""));
    first.starts_with(|c: char| c.is_ascii_digit())
        && first.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_')
        && middle.iter().all(|part| sixty(part))
        && sixty(whole)
        && fraction.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_')
}

/// Whether the text may stand without quotes.
fn can_be_plain(text: &str) -> bool {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return false };
    let second = chars.next();
    if text.starts_with("---") || text.starts_with("...") || text.starts_with(' ') || text.ends_with(' ') {
        return false;
    }
    if "#,[]{}&*!|>'\"%@`".contains(first) {
        return false;
    }
    if matches!(first, '?' | ':' | '-') && second.is_none_or(|next| next == ' ') {
        return false;
    }
    !(text.contains(": ") || text.ends_with(':') || text.contains(" #"))
}

fn double_quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\0' => quoted.push_str("\\0"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\t' => quoted.push_str("\\t"),
            '\n' => quoted.push_str("\\n"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            '\r' => quoted.push_str("\\r"),
            '\u{1b}' => quoted.push_str("\\e"),
            '\u{85}' => quoted.push_str("\\N"),
            '\u{2028}' => quoted.push_str("\\L"),
            '\u{2029}' => quoted.push_str("\\P"),
            c if is_printable(c) => quoted.push(c),
            c if u32::from(c) <= 0xff => quoted.push_str(&format!("\\x{:02X}", u32::from(c))),
            c if u32::from(c) <= 0xffff => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push_str(&format!("\\U{:08X}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

/// Keys in natural order: letters by their code, after everything else; runs of digits by their number.
fn natural(a: &str, b: &str) -> Ordering {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(at) = a.iter().zip(&b).position(|(x, y)| x != y) else { return a.len().cmp(&b.len()) };
    let (Some(&x), Some(&y)) = (a.get(at), b.get(at)) else { return Ordering::Equal };
    match (x.is_alphabetic(), y.is_alphabetic()) {
        (true, true) => return x.cmp(&y),
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let run = |text: &[char]| -> (u64, usize) {
        let mut number = 0_u64;
        let mut length = 0;
        for digit in text.iter().skip(at).map_while(|c| c.to_digit(10)) {
            number = number.wrapping_mul(10).wrapping_add(u64::from(digit));
            length += 1;
        }
        // After a digit that counts, a leading zero is a digit like any other.
        let before = text.get(..at).unwrap_or_default().iter().rev().take_while(|c| c.is_ascii_digit());
        if (x == '0' || y == '0') && before.into_iter().any(|c| *c != '0') {
            number = number.wrapping_add(10_u64.wrapping_pow(length));
        }
        (number, length as usize)
    };
    run(&a).cmp(&run(&b)).then(x.cmp(&y))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chancery_client::Value;

    fn yaml(json: &str) -> String {
        render(&Doc::from(&Value::parse(json).expect("valid JSON")))
    }

    #[test]
    fn maps_lists_and_blocks_are_laid_out_as_the_peer_does() {
        assert_eq!(
            yaml(
                r#"{"l":[1,"a",null,{"x":{"y":1,"b":[true]}}],"m":{"z":1,"a":"b c"},"n":1,"e":1e3,"emp":"","multi":"a\nb","none":[],"o":{}}"#
            ),
            "e: 1000\nemp: \"\"\nl:\n- 1\n- a\n- null\n- x:\n    b:\n    - true\n    \"y\": 1\nm:\n  a: b c\n  z: 1\nmulti: |-\n  a\n  b\n\"n\": 1\nnone: []\no: {}\n"
        );
        assert_eq!(yaml(r#"[["a","b"],"c"]"#), "- - a\n  - b\n- c\n");
        assert_eq!(yaml("1"), "1\n");
        assert_eq!(yaml(r#"{"a":"x\n"}"#), "a: |\n  x\n");
    }

    #[test]
    fn texts_that_look_like_something_else_are_quoted() {
        for (text, shown) in [
            ("2026-11-24T02:51:23.010026267Z", "\"2026-11-24T02:51:23.010026267Z\""),
            ("2026-11-24", "\"2026-11-24\""),
            ("2026-1-2 10:00:00.5", "\"2026-1-2 10:00:00.5\""),
            ("2026-1-2T10:00:00+02:00", "\"2026-1-2T10:00:00+02:00\""),
            ("2026-1-2T10:00:00", "2026-1-2T10:00:00"),
            ("2026-11-24 or so", "2026-11-24 or so"),
            ("<<", "<<"),
            ("16:70:3c:25", "16:70:3c:25"),
            ("12:30:45", "\"12:30:45\""),
            ("1", "\"1\""),
            ("0x1f", "\"0x1f\""),
            ("1e3", "\"1e3\""),
            ("yes", "\"yes\""),
            ("istioca/", "istioca/"),
            ("spiffe://a/*", "spiffe://a/*"),
            ("a: b", "'a: b'"),
            ("*", "'*'"),
            ("-", "'-'"),
            ("-a", "-a"),
            ("it's", "it's"),
            ("tab\t", "\"tab\\t\""),
            ("v2.7.2+builtin.bao", "v2.7.2+builtin.bao"),
            ("2.7.2", "2.7.2"),
            ("\u{1f600}", "\"\\U0001F600\""),
        ] {
            let json = serde_json::to_string(&std::collections::BTreeMap::from([("k", text)])).expect("JSON");
            assert_eq!(yaml(&json), format!("k: {shown}\n"));
        }
    }

    #[test]
    fn long_texts_are_folded_after_column_eighty() {
        let text = "This mount hasn't configured any authority information access (AIA) fields; this may make \
                    it harder for systems to find missing certificates in the chain or to validate revocation \
                    status of certificates. Consider updating /config/urls or the newly generated issuer with \
                    this information.";
        let json =
            serde_json::to_string(&std::collections::BTreeMap::from([("warnings", [text])])).expect("JSON");
        assert_eq!(
            yaml(&json),
            "warnings:\n- This mount hasn't configured any authority information access (AIA) fields; this\n  \
             may make it harder for systems to find missing certificates in the chain or to validate\n  \
             revocation status of certificates. Consider updating /config/urls or the newly generated\n  \
             issuer with this information.\n"
        );
    }

    #[test]
    fn floats_are_written_as_go_writes_them() {
        for (number, shown) in [
            ("1e3", "1000"),
            ("1.5", "1.5"),
            ("1e6", "1e+06"),
            ("1e-9", "1e-09"),
            ("0.001", "0.001"),
            ("123456789012345678901", "1.2345678901234568e+20"),
            ("18446744073709551615", "18446744073709551615"),
        ] {
            assert_eq!(canonical_number(number), shown);
        }
    }

    #[test]
    fn keys_are_in_natural_order() {
        let mut keys = ["b", "a10", "a2", "B", "a", "_x", "1", "10", "9"];
        keys.sort_by(|a, b| natural(a, b));
        assert_eq!(keys, ["_x", "1", "9", "10", "B", "a", "a2", "a10", "b"]);
    }
}
