//! What an Envoy has loaded: `/certs`.

use super::dump::{Dump, DumpError, Place};
use super::table::columns;
use crate::overlay::{Map, Node};

/// The certificates in the TLS contexts that are in use: `envoy.admin.v3.Certificates`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveCertificates(Vec<Live>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Live {
    context: usize,
    kind: &'static str,
    path: String,
    serial: String,
    names: String,
    valid_from: String,
    expiration: String,
    days_left: String,
}

impl LiveCertificates {
    /// Reads what `/certs` answers.
    ///
    /// # Errors
    /// It is no JSON, or a field has another type.
    pub fn parse(text: &str) -> Result<Self, DumpError> {
        if text.len() > Dump::MOST {
            return Err(DumpError::TooLong);
        }
        let document: Node =
            serde_json::from_str(text).map_err(|error| DumpError::Json(error.to_string()))?;
        let document = match super::dump::in_camel_case(document) {
            Node::Map(map) => Node::Map(map),
            _ => Node::Map(Map::default()),
        };
        let place = Place { name: "certs".to_owned(), node: &document };
        let mut all = Vec::new();
        for (context, certificate) in place.list("certificates")?.iter().enumerate() {
            for (key, kind) in [("certChain", "Cert Chain"), ("caCert", "CA")] {
                for details in certificate.list(key)? {
                    all.push(Live::read(context + 1, kind, &details)?);
                }
            }
        }
        Ok(Self(all))
    }

    /// A row for each, in the order of the TLS contexts. Ends in a line feed.
    pub fn table(&self) -> String {
        if self.0.is_empty() {
            return "No certificates loaded.\n".to_owned();
        }
        let head = [
            "CONTEXT",
            "TYPE",
            "SERIAL NUMBER",
            "NOT AFTER",
            "NOT BEFORE",
            "DAYS LEFT",
            "PATH",
            "SUBJECT ALT NAMES",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(self.0.iter().cloned().map(Live::cells));
        columns(&rows)
    }
}

impl Live {
    fn read(context: usize, kind: &'static str, details: &Place<'_>) -> Result<Self, DumpError> {
        let mut names = Vec::new();
        for name in details.list("subjectAltNames")? {
            for (key, label) in [("uri", "URI"), ("dns", "DNS"), ("ipAddress", "IP")] {
                let text = name.text(key)?;
                if !text.is_empty() {
                    names.push(format!("{label}:{text}"));
                }
            }
        }
        // Protobuf writes 64-bit numbers as texts; not everybody does.
        let days = details.node.at(&["daysUntilExpiration"]).and_then(Node::scalar).unwrap_or_default();
        Ok(Self {
            context,
            kind,
            path: details.text("path")?,
            serial: details.text("serialNumber")?,
            names: names.join(", "),
            valid_from: details.text("validFrom")?,
            expiration: details.text("expirationTime")?,
            days_left: days,
        })
    }

    fn cells(self) -> Vec<String> {
        let Self { context, kind, path, serial, names, valid_from, expiration, days_left } = self;
        vec![context.to_string(), kind.to_owned(), serial, expiration, valid_from, days_left, path, names]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_real_envoy_has_loaded_is_read() {
        let text = include_str!("../../tests/data/inspect/envoy-1.40-certs.json");
        let live = LiveCertificates::parse(text).expect("certificates");
        let table = live.table();
        let rows: Vec<&str> = table.lines().collect();
        assert_eq!(rows[0].split_whitespace().next(), Some("CONTEXT"));
        let leaf = rows.iter().find(|row| row.contains("URI:spiffe://cluster.local/ns/foo/sa/sleep"));
        assert!(leaf.is_some_and(|row| row.contains("Cert Chain") && row.contains("<inline>")), "{table}");
        assert_eq!(rows.iter().filter(|row| row.contains(" CA ")).count(), 3, "{table}");
    }

    #[test]
    fn both_spellings_and_nothing_are_understood() {
        let camel = r#"{"certificates": [{"caCert": [{"path": "p", "serialNumber": "1", "daysUntilExpiration": 3,
            "subjectAltNames": [{"dns": "a"}, {"ipAddress": "1.2.3.4"}]}]}]}"#;
        let table = LiveCertificates::parse(camel).expect("certificates").table();
        assert!(table.ends_with("3             p        DNS:a, IP:1.2.3.4\n"), "{table}");
        for nothing in ["{}", "{\"certificates\": null}"] {
            let live = LiveCertificates::parse(nothing).expect("nothing");
            assert_eq!(live.table(), "No certificates loaded.\n");
        }
        for wrong in [
            "{\"certificates\": {}}",
            "{\"certificates\": [{\"ca_cert\": [1]}]}",
            "{",
            "{\"certificates\": [{\"ca_cert\": [{\"path\": 1}]}]}",
        ] {
            assert!(LiveCertificates::parse(wrong).is_err(), "{wrong}");
        }
    }
}
