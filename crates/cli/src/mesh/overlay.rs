//! `mesh overlay`: Overlays and the control plane's document.

use chancery_mesh::overlay::{Compatibility, ControlPlane, Document, MatchPolicy, Node, NodeError, manifest};

use super::secrets::read_text;
use crate::command::{Arguments, Call, Command, Failure, Outcome};
use crate::flags::{Flag, Kind};

const FILES: &[Flag] = &[Flag::new(
    "f",
    Kind::Texts,
    "File with overlays: a list of them, an IstioOperator or a ControlPlane; - is standard input. May be repeated.",
)
.alias(&["filename"])];

const APPLY: &[Flag] = &[
    Flag::new("allow-unmatched", Kind::Bool, "Pass over overlays that no object is meant by."),
    Flag::new(
        "upstream",
        Kind::Bool,
        "Do as Istio's own engine does where it surprises: an index into a missing list makes a map, texts that look \
         like YAML become maps, paths are cleaned like those of files.",
    ),
];

const RENDER: &[Flag] = &[
    Flag::new("ca-address", Kind::Text, "Host and port of the certificate service.")
        .default("cert-manager-istio-csr.cert-manager.svc:443"),
    Flag::new("config-map", Kind::Text, "ConfigMap with the mesh's root.").default("istio-ca-root-cert"),
    Flag::new(
        "fixed-indexes",
        Kind::Bool,
        "With the indexes that suit the charts of Istio 1.12 and 1.13, instead of [-1].",
    ),
    Flag::new("name", Kind::Text, "Name of the ControlPlane.").default("controlplane"),
    Flag::new("namespace", Kind::Text, "Namespace of the control plane.").default("istio-system"),
    Flag::new("operator", Kind::Text, "Name of the IstioOperator that is patched.")
        .default("tsb-istiocontrolplane"),
    Flag::new("revision", Kind::Text, "Istio's revision, which istiod's Deployment is named after."),
    Flag::new("secret", Kind::Text, "Secret with istiod's serving certificate.").default("istiod-tls"),
];

pub(super) const COMMANDS: &[Command] = &[
    Command {
        name: "mesh overlay apply",
        synopsis: "Patch manifests by overlays",
        usage: "[options] -f OVERLAYS MANIFEST...",
        help: "Prints the objects of the manifests as the overlays leave them. A list of overlays patches the objects by \
               kind and name. An IstioOperator patches them by the overlays of its components, and istiod's environment \
               by that of pilot. A ControlPlane patches the IstioOperator among them first, and with that the others; \
               without others, the IstioOperator is what is printed.\n\n\
               If a patch cannot be carried out, nothing is printed but the reasons. The exit code is 0 if all went \
               well, 1 if a file cannot be used, 2 if a patch failed.\n\n\
               Patch istiod's manifest by a ControlPlane:\n\n\
               $ {p} mesh overlay render-control-plane | {p} mesh overlay apply -f - istiod.yaml",
        flags: &[("Command Options", FILES), ("Ways to Patch", APPLY)],
        arguments: Arguments::Any,
        run: apply,
    },
    Command {
        name: "mesh overlay lint",
        synopsis: "Tell what overlays most likely do not mean",
        usage: "[options] -f OVERLAYS [MANIFEST...]",
        help: "Holds overlays against the manifests that they are for: an index that hits an element, a list that is \
               replaced by a scalar or loses elements, an element that is not there, an overlay for no object, dots in \
               brackets, and more. Without manifests, only the overlays themselves are looked at.\n\n\
               The exit code is 0 if there is nothing to say, 1 if a file cannot be used, 2 otherwise.\n\n\
               $ {p} mesh overlay lint -f control-plane.yaml istiod.yaml",
        flags: &[("Command Options", FILES)],
        arguments: Arguments::Any,
        run: lint,
    },
    Command {
        name: "mesh overlay render-control-plane",
        synopsis: "Print the ControlPlane that points Istio to a certificate service",
        usage: "[options]",
        help: "Prints a TSB ControlPlane whose overlays give Istio the address of a certificate service, end istiod's own, \
               and mount istiod's serving certificate and the mesh's root. Arguments and volumes are appended, so that it \
               does not matter how many there are; -fixed-indexes counts on those of Istio 1.12 and 1.13.\n\n\
               $ {p} mesh overlay render-control-plane -ca-address=istio-csr.cert-manager.svc:443",
        flags: &[("Command Options", RENDER)],
        arguments: Arguments::Exactly(0),
        run: render,
    },
];

