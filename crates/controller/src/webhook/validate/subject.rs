//! Subjects as RFC 4514 writes them.

/// The attributes of a distinguished name in the order written (RFC 4514, 2 and 3), their values unescaped.
pub(super) fn literal_attributes(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut attributes = Vec::new();
    let mut rest = text.chars().peekable();
    loop {
        let mut kind = String::new();
        loop {
            match rest.next() {
                Some('=') => break,
                Some(c) if c.is_ascii_alphanumeric() || ". -".contains(c) => kind.push(c),
                Some(c) => return Err(format!("{c:?} stands where TYPE=value is expected (RFC 4514)")),
                None => return Err("an attribute has no value (RFC 4514)".to_owned()),
            }
        }
        let kind = kind.trim().to_owned();
        if kind.is_empty() {
            return Err("an attribute has no type (RFC 4514)".to_owned());
        }
        let mut value = Vec::new();
        let mut is_more = false;
        while let Some(c) = rest.next() {
            match c {
                ',' | '+' | ';' => {
                    is_more = true;
                    break;
                }
                '\\' => match (rest.next(), rest.peek().copied()) {
                    (Some(high), Some(low)) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                        rest.next();
                        let digit = |c: char| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                        value.push(digit(high).unwrap_or(0) << 4 | digit(low).unwrap_or(0));
                    }
                    (Some(c), _) if " \"#+,;<=>\\".contains(c) => value.push(c as u8),
                    _ => {
                        return Err(
                            "a backslash escapes nothing that is to be escaped (RFC 4514, 2.4)".to_owned()
                        );
                    }
                },
                '"' | '<' | '>' => return Err(format!("{c:?} must be escaped (RFC 4514, 2.4)")),
                c => value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        let value = String::from_utf8(value).map_err(|_| "a value is no UTF-8".to_owned())?;
        attributes.push((kind, value.trim().to_owned()));
        if !is_more {
            return Ok(attributes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_subjects_are_read_with_their_escapes() {
        let read = |text: &str| {
            literal_attributes(text).map(|all| {
                all.into_iter().map(|(kind, value)| format!("{kind}={value}")).collect::<Vec<_>>().join("|")
            })
        };
        assert_eq!(read("CN=a, O=b+OU=c"), Ok("CN=a|O=b|OU=c".to_owned()));
        assert_eq!(read(r"CN=a\,b\2Cc,2.5.4.10=\C3\A9"), Ok("CN=a,b,c|2.5.4.10=é".to_owned()));
        for text in ["CN", "=a", "CN=a,", "C,N=a", r"CN=\", r"CN=\q", r"CN=\ff", "CN=a<b"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
