//! The TSB ControlPlane that points Istio to a certificate service, and what becomes of it.
//!
//! Its overlays patch an IstioOperator; two of the values that they put there are settings of the component `pilot`, for
//! istiod: variables of its environment, and overlays again, for its Deployment.

use std::fmt;

use super::{
    Compatibility, EnvironmentError, Lint, MatchPolicy, Node, Overlay, OverlayError, OverlayFault, lint,
    merge_environment,
};

/// What a ControlPlane is rendered from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlPlane {
    /// The ControlPlane's own name.
    pub name: String,
    /// The namespace of the control plane.
    pub namespace: String,
    /// The IstioOperator that the TSB operator makes.
    pub operator: String,
    /// istiod's Deployment: `istiod`, or `istiod-REVISION`.
    pub deployment: String,
    /// Host and port of the certificate service, for istiod and for every injected proxy.
    pub ca_address: String,
    /// The Secret with istiod's serving certificate.
    pub secret: String,
    /// The ConfigMap with the mesh's root.
    pub config_map: String,
    /// With the indexes that suit the charts of Istio 1.12 and 1.13, instead of `[-1]`.
    pub fixed_indexes: bool,
}

impl Default for ControlPlane {
    fn default() -> Self {
        Self {
            name: "controlplane".to_owned(),
            namespace: "istio-system".to_owned(),
            operator: "tsb-istiocontrolplane".to_owned(),
            deployment: "istiod".to_owned(),
            ca_address: "cert-manager-istio-csr.cert-manager.svc:443".to_owned(),
            secret: "istiod-tls".to_owned(),
            config_map: "istio-ca-root-cert".to_owned(),
            fixed_indexes: false,
        }
    }
}

/// Where istiod finds what is mounted for it.
const TLS: &str = "/etc/cert-manager/tls";
const CA: &str = "/etc/cert-manager/ca";

/// istiod's container, which pilot's environment is for.
const DISCOVERY: &str = "discovery";

impl ControlPlane {
    /// The document.
    pub fn render(&self) -> Node {
        let patch = |path: &str, value: Node| Node::map([("path", path.into()), ("value", value)]);
        let overlay = |version: &str, kind: &str, name: &str, patches: Vec<Node>| {
            Node::map([
                ("apiVersion", version.into()),
                ("kind", kind.into()),
                ("name", name.into()),
                ("patches", Node::List(patches)),
            ])
        };
        let inner = overlay("apps/v1", "Deployment", &self.deployment, self.for_istiod());
        let outer = vec![
            patch("spec.values.global.caAddress", self.ca_address.as_str().into()),
            patch("spec.components.pilot.k8s.env", environment()),
            patch("spec.components.pilot.k8s.overlays", Node::List(vec![inner])),
        ];
        let outer = overlay("install.istio.io/v1alpha1", "IstioOperator", &self.operator, outer);
        let name = self.name.as_str().into();
        Node::map([
            ("apiVersion", "install.tetrate.io/v1alpha1".into()),
            ("kind", "ControlPlane".into()),
            ("metadata", Node::map([("name", name), ("namespace", self.namespace.as_str().into())])),
            ("spec", below(&["components", "istio", "kubeSpec", "overlays"], Node::List(vec![outer]))),
        ])
    }

