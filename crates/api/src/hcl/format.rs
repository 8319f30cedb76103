//! The usual layout of a text, comments kept: what `policy fmt` writes.

use super::lex::Comment;
use super::parse::{self, Document};
use super::{Body, Error, Item, Span, Value, ValueKind};

/// The same text, laid out: two spaces a level, a blank line between blocks, `=` and trailing comments
/// aligned over attributes that stood on consecutive lines. Strings and numbers stay as written.
///
/// # Errors
/// If the text is not HCL. JSON is not laid out by this, as there is nothing to choose.
pub fn format(text: &str) -> Result<String, Error> {
    let Document { body, comments } = parse::parse(text)?;
    let mut writer = Writer { text, comments: comments.into_iter().peekable(), out: String::new(), level: 0 };
    writer.body(&body, usize::MAX);
    let mut out = writer.out;
    out.truncate(out.trim_end().len());
    if !out.is_empty() {
        out.push('\n');
    }
    Ok(out)
}

struct Writer<'a> {
    text: &'a str,
    comments: std::iter::Peekable<std::vec::IntoIter<Comment>>,
    out: String,
    level: usize,
}

impl Writer<'_> {
    fn slice(&self, span: Span) -> &str {
        self.text.get(span.0..span.1).unwrap_or("")
    }

    fn indent(&mut self) {
        for _ in 0..self.level {
            self.out.push_str("  ");
        }
    }

    /// The items of a body that ends at byte `end`, with its comments. Ends with a newline.
    fn body(&mut self, body: &Body, end: usize) {
        let mut rest = body.items.as_slice();
        let mut first = true;
        while let Some(head) = rest.first() {
            let start = start_of(head);
            // A comment that touches the item belongs to it; one with a blank line after it stands alone.
            self.comments_before(start, &mut first);
            if !first && !self.after_lead_comment(start) {
                self.out.push('\n');
            }
            let run = self.run(rest);
            let (group, tail) = rest.split_at(run);
            self.group(group);
            rest = tail;
            first = false;
        }
        self.comments_before(end, &mut first);
    }

    fn after_lead_comment(&self, start: usize) -> bool {
        let written = self.text.get(..start).unwrap_or("").trim_end_matches([' ', '\t']);
        let line_before = written.strip_suffix('\n').unwrap_or("").trim_end();
        let last_line = line_before.rsplit('\n').next().unwrap_or("").trim_start();
        let adjacent = written.ends_with('\n') && !line_before.is_empty();
        let comment =
            last_line.starts_with('#') || last_line.starts_with("//") || line_before.ends_with("*/");
        adjacent && comment && self.out.trim_end_matches([' ']).ends_with('\n') && self.just_wrote_comment()
    }

    fn just_wrote_comment(&self) -> bool {
        let last = self.out.trim_end().rsplit('\n').next().unwrap_or("").trim_start();
        last.starts_with('#') || last.starts_with("//") || last.ends_with("*/")
    }

    /// Comments that start before byte `end`, each on lines of its own; a blank line where one stood.
    fn comments_before(&mut self, end: usize, first: &mut bool) {
        let mut previous: Option<usize> = None;
        while let Some(comment) = self.comments.next_if(|comment| comment.span.0 < end) {
            let gap = previous.is_some_and(|previous| self.blank_between(previous, comment.span.0));
            if (previous.is_none() && !*first) || gap {
                self.out.push('\n');
            }
            self.indent();
            let written = self.slice(comment.span).trim_end().to_owned();
            self.out.push_str(&written);
            self.out.push('\n');
            previous = Some(comment.span.1);
            *first = false;
        }
    }

    fn blank_between(&self, from: usize, to: usize) -> bool {
        self.slice((from, to)).matches('\n').count() > 1
    }

    /// How many of these items are aligned with each other: attributes of one line, on consecutive lines
    /// and with no comment line between.
    fn run(&self, items: &[Item]) -> usize {
        let mut count = 1;
        for pair in items.windows(2) {
            let [above, below] = pair else { break };
            let between = self.slice((above.value.span.1, start_of(below)));
            let touching = between.matches('\n').count() == 1 && !leading_comment(between);
            if !(self.one_line(above) && self.one_line(below) && touching) {
                break;
            }
            count += 1;
        }
        count
    }

    fn one_line(&self, item: &Item) -> bool {
        let empty_object = item.value.as_object().is_some_and(|body| body.items.is_empty());
        let plain = item.assigned && (empty_object || item.value.as_object().is_none());
        plain && !self.slice(item.value.span).contains('\n') && !holds_object(&item.value)
    }

    fn group(&mut self, items: &[Item]) {
        let width = items.iter().map(|item| self.keys(item).chars().count()).max().unwrap_or(0);
        let mut lines = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let start = self.out.len();
            self.indent();
            let keys = self.keys(item);
            self.out.push_str(&keys);
            if item.assigned {
                for _ in keys.chars().count()..width {
                    self.out.push(' ');
                }
                self.out.push_str(" =");
            }
            self.out.push(' ');
            self.value(&item.value);
            let line = self.out.split_off(start);
            let next = items.get(index + 1).map_or(usize::MAX, start_of);
            lines.push((line, self.trailing_comment(item.value.span.1, next)));
        }
        let column = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0);
        for (line, comment) in lines {
            self.out.push_str(&line);
            if let Some(comment) = comment {
                for _ in line.chars().count()..column {
                    self.out.push(' ');
                }
                self.out.push(' ');
                self.out.push_str(&comment);
            }
            self.out.push('\n');
        }
    }

    /// A comment on the line on which the value ends.
    fn trailing_comment(&mut self, end: usize, next: usize) -> Option<String> {
        let text = self.text;
        let comment = self.comments.next_if(|comment| {
            let between = text.get(end..comment.span.0).unwrap_or("\n");
            comment.span.0 < next
                && !between.contains('\n')
                && between.trim_matches([' ', '\t', ',']).is_empty()
        })?;
        Some(self.slice(comment.span).trim_end().to_owned())
    }

    fn keys(&self, item: &Item) -> String {
        let keys: Vec<_> = item.keys.iter().map(|key| self.slice(key.span)).collect();
        keys.join(" ")
    }

    fn value(&mut self, value: &Value) {
        match &value.kind {
            ValueKind::Object(body) => self.object(value, body),
            ValueKind::List(elements) => self.list(value, elements),
            _ => {
                let written = self.slice(value.span).trim_end_matches(['\r', '\n']).to_owned();
                self.out.push_str(&written);
            }
        }
    }

    fn object(&mut self, value: &Value, body: &Body) {
        let comments = self.comments.peek().is_some_and(|comment| comment.span.0 < value.span.1);
        if body.items.is_empty() && !comments {
            self.out.push_str("{}");
            return;
        }
        self.out.push_str("{\n");
        self.level += 1;
        self.body(body, value.span.1);
        self.level -= 1;
        self.indent();
        self.out.push('}');
    }

    fn list(&mut self, value: &Value, elements: &[Value]) {
        let comments = self.comments.peek().is_some_and(|comment| comment.span.0 < value.span.1);
        let lines = self.slice(value.span).contains('\n');
        let long = !elements.is_empty() && lines
            || comments
            || elements.iter().any(|value| value.as_object().is_some());
        if !long {
            self.out.push('[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    self.out.push_str(", ");
                }
                self.value(element);
            }
            self.out.push(']');
            return;
        }
        self.out.push_str("[\n");
        self.level += 1;
        for (index, element) in elements.iter().enumerate() {
            let mut first = true;
            self.comments_before(element.span.0, &mut first);
            self.indent();
            self.value(element);
            // A heredoc ends with its line; the comma would become part of the end mark.
            let heredoc = self.slice(element.span).starts_with("<<");
            self.out.push_str(if heredoc { "\n" } else { "," });
            if heredoc {
                self.indent();
                self.out.push(',');
            }
            let next = elements.get(index + 1).map_or(value.span.1, |next| next.span.0);
            if let Some(comment) = self.trailing_comment(element.span.1, next) {
                self.out.push(' ');
                self.out.push_str(&comment);
            }
            self.out.push('\n');
        }
        let mut first = true;
        self.comments_before(value.span.1, &mut first);
        self.level -= 1;
        self.indent();
        self.out.push(']');
    }
}

fn start_of(item: &Item) -> usize {
    item.keys.first().map_or(item.value.span.0, |key| key.span.0)
}

fn holds_object(value: &Value) -> bool {
    value.as_list().is_some_and(|elements| {
        elements.iter().any(|value| value.as_object().is_some() || holds_object(value))
    })
}

/// Whether a comment starts on a line of its own here, rather than behind the value above.
fn leading_comment(between: &str) -> bool {
    let next_line = between.split_once('\n').map_or("", |(_, next)| next).trim_start();
    next_line.starts_with('#') || next_line.starts_with('/')
}
