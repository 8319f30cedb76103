//! Secrets as `istioctl proxy-config secret` shows them.

use chancery_issuance::Certificate;
use data_encoding::HEXLOWER;
use jiff::Timestamp;

use super::dump::{Bundle, Content, Dump, Secret, Status};

/// What is between columns.
const GAP: usize = 5;

impl Dump {
    /// The secrets that are waited for and those that are used, a row each; one for each trust domain of a SPIFFE
    /// validator. Only the first certificate of each is looked at. The trust domain is shown if every row has one.
    /// `with_static` shows those of the Envoy's own configuration behind them. Ends in a line feed.
    pub fn table(&self, now: Timestamp, with_static: bool) -> String {
        let shown = |secret: &&Secret| with_static || secret.status != Status::Static;
        let rows: Vec<Row> =
            self.secrets().iter().filter(shown).flat_map(|secret| Row::all(secret, now)).collect();
        if rows.is_empty() {
            return "No active or warming secrets found.\n".to_owned();
        }
        let with_domain = rows.iter().all(|row| row.trust_domain.is_some());
        let head = [
            "RESOURCE NAME",
            "TYPE",
            "STATUS",
            "VALID CERT",
            "SERIAL NUMBER",
            "NOT AFTER",
            "NOT BEFORE",
            "TRUST DOMAIN",
        ];
        let mut cells = vec![head.map(str::to_owned).to_vec()];
        cells.extend(rows.into_iter().map(Row::cells));
        if !with_domain {
            cells.iter_mut().for_each(|row| drop(row.pop()));
        }
        columns(&cells)
    }
}

/// Cells in columns that are as wide as their widest cell and the gap; the last one ends its line.
pub(super) fn columns(rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
    let length = |cell: &String| cell.chars().count();
    let count = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(length).max().unwrap_or_default();
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        for (at, (cell, width)) in row.iter().zip(&widths).enumerate() {
            text.push_str(cell);
            if at + 1 < row.len() {
                text.extend(std::iter::repeat_n(' ', width + GAP - length(cell)));
            }
        }
        text.push('\n');
    }
    text
}

/// What a stranger has named must not move a terminal's cursor.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}

struct Row {
    name: String,
    kind: &'static str,
    status: &'static str,
    valid: bool,
    certificate: Option<Certificate>,
    trust_domain: Option<String>,
}

impl Row {
    fn all(secret: &Secret, now: Timestamp) -> Vec<Self> {
        match &secret.content {
            Content::TrustDomains(domains) => {
                domains.iter().map(|(name, bundle)| Self::of(secret, Some(bundle), Some(name), now)).collect()
            }
            Content::Certificate(bundle) | Content::Trusted(bundle) => {
                vec![Self::of(secret, Some(bundle), None, now)]
            }
            Content::Other => vec![Self::of(secret, None, None, now)],
        }
    }

    fn of(secret: &Secret, bundle: Option<&Bundle>, domain: Option<&str>, now: Timestamp) -> Self {
        let certificate = bundle.and_then(|bundle| bundle.first().ok());
        let named = certificate.as_ref().and_then(trust_domain);
        let kind = match &certificate {
            Some(certificate) if certificate.is_ca() => "CA",
            Some(_) => "Cert Chain",
            None => "",
        };
        Self {
            name: secret.name.clone(),
            kind,
            status: secret.status.name(),
            valid: certificate.as_ref().is_some_and(|certificate| is_valid(certificate, now)),
            certificate,
            trust_domain: domain.map(str::to_owned).or(named).filter(|domain| !domain.is_empty()),
        }
    }

    fn cells(self) -> Vec<String> {
        let Self { name, kind, status, valid, certificate, trust_domain } = self;
        let said = |what: fn(&Certificate) -> String| certificate.as_ref().map(what).unwrap_or_default();
        vec![
            name,
            kind.to_owned(),
            status.to_owned(),
            valid.to_string(),
            said(serial),
            said(|certificate| certificate.not_after().to_string()),
            said(|certificate| certificate.not_before().to_string()),
            trust_domain.unwrap_or_default(),
        ]
    }
}

/// Neither at its first nor at its last moment: so the original has it.
pub(super) fn is_valid(certificate: &Certificate, now: Timestamp) -> bool {
    certificate.not_before().to_timestamp() < now && now < certificate.not_after().to_timestamp()
}

/// At least 32 digits; longer numbers as they are.
pub(super) fn serial(certificate: &Certificate) -> String {
    let digits = HEXLOWER.encode(certificate.serial_number().as_bytes());
    format!("{:0>32}", digits.trim_start_matches('0'))
}

/// The trust domain of the last SPIFFE ID.
pub(super) fn trust_domain(certificate: &Certificate) -> Option<String> {
    let sans = certificate.sans()?;
    let rest = sans.uri.iter().rev().find_map(|uri| uri.strip_prefix("spiffe://"))?;
    rest.split('/').next().map(str::to_owned)
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
