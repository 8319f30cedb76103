//! Tokens to a tree.

use super::lex::{Comment, Kind, Lexer, Token};
use super::{Body, Error, Item, Key, MAX_DEPTH, Position, Value, ValueKind};

/// A file and the comments in it, for the formatter.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) body: Body,
    pub(super) comments: Vec<Comment>,
}

pub(super) fn parse(text: &str) -> Result<Document, Error> {
    let mut parser = Parser { text, lexer: Lexer::new(text), ahead: None, depth: 0 };
    let body = parser.items(false)?;
    let last = parser.next()?;
    if last.kind != Kind::End {
        return Err(unexpected_key(&last));
    }
    Ok(Document { body, comments: parser.lexer.comments })
}

struct Parser<'a> {
    text: &'a str,
    lexer: Lexer<'a>,
    ahead: Option<Token>,
    depth: usize,
}

impl Parser<'_> {
    fn next(&mut self) -> Result<Token, Error> {
        match self.ahead.take() {
            Some(token) => Ok(token),
            None => self.lexer.next(),
        }
    }

    fn peek(&mut self) -> Result<Kind, Error> {
        let token = self.next()?;
        let kind = token.kind;
        self.ahead = Some(token);
        Ok(kind)
    }

    /// Items up to the end, or up to the closing brace, which is left where it is.
    fn items(&mut self, inside: bool) -> Result<Body, Error> {
        let mut items = Vec::new();
        loop {
            match self.peek()? {
                Kind::End => break,
                Kind::RightBrace if inside => break,
                _ => {}
            }
            // `key =` at the very end of the text is no error, and no item.
            let Some(item) = self.item()? else { break };
            items.push(item);
            if self.peek()? == Kind::Comma {
                self.next()?;
            }
        }
        Ok(Body { items })
    }

    fn item(&mut self) -> Result<Option<Item>, Error> {
        let mut keys = Vec::new();
        loop {
            let token = self.next()?;
            match token.kind {
                Kind::Identifier | Kind::String => keys.push(self.key(token)),
                Kind::Assign if keys.is_empty() => {
                    return Err(Error::new(token.position, "no object keys found!"));
                }
                Kind::Assign if keys.len() > 1 => {
                    let message = "nested object expected: LBRACE got: ASSIGN";
                    return Err(Error::new(token.position, message));
                }
                Kind::Assign => {
                    let value = self.value()?;
                    return Ok(value.map(|value| Item { keys, value, assigned: true }));
                }
                Kind::LeftBrace if keys.is_empty() => {
                    return Err(Error::new(token.position, "expected: IDENT | STRING got: LBRACE"));
                }
                Kind::LeftBrace => {
                    let value = self.object(&token)?;
                    return Ok(Some(Item { keys, value, assigned: false }));
                }
                Kind::End | Kind::RightBrace if !keys.is_empty() => {
                    let names: Vec<_> =
                        keys.iter().filter_map(|key| self.text.get(key.span.0..key.span.1)).collect();
                    let message = format!(
                        "key '{}' expected start of object ('{{') or assignment ('=')",
                        names.join(" ")
                    );
                    return Err(Error::new(token.position, message));
                }
                _ => return Err(unexpected_key(&token)),
            }
        }
    }

    fn key(&self, token: Token) -> Key {
        let name = match token.decoded {
            Some(decoded) => decoded,
            None => self.text.get(token.span.0..token.span.1).unwrap_or("").to_owned(),
        };
        Key { name, position: token.position, span: token.span }
    }

    /// `None` at the end of the text.
    fn value(&mut self) -> Result<Option<Value>, Error> {
        let token = self.next()?;
        match token.kind {
            Kind::LeftBrace => self.object(&token).map(Some),
            Kind::LeftBracket => self.list(&token).map(Some),
            Kind::End => Ok(None),
            _ => match self.literal(&token) {
                Some(value) => Ok(Some(value)),
                None => {
                    let written = self.text.get(token.span.0..token.span.1).unwrap_or("");
                    let message =
                        format!("Unknown token: {} {} {written}", token.position, token.kind.word());
                    Err(Error::new(token.position, message))
                }
            },
        }
    }

    fn literal(&self, token: &Token) -> Option<Value> {
        let written = self.text.get(token.span.0..token.span.1).unwrap_or("");
        let kind = match token.kind {
            Kind::Number | Kind::Float => ValueKind::Number(written.to_owned()),
            Kind::Bool => ValueKind::Bool(written == "true"),
            Kind::String | Kind::Heredoc => ValueKind::String(token.decoded.clone().unwrap_or_default()),
            _ => return None,
        };
        Some(Value { kind, position: token.position, span: token.span })
    }

    fn object(&mut self, open: &Token) -> Result<Value, Error> {
        self.deeper(open.position)?;
        let body = self.items(true)?;
        let close = self.next()?;
        if close.kind != Kind::RightBrace {
            let message = format!("object expected closing RBRACE got: {}", close.kind.word());
            return Err(Error::new(close.position, message));
        }
        self.depth -= 1;
        let span = (open.span.0, close.span.1);
        Ok(Value { kind: ValueKind::Object(body), position: open.position, span })
    }

    /// Elements with a comma after each but the last; more commas than that do no harm.
    fn list(&mut self, open: &Token) -> Result<Value, Error> {
        self.deeper(open.position)?;
        let mut elements = Vec::new();
        let mut need_comma = false;
        let close = loop {
            let token = self.next()?;
            match token.kind {
                Kind::RightBracket => break token,
                Kind::Comma => need_comma = false,
                kind if need_comma => {
                    let word = kind.word();
                    let message = format!("error parsing list, expected comma or list end, got: {word}");
                    return Err(Error::new(token.position, message));
                }
                kind => {
                    let element = match kind {
                        Kind::LeftBrace => self.object(&token)?,
                        Kind::LeftBracket => self.list(&token)?,
                        _ => self.literal(&token).ok_or_else(|| {
                            let message = format!("unexpected token while parsing list: {}", kind.word());
                            Error::new(token.position, message)
                        })?,
                    };
                    elements.push(element);
                    need_comma = true;
                }
            }
        };
        self.depth -= 1;
        let span = (open.span.0, close.span.1);
        Ok(Value { kind: ValueKind::List(elements), position: open.position, span })
    }

    fn deeper(&mut self, position: Position) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Error::new(
                position,
                format!("nested deeper than the {MAX_DEPTH} levels that are read"),
            ));
        }
        Ok(())
    }
}

fn unexpected_key(token: &Token) -> Error {
    let word = token.kind.word();
    Error::new(token.position, format!("expected: IDENT | STRING | ASSIGN | LBRACE got: {word}"))
}
