use super::*;

const BASE: &str = r#"
kind: Deployment
metadata: {name: agent, annotations: {}}
spec:
  replicas: 2
  template:
    spec:
      containers:
      - name: main
        image: repo/main:1
        args: [serve, --port=8080, --log=info]
        ports: [{containerPort: 8080}, {containerPort: 9090, name: m}]
        env: [{name: A, value: "1"}]
      - name: side
        args: []
      volumes: [{name: tmp, emptyDir: {}}]
      hostAliases: null
"#;

/// The base after these patches, each a path and a value in YAML; `C` and `V` stand for what is patched most.
fn patched(patches: &[(&str, &str)], compatibility: Compatibility) -> Result<Node, String> {
    let mut object = Node::document(BASE).expect("YAML");
    for (path, value) in patches {
        let path = match path.split_at(1) {
            ("C", rest) => format!("spec.template.spec.containers.[name:main]{rest}"),
            ("V", rest) => format!("spec.template.spec.volumes{rest}"),
            _ => (*path).to_owned(),
        };
        let patch = Patch { path, value: Node::document(value).unwrap_or_default() };
        let before = object.clone();
        if let Err(error) = patch.apply(&mut object, compatibility) {
            assert_eq!(object, before, "a patch that fails changes nothing");
            return Err(error.to_string());
        }
    }
    Ok(object)
}

/// What stands at a place of the base after these patches; `Err` if the patches fail.
fn there(patches: &[(&str, &str)], keys: &[&str]) -> Result<Option<String>, String> {
    let object = patched(patches, Compatibility::Exact)?;
    Ok(at(&object, keys))
}

/// Numbers among the keys are indexes of lists.
fn at(object: &Node, keys: &[&str]) -> Option<String> {
    let found = keys.iter().try_fold(object, |node, key| match node {
        Node::List(list) => list.get(key.parse::<usize>().expect("an index")),
        node => node.at(&[key]),
    });
    found.map(|node| serde_json::to_string(node).expect("JSON"))
}

const MAIN: &[&str] = &["spec", "template", "spec", "containers", "0"];

fn main_at<'a>(keys: &[&'a str]) -> Vec<&'a str> {
    [MAIN, keys].concat()
}

fn json(text: &str) -> Result<Option<String>, String> {
    Ok(Some(text.to_owned()))
}