    /// The patches for istiod's Deployment.
    fn for_istiod(&self) -> Vec<Node> {
        let pod = "spec.template.spec";
        let container = format!("{pod}.containers.[name:{DISCOVERY}]");
        let index = |fixed: usize| if self.fixed_indexes { fixed.to_string() } else { "-1".to_owned() };
        let mut patches = Vec::new();
        let mut add = |list: String, fixed: usize, value: Node| {
            let path = format!("{list}[{}]", index(fixed));
            patches.push(Node::map([("path", path.into()), ("value", value)]));
        };
        let flags = [
            format!("--tlsCertFile={TLS}/tls.crt"),
            format!("--tlsKeyFile={TLS}/tls.key"),
            format!("--caCertFile={CA}/root-cert.pem"),
        ];
        for (at, flag) in flags.into_iter().enumerate() {
            add(format!("{container}.args"), 7 + at, flag.into());
        }
        let volumes = [("cert-manager", TLS), ("ca-root-cert", CA)];
        for (at, (name, path)) in volumes.into_iter().enumerate() {
            let mount = [("mountPath", path.into()), ("name", name.into()), ("readOnly", true.into())];
            add(format!("{container}.volumeMounts"), 6 + at, Node::map(mount));
        }
        let secret = Node::map([("secretName", self.secret.as_str().into())]);
        // 420 is 0644, in a form that every reader of YAML takes for the same number.
        let map = Node::map([("defaultMode", 420.into()), ("name", self.config_map.as_str().into())]);
        let sources = [("secret", secret), ("configMap", map)];
        for (at, ((name, _), source)) in volumes.into_iter().zip(sources).enumerate() {
            add(format!("{pod}.volumes"), 6 + at, Node::map([("name", name.into()), source]));
        }
        patches
    }
}

/// The variables of istiod that stay, and the one that ends its own certificate service.
fn environment() -> Node {
    let field = |name: &str, path: &str| {
        let reference = Node::map([("apiVersion", "v1".into()), ("fieldPath", path.into())]);
        Node::map([("name", name.into()), ("valueFrom", Node::map([("fieldRef", reference)]))])
    };
    Node::List(vec![
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        Node::map([("name", "ENABLE_CA_SERVER".into()), ("value", "false".into())]),
    ])
}

fn below(keys: &[&str], value: Node) -> Node {
    keys.iter().rev().fold(value, |inner, key| Node::map([(key, inner)]))
}

/// A document that says how objects are to be patched.
#[derive(Debug, Clone, PartialEq)]
pub enum Document {
    /// A list of overlays, or a map with the only field `overlays`.
    Overlays(Vec<Overlay>),
    /// An IstioOperator: the environment and the overlays of its components.
    Operator(Node),
    /// A TSB ControlPlane: overlays for an IstioOperator.
    ControlPlane {
        /// The overlays.
        overlays: Vec<Overlay>,
        /// The namespace.
        namespace: Node,
    },
}

/// What went wrong, and in which document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {fault}")]
pub struct Failure {
    /// Where the overlays stand.
    pub place: String,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// An overlay.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    /// The environment of a component.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// istiod's Deployment is not among the objects.
    #[error("k8s.env: {0}")]
    Unmatched(OverlayFault),
    /// It is none of the documents that are understood.
    #[error("neither a list of overlays nor an IstioOperator nor a ControlPlane")]
    Form,
}

/// What carrying out a document led to.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outcome {
    /// The IstioOperator of a ControlPlane, where it was not among the objects: with nothing but what the overlays say.
    pub operators: Vec<Node>,
    /// All that went wrong.
    pub failures: Vec<Failure>,
}

impl Document {
    /// Recognises a document.
    ///
    /// # Errors
    /// It is none of the three, or an overlay in it is none.
    pub fn read(node: &Node) -> Result<Self, Vec<Failure>> {
        let kind = node.at(&["kind"]).and_then(Node::as_text);
        let place = kind.unwrap_or("overlays");
        let failed = |errors: Vec<OverlayError>| failures(place, errors);
        let list = match (node, kind) {
            (_, Some("IstioOperator")) => {
                for (place, settings) in components(node) {
                    overlays_of(settings).map_err(|errors| failures(&place, errors))?;
                }
                return Ok(Self::Operator(node.clone()));
            }
            (_, Some("ControlPlane")) => {
                let overlays = node.at(&["spec", "components", "istio", "kubeSpec", "overlays"]);
                let overlays = Overlay::list(overlays.unwrap_or(&Node::Null)).map_err(failed)?;
                let namespace = node.at(&["metadata", "namespace"]).cloned().unwrap_or_default();
                return Ok(Self::ControlPlane { overlays, namespace });
            }
            (Node::List(_), _) => Some(node),
            (Node::Map(map), None) if map.iter().count() == 1 => map.get("overlays"),
            _ => None,
        };
        let form = || vec![Failure { place: place.to_owned(), fault: Fault::Form }];
        Overlay::list(list.ok_or_else(form)?).map(Self::Overlays).map_err(failed)
    }

