//! What a command prints: tables for people, JSON and YAML for programs.
//!
//! Scripts parse these, so they match the peer's byte for byte: the order of keys, how a list looks in
//! a table, that a `ttl` is shown as `768h`, where a line of a warning breaks.

mod doc;
mod go;
mod secret;
mod table;
mod wrap;
mod yaml;

pub use doc::Doc;
pub use go::{human_duration, looks_like_duration, plain, quoted_list};
pub use secret::{field_of, secret_doc, secret_table, warnings_text};
pub use table::{columns, table};
pub use wrap::{at_length, at_length_with_indent};

use crate::command::Failure;

/// How a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Columns.
    #[default]
    Table,
    /// Indented JSON.
    Json,
    /// YAML.
    Yaml,
    /// The server's own words, of `read` only.
    Raw,
    /// A form that only some answers have.
    Pretty,
}

impl Format {
    /// Reads a format's name, in any case; empty is the table.
    ///
    /// # Errors
    /// There is no such format.
    pub fn parse(name: &str) -> Result<Self, String> {
        match name.to_lowercase().as_str() {
            "" | "table" => Ok(Self::Table),
            "json" => Ok(Self::Json),
            "yaml" | "yml" => Ok(Self::Yaml),
            "raw" => Ok(Self::Raw),
            "pretty" => Ok(Self::Pretty),
            other => Err(format!("Invalid output format: {other}")),
        }
    }

    /// A document in this format; for tables, the value as Go prints it.
    ///
    /// # Errors
    /// The format does not suit a document.
    pub fn render(self, doc: &Doc) -> Result<String, Failure> {
        match self {
            Self::Table => Ok(plain(doc)),
            Self::Json | Self::Raw => Ok(doc.to_json()),
            Self::Yaml => Ok(yaml::render(doc)),
            Self::Pretty => Err(Failure::Local(
                "Could not parse output: cannot use the pretty formatter for this type".to_owned(),
            )),
        }
    }
}