#[test]
fn a_value_replaces_what_is_there_as_a_whole() {
    assert_eq!(there(&[("spec.replicas", "5")], &["spec", "replicas"]), json("5"));
    let image = main_at(&["image"]);
    let path = "spec.template.spec.containers[name:main].image";
    assert_eq!(there(&[(path, "repo/main:3")], &image), json("\"repo/main:3\""));
    let ports = main_at(&["ports"]);
    let patch = ("C.ports.[containerPort:9090]", "{containerPort: 9091}");
    assert_eq!(there(&[patch], &ports), json(r#"[{"containerPort":8080},{"containerPort":9091}]"#));
    let args = main_at(&["args"]);
    assert_eq!(there(&[("C.args", r#"["a","b"]"#)], &args), json(r#"["a","b"]"#));
    assert_eq!(there(&[("C.args", "--only")], &args), json("\"--only\""));
    let aliases = ["spec", "template", "spec", "hostAliases"];
    let patch = ("spec.template.spec.hostAliases", "[{ip: 1.2.3.4, hostnames: [h]}]");
    assert_eq!(there(&[patch], &aliases), json(r#"[{"ip":"1.2.3.4","hostnames":["h"]}]"#));
}

#[test]
fn an_index_replaces_an_element_or_appends_one() {
    let args = main_at(&["args"]);
    assert_eq!(
        there(&[("C.args[7]", "--tls=on")], &args),
        json(r#"["serve","--port=8080","--log=info","--tls=on"]"#)
    );
    assert_eq!(
        there(&[("C.args[-1]", "--x"), ("C.args[-1]", "--y")], &args),
        json(r#"["serve","--port=8080","--log=info","--x","--y"]"#)
    );
    let patch = ("C.args[2]", "--log=debug");
    assert_eq!(there(&[patch], &args), json(r#"["serve","--port=8080","--log=debug"]"#));
    let volumes = ["spec", "template", "spec", "volumes"];
    let patch = ("V[9].name", "z");
    assert_eq!(there(&[patch], &volumes), json(r#"[{"name":"tmp","emptyDir":{}},{"name":"z"}]"#));
    let side = ["spec", "template", "spec", "containers", "1", "args"];
    let patch = ("spec.template.spec.containers.[name:side].args[0]", "first");
    assert_eq!(there(&[patch], &side), json(r#"["first"]"#));
    let patch = ("C.env[-1]", "{name: E, value: \"x\"}");
    let env = main_at(&["env"]);
    assert_eq!(there(&[patch], &env), json(r#"[{"name":"A","value":"1"},{"name":"E","value":"x"}]"#));
}

#[test]
fn a_regular_expression_means_the_first_scalar_that_it_matches() {
    let args = main_at(&["args"]);
    for (path, value, expected) in [
        ("C.args.[--log]", "--log=warn", r#"["serve","--port=8080","--log=warn"]"#),
        ("C.args.[--]", "X", r#"["serve","X","--log=info"]"#),
        ("C.args.[:--port]", "--port=9", r#"["serve","--port=9","--log=info"]"#),
        ("C.args.[--log]", "null", r#"["serve","--port=8080"]"#),
        ("C.args.[^serve$]", "run", r#"["run","--port=8080","--log=info"]"#),
    ] {
        assert_eq!(there(&[(path, value)], &args), json(expected), "{path}");
    }
    // In a list of scalars, `key:value` is a regular expression too.
    let patches = [("C.args", "[proxy, all:info]"), ("C.args[all:info]", "all:error")];
    assert_eq!(there(&patches, &args), json(r#"["proxy","all:error"]"#));
    assert_eq!(
        there(&[("C.args.[(]", "x")], &args),
        Err("path spec.template.spec.containers.[name:main].args.[(]: ( is no regular expression".to_owned())
    );
}

#[test]
fn nothing_takes_away_what_is_there() {
    let containers = ["spec", "template", "spec", "containers"];
    let one = there(&[("spec.template.spec.containers.[name:side]", "null")], &containers).expect("it works");
    assert!(one.is_some_and(|text| text.contains("main") && !text.contains("side")));
    assert_eq!(there(&[("spec.replicas", "null")], &["spec", "replicas"]), Ok(None));
    // A list within a list.
    let patches = [("spec.matrix", "[[1, 2], [3]]"), ("spec.matrix.[0].[1]", "null")];
    assert_eq!(there(&patches, &["spec", "matrix"]), json("[[1],[3]]"));
}

#[test]
fn what_is_not_there_needs_no_taking_away_except_from_lists() {
    let base = Node::document(BASE).expect("YAML");
    for path in ["spec.foo.bar", "spec.foo", "spec.foo[3].x", "spec.template.spec.hostAliases[0]"] {
        assert_eq!(patched(&[(path, "null")], Compatibility::Exact), Ok(base.clone()), "{path}");
    }
    for (path, fault) in [
        ("C.args[3]", "there is nothing at [3] to delete: the list has 3 elements"),
        ("C.args[-1]", "there is nothing at [-1] to delete: the list has 3 elements"),
        ("C.args[--tls]", "element [--tls] not found"),
        ("V.[name:x]", "element [name:x] not found"),
    ] {
        let error = patched(&[(path, "null")], Compatibility::Exact).expect_err(path);
        assert!(error.ends_with(fault), "{error}");
    }
}

#[test]
fn what_is_missing_on_the_way_is_made() {
    let surge = ["spec", "strategy"];
    let patch = ("spec.strategy.rollingUpdate.maxSurge", "50%");
    assert_eq!(there(&[patch], &surge), json(r#"{"rollingUpdate":{"maxSurge":"50%"}}"#));
    let annotations = ["metadata", "annotations"];
    let patch = (r"metadata.annotations.prometheus\.io/scrape", "\"true\"");
    assert_eq!(there(&[patch], &annotations), json(r#"{"prometheus.io/scrape":"true"}"#));
    let resources = main_at(&["resources"]);
    assert_eq!(there(&[("C.resources.limits.cpu", "\"1\"")], &resources), json(r#"{"limits":{"cpu":"1"}}"#));
    let init = ["spec", "template", "spec", "initContainers"];
    let patch = ("spec.template.spec.initContainers[0]", "{name: i}");
    assert_eq!(there(&[patch], &init), json(r#"[{"name":"i"}]"#));
    let aliases = ["spec", "template", "spec", "hostAliases"];
    let patch = ("spec.template.spec.hostAliases[-1].ip", "1.2.3.4");
    assert_eq!(there(&[patch], &aliases), json(r#"[{"ip":"1.2.3.4"}]"#));
    let patch = ("spec.template.spec.hostAliases.ip", "1.2.3.4");
    assert_eq!(there(&[patch], &aliases), json(r#"{"ip":"1.2.3.4"}"#));
}

#[test]
fn a_text_stays_a_text() {
    let annotations = ["metadata", "annotations"];
    assert_eq!(there(&[("metadata.annotations.note", "'a: b'")], &annotations), json(r#"{"note":"a: b"}"#));
}

#[test]
fn a_list_within_what_was_inserted_before_is_replaced() {
    let patches = [("V[-1]", "{name: x, items: [1, 2]}"), ("V.[name:x].items", "[3]")];
    let items = ["spec", "template", "spec", "volumes", "1", "items"];
    assert_eq!(there(&patches, &items), json("[3]"));
}

#[test]
fn what_the_path_supposes_must_be_so() {
    for (path, fault) in [
        ("V.[name:x]", "element [name:x] not found"),
        ("spec.template.spec.containers.[main].image", "[main] is not a valid key:value path element"),
        ("spec.replicas.foo", "leaf type number in non-leaf Node foo"),
        (
            "spec.template.spec.containers.[name:a.b].image",
            "[name:a: the bracket is not closed; within brackets too, a dot is written \\.",
        ),
        (r"spec.template.spec.containers.[name:a\.b].image", "element [name:a.b] not found"),
        (
            "spec.template.spec.containers.name",
            "name is a key, and the list needs [N], [key:value] or [value]",
        ),
        ("spec[0]", "[0] is an element of a list, and a map is here"),
        ("spec.none.[name:x].y", "element [name:x] not found"),
        ("C.args[--tls]", "element [--tls] not found"),
        ("", "the path is empty"),
    ] {
        let path_of = |path: &str| if path.is_empty() { "." } else { path }.to_owned();
        let error = patched(&[(&path_of(path), "x")], Compatibility::Exact).expect_err(path);
        assert!(error.starts_with("path ") && error.ends_with(fault), "{error}");
    }
}

#[test]
fn numbers_and_booleans_are_found_by_their_text() {
    let patches = [("V[-1]", "{name: on, flag: true}"), ("V.[flag:true].name", "found")];
    let name = ["spec", "template", "spec", "volumes", "1", "name"];
    assert_eq!(there(&patches, &name), json("\"found\""));
}

#[test]
fn upstream_surprises_only_where_it_is_asked_to() {
    let upstream = |path: &str, value: &str, keys: &[&str]| {
        patched(&[(path, value)], Compatibility::Upstream).map(|object| at(&object, keys))
    };
    let pod = ["spec", "template", "spec"];
    let init = [&pod[..], &["initContainers"]].concat();
    assert_eq!(
        upstream("spec.template.spec.initContainers[0]", "{name: i}", &init),
        json(r#"{"[0]":{"name":"i"}}"#)
    );
    assert_eq!(upstream("spec.foo.bar", "null", &["spec", "foo"]), json("{}"));
    let annotations = ["metadata", "annotations"];
    assert_eq!(upstream("metadata.annotations.note", "'a: b'", &annotations), json(r#"{"note":{"a":"b"}}"#));
    assert_eq!(
        upstream("metadata.annotations.note", "'{\"a\": 1}'", &annotations),
        json(r#"{"note":"{\"a\": 1}"}"#)
    );
    let error = upstream("spec.template.spec.hostAliases[0]", "x", &[]).expect_err("a null is no list");
    assert!(error.ends_with("leaf type null in non-leaf Node [0]"), "{error}");
    // What ends upstream's process is an error in either mode.
    assert!(upstream("C.args[9]", "null", &[]).is_err());
}