fn apply(call: &mut Call<'_>) -> Outcome {
    let documents = documents(call)?;
    let mut objects = objects(call)?;
    let policy = if call.flags.on("allow-unmatched") { MatchPolicy::May } else { MatchPolicy::Must };
    let compatibility =
        if call.flags.on("upstream") { Compatibility::Upstream } else { Compatibility::Exact };
    let mut operators = Vec::new();
    let mut failed = false;
    for document in documents {
        let outcome = document.carry_out(&mut objects, policy, compatibility);
        operators.extend(outcome.operators);
        for failure in outcome.failures {
            failed = true;
            call.ui.error(&failure.to_string());
        }
    }
    if failed {
        return Ok(2);
    }
    // An operator that nobody gave is of interest to those who gave nothing else.
    let shown = if objects.is_empty() { &operators } else { &objects };
    let mut texts = Vec::new();
    for object in shown {
        texts.push(yaml(object)?);
    }
    call.ui.raw(texts.join("---\n").as_bytes());
    Ok(0)
}

fn lint(call: &mut Call<'_>) -> Outcome {
    let documents = documents(call)?;
    let mut objects = objects(call)?;
    let given = !call.args.is_empty();
    let mut code = 0;
    for document in documents {
        for (place, lint) in document.lint(given.then_some(&objects[..])) {
            code = 2;
            call.ui.output(&format!("{place}: {lint}"));
        }
        // The next document finds what this one has left.
        drop(document.carry_out(&mut objects, MatchPolicy::May, Compatibility::Exact));
    }
    Ok(code)
}

fn render(call: &mut Call<'_>) -> Outcome {
    let flags = &call.flags;
    let text = |name: &str| flags.text(name).unwrap_or_default().to_owned();
    let deployment = match flags.non_empty("revision") {
        Some(revision) => format!("istiod-{revision}"),
        None => "istiod".to_owned(),
    };
    let control_plane = ControlPlane {
        name: text("name"),
        namespace: text("namespace"),
        operator: text("operator"),
        deployment,
        ca_address: text("ca-address"),
        secret: text("secret"),
        config_map: text("config-map"),
        fixed_indexes: flags.on("fixed-indexes"),
    };
    let text = yaml(&control_plane.render())?;
    call.ui.raw(text.as_bytes());
    Ok(0)
}

fn yaml(node: &Node) -> Result<String, Failure> {
    node.to_yaml().map_err(|error| Failure::Local(error.to_string()))
}

/// What `-f` names.
fn documents(call: &mut Call<'_>) -> Result<Vec<Document>, Failure> {
    let files = call.flags.texts("f").to_vec();
    if files.is_empty() {
        return Err(Failure::Local("Name a file with overlays: -f FILE".to_owned()));
    }
    if files.iter().chain(&call.args).filter(|file| *file == "-").count() > 1 {
        return Err(Failure::Local("Standard input can be read once only".to_owned()));
    }
    let mut documents = Vec::new();
    for file in files {
        let text = read_text(call, &file)?;
        for node in Node::documents(&text).map_err(|error| at(&file, &error))? {
            let read = Document::read(&node).map_err(|failures| {
                let all: Vec<String> = failures.iter().map(|failure| format!("{file}: {failure}")).collect();
                Failure::Local(all.join("\n"))
            });
            documents.push(read?);
        }
    }
    Ok(documents)
}

/// The objects of all manifests.
fn objects(call: &mut Call<'_>) -> Result<Vec<Node>, Failure> {
    let mut objects = Vec::new();
    for file in call.args.clone() {
        let text = read_text(call, &file)?;
        objects.extend(manifest(&text).map_err(|error| at(&file, &error))?);
    }
    Ok(objects)
}

fn at(file: &str, error: &NodeError) -> Failure {
    Failure::Local(format!("{file}: {error}"))
}