    /// Carries the document out on objects.
    pub fn carry_out(
        &self,
        objects: &mut [Node],
        policy: MatchPolicy,
        compatibility: Compatibility,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        match self {
            Self::Overlays(overlays) => {
                let errors = super::apply(overlays, objects, policy, compatibility);
                outcome.failures.extend(failures("overlays", errors));
            }
            Self::Operator(operator) => {
                carry_out_components(operator, objects, policy, compatibility, &mut outcome.failures);
            }
            Self::ControlPlane { overlays, .. } => {
                outcome.operators = self.missing_operators(objects);
                // The outer level first, on the operators that are given and those that are not.
                let mut all: Vec<Node> =
                    outcome.operators.iter().chain(operators(objects)).cloned().collect();
                let errors = super::apply(overlays, &mut all, policy, compatibility);
                outcome.failures.extend(failures("ControlPlane", errors));
                let patched = all.split_off(outcome.operators.len());
                outcome.operators = all;
                let given = objects.iter_mut().filter(|object| is_operator(object));
                given.zip(&patched).for_each(|(place, patched)| place.clone_from(patched));
                // Who gives no other objects wants to see the operator.
                if objects.iter().any(|object| !is_operator(object)) {
                    for operator in outcome.operators.iter().chain(&patched) {
                        carry_out_components(operator, objects, policy, compatibility, &mut outcome.failures);
                    }
                }
            }
        }
        outcome
    }

    /// What the document says and most likely does not mean, each with where it stands.
    pub fn lint(&self, objects: Option<&[Node]>) -> Vec<(String, Lint)> {
        let in_place = |place: &str, lints: Vec<Lint>| -> Vec<(String, Lint)> {
            lints.into_iter().map(|lint| (place.to_owned(), lint)).collect()
        };
        let of_components = |operator: &Node| -> Vec<(String, Lint)> {
            let others = objects.filter(|objects| objects.iter().any(|object| !is_operator(object)));
            let lints = components(operator).into_iter().map(|(place, settings)| {
                let overlays = overlays_of(settings).unwrap_or_default();
                in_place(&place, lint(&overlays, others))
            });
            lints.flatten().collect()
        };
        match self {
            Self::Overlays(overlays) => in_place("overlays", lint(overlays, objects)),
            Self::Operator(operator) => of_components(operator),
            Self::ControlPlane { overlays, .. } => {
                let given = objects.unwrap_or_default();
                let mut all = self.missing_operators(given);
                all.extend(operators(given).cloned());
                let mut lints = in_place("ControlPlane", lint(overlays, Some(&all)));
                drop(super::apply(overlays, &mut all, MatchPolicy::May, Compatibility::Exact));
                lints.extend(all.iter().flat_map(of_components));
                lints
            }
        }
    }

    /// An empty IstioOperator for each that the overlays are for and the objects have not.
    fn missing_operators(&self, objects: &[Node]) -> Vec<Node> {
        let Self::ControlPlane { overlays, namespace } = self else { return Vec::new() };
        let mut missing: Vec<Node> = Vec::new();
        for overlay in overlays.iter().filter(|overlay| overlay.kind == "IstioOperator") {
            if missing.iter().chain(objects).any(|object| overlay.means(object)) {
                continue;
            }
            let metadata = [("name", overlay.name.as_str().into()), ("namespace", namespace.clone())];
            missing.push(Node::map([
                ("apiVersion", "install.istio.io/v1alpha1".into()),
                ("kind", "IstioOperator".into()),
                ("metadata", Node::map(metadata)),
            ]));
        }
        missing
    }
}

