use super::*;

const ISTIOD: &str = include_str!("../../tests/data/overlay/istiod-1.12.yaml");
const ISTIOD_WITH_JSON_LOGS: &str = include_str!("../../tests/data/overlay/istiod-1.12-log-as-json.yaml");

fn carried_out(settings: &ControlPlane, manifest: &str) -> (Vec<Node>, Outcome) {
    let document = Document::read(&settings.render()).expect("a document");
    let mut objects = Node::documents(manifest).expect("YAML");
    let outcome = document.carry_out(&mut objects, MatchPolicy::Must, Compatibility::Exact);
    (objects, outcome)
}

/// istiod's container, and its pod.
fn istiod(objects: &[Node]) -> (&Node, &Node) {
    let deployment = objects.iter().find(|object| object.at(&["kind"]) == Some(&"Deployment".into()));
    let pod = deployment.and_then(|object| object.at(&["spec", "template", "spec"])).expect("a pod");
    (&pod.at(&["containers"]).and_then(Node::as_list).expect("containers")[0], pod)
}

fn list_at(node: &Node, key: &str) -> Vec<String> {
    let list = node.at(&[key]).and_then(Node::as_list).expect("a list");
    list.iter()
        .map(|item| item.scalar().unwrap_or_else(|| serde_json::to_string(item).expect("JSON")))
        .collect()
}

#[test]
fn the_document_is_what_is_documented() {
    let rendered = ControlPlane { fixed_indexes: true, ..ControlPlane::default() }.render();
    let documented =
        Node::document(include_str!("../../tests/data/overlay/control-plane.yaml")).expect("YAML");
    assert_eq!(rendered, documented);
    // What is printed is read as the same again, and in the order in which it was made.
    let yaml = rendered.to_yaml().expect("YAML");
    assert_eq!(Node::document(&yaml).as_ref(), Ok(&rendered));
    assert!(yaml.starts_with(
        "apiVersion: install.tetrate.io/v1alpha1\nkind: ControlPlane\nmetadata:\n  name: controlplane\n"
    ));
    assert!(yaml.contains("- name: ENABLE_CA_SERVER\n") && yaml.contains("value: \"false\"\n"), "{yaml}");
}

