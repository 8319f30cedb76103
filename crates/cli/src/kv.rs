//! Data on the command line: `key=value`, `key=@file`, `key=-`, `@file.json`, `-`.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;

use chancery_client::Value;

/// Reads the pairs. A key that comes twice makes a list; `-` may come once.
///
/// # Errors
/// One sentence that names the pair.
pub fn parse(args: &[String], stdin: &mut dyn Read) -> Result<BTreeMap<String, Value>, String> {
    let mut data = BTreeMap::new();
    let mut stdin = Some(stdin);
    for arg in args {
        add(&mut data, arg, &mut stdin)
            .map_err(|reason| format!("invalid key/value pair {arg:?}: {reason}"))?;
    }
    Ok(data)
}

/// As [`parse`], for places where a value is a text and a repeated key keeps its last one.
///
/// # Errors
/// As [`parse`]; and a value that is no text.
pub fn parse_texts(args: &[String], stdin: &mut dyn Read) -> Result<BTreeMap<String, String>, String> {
    let data = parse(args, stdin)?;
    let text = |(key, value): (String, Value)| match value {
        Value::String(text) => Ok((key, text)),
        Value::Array(mut items) => match items.pop() {
            Some(Value::String(text)) => Ok((key, text)),
            _ => Err(format!("the value of {key:?} must be a text")),
        },
        Value::Number(text) => Ok((key, text)),
        Value::Bool(value) => Ok((key, value.to_string())),
        _ => Err(format!("the value of {key:?} must be a text")),
    };
    data.into_iter().map(text).collect()
}

fn add(
    data: &mut BTreeMap<String, Value>,
    arg: &str,
    stdin: &mut Option<&mut dyn Read>,
) -> Result<(), String> {
    if arg == "-" {
        let text = read_all(stdin)?;
        return add_json(data, &text);
    }
    if let Some(path) = arg.strip_prefix('@') {
        let text = fs::read_to_string(path).map_err(|error| cannot_open(path, &error))?;
        return add_json(data, &text);
    }
    let (key, value) = arg.split_once('=').ok_or("format must be key=value")?;
    let value = if let Some(path) = value.strip_prefix('@') {
        let text = fs::read_to_string(path);
        text.map_err(|error| format!("error reading file: {}", cannot_open(path, &error)))?
    } else if value == "-" {
        read_all(stdin)?
    } else if let Some(literal) = value.strip_prefix("\\@") {
        format!("@{literal}")
    } else {
        value.to_owned()
    };
    match data.get_mut(key) {
        None => drop(data.insert(key.to_owned(), Value::String(value))),
        Some(Value::Array(items)) => items.push(Value::String(value)),
        Some(first) => *first = Value::Array(vec![std::mem::take(first), Value::String(value)]),
    }
    Ok(())
}

fn add_json(data: &mut BTreeMap<String, Value>, text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("EOF".to_owned());
    }
    match Value::parse(text).map_err(|error| error.to_string())? {
        Value::Object(fields) => {
            data.extend(fields);
            Ok(())
        }
        _ => Err("the JSON must be an object".to_owned()),
    }
}

fn read_all(stdin: &mut Option<&mut dyn Read>) -> Result<String, String> {
    let stdin = stdin.take().ok_or("stdin already consumed")?;
    let mut text = String::new();
    stdin.read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}

/// The system's reason, in Go's words where those are the ones people look for.
pub fn cannot_open(path: &str, error: &std::io::Error) -> String {
    let reason = match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    };
    format!("open {path}: {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str], stdin: &str) -> Result<String, String> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let data = parse(&args, &mut stdin.as_bytes())?;
        Ok(serde_json::to_string(&data).expect("serialises"))
    }

    #[test]
    fn values_are_texts_and_repeated_keys_make_lists() {
        assert_eq!(read(&["a=b=c", "n=1", "e="], ""), Ok(r#"{"a":"b=c","e":"","n":"1"}"#.into()));
        assert_eq!(read(&["a=1", "a=2", "a=3"], ""), Ok(r#"{"a":["1","2","3"]}"#.into()));
        assert_eq!(read(&["a=\\@b"], ""), Ok(r#"{"a":"@b"}"#.into()));
    }

    #[test]
    fn files_and_standard_input_give_values_or_whole_objects() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), "{\"n\": 1e3}\n").expect("written");
        let path = file.path().to_str().expect("a path");
        assert_eq!(read(&[&format!("@{path}")], ""), Ok(r#"{"n":1e3}"#.into()));
        assert_eq!(read(&[&format!("k=@{path}")], ""), Ok(r#"{"k":"{\"n\": 1e3}\n"}"#.into()));
        assert_eq!(read(&["-"], r#"{"a":[true]}"#), Ok(r#"{"a":[true]}"#.into()));
        assert_eq!(read(&["a=-"], "text"), Ok(r#"{"a":"text"}"#.into()));
    }

    #[test]
    fn a_pair_that_cannot_be_read_is_named() {
        for (args, stdin, sentence) in [
            (&["nokv"][..], "", "invalid key/value pair \"nokv\": format must be key=value"),
            (
                &["@/nofile"],
                "",
                "invalid key/value pair \"@/nofile\": open /nofile: no such file or directory",
            ),
            (
                &["a=@/nofile"],
                "",
                "invalid key/value pair \"a=@/nofile\": error reading file: open /nofile: no such file or directory",
            ),
            (&["-"], "", "invalid key/value pair \"-\": EOF"),
            (&["a=-", "b=-"], "x", "invalid key/value pair \"b=-\": stdin already consumed"),
            (&["-"], "[]", "invalid key/value pair \"-\": the JSON must be an object"),
        ] {
            assert_eq!(read(args, stdin).expect_err("refused"), sentence);
        }
    }
}
