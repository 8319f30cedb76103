//! Every certificate of every secret, in words.

use aws_lc_rs::digest::{SHA256, digest};
use chancery_issuance::Certificate;
use data_encoding::HEXLOWER;
use jiff::Timestamp;

use super::dump::{Bundle, Dump, Secret};
use super::table::{is_valid, printable, serial};

impl Dump {
    /// Every certificate of every secret: subject, issuer, names, lifetime, serial number, SHA-256 of its DER. Ends in a
    /// line feed.
    pub fn details(&self, now: Timestamp) -> String {
        let blocks: Vec<String> = self.secrets().iter().map(|secret| block(secret, now)).collect();
        if blocks.is_empty() { "No secrets found.\n".to_owned() } else { blocks.join("\n") }
    }
}

fn block(secret: &Secret, now: Timestamp) -> String {
    let mut text = format!("{} ({})\n", printable(&secret.name), secret.status.name());
    let mut line = |name: &str, value: &str| {
        if !value.is_empty() {
            text.push_str(&format!("  {:<14}{}\n", format!("{name}:"), printable(value)));
        }
    };
    line("version", &secret.version);
    line("updated", &secret.last_updated);
    line("status", &secret.client_status);
    if let Some(failure) = &secret.failure {
        line("refused", &failure.details);
    }
    for (domain, bundle) in secret.content.bundles() {
        if let Some(domain) = domain {
            text.push_str(&format!("  trust domain {}\n", printable(domain)));
        }
        text.push_str(&of_bundle(bundle, now));
    }
    text
}

fn of_bundle(bundle: &Bundle, now: Timestamp) -> String {
    match bundle {
        Bundle::File(path) => format!("  in the file {}\n", printable(path)),
        Bundle::Variable(name) => format!("  in the variable {}\n", printable(name)),
        Bundle::Garbled => "  no base64\n".to_owned(),
        Bundle::Pem(_) => match bundle.certificates() {
            Ok(list) if list.is_empty() => "  no certificate\n".to_owned(),
            Ok(list) => list.iter().enumerate().map(|(at, one)| of_certificate(at, one, now)).collect(),
            Err(error) => format!("  {error}\n"),
        },
    }
}

fn of_certificate(at: usize, certificate: &Certificate, now: Timestamp) -> String {
    let name = |subject: Option<chancery_issuance::Subject>| {
        subject.map_or_else(|| "(unreadable)".to_owned(), |subject| subject.to_string())
    };
    let names = match certificate.sans() {
        None => "(unreadable)".to_owned(),
        Some(sans) => {
            let uris = sans.uri.iter().map(|name| format!("URI:{name}"));
            let hosts = sans.dns.iter().map(|name| format!("DNS:{name}"));
            let addresses = sans.ip.iter().map(|address| format!("IP:{address}"));
            let mails = sans.email.iter().map(|name| format!("email:{name}"));
            uris.chain(hosts).chain(addresses).chain(mails).collect::<Vec<_>>().join(", ")
        }
    };
    let kind = match (certificate.is_ca(), certificate.is_self_signed()) {
        (true, true) => "root",
        (true, false) => "authority",
        (false, _) => "leaf",
    };
    let valid = if is_valid(certificate, now) { "" } else { " (not valid now)" };
    let (begin, end) = (certificate.not_before(), certificate.not_after());
    let mut text = format!("  [{at}] {kind}\n");
    for (label, value) in [
        ("subject", name(certificate.subject_name())),
        ("issuer", name(certificate.issuer_name())),
        ("names", names),
        ("valid", format!("{begin} to {end}{valid}")),
        ("serial", serial(certificate)),
        ("sha-256", fingerprint(certificate)),
    ] {
        let value = if value.is_empty() { "(none)" } else { &value };
        text.push_str(&format!("      {:<10}{}\n", format!("{label}:"), printable(value)));
    }
    text
}

/// SHA-256 of the DER, in hexadecimal.
pub(super) fn fingerprint(certificate: &Certificate) -> String {
    HEXLOWER.encode(digest(&SHA256, certificate.der()).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_certificate_is_told_and_no_name_moves_the_cursor() {
        let now = "2027-01-01T00:00:00Z".parse().expect("a time");
        let real = Dump::parse(include_str!("../../tests/data/inspect/envoy-1.40-config-dump.json"))
            .expect("a dump");
        let text = real.details(now);
        assert!(text.contains("static-files (STATIC)\n  in the file /etc/test/static-chain.pem\n"), "{text}");
        assert!(text.contains(
            "  [1] authority\n      subject:  CN=intermediate,O=test\n      issuer:   CN=root,O=test\n"
        ));
        // The chain, the root beside it, two trust domains, and the chain of two in the configuration.
        assert_eq!(text.matches("sha-256:").count(), 3 + 1 + 2 + 2);
        let root = Certificate::from_pem(include_str!("../../tests/data/inspect/root.pem"));
        assert!(text.contains(&fingerprint(&root.expect("a certificate"))));
        assert!(!text.contains("not valid now"));

        let odd = r#"{"dynamicActiveSecrets": [{"name": "a\u001b[2J", "clientStatus": "\n", "errorState": {"details": "\u0007"}}]}"#;
        let dump = Dump::parse(odd).expect("a dump");
        let shown = dump.details(now) + &dump.table(now, false);
        assert!(shown.chars().all(|character| character == '\n' || !character.is_control()), "{shown:?}");
        assert_eq!(Dump::parse("{}").expect("a dump").details(now), "No secrets found.\n");
    }
}
