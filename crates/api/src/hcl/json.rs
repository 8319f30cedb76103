//! JSON as a second way to write the same tree.
//!
//! The grammar is JSON's, plus a comma before a closing bracket; keys may repeat. Then the tree is
//! folded: an object that holds only objects gives its keys to them as labels, and a list of objects
//! becomes the same key several times, because that is how a block looks in JSON.

use super::{Body, Error, Item, Key, MAX_BYTES, MAX_DEPTH, Position, Value, ValueKind};

pub(super) fn parse(text: &str) -> Result<Body, Error> {
    let mut reader = Reader { text, offset: 0, position: Position { line: 1, column: 1 }, depth: 0 };
    let root = reader.value()?;
    reader.space();
    if reader.peek().is_some() {
        return reader.fail("text after the end of the JSON object");
    }
    match root.kind {
        ValueKind::Object(body) => Folder { budget: FOLD_BYTES }.body(body),
        _ => Err(Error::new(root.position, "a JSON object was expected")),
    }
}

struct Reader<'a> {
    text: &'a str,
    offset: usize,
    position: Position,
    depth: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.text.get(self.offset..)?.chars().next()
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

    fn space(&mut self) {
        while matches!(self.peek(), Some(' ' | '\t' | '\n' | '\r')) {
            self.bump();
        }
    }

    fn fail<T>(&self, message: impl Into<String>) -> Result<T, Error> {
        Err(Error::new(self.position, message))
    }

    fn expect(&mut self, wanted: char) -> Result<(), Error> {
        match self.peek() {
            Some(c) if c == wanted => {
                self.bump();
                Ok(())
            }
            Some(c) => self.fail(format!("'{wanted}' was expected, not '{}'", c.escape_default())),
            None => self.fail(format!("'{wanted}' was expected, not the end of the text")),
        }
    }

    fn value(&mut self) -> Result<Value, Error> {
        self.space();
        let (position, start) = (self.position, self.offset);
        let kind = match self.peek() {
            Some('{') => self.nested(Self::object)?,
            Some('[') => self.nested(Self::list)?,
            Some('"') => ValueKind::String(self.string()?),
            Some(c) if c == '-' || c.is_ascii_digit() => ValueKind::Number(self.number()?),
            Some(c) if c.is_ascii_alphabetic() => self.word()?,
            Some(c) => return self.fail(format!("illegal char: {}", c.escape_default())),
            None => return self.fail("a value was expected, not the end of the text"),
        };
        Ok(Value { kind, position, span: (start, self.offset) })
    }

    fn nested(&mut self, read: fn(&mut Self) -> Result<ValueKind, Error>) -> Result<ValueKind, Error> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.fail(format!("nested deeper than the {MAX_DEPTH} levels that are read"));
        }
        self.bump();
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn object(&mut self) -> Result<ValueKind, Error> {
        let mut items = Vec::new();
        loop {
            self.space();
            if self.peek() == Some('}') {
                break;
            }
            let (position, start) = (self.position, self.offset);
            if self.peek() != Some('"') {
                return self.fail("a key in quotes was expected");
            }
            let name = self.string()?;
            let key = Key { name, position, span: (start, self.offset) };
            self.space();
            self.expect(':')?;
            let value = self.value()?;
            items.push(Item { keys: vec![key], value, assigned: true });
            if !self.comma() {
                break;
            }
        }
        self.expect('}')?;
        Ok(ValueKind::Object(Body { items }))
    }

    fn list(&mut self) -> Result<ValueKind, Error> {
        let mut elements = Vec::new();
        loop {
            self.space();
            if self.peek() == Some(']') {
                break;
            }
            elements.push(self.value()?);
            if !self.comma() {
                break;
            }
        }
        self.expect(']')?;
        Ok(ValueKind::List(elements))
    }

    fn comma(&mut self) -> bool {
        self.space();
        let found = self.peek() == Some(',');
        if found {
            self.bump();
        }
        found
    }

    fn word(&mut self) -> Result<ValueKind, Error> {
        let start = self.position;
        for (word, kind) in
            [("true", ValueKind::Bool(true)), ("false", ValueKind::Bool(false)), ("null", ValueKind::Null)]
        {
            if self.text.get(self.offset..).is_some_and(|rest| rest.starts_with(word)) {
                for _ in word.chars() {
                    self.bump();
                }
                if !self.peek().is_some_and(|c| c.is_ascii_alphanumeric()) {
                    return Ok(kind);
                }
                break;
            }
        }
        Err(Error::new(start, "illegal char"))
    }

    fn number(&mut self) -> Result<String, Error> {
        let start = self.offset;
        let place = self.position;
        while matches!(self.peek(), Some('0'..='9' | '-' | '+' | '.' | 'e' | 'E')) {
            self.bump();
        }
        let written = self.text.get(start..self.offset).unwrap_or("");
        // One judge for all of JSON's rules on numbers (no leading zero, no bare point).
        match serde_json::from_str::<serde_json::Number>(written) {
            Ok(_) => Ok(written.to_owned()),
            Err(_) => Err(Error::new(place, format!("'{written}' is not a number"))),
        }
    }

    fn string(&mut self) -> Result<String, Error> {
        let start = self.offset;
        let place = self.position;
        self.bump();
        loop {
            match self.bump() {
                Some('"') => break,
                Some('\\') => {
                    self.bump();
                }
                Some('\n') | None => return self.fail("literal not terminated"),
                Some(_) => {}
            }
        }
        let written = self.text.get(start..self.offset).unwrap_or("");
        serde_json::from_str(written).map_err(|_| Error::new(place, "illegal char escape"))
    }
}

/// Folding copies keys, so that a long key before a long list could grow without end. All copies
/// together may be no longer than this.
const FOLD_BYTES: usize = 8 * MAX_BYTES;

struct Folder {
    budget: usize,
}

impl Folder {
    fn body(&mut self, body: Body) -> Result<Body, Error> {
        let mut folded = Vec::with_capacity(body.items.len());
        for item in body.items {
            self.item(item, &mut folded)?;
        }
        Ok(Body { items: folded })
    }

    fn item(&mut self, item: Item, folded: &mut Vec<Item>) -> Result<(), Error> {
        let Item { keys, value: Value { kind, position, span }, assigned } = item;
        match kind {
            ValueKind::List(elements)
                if !elements.is_empty() && elements.iter().all(|value| value.as_object().is_some()) =>
            {
                for value in elements {
                    let keys = self.copy(&keys)?;
                    self.item(Item { keys, value, assigned }, folded)?;
                }
            }
            ValueKind::Object(body)
                if !body.items.is_empty()
                    && body.items.iter().all(|item| item.value.as_object().is_some()) =>
            {
                for inner in body.items {
                    let mut keys = self.copy(&keys)?;
                    keys.extend(inner.keys);
                    self.item(Item { keys, value: inner.value, assigned }, folded)?;
                }
            }
            kind => {
                let kind = match kind {
                    ValueKind::Object(body) => ValueKind::Object(self.body(body)?),
                    other => other,
                };
                folded.push(Item { keys, value: Value { kind, position, span }, assigned });
            }
        }
        Ok(())
    }

    fn copy(&mut self, keys: &[Key]) -> Result<Vec<Key>, Error> {
        let size: usize = keys.iter().map(|key| size_of::<Key>() + key.name.len()).sum();
        match self.budget.checked_sub(size) {
            Some(left) => self.budget = left,
            None => {
                let position = keys.first().map_or(Position { line: 1, column: 1 }, |key| key.position);
                return Err(Error::new(position, "too many objects below this key"));
            }
        }
        Ok(keys.to_vec())
    }
}