#[test]
fn both_levels_reach_istiod() {
    for fixed_indexes in [false, true] {
        let settings = ControlPlane { fixed_indexes, ..ControlPlane::default() };
        let (objects, outcome) = carried_out(&settings, ISTIOD);
        assert_eq!(outcome.failures, []);
        let (discovery, pod) = istiod(&objects);
        assert_eq!(
            list_at(discovery, "args"),
            [
                "discovery",
                "--monitoringAddr=:15014",
                "--log_output_level=default:info",
                "--domain",
                "cluster.local",
                "--keepaliveMaxServerConnectionAge",
                "30m",
                "--tlsCertFile=/etc/cert-manager/tls/tls.crt",
                "--tlsKeyFile=/etc/cert-manager/tls/tls.key",
                "--caCertFile=/etc/cert-manager/ca/root-cert.pem",
            ]
        );
        let mounts = list_at(discovery, "volumeMounts");
        assert_eq!(
            mounts[4..],
            [
                r#"{"mountPath":"/etc/cert-manager/tls","name":"cert-manager","readOnly":true}"#,
                r#"{"mountPath":"/etc/cert-manager/ca","name":"ca-root-cert","readOnly":true}"#,
            ]
        );
        assert_eq!(
            list_at(pod, "volumes")[4..],
            [
                r#"{"name":"cert-manager","secret":{"secretName":"istiod-tls"}}"#,
                r#"{"name":"ca-root-cert","configMap":{"defaultMode":420,"name":"istio-ca-root-cert"}}"#,
            ]
        );
        let env = list_at(discovery, "env");
        assert_eq!(env.len(), 7);
        assert_eq!(
            env[3],
            r#"{"name":"POD_NAME","valueFrom":{"fieldRef":{"apiVersion":"v1","fieldPath":"metadata.name"}}}"#
        );
        assert_eq!(env[6], r#"{"name":"ENABLE_CA_SERVER","value":"false"}"#);
        // The operator that nobody gave has what the outer level says.
        let address = outcome.operators[0].at(&["spec", "values", "global", "caAddress"]);
        assert_eq!(address, Some(&"cert-manager-istio-csr.cert-manager.svc:443".into()));
        // The Service stays as it was.
        assert_eq!(objects[0], Node::documents(ISTIOD).expect("YAML")[0]);
    }
}

#[test]
fn fixed_indexes_destroy_an_argument_where_there_is_one_more() {
    let fixed = ControlPlane { fixed_indexes: true, ..ControlPlane::default() };
    let (objects, outcome) = carried_out(&fixed, ISTIOD_WITH_JSON_LOGS);
    assert_eq!(outcome.failures, []);
    let args = list_at(istiod(&objects).0, "args");
    assert_eq!(
        args[6..8],
        ["--keepaliveMaxServerConnectionAge", "--tlsCertFile=/etc/cert-manager/tls/tls.crt"]
    );

    let lints = |settings: &ControlPlane, manifest: Option<&str>| -> Vec<String> {
        let objects = manifest.map(|manifest| Node::documents(manifest).expect("YAML"));
        let document = Document::read(&settings.render()).expect("a document");
        let lints = document.lint(objects.as_deref()).into_iter();
        lints.map(|(place, lint)| format!("{place}: {lint}")).collect()
    };
    assert_eq!(
        lints(&fixed, Some(ISTIOD_WITH_JSON_LOGS)),
        [
            "pilot: overlay 1, patch 1: spec.template.spec.containers.[name:discovery].args[7]: [7] replaces the element \
          \"30m\"; [-1] appends (index_hits_element)"
        ]
    );
    assert_eq!(lints(&fixed, None).len(), 7);

    let (objects, _) = carried_out(&ControlPlane::default(), ISTIOD_WITH_JSON_LOGS);
    let args = list_at(istiod(&objects).0, "args");
    assert_eq!(args[7..9], ["30m", "--tlsCertFile=/etc/cert-manager/tls/tls.crt"]);
    for manifest in [None, Some(ISTIOD), Some(ISTIOD_WITH_JSON_LOGS)] {
        assert_eq!(lints(&ControlPlane::default(), manifest), Vec::<String>::new());
    }
}

#[test]
fn an_operator_that_is_given_is_patched_and_what_it_loses_is_told() {
    let operator = "
apiVersion: install.istio.io/v1alpha1
kind: IstioOperator
metadata: {name: tsb-istiocontrolplane, namespace: istio-system}
spec:
  revision: canary
  components: {pilot: {k8s: {env: [{name: PILOT_TRACE_SAMPLING, value: '5'}]}}}
";
    let settings = ControlPlane { deployment: "istiod-canary".to_owned(), ..ControlPlane::default() };
    let manifest = format!("{operator}---\n{}", ISTIOD.replace("name: istiod\n", "name: istiod-canary\n"));
    let (objects, outcome) = carried_out(&settings, &manifest);
    assert_eq!((outcome.failures.len(), outcome.operators.len()), (0, 0));
    let env = objects[0].at(&["spec", "components", "pilot", "k8s", "env"]).and_then(Node::as_list);
    assert_eq!(env.map(<[Node]>::len), Some(3));
    assert_eq!(list_at(istiod(&objects).0, "env").len(), 7);

    let document = Document::read(&settings.render()).expect("a document");
    let lints = document.lint(Some(&Node::documents(&manifest).expect("YAML")));
    let [(place, lint)] = &lints[..] else { panic!("{lints:?}") };
    assert_eq!((place.as_str(), lint.rule), ("ControlPlane", super::super::Rule::ListReplaced));
    assert!(lint.says.ends_with("loses {name: PILOT_TRACE_SAMPLING}"), "{lint}");
}

#[test]
fn the_only_istiod_is_meant_where_no_revision_is_told() {
    let settings = ControlPlane { deployment: "istiod-canary".to_owned(), ..ControlPlane::default() };
    let canary = ISTIOD.replace("name: istiod\n", "name: istiod-canary\n");
    let (objects, outcome) = carried_out(&settings, &canary);
    assert_eq!(outcome.failures, []);
    assert_eq!(list_at(istiod(&objects).0, "env").len(), 7);
    // Of two, that without revision.
    let (objects, outcome) = carried_out(&ControlPlane::default(), &format!("{canary}---\n{ISTIOD}"));
    assert_eq!(outcome.failures, []);
    assert_eq!(list_at(istiod(&objects).0, "env").len(), 6);
    assert_eq!(list_at(istiod(&objects[2..]).0, "env").len(), 7);
}

#[test]
fn what_has_no_object_is_told() {
    let (_, outcome) = carried_out(&ControlPlane::default(), "kind: Service\nmetadata: {name: istiod}");
    let failures: Vec<String> = outcome.failures.iter().map(ToString::to_string).collect();
    assert_eq!(
        failures,
        [
            "pilot: k8s.env: no object is a Deployment istiod; there are: Service istiod",
            "pilot: overlay 1: no object is a Deployment istiod; there are: Service istiod",
        ]
    );
}

#[test]
fn documents_are_recognised_by_their_kind() {
    let read = |text: &str| {
        let read = Document::read(&Node::document(text).expect("YAML"));
        read.map(|document| document.to_string()).map_err(|failures| failures[0].to_string())
    };
    assert_eq!(read("[{kind: a, name: b}]").as_deref(), Ok("overlays"));
    assert_eq!(read("overlays: [{kind: a, name: b}]").as_deref(), Ok("overlays"));
    assert_eq!(read("kind: IstioOperator").as_deref(), Ok("IstioOperator"));
    assert_eq!(
        read(
            "{kind: IstioOperator, spec: {components: {ingressGateways: [{name: gw, k8s: {overlays: [1]}}]}}}"
        ),
        Err("ingressGateways gw: overlay 1: it is a number, not a map".to_owned())
    );
    assert_eq!(
        read("kind: Deployment"),
        Err("Deployment: neither a list of overlays nor an IstioOperator nor a ControlPlane".to_owned())
    );
}

#[test]
fn values_of_other_documented_overlays_are_carried_out() {
    let operator = "
kind: IstioOperator
metadata: {name: o}
spec:
  components:
    pilot: {k8s: {env: [{name: A, value: a}]}}
    ingressGateways: [{name: vmgateway, k8s: {}}]
";
    let overlays = r#"
- kind: IstioOperator
  name: o
  patches:
  - path: spec.components.ingressGateways.[name:vmgateway].k8s.serviceAnnotations
    value: {traffic/class: external}
  - path: spec.components.pilot.k8s.env[-1]
    value: {name: B, value: b}
  - path: spec.meshConfig.defaultConfig.drainDuration
    value: 50s
"#;
    let document = Document::read(&Node::document(overlays).expect("YAML")).expect("a document");
    let mut objects = Node::documents(operator).expect("YAML");
    let outcome = document.carry_out(&mut objects, MatchPolicy::Must, Compatibility::Exact);
    assert_eq!(outcome.failures, []);
    assert_eq!(
        serde_json::to_string(&objects[0]).expect("JSON"),
        concat!(
            r#"{"kind":"IstioOperator","metadata":{"name":"o"},"spec":{"components":{"pilot":{"k8s":{"env":"#,
            r#"[{"name":"A","value":"a"},{"name":"B","value":"b"}]}},"ingressGateways":[{"name":"vmgateway","k8s":"#,
            r#"{"serviceAnnotations":{"traffic/class":"external"}}}]},"meshConfig":{"defaultConfig":{"drainDuration":"50s"}}}}"#
        )
    );
}
