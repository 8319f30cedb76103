//! `list_scan_response_keys_filter_path`: a listing shows only the names that the token may use.

/// Where the permission to see a listed name is looked up: a text in which `{{ .path }}` stands for the
/// path that is listed and `{{ .key }}` for the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysFilter(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Path,
    Key,
}

impl KeysFilter {
    /// Reads the template.
    ///
    /// # Errors
    /// A sentence, if the braces hold anything but `.path` and `.key`, or if the name does not occur.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        let mut trim = false;
        while let Some((before, after)) = rest.split_once("{{") {
            let (action, after) = after.split_once("}}").ok_or("unclosed action in template")?;
            let (action, trim_before) = match action.strip_prefix("- ") {
                Some(action) => (action, true),
                None => (action, false),
            };
            let (action, trim_after) = match action.strip_suffix(" -") {
                Some(action) => (action, true),
                None => (action, false),
            };
            let before = if trim { before.trim_start() } else { before };
            let before = if trim_before { before.trim_end() } else { before };
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(match action.trim() {
                ".path" => Piece::Path,
                ".key" => Piece::Key,
                other => {
                    return Err(format!("{{{{ {other} }}}} is neither {{{{ .path }}}} nor {{{{ .key }}}}"));
                }
            });
            trim = trim_after;
            rest = after;
        }
        pieces.push(Piece::Text(if trim { rest.trim_start() } else { rest }.to_owned()));
        pieces.retain(|piece| *piece != Piece::Text(String::new()));
        if !pieces.contains(&Piece::Key) {
            return Err(
                "list_scan_response_keys_filter_path resulted in same path for two different keys".into()
            );
        }
        Ok(Self(pieces))
    }

    /// The path at which the token needs a permission to see `key` in the listing of `path`.
    #[must_use]
    pub fn path_of(&self, path: &str, key: &str) -> String {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => text,
            Piece::Path => path,
            Piece::Key => key,
        });
        pieces.collect()
    }
}
