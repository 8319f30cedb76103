//! Lists: in pages, at versions, whole or as metadata.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::call::{Call, version_of};
use super::control::State;
use super::kind::Kind;
use super::serve::{Answer, text_answer};
use super::status::Failure;
use super::store::{Place, metadata_of};

impl Call {
    pub(super) fn list(&self, kind: &Kind, state: &State) -> Result<Answer, Failure> {
        let selectors = self.selectors(kind)?;
        let store = &state.store;
        let (at, after) = match self.parameter("continue") {
            "" => (self.asked_version(store.revision)?, None),
            token => {
                let (version, place) = read_token(token)?;
                (version, Some(place))
            }
        };
        if at < store.oldest(&kind.qualified()) {
            return Err(match &after {
                Some(_) => Failure::new(
                    410,
                    "Expired",
                    "The provided continue parameter is too old to display a consistent list result. You can \
                     start a new list without the continue parameter.",
                    None,
                ),
                None => Failure::new(
                    410,
                    "Expired",
                    format!("The resourceVersion for the provided list is too old: {at}"),
                    None,
                ),
            });
        }
        let limit: usize = self.parameter("limit").parse().unwrap_or(0);
        let limit = if limit == 0 { usize::MAX } else { limit };
        let mut metadata = json!({ "resourceVersion": at.to_string() });
        let mut items = String::new();
        let (mut count, mut last) = (0, None);
        if let Some(table) = store.tables.get(&kind.qualified()) {
            let mut found = table
                .at(at, self.target.namespace.as_deref(), after.as_ref())
                .filter(|(_, object)| selectors.is_empty() || selectors.matches(object));
            for (place, object) in found.by_ref().take(limit) {
                if count > 0 {
                    items.push(',');
                }
                self.write_item(kind, object, &mut items);
                (count, last) = (count + 1, Some(place));
            }
            if let (Some(last), Some(_)) = (last, found.next()) {
                metadata["continue"] = token(at, last).into();
                if selectors.is_empty() {
                    metadata["remainingItemCount"] = (found.count() + 1).into();
                }
            }
        }
        let (name, api_version) = if self.wants_metadata() {
            ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1".to_owned())
        } else {
            (format!("{}List", kind.kind), kind.api_version())
        };
        Ok(text_answer(
            200,
            format!(
                "{{\"kind\":{name:?},\"apiVersion\":{api_version:?},\"metadata\":{metadata},\"items\":[{items}]}}"
            ),
        ))
    }

    fn write_item(&self, kind: &Kind, object: &Value, items: &mut String) {
        if self.wants_metadata() {
            let _ = write!(items, "{}", metadata_of(object));
        } else if kind.custom {
            let _ = write!(items, "{object}");
        } else {
            // Objects in lists of built-in kinds do not repeat their kind.
            let fields = object.as_object().into_iter().flatten();
            let fields = fields.filter(|(name, _)| !matches!(name.as_str(), "kind" | "apiVersion"));
            items.push('{');
            for (at, (name, value)) in fields.enumerate() {
                let _ = write!(items, "{}{name:?}:{value}", if at == 0 { "" } else { "," });
            }
            items.push('}');
        }
    }

    /// The version that a list is asked for at.
    fn asked_version(&self, newest: u64) -> Result<u64, Failure> {
        let version = self.parameter("resourceVersion");
        let is_exact = match (self.parameter("resourceVersionMatch"), version) {
            ("", _) | ("NotOlderThan", _) => false,
            ("Exact", "" | "0") => {
                let why = "resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"";
                let message = format!(
                    "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: {why}"
                );
                return Err(Failure::new(422, "Invalid", message, None));
            }
            ("Exact", _) => true,
            (other, _) => {
                return Err(Failure::bad_request(format!("unknown resourceVersionMatch {other:?}")));
            }
        };
        if version.is_empty() {
            return Ok(newest);
        }
        let asked = version_of(version)?;
        if asked > newest {
            return Err(Failure::too_large(asked, newest));
        }
        // Pages of a version are pages of exactly this one.
        Ok(if is_exact { asked } else { newest })
    }
}

fn token(version: u64, last: &Place) -> String {
    let token = json!({ "v": "meta.k8s.io/v1", "rv": version, "start": [last.0, last.1] });
    data_encoding::BASE64URL_NOPAD.encode(token.to_string().as_bytes())
}

fn read_token(token: &str) -> Result<(u64, Place), Failure> {
    let read = || {
        let token = data_encoding::BASE64URL_NOPAD.decode(token.as_bytes()).ok()?;
        let token: Value = serde_json::from_slice(&token).ok()?;
        let part = |at: usize| token["start"][at].as_str().map(str::to_owned);
        Some((token["rv"].as_u64()?, (part(0)?, part(1)?)))
    };
    read().ok_or_else(|| Failure::bad_request("continue key is not valid"))
}
