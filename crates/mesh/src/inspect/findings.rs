//! What is wrong with the secrets of a workload, or may be.

use chancery_issuance::{Certificate, Finding as Lint, LintGroup, LintSeverity};
use jiff::Timestamp;

use super::chain::{called, verify_chain};
use super::dump::{Bundle, Content, Dump, Secret, Status};
use super::table::printable;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Connections fail, or soon will, or the standard forbids it.
    Fault,
    /// Good to know.
    Note,
}

/// Something about a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// Its name for programs.
    pub rule: &'static str,
    /// The secret.
    pub secret: String,
    /// The sentence for people.
    pub says: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { severity, rule, secret, says } = self;
        let word = if *severity == Severity::Fault { "fault" } else { "note" };
        write!(f, "{word}: {}: {} ({rule})", printable(secret), printable(says))
    }
}

/// What the secrets are held against.
#[derive(Debug, Clone)]
pub struct Expectations<'a> {
    /// The moment.
    pub now: Timestamp,
    /// The mesh's roots, if they are known.
    pub roots: Option<&'a [Certificate]>,
    /// How much of a workload's certificate must be left, in hundredths of its lifetime: below that, renewal has failed.
    pub least_left: u8,
}

/// The workload's own certificate.
pub(super) const DEFAULT: &str = "default";
/// What it trusts.
pub(super) const ROOTCA: &str = "ROOTCA";

/// Looks at every secret by itself, at the workload's certificate (`default`) with the roots beside it (`ROOTCA`), and at
/// these with the mesh's.
pub fn findings(dump: &Dump, expected: &Expectations<'_>) -> Vec<Finding> {
    let mut report = Report { findings: Vec::new(), secret: String::new() };
    for secret in dump.secrets() {
        report.secret.clone_from(&secret.name);
        report.state(secret);
        report.kind(secret);
        for (domain, bundle) in secret.content.bundles() {
            let place = domain.map(|domain| format!("trust domain {domain}: ")).unwrap_or_default();
            match certificates(bundle) {
                Ok(certificates) => report.bundle(secret, &certificates, &place, expected),
                Err(Unread::Elsewhere(text)) => report.note("elsewhere", format!("{place}{text}")),
                Err(Unread::Broken(text)) => report.fault("unreadable", format!("{place}{text}")),
            }
        }
    }
    report.workload(dump, expected);
    report.findings
}

/// Why the certificates of a bundle are not known.
enum Unread {
    Elsewhere(String),
    Broken(String),
}

fn certificates(bundle: &Bundle) -> Result<Vec<Certificate>, Unread> {
    match bundle {
        Bundle::File(path) => {
            Err(Unread::Elsewhere(format!("it is in the file {path}, and was not looked at")))
        }
        Bundle::Variable(name) => {
            Err(Unread::Elsewhere(format!("it is in the variable {name}, and was not looked at")))
        }
        Bundle::Garbled => Err(Unread::Broken("it is no base64".to_owned())),
        Bundle::Pem(_) => match bundle.certificates() {
            Ok(list) if list.is_empty() => Err(Unread::Broken("there is no certificate in it".to_owned())),
            Ok(list) => Ok(list),
            Err(error) => Err(Unread::Broken(format!("it cannot be read: {error}"))),
        },
    }
}

