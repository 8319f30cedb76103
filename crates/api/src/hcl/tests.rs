use proptest::prelude::*;

use super::*;

fn body(text: &str) -> Body {
    parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn json(text: &str) -> serde_json::Value {
    Value { kind: ValueKind::Object(body(text)), position: Position { line: 1, column: 1 }, span: (0, 0) }
        .to_json()
}

fn error(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

#[test]
fn attributes_and_blocks_need_no_line_breaks() {
    let same = [
        "path \"a\" {\n  policy = \"read\"\n  capabilities = [\"list\"]\n}\npath \"b\" {}\n",
        r#"path "a" { policy = "read" capabilities = ["list"] } path "b" { }"#,
        r#"path "a" { policy = "read", capabilities = ["list",], }, path "b" {},"#,
        r#""path" "a" { "policy" = "read", "capabilities" = [,,"list"] } path b {}"#,
        "# c\npath \"a\" { // d\r\n policy = \"read\" /* e */ capabilities = [\"list\"] # f\n} path \"b\" {}",
        r#"{"path": {"a": {"policy": "read", "capabilities": ["list"]}, "b": {}}}"#,
        r#" {"path": [{"a": {"policy": "read", "capabilities": ["list",]}}, {"b": {}}],}"#,
    ];
    for text in same {
        let body = body(text);
        let labels: Vec<_> = body.named("path").map(Item::label).collect();
        assert_eq!(labels, [Some("a"), Some("b")], "{text}");
        let inner = body.items[0].value.as_object().expect("a block");
        assert_eq!(inner.items[0].value.as_str(), Some("read"), "{text}");
        assert_eq!(inner.items[1].value.as_list().expect("a list")[0].as_str(), Some("list"), "{text}");
    }
}

#[test]
fn duplicates_stay_in_order() {
    for text in ["a = 1 a = 2", r#"{"a": 1, "a": 2}"#] {
        let body = body(text);
        let values: Vec<_> = body.named("a").filter_map(|item| item.value.as_i64()).collect();
        assert_eq!(values, [1, 2]);
    }
}

#[test]
fn strings_are_decoded_and_interpolation_is_plain_text() {
    let cases = [
        (r#""a\"b\\c\n\t""#, "a\"b\\c\n\t"),
        (r#""\x72\162\u0072\U00000072""#, "rrrr"),
        (r#""${x}%{y}""#, "${x}%{y}"),
        (r#""a${"b"}c""#, "a${\"b\"}c"),
        (r#""${a{b}"\"}""#, "${a{b}\"\\\"}"),
        ("\"${a\nb}\"", "${a\nb}"),
        ("<<EOF\none\n two\nEOF\n", "one\n two\n"),
        ("<<-EOF\n    one\n      two\n    EOF\n", "one\n  two\n"),
        ("<<-EOF\n    one\n  two\n    EOF\n", "    one\n  two\n"),
        ("<<EOF\r\none\r\nEOF\r\n", "one\r\n"),
        ("<<EOF\n   EOF\n", ""),
    ];
    for (text, expected) in cases {
        assert_eq!(body(&format!("x = {text}")).items[0].value.as_str(), Some(expected), "{text}");
    }
}

#[test]
fn numbers_have_the_forms_of_go() {
    let integers = [("0", 0), ("12", 12), ("-12", -12), ("0x1F", 31), ("017", 15), ("\"42\"", 42)];
    for (text, expected) in integers {
        assert_eq!(body(&format!("x = {text}")).items[0].value.as_i64(), Some(expected), "{text}");
    }
    for (text, expected) in [("1.5", 1.5), ("-1.5e3", -1500.0), (".5", 0.5), ("1e2", 100.0), ("7", 7.0)] {
        let value = &body(&format!("x = {text}")).items[0].value;
        assert_eq!(value.as_f64(), Some(expected), "{text}");
    }
    assert_eq!(body("x = 1.5").items[0].value.as_i64(), None);
    assert_eq!(body("x = 1.5").items[0].value.as_text(), None);
    assert_eq!(body("x = 15").items[0].value.as_text(), Some("15"));
}

#[test]
fn values_nest() {
    let expected = serde_json::json!({"a": {"b": [1, [true, "x"], {"c": {}}]}, "d": -0.5});
    assert_eq!(json(r#"a { b = [1, [true, "x"], {c = {}}] } d = -0.5"#), expected);
    assert_eq!(json(r#"{"a": {"b": [1, [true, "x"], {"c": {}}]}, "d": -0.5}"#), expected);
}

#[test]
fn an_attribute_without_value_at_the_very_end_is_dropped() {
    assert_eq!(body("a = 1 x =").items.len(), 1);
    assert_eq!(error("a { x ="), "At 1:8: object expected closing RBRACE got: EOF");
}

#[test]
fn errors_say_where_and_what() {
    let cases = [
        (r#"path "a" = {}"#, "At 1:10: nested object expected: LBRACE got: ASSIGN"),
        (r#"a = ["x" "y"]"#, "At 1:10: error parsing list, expected comma or list end, got: STRING"),
        ("a = [read]", "At 1:6: unexpected token while parsing list: IDENT"),
        ("a = foo", "At 1:5: Unknown token: 1:5 IDENT foo"),
        ("a {\n b ! 1\n}", "At 2:4: illegal char"),
        ("a = \"b\nc\"", "At 1:7: literal not terminated"),
        (r#"a = "\q""#, "At 1:6: illegal char escape"),
        (r#"a = "\400""#, "At 1:6: illegal char escape"),
        (r#"a = "\ud800""#, "At 1:6: illegal char escape"),
        ("/* a", "At 1:5: comment not terminated"),
        ("/", "At 1:1: expected '/' for comment"),
        ("a = 0x", "At 1:7: illegal hexadecimal number"),
        ("a = 0159", "At 1:9: illegal octal number"),
        ("a {}}", "At 1:5: expected: IDENT | STRING | ASSIGN | LBRACE got: RBRACE"),
        ("a = 1,, b = 2", "At 1:7: expected: IDENT | STRING | ASSIGN | LBRACE got: COMMA"),
        ("a { = 1 }", "At 1:5: no object keys found!"),
        ("x", "At 1:2: key 'x' expected start of object ('{') or assignment ('=')"),
        ("x = <<EOF\na\nEOF", "At 3:4: heredoc not terminated"),
        ("x = <<\na\n", "At 1:7: zero-length heredoc anchor"),
        ("x = <<EOF y\n", "At 1:10: invalid characters in heredoc anchor"),
        ("a = 1\0", "At 1:6: unexpected null character (0x00)"),
        ("\u{feff}a = 1", "At 1:1: illegal char"),
        ("{\"a\":\n tru}", "At 2:2: illegal char"),
        ("{\"a\": 01}", "At 1:7: '01' is not a number"),
        ("{\"a\": 1", "At 1:8: '}' was expected, not the end of the text"),
        ("{\"a\": 1} x", "At 1:10: text after the end of the JSON object"),
        ("{\"a\": \"\\q\"}", "At 1:7: illegal char escape"),
        ("{a: 1}", "At 1:2: a key in quotes was expected"),
    ];
    for (text, expected) in cases {
        assert_eq!(error(text), expected, "{text}");
    }
}

#[test]
fn nesting_and_length_are_bounded() {
    let deep =
        |open: &str, close: &str, levels| format!("x = {}{}", open.repeat(levels), close.repeat(levels));
    assert!(parse(&deep("[", "]", MAX_DEPTH)).is_ok());
    assert!(
        error(&deep("[", "]", MAX_DEPTH + 1)).ends_with("nested deeper than the 100 levels that are read")
    );
    assert!(error(&"a {".repeat(100_000)).contains("nested deeper"));
    assert!(error(&"{\"a\":".repeat(100_000)).contains("nested deeper"));
    assert!(error(&" ".repeat(MAX_BYTES + 1)).contains("longer than"));
    let long_key = format!("{{\"{}\":[{}]}}", "k".repeat(MAX_BYTES / 2), "{},".repeat(100_000));
    assert!(error(&long_key).contains("too many objects"));
}

#[test]
fn json_objects_of_objects_fold_into_labels() {
    let body = body(r#"{"listener": [{"tcp": {"address": "a"}}, {"unix": {"address": "b"}}], "seal": {}}"#);
    let found: Vec<_> = body.items.iter().map(|item| (item.name(), item.label())).collect();
    assert_eq!(found, [("listener", Some("tcp")), ("listener", Some("unix")), ("seal", None)]);
}

/// Each pair was laid out by the peer's `policy fmt`.
#[test]
fn layout_is_that_of_the_peer() {
    let cases = [
        (
            "# head\npath \"a\" { capabilities = [\"read\",\"list\"], min_wrapping_ttl=\"1s\"\n# inner\n comment   = 1 # trail\n policy= \"read\"\n\n expiration=3 }\npath \"b\"    {\n}\n# between\n\n# two\npath \"c\" { allowed_parameters { \"x\" = [] yy=[\"a\",1,true] } } // end\n",
            "# head\npath \"a\" {\n  capabilities = [\"read\", \"list\"]\n\n  min_wrapping_ttl = \"1s\"\n\n  # inner\n  comment = 1      # trail\n  policy  = \"read\"\n\n  expiration = 3\n}\n\npath \"b\" {}\n\n# between\n\n# two\npath \"c\" {\n  allowed_parameters {\n    \"x\" = []\n\n    yy = [\"a\", 1, true]\n  }\n} // end\n",
        ),
        ("path \"a\" {\n\n\n # only comment\n\n}\n", "path \"a\" {\n  # only comment\n}\n"),
        (
            "path \"a\" {\n  # lead b\n  policy = \"read\"\n\n  # lead c\n  # more\n  comment = 2\n  # tail\n}\n",
            "path \"a\" {\n  # lead b\n  policy = \"read\"\n\n  # lead c\n  # more\n  comment = 2\n\n  # tail\n}\n",
        ),
        (
            "path \"a\" { allowed_parameters = {\n a=[]\n bbbb=[]}\n\n\n denied_parameters={} comment=2 policy=\"read\" }",
            "path \"a\" {\n  allowed_parameters = {\n    a    = []\n    bbbb = []\n  }\n\n  denied_parameters = {}\n\n  comment = 2\n\n  policy = \"read\"\n}\n",
        ),
        ("path \"a\"\n\"b\"\n{ policy =\n\"read\" }\n", "path \"a\" \"b\" {\n  policy = \"read\"\n}\n"),
        ("name=\"x\" path a {}", "name = \"x\"\n\npath a {}\n"),
        (
            "path \"a\" { policy = \"re\\u0061d\" comment = \"${a \"b\"}\"}",
            "path \"a\" {\n  policy = \"re\\u0061d\"\n\n  comment = \"${a \"b\"}\"\n}\n",
        ),
        (
            "path \"a\" { comment = [{a=1},{\nb=2}] }",
            "path \"a\" {\n  comment = [\n    {\n      a = 1\n    },\n    {\n      b = 2\n    },\n  ]\n}\n",
        ),
        (
            "path \"a\" {\n comment = 1 # x\n policy = \"read\" # yyy\n capabilities = [\"read\"] # zz\n}",
            "path \"a\" {\n  comment      = 1        # x\n  policy       = \"read\"   # yyy\n  capabilities = [\"read\"] # zz\n}\n",
        ),
        (
            "path \"a\" {\n comment = 1 # x\n\n policy = \"read\" # yyy\n capabilities = [\n\"read\"] # zz\n\n}",
            "path \"a\" {\n  comment = 1 # x\n\n  policy = \"read\" # yyy\n\n  capabilities = [\n    \"read\",\n  ] # zz\n}\n",
        ),
        ("path \"a\" {\r\n comment = 1\r\n}\r\n", "path \"a\" {\n  comment = 1\n}\n"),
        ("", ""),
        ("# c", "# c\n"),
    ];
    for (text, expected) in cases {
        assert_eq!(format(text).expect(text), expected, "{text}");
        assert_eq!(format(expected).expect(expected), expected, "laid out twice: {text}");
    }
}

#[test]
fn heredocs_keep_their_lines_when_laid_out() {
    let text = "a {\n  b = <<-EOF\n     x\n     EOF\n  c = [<<X\ny\nX\n, 1]\n}\n";
    let out = format(text).expect("valid");
    assert_eq!(parse(&out).map(|body| strip(&body)), parse(text).map(|body| strip(&body)), "{out}");
}

fn strip(body: &Body) -> String {
    Value { kind: ValueKind::Object(body.clone()), position: Position { line: 1, column: 1 }, span: (0, 0) }
        .to_json()
        .to_string()
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC*") {
        let _ = parse(&text);
        let _ = format(&text);
    }

    #[test]
    fn no_hcl_like_text_panics_and_layout_keeps_the_meaning(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "a", "b", " ", "\n", "=", "{", "}", "[", "]", ",", "\"s\"", "\"${\"x\"}\"", "1", "-2.5", "true", "# c\n",
                "/* d */", "<<E\nx\nE\n", "\"k\" = 1\n", "p \"q\" {", "[1, 2]", "{}", "x = [", "y = 0x1f", "// e\n",
            ]),
            0..40,
        )
    ) {
        let text = parts.concat();
        if let Ok(body) = parse::parse(&text) {
            let out = format(&text).expect("what parses can be laid out");
            let again = parse::parse(&out).map_err(|error| TestCaseError::fail(format!("{error}\n{out}")))?;
            prop_assert_eq!(strip(&again.body), strip(&body.body));
            prop_assert_eq!(again.comments.len(), body.comments.len());
        }
    }
}
