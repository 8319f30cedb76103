//! Tokens of service accounts: JWTs as Kubernetes makes them (RFC 7519), read without asking its API.
//!
//! [`verify`] holds them against [`keys`], issuers, audiences and the time; [`dev`] makes them, for trying things out.

pub mod dev;
pub mod keys;
pub mod verify;

use data_encoding::BASE64URL_NOPAD;

use crate::Workload;

/// The audience of tokens that are meant for a mesh's certificate service.
pub const ISTIO_CA: &str = "istio-ca";

/// A list of audiences as the variable `TOKEN_AUDIENCES` has it, separated by commas; `istio-ca` if there is none in it.
pub fn audiences(list: &str) -> Vec<String> {
    let named: Vec<String> =
        list.split(',').map(str::trim).filter(|audience| !audience.is_empty()).map(str::to_owned).collect();
    if named.is_empty() { vec![ISTIO_CA.to_owned()] } else { named }
}

fn base64url(bytes: &[u8]) -> String {
    BASE64URL_NOPAD.encode(bytes)
}

/// `system:serviceaccount:<namespace>:<name>`, exactly.
pub(crate) fn service_account(username: &str) -> Option<Workload> {
    let mut parts = username.split(':');
    let parts = (parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next());
    match parts {
        ("system", "serviceaccount", namespace, name, None) if !namespace.is_empty() && !name.is_empty() => {
            Some(Workload { namespace: namespace.to_owned(), service_account: name.to_owned() })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audiences_are_separated_by_commas() {
        assert_eq!(audiences("a, b,,c"), ["a", "b", "c"]);
        assert_eq!(audiences(""), [ISTIO_CA]);
        assert_eq!(audiences(" , "), [ISTIO_CA]);
    }

    #[test]
    fn usernames_of_service_accounts_have_four_parts() {
        let workload = service_account("system:serviceaccount:a:b").expect("a service account");
        assert_eq!((workload.namespace.as_str(), workload.service_account.as_str()), ("a", "b"));
        for other in [
            "system:serviceaccount:a",
            "system:serviceaccount:a:b:c",
            "system:serviceaccount::b",
            "system:serviceaccount:a:",
            "system:serviceaccounts:a:b",
            "System:serviceaccount:a:b",
            "",
        ] {
            assert_eq!(service_account(other), None, "{other:?}");
        }
    }
}
