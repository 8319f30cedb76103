//! The policy that a request needs.

use chancery_client::{Method, Request};

/// A policy in HCL that allows exactly this request.
pub(super) fn needed(request: &Request) -> String {
    let mut capabilities = match request.method() {
        Method::Get if request.is_list() => vec!["list"],
        Method::Get if request.is_scan() => vec!["scan"],
        Method::Get => vec!["read"],
        Method::Put | Method::Post => vec!["create", "update"],
        Method::Patch => vec!["patch"],
        Method::Delete => vec!["delete"],
    };
    let path = request.path().trim_matches('/');
    if needs_sudo(path) || (request.is_list() && path == "sys/leases/lookup") {
        capabilities.push("sudo");
    }
    let capabilities: Vec<String> = capabilities.iter().map(|word| format!("{word:?}")).collect();
    format!("path {path:?} {{\n  capabilities = [{}]\n}}", capabilities.join(", "))
}

/// Paths that ask for `sudo` besides the verb's own capability.
fn needs_sudo(path: &str) -> bool {
    let exact = [
        "auth/token/accessors",
        "auth/token/revoke-orphan",
        "pki/root",
        "sys/audit",
        "sys/leases",
        "sys/remount",
        "sys/rotate",
        "sys/rotate/keyring",
        "sys/rotate/root",
        "sys/seal",
        "sys/step-down",
        "sys/config/cors",
    ];
    let below = [
        "sys/audit/",
        "sys/auth/",
        "sys/config/auditing/",
        "sys/config/ui/headers",
        "sys/leases/lookup/",
        "sys/leases/revoke-force/",
        "sys/leases/revoke-prefix/",
        "sys/plugins/catalog/",
        "sys/raw",
        "sys/rotate/root/",
        "sys/rotate/recovery/",
    ];
    exact.contains(&path) || below.iter().any(|prefix| path.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_verb_needs_its_own_capability_and_some_paths_sudo() {
        for (request, policy) in [
            (Request::read("a/b"), "path \"a/b\" {\n  capabilities = [\"read\"]\n}"),
            (Request::list("a"), "path \"a\" {\n  capabilities = [\"list\"]\n}"),
            (Request::scan("a"), "path \"a\" {\n  capabilities = [\"scan\"]\n}"),
            (
                Request::list("sys/leases/lookup"),
                "path \"sys/leases/lookup\" {\n  capabilities = [\"list\", \"sudo\"]\n}",
            ),
            (
                Request::new(Method::Put, "sys/leases/lookup"),
                "path \"sys/leases/lookup\" {\n  capabilities = [\"create\", \"update\"]\n}",
            ),
            (Request::delete("a"), "path \"a\" {\n  capabilities = [\"delete\"]\n}"),
            (
                Request::new(Method::Post, "sys/remount"),
                "path \"sys/remount\" {\n  capabilities = [\"create\", \"update\", \"sudo\"]\n}",
            ),
        ] {
            assert_eq!(needed(&request), policy);
        }
    }
}
