//! Text to tokens.

use super::{Error, Position, Span};

/// What a token is. The `Display` words are those that error messages use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Identifier,
    Number,
    Float,
    Bool,
    String,
    Heredoc,
    LeftBrace,
    RightBrace,
    LeftBracket,
    RightBracket,
    Comma,
    Assign,
    Minus,
    Period,
    End,
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Identifier => "IDENT",
            Self::Number => "NUMBER",
            Self::Float => "FLOAT",
            Self::Bool => "BOOL",
            Self::String => "STRING",
            Self::Heredoc => "HEREDOC",
            Self::LeftBrace => "LBRACE",
            Self::RightBrace => "RBRACE",
            Self::LeftBracket => "LBRACK",
            Self::RightBracket => "RBRACK",
            Self::Comma => "COMMA",
            Self::Assign => "ASSIGN",
            Self::Minus => "SUB",
            Self::Period => "PERIOD",
            Self::End => "EOF",
        }
    }
}

/// A token: its kind, where it is, and for strings and heredocs the decoded text.
#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) position: Position,
    pub(super) span: Span,
    pub(super) decoded: Option<String>,
}

/// A comment with its marks.
#[derive(Debug, Clone)]
pub(super) struct Comment {
    pub(super) span: Span,
}

/// A cursor over the text.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    offset: usize,
    position: Position,
    pub(super) comments: Vec<Comment>,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, offset: 0, position: Position { line: 1, column: 1 }, comments: Vec::new() }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.offset..).unwrap_or("")
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn peek_second(&self) -> Option<char> {
        self.rest().chars().nth(1)
    }

    fn bump(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.offset += next.len_utf8();
        if next == '\n' {
            self.position = Position { line: self.position.line + 1, column: 1 };
        } else {
            self.position.column += 1;
        }
        Some(next)
    }

    fn bump_while(&mut self, wanted: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&wanted) {
            self.bump();
        }
    }

    fn fail<T>(&self, message: &str) -> Result<T, Error> {
        Err(Error::new(self.position, message))
    }

    /// The next token; comments are kept aside.
    pub(super) fn next(&mut self) -> Result<Token, Error> {
        loop {
            self.bump_while(|c| matches!(c, ' ' | '\t' | '\n' | '\r'));
            match self.peek() {
                Some('#' | '/') => self.comment()?,
                _ => break,
            }
        }
        let (position, start) = (self.position, self.offset);
        let mut decoded = None;
        let kind = match self.peek() {
            None => Kind::End,
            Some(c) if is_letter(c) => self.identifier(start),
            Some(c) if c.is_ascii_digit() => self.number()?,
            Some('"') => {
                decoded = Some(self.string()?);
                Kind::String
            }
            Some('<') => {
                decoded = Some(self.heredoc()?);
                Kind::Heredoc
            }
            Some('-') => {
                self.bump();
                if self.peek().is_some_and(|c| c.is_ascii_digit()) { self.number()? } else { Kind::Minus }
            }
            Some('.') => {
                self.bump();
                if self.peek().is_some_and(|c| c.is_ascii_digit()) {
                    self.bump_while(|c| c.is_ascii_digit());
                    self.exponent();
                    Kind::Float
                } else {
                    Kind::Period
                }
            }
            Some(c) => {
                let kind = match c {
                    '{' => Kind::LeftBrace,
                    '}' => Kind::RightBrace,
                    '[' => Kind::LeftBracket,
                    ']' => Kind::RightBracket,
                    ',' => Kind::Comma,
                    '=' => Kind::Assign,
                    '\0' => return self.fail("unexpected null character (0x00)"),
                    _ => return self.fail("illegal char"),
                };
                self.bump();
                kind
            }
        };
        Ok(Token { kind, position, span: (start, self.offset), decoded })
    }

    fn comment(&mut self) -> Result<(), Error> {
        let (position, start) = (self.position, self.offset);
        if self.bump() == Some('/') {
            match self.peek() {
                Some('/') => {}
                Some('*') => return self.block_comment(start),
                _ => return Err(Error::new(position, "expected '/' for comment")),
            }
        }
        self.bump_while(|c| c != '\n');
        self.comments.push(Comment { span: (start, self.offset) });
        Ok(())
    }

    fn block_comment(&mut self, start: usize) -> Result<(), Error> {
        self.bump();
        loop {
            match self.bump() {
                Some('*') if self.peek() == Some('/') => break,
                Some(_) => {}
                None => return self.fail("comment not terminated"),
            }
        }
        self.bump();
        self.comments.push(Comment { span: (start, self.offset) });
        Ok(())
    }

    fn identifier(&mut self, start: usize) -> Kind {
        self.bump_while(|c| is_letter(c) || c.is_numeric() || matches!(c, '-' | '.'));
        match self.text.get(start..self.offset) {
            Some("true" | "false") => Kind::Bool,
            _ => Kind::Identifier,
        }
    }

    /// At the first digit. Decimal, hexadecimal, octal, or with a fraction and exponent.
    fn number(&mut self) -> Result<Kind, Error> {
        if self.peek() == Some('0') {
            self.bump();
            if matches!(self.peek(), Some('x' | 'X')) {
                self.bump();
                if !self.peek().is_some_and(|c| c.is_ascii_hexdigit()) {
                    return self.fail("illegal hexadecimal number");
                }
                self.bump_while(|c| c.is_ascii_hexdigit());
                return Ok(Kind::Number);
            }
            let digits = self.offset;
            self.bump_while(|c| c.is_ascii_digit());
            let fraction = matches!(self.peek(), Some('.' | 'e' | 'E'));
            if !fraction && self.text.get(digits..self.offset).unwrap_or("").contains(['8', '9']) {
                return self.fail("illegal octal number");
            }
        }
        self.bump_while(|c| c.is_ascii_digit());
        if self.peek() == Some('.') {
            self.bump();
            self.bump_while(|c| c.is_ascii_digit());
            self.exponent();
            return Ok(Kind::Float);
        }
        Ok(if self.exponent() { Kind::Float } else { Kind::Number })
    }

    fn exponent(&mut self) -> bool {
        if !matches!(self.peek(), Some('e' | 'E')) {
            return false;
        }
        self.bump();
        if matches!(self.peek(), Some('+' | '-')) {
            self.bump();
        }
        self.bump_while(|c| c.is_ascii_digit());
        true
    }

    /// A quoted string. What stands between `${` and its closing brace is copied as it is, quotes and
    /// backslashes included.
    fn string(&mut self) -> Result<String, Error> {
        self.bump();
        let mut decoded = String::new();
        let mut braces = 0_usize;
        loop {
            let place = self.position;
            match self.bump() {
                None => return self.fail("literal not terminated"),
                Some('\n') if braces == 0 => return Err(Error::new(place, "literal not terminated")),
                Some('"') if braces == 0 => return Ok(decoded),
                Some('\\') if braces == 0 => decoded.push(self.escape(place)?),
                Some('$') if braces == 0 && self.peek() == Some('{') => {
                    self.bump();
                    decoded.push_str("${");
                    braces = 1;
                }
                Some(c) => {
                    match c {
                        '{' if braces > 0 => braces += 1,
                        '}' if braces > 0 => braces -= 1,
                        _ => {}
                    }
                    decoded.push(c);
                }
            }
        }
    }

    fn escape(&mut self, place: Position) -> Result<char, Error> {
        let illegal = || Error::new(place, "illegal char escape");
        let (digits, base) = match self.bump().ok_or_else(illegal)? {
            'a' => return Ok('\x07'),
            'b' => return Ok('\x08'),
            'f' => return Ok('\x0c'),
            'n' => return Ok('\n'),
            'r' => return Ok('\r'),
            't' => return Ok('\t'),
            'v' => return Ok('\x0b'),
            c @ ('\\' | '"') => return Ok(c),
            'x' => (2, 16),
            'u' => (4, 16),
            'U' => (8, 16),
            c @ '0'..='7' => {
                let mut code = c.to_digit(8).ok_or_else(illegal)?;
                for _ in 0..2 {
                    let digit = self.bump().and_then(|c| c.to_digit(8)).ok_or_else(illegal)?;
                    code = code * 8 + digit;
                }
                return u8::try_from(code).map(char::from).map_err(|_| illegal());
            }
            _ => return Err(illegal()),
        };
        let mut code = 0_u32;
        for _ in 0..digits {
            let digit = self.bump().and_then(|c| c.to_digit(base)).ok_or_else(illegal)?;
            code = code.checked_mul(base).and_then(|code| code.checked_add(digit)).ok_or_else(illegal)?;
        }
        char::from_u32(code).ok_or_else(illegal)
    }

    /// `<<EOF` or `<<-EOF`, lines, and a line that holds only the anchor and its indentation.
    fn heredoc(&mut self) -> Result<String, Error> {
        self.bump();
        if self.peek() != Some('<') {
            return self.fail("heredoc expected second '<', didn't see it");
        }
        self.bump();
        let unindent = self.peek() == Some('-');
        if unindent {
            self.bump();
        }
        let start = self.offset;
        self.bump_while(|c| is_letter(c) || c.is_numeric());
        let anchor = self.text.get(start..self.offset).unwrap_or("");
        if self.peek() == Some('\r') && self.peek_second() == Some('\n') {
            self.bump();
        }
        match self.peek() {
            None => return self.fail("heredoc not terminated"),
            Some('\n') if anchor.is_empty() => return self.fail("zero-length heredoc anchor"),
            Some('\n') => self.bump(),
            Some(_) => return self.fail("invalid characters in heredoc anchor"),
        };
        let mut lines = Vec::new();
        loop {
            let start = self.offset;
            self.bump_while(|c| c != '\n');
            let line = self.text.get(start..self.offset).unwrap_or("");
            let bare = line.trim_end_matches('\r');
            if self.peek().is_none() {
                return self.fail("heredoc not terminated");
            }
            if bare.trim_start() == anchor {
                let indentation = line.len() - line.trim_start().len();
                let indentation = line.get(..indentation).unwrap_or("");
                return Ok(join(&lines, if unindent { indentation } else { "" }));
            }
            lines.push(line);
            self.bump();
        }
    }
}

/// The lines without the indentation of their end mark, if each of them has it.
fn join(lines: &[&str], indentation: &str) -> String {
    let indented = lines.iter().all(|line| line.starts_with(indentation));
    let strip = if indented { indentation.len() } else { 0 };
    let mut text = String::new();
    for line in lines {
        text.push_str(line.get(strip..).unwrap_or(""));
        text.push('\n');
    }
    text
}

fn is_letter(c: char) -> bool {
    c == '_' || c.is_alphabetic()
}
