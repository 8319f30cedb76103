//! The mesh's root certificates, as operators have them at hand.

use chancery_issuance::Certificate;

use crate::overlay::Node;

/// Why there are no roots in a text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RootsError {
    /// It is neither PEM nor a ConfigMap.
    #[error("neither PEM nor an export of the ConfigMap istio-ca-root-cert")]
    Form,
    /// The ConfigMap has no such key.
    #[error("the ConfigMap has no key {KEY}")]
    NoKey,
    /// There is no certificate, or something that is none.
    #[error("{0}")]
    Certificate(String),
}

/// Where Istio's ConfigMap has them.
const KEY: &str = "root-cert.pem";

/// Reads roots from PEM, or from the ConfigMap `istio-ca-root-cert` as `kubectl get -o yaml` and `-o json` print it, alone
/// or in a list (of several namespaces: all of them).
///
/// # Errors
/// It is neither, or has no certificates.
pub fn mesh_roots(text: &str) -> Result<Vec<Certificate>, RootsError> {
    let documents = Node::documents(text).unwrap_or_default();
    let mut maps = Vec::new();
    for document in &documents {
        let items = document.at(&["items"]).and_then(Node::as_list);
        let all = items.unwrap_or(std::slice::from_ref(document));
        maps.extend(
            all.iter().filter(|item| item.at(&["kind"]).and_then(Node::as_text) == Some("ConfigMap")),
        );
    }
    if maps.is_empty() {
        return if text.contains("-----BEGIN ") { of_pem(text) } else { Err(RootsError::Form) };
    }
    let mut roots = Vec::new();
    for map in maps {
        let pem = map.at(&["data", KEY]).and_then(Node::as_text).ok_or(RootsError::NoKey)?;
        for root in of_pem(pem)? {
            if !roots.contains(&root) {
                roots.push(root);
            }
        }
    }
    Ok(roots)
}

fn of_pem(text: &str) -> Result<Vec<Certificate>, RootsError> {
    let failed = |error: chancery_issuance::CertificateError| RootsError::Certificate(error.to_string());
    let roots = Certificate::all_from_pem(text).map_err(failed)?;
    if roots.is_empty() {
        return Err(RootsError::Certificate("there is no certificate".to_owned()));
    }
    Ok(roots)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = include_str!("../../tests/data/inspect/root.pem");
    const OTHER: &str = include_str!("../../tests/data/inspect/other-root.pem");

    fn map(pem: &str) -> String {
        let quoted = serde_json::to_string(pem).expect("JSON");
        format!(
            r#"{{"kind": "ConfigMap", "metadata": {{"name": "istio-ca-root-cert"}}, "data": {{"root-cert.pem": {quoted}}}}}"#
        )
    }

    #[test]
    fn roots_are_read_from_pem_and_from_exports_of_the_config_map() {
        let indented: String = ROOT.lines().map(|line| format!("    {line}\n")).collect();
        let yaml = format!("apiVersion: v1\ndata:\n  root-cert.pem: |\n{indented}kind: ConfigMap\n");
        for text in [ROOT, &format!("# the root\n{ROOT}"), &map(ROOT), &yaml] {
            assert_eq!(mesh_roots(text).map(|roots| roots.len()), Ok(1), "{text}");
        }
        let list = format!(r#"{{"kind": "List", "items": [{}, {}, {}]}}"#, map(ROOT), map(OTHER), map(ROOT));
        assert_eq!(mesh_roots(&list).map(|roots| roots.len()), Ok(2));
    }

    #[test]
    fn what_has_no_roots_is_refused() {
        assert_eq!(mesh_roots(""), Err(RootsError::Form));
        assert_eq!(mesh_roots("kind: Secret"), Err(RootsError::Form));
        assert_eq!(mesh_roots("kind: ConfigMap\ndata: {a: b}"), Err(RootsError::NoKey));
        assert!(matches!(mesh_roots(&map("none")), Err(RootsError::Certificate(_))));
        assert!(matches!(
            mesh_roots("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            Err(RootsError::Certificate(_))
        ));
    }
}