fn failures(place: &str, errors: Vec<OverlayError>) -> Vec<Failure> {
    errors.into_iter().map(|error| Failure { place: place.to_owned(), fault: error.into() }).collect()
}

fn is_operator(object: &Node) -> bool {
    object.at(&["kind"]).and_then(Node::as_text) == Some("IstioOperator")
}

fn operators(objects: &[Node]) -> impl Iterator<Item = &Node> {
    objects.iter().filter(|object| is_operator(object))
}

/// The components of an IstioOperator, each with its place and its `k8s` settings.
fn components(operator: &Node) -> Vec<(String, &Node)> {
    let Some(Node::Map(components)) = operator.at(&["spec", "components"]) else { return Vec::new() };
    let mut found = Vec::new();
    for (name, component) in components.iter() {
        // Gateways are lists, everything else stands alone.
        let all = component.as_list().unwrap_or(std::slice::from_ref(component));
        for component in all {
            let own = component.at(&["name"]).and_then(Node::as_text);
            let place = own.map_or_else(|| name.to_owned(), |own| format!("{name} {own}"));
            if let Some(settings) = component.at(&["k8s"]) {
                found.push((place, settings));
            }
        }
    }
    found
}

fn overlays_of(settings: &Node) -> Result<Vec<Overlay>, Vec<OverlayError>> {
    Overlay::list(settings.at(&["overlays"]).unwrap_or(&Node::Null))
}

/// The environment of pilot first, then the overlays of each component, as Istio does.
fn carry_out_components(
    operator: &Node,
    objects: &mut [Node],
    policy: MatchPolicy,
    compatibility: Compatibility,
    failures_so_far: &mut Vec<Failure>,
) {
    let name = deployment(operator, objects);
    for (place, settings) in components(operator) {
        if let (Some(variables), "pilot") = (settings.at(&["env"]), place.as_str()) {
            let fault = |fault: Fault| Failure { place: place.clone(), fault };
            let wanted = Overlay {
                api_version: String::new(),
                kind: "Deployment".to_owned(),
                name: name.clone(),
                patches: Vec::new(),
            };
            match objects.iter_mut().find(|object| wanted.means(object)) {
                Some(deployment) => {
                    if let Err(error) = merge_environment(deployment, DISCOVERY, variables) {
                        failures_so_far.push(fault(error.into()));
                    }
                }
                None if policy == MatchPolicy::Must => {
                    failures_so_far.push(fault(Fault::Unmatched(wanted.unmatched(objects))));
                }
                None => {}
            }
        }
        let errors = match overlays_of(settings) {
            Ok(overlays) => super::apply(&overlays, objects, policy, compatibility),
            Err(errors) => errors,
        };
        failures_so_far.extend(failures(&place, errors));
    }
}

/// The name of istiod's Deployment: by the operator's revision. A ControlPlane does not tell it, so that without one the
/// only istiod that there is is meant.
fn deployment(operator: &Node, objects: &[Node]) -> String {
    let revision = operator.at(&["spec", "revision"]).and_then(Node::as_text);
    if let Some(revision) = revision.filter(|revision| !revision.is_empty()) {
        return format!("istiod-{revision}");
    }
    let is_deployment = |object: &&Node| object.at(&["kind"]).and_then(Node::as_text) == Some("Deployment");
    let names =
        objects.iter().filter(is_deployment).filter_map(|object| object.at(&["metadata", "name"])?.as_text());
    let names: Vec<&str> = names.filter(|name| *name == "istiod" || name.starts_with("istiod-")).collect();
    match names.as_slice() {
        [name] => (*name).to_owned(),
        _ => "istiod".to_owned(),
    }
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overlays(_) => "overlays",
            Self::Operator(_) => "IstioOperator",
            Self::ControlPlane { .. } => "ControlPlane",
        })
    }
}

#[cfg(test)]
#[path = "control_plane_tests.rs"]
mod tests;