/// The certificates of the workload, the leaf first; empty if they are not known.
pub(super) fn workload_chain(dump: &Dump) -> Vec<Certificate> {
    match dump.secret(DEFAULT).map(|secret| &secret.content) {
        Some(Content::Certificate(bundle)) => certificates(bundle).unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// What the workload trusts where a peer of its own trust domain is concerned; empty if it is not known.
pub(super) fn trusted(dump: &Dump, domain: Option<&str>) -> Vec<Certificate> {
    let Some(secret) = dump.secret(ROOTCA) else { return Vec::new() };
    // The bundle of the peer's trust domain, and no other, is what counts.
    let bundles = secret.content.bundles().into_iter();
    let suits = bundles.filter(|(name, _)| name.is_none() || *name == domain);
    suits.flat_map(|(_, bundle)| certificates(bundle).unwrap_or_default()).collect()
}

struct Report {
    findings: Vec<Finding>,
    secret: String,
}

impl Report {
    fn add(&mut self, severity: Severity, rule: &'static str, says: String) {
        let secret = self.secret.clone();
        self.findings.push(Finding { severity, rule, secret, says });
    }

    fn fault(&mut self, rule: &'static str, says: String) {
        self.add(Severity::Fault, rule, says);
    }

    fn note(&mut self, rule: &'static str, says: String) {
        self.add(Severity::Note, rule, says);
    }

    fn state(&mut self, secret: &Secret) {
        if secret.status == Status::Warming {
            self.fault("warming", "it is waited for, and connections that need it with it".to_owned());
        }
        if let Some(failure) = &secret.failure {
            let when = Some(&failure.last_attempt).filter(|time| !time.is_empty());
            let when = when.map(|time| format!(" at {time}")).unwrap_or_default();
            self.fault("error_state", format!("the last update was refused{when}: {}", failure.details));
        } else if matches!(
            secret.client_status.as_str(),
            "NACKED" | "RECEIVED_ERROR" | "TIMEOUT" | "DOES_NOT_EXIST"
        ) {
            self.fault("error_state", format!("the last update ended as {}", secret.client_status));
        }
    }

    /// A secret that is in use and has not what its name promises lets no connection succeed.
    fn kind(&mut self, secret: &Secret) {
        let content = &secret.content;
        let is_meant = match secret.name.as_str() {
            DEFAULT => matches!(content, Content::Certificate(_)),
            ROOTCA => !matches!(content, Content::Certificate(_)) && !content.bundles().is_empty(),
            _ => return,
        };
        if !is_meant && secret.status != Status::Warming {
            self.fault("no_certificate", "it holds no certificate".to_owned());
        }
    }

    fn bundle(&mut self, secret: &Secret, list: &[Certificate], place: &str, expected: &Expectations<'_>) {
        for certificate in list {
            self.lifetime(certificate, place, expected);
        }
        for (at, certificate) in list.iter().enumerate() {
            if list.iter().take(at).any(|other| other == certificate) {
                let says = format!(
                    "{place}{} stands more than once; strict clients refuse that",
                    called(certificate)
                );
                self.note("repeated", says);
            }
        }
        if matches!(secret.content, Content::Certificate(_)) {
            return self.order(list);
        }
        for root in list {
            if !root.is_ca() {
                self.fault("root_not_ca", format!("{place}{} is trusted, and no authority", called(root)));
            } else if !root.is_self_signed() {
                let says = format!(
                    "{place}{} is trusted, and not self-signed: an intermediate in the place of a root, which Envoy before \
                     1.24 and OpenSSL refuse",
                    called(root)
                );
                self.fault("root_not_self_signed", says);
            }
        }
    }

    fn lifetime(&mut self, certificate: &Certificate, place: &str, expected: &Expectations<'_>) {
        let now = expected.now.as_second();
        let (begin, end) = (certificate.not_before().as_second(), certificate.not_after().as_second());
        let name = called(certificate);
        if now > end {
            return self.fault("expired", format!("{place}{name} ended at {}", certificate.not_after()));
        }
        if now < begin {
            return self
                .fault("not_yet_valid", format!("{place}{name} begins at {}", certificate.not_before()));
        }
        let left = (end - now).saturating_mul(100) / (end - begin).max(1);
        if left < i64::from(expected.least_left) {
            let says =
                format!("{place}{name} has {left} % of its lifetime left, until {}", certificate.not_after());
            // Authorities are renewed by people, in their own time.
            if certificate.is_ca() {
                self.note("little_life_left", says)
            } else {
                self.fault("little_life_left", says)
            }
        }
    }

    /// RFC 8446, 4.4.2: each certificate is followed by its issuer's.
    fn order(&mut self, list: &[Certificate]) {
        for pair in list.windows(2) {
            if let [certificate, issuer] = pair
                && certificate != issuer
                && (certificate.issuer_der() != issuer.subject_der() || !certificate.is_signed_by(issuer))
            {
                let says = format!(
                    "{} is followed by {}, which did not sign it",
                    called(certificate),
                    called(issuer)
                );
                self.fault("chain_order", says);
            }
        }
        for root in list.iter().skip(1).filter(|certificate| certificate.is_self_signed()) {
            let says = format!("the chain includes the root {}, which peers do not need", called(root));
            self.note("root_in_chain", says);
        }
    }

    fn workload(&mut self, dump: &Dump, expected: &Expectations<'_>) {
        let has = |name: &str| dump.secret(name).is_some();
        for (there, missing) in [(DEFAULT, ROOTCA), (ROOTCA, DEFAULT)] {
            if has(there) && !has(missing) {
                missing.clone_into(&mut self.secret);
                self.fault("missing", format!("there is {there}, but no {missing}"));
            }
        }
        let chain = workload_chain(dump);
        if let Some(leaf) = chain.first() {
            DEFAULT.clone_into(&mut self.secret);
            let domain = super::table::trust_domain(leaf);
            let trusted = trusted(dump, domain.as_deref());
            self.spiffe_leaf(leaf);
            let bundles = dump.secret(ROOTCA).map(|secret| secret.content.bundles()).unwrap_or_default();
            let others = |(name, _): &(Option<&str>, &Bundle)| name.is_some() && *name != domain.as_deref();
            if !bundles.is_empty() && bundles.iter().all(others) {
                let domain = domain.as_deref().unwrap_or("(none)");
                let says = format!("{ROOTCA} has certificates for other trust domains than {domain} only");
                self.fault("not_trusted", says);
            } else if !trusted.is_empty() {
                match verify_chain(&chain, &trusted, expected.now) {
                    Ok(way) => way.get(1).into_iter().for_each(|signer| self.spiffe_signer(signer)),
                    Err(error) => {
                        self.fault("not_trusted", format!("it leads to no certificate of {ROOTCA}: {error}"))
                    }
                }
            }
        }
        if let Some(roots) = expected.roots
            && has(ROOTCA)
        {
            self.mesh_roots(dump, roots);
        }
    }

    fn mesh_roots(&mut self, dump: &Dump, roots: &[Certificate]) {
        ROOTCA.clone_into(&mut self.secret);
        let bundles = dump.secret(ROOTCA).map(|secret| secret.content.bundles()).unwrap_or_default();
        let held: Vec<Certificate> =
            bundles.iter().flat_map(|(_, bundle)| certificates(bundle).unwrap_or_default()).collect();
        for root in roots.iter().filter(|root| !held.contains(root)) {
            self.fault("root_missing", format!("the mesh's root {} is not in it", called(root)));
        }
        for root in held.iter().filter(|root| !roots.contains(root)) {
            self.note("root_unknown", format!("{} is in it, and no root of the mesh", called(root)));
        }
    }

    fn spiffe_leaf(&mut self, leaf: &Certificate) {
        let uris = leaf.sans().map(|sans| sans.uri).unwrap_or_default();
        // The other rules are those of certificates that name a SPIFFE ID.
        if !uris.iter().any(|uri| uri.to_ascii_lowercase().starts_with("spiffe:")) {
            self.fault("spiffe_id", format!("{} names no SPIFFE ID (X.509-SVID, 2)", called(leaf)));
        }
        if leaf.is_ca() {
            let says =
                format!("{} is an authority's, and a workload's must not be (X.509-SVID, 4.1)", called(leaf));
            self.fault("spiffe_leaf_ca", says);
        }
        self.lints(leaf, &["san_missing"]);
    }

    fn spiffe_signer(&mut self, signer: &Certificate) {
        self.lints(signer, &["key_usage_missing", "key_usage_not_critical"]);
        let names = signer.sans().map(|sans| sans.uri).unwrap_or_default();
        if names.is_empty() {
            let says =
                format!("{} signs, and names no trust domain; X.509-SVID, 3.2 recommends it", called(signer));
            self.note("spiffe_signer_id", says);
        }
    }

    /// What X.509-SVID has rules for, and these rules of RFC 5280.
    fn lints(&mut self, certificate: &Certificate, others: &[&str]) {
        for finding in certificate.findings() {
            let Lint { lint, .. } = &finding;
            if lint.group != LintGroup::Spiffe && !others.contains(&lint.id) {
                continue;
            }
            // X.509-SVID, 4.4: where there are extended key usages, both must be among them; only to have any is
            // recommended.
            let is_must = lint.severity == LintSeverity::Must || lint.id == "spiffe_ext_key_usage";
            let severity = if is_must { Severity::Fault } else { Severity::Note };
            self.add(severity, lint.id, format!("{}: {finding}", called(certificate)));
        }
    }
}

#[cfg(test)]
#[path = "findings_tests.rs"]
mod tests;
