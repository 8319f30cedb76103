//! Paths that depend on who asks: `{{identity.entity.name}}` and the like.

use std::collections::BTreeMap;

use crate::token::TokenEntry;

/// Who a token belongs to. Tokens without an entity have the empty identity.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The person or machine behind the token.
    pub entity: Option<Entity>,
    /// The groups that the entity belongs to.
    pub groups: Vec<Group>,
}

/// A person or machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Entity {
    /// A UUID.
    pub id: String,
    /// Unique, for people.
    pub name: String,
    /// What an operator noted down.
    pub metadata: BTreeMap<String, String>,
    /// The entity's names at auth methods.
    pub aliases: Vec<Alias>,
}

/// An entity's name at one auth mount.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Alias {
    /// Which auth mount.
    pub mount_accessor: String,
    /// A UUID.
    pub id: String,
    /// The name there.
    pub name: String,
    /// What the auth method noted down.
    pub metadata: BTreeMap<String, String>,
    /// What an operator noted down.
    pub custom_metadata: BTreeMap<String, String>,
}

/// Entities that are treated alike.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Group {
    /// A UUID.
    pub id: String,
    /// Unique, for people.
    pub name: String,
    /// What an operator noted down.
    pub metadata: BTreeMap<String, String>,
}

/// Which characters a value may have that takes a template's place. `+`, `*` and `/` have a meaning in
/// paths, so that whoever chooses the value would choose the rule; all are refused unless the policy
/// says otherwise.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Substitution {
    /// `allow_wildcards_in_identity_templates`: `+` and `*`.
    pub wildcards: bool,
    /// `allow_slashes_in_identity_templates`: `/`.
    pub slashes: bool,
}

/// What became of a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Resolved {
    /// The path with all values in it.
    Path(String),
    /// The identity has no such value: there is no path, and no rule.
    Nothing,
    /// The value has a character that it may not have.
    Forbidden(char),
}

/// Whether a path has templates; an error if its braces do not pair up.
pub(super) fn is_templated(path: &str) -> Result<bool, &'static str> {
    pieces(path).map(|pieces| pieces.iter().any(|piece| matches!(piece, Piece::Template(_))))
}

/// Puts the identity's values in their places.
pub(super) fn resolve(path: &str, identity: &Identity, allowed: Substitution) -> Resolved {
    // Unpaired braces were refused when the policy was read.
    let Ok(pieces) = pieces(path) else { return Resolved::Nothing };
    let mut resolved = String::with_capacity(path.len());
    for piece in pieces {
        match piece {
            Piece::Text(text) => resolved.push_str(text),
            Piece::Template(name) => {
                let Some(value) = identity.value(name) else { return Resolved::Nothing };
                let forbidden = |c: &char| match c {
                    '*' | '+' => !allowed.wildcards,
                    '/' => !allowed.slashes,
                    _ => false,
                };
                if let Some(found) = value.chars().find(forbidden) {
                    return Resolved::Forbidden(found);
                }
                resolved.push_str(value);
            }
        }
    }
    Resolved::Path(resolved)
}

enum Piece<'a> {
    Text(&'a str),
    Template(&'a str),
}

fn pieces(path: &str) -> Result<Vec<Piece<'_>>, &'static str> {
    const UNBALANCED: &str = "unbalanced templating characters";
    let mut parts = path.split("{{");
    let first = parts.next().unwrap_or("");
    if first.contains("}}") {
        return Err(UNBALANCED);
    }
    let mut pieces = vec![Piece::Text(first)];
    for part in parts {
        let (name, text) = part.split_once("}}").ok_or(UNBALANCED)?;
        if text.contains("}}") {
            return Err(UNBALANCED);
        }
        pieces.extend([Piece::Template(name.trim()), Piece::Text(text)]);
    }
    Ok(pieces)
}

impl Identity {
    /// Who `token` belongs to. There is no identity store: an entity has the one alias of the login,
    /// and its name.
    ///
    /// What an auth method said of the caller at the login counts. The metadata of a token that another token
    /// made is its maker's own choice, and no policy may be steered by it.
    pub(crate) fn of(token: &TokenEntry) -> Self {
        let chosen = token.path.starts_with("auth/token/");
        let metadata = token.meta.clone().filter(|_| !chosen).unwrap_or_default();
        let entity = token.alias.as_ref().map(|(mount_accessor, name)| Entity {
            id: token.entity_id.clone(),
            name: format!("entity_{}", token.entity_id.split('-').next().unwrap_or_default()),
            aliases: vec![Alias {
                mount_accessor: mount_accessor.clone(),
                id: token.entity_id.clone(),
                name: name.clone(),
                metadata,
                ..Alias::default()
            }],
            ..Entity::default()
        });
        Self { entity, ..Self::default() }
    }

    /// `text` with the identity's values in the places of its templates; `None` if there is no such
    /// value, or if it has a character that it may not have.
    pub(crate) fn fill_in(&self, text: &str, allowed: Substitution) -> Option<String> {
        match resolve(text, self, allowed) {
            Resolved::Path(text) => Some(text),
            Resolved::Nothing | Resolved::Forbidden(_) => None,
        }
    }

    fn value(&self, name: &str) -> Option<&str> {
        let name = name.strip_prefix("identity.")?;
        if let Some(name) = name.strip_prefix("entity.") {
            return self.entity.as_ref()?.value(name);
        }
        let name = name.strip_prefix("groups.")?;
        let (group, field) = if let Some(rest) = name.strip_prefix("ids.") {
            let (id, field) = rest.split_once('.')?;
            (self.groups.iter().find(|group| group.id == id)?, field)
        } else {
            // A group's name may have points in it; none of the fields' names ends like another.
            let rest = name.strip_prefix("names.")?;
            self.groups.iter().find_map(|group| {
                let field = rest.strip_prefix(group.name.as_str())?.strip_prefix('.')?;
                Some((group, field))
            })?
        };
        match field {
            "id" => Some(&group.id),
            "name" => Some(&group.name),
            _ => text(&group.metadata, field.strip_prefix("metadata.")?),
        }
    }
}

impl Entity {
    fn value(&self, name: &str) -> Option<&str> {
        match name {
            "id" => return Some(&self.id),
            "name" => return Some(&self.name),
            _ => {}
        }
        if let Some(key) = name.strip_prefix("metadata.") {
            return text(&self.metadata, key);
        }
        let (accessor, field) = name.strip_prefix("aliases.")?.split_once('.')?;
        let alias = self.aliases.iter().find(|alias| alias.mount_accessor == accessor)?;
        match field {
            "id" => Some(&alias.id),
            "name" => Some(&alias.name),
            _ => match field.strip_prefix("metadata.") {
                Some(key) => text(&alias.metadata, key),
                None => text(&alias.custom_metadata, field.strip_prefix("custom_metadata.")?),
            },
        }
    }
}

fn text<'a>(metadata: &'a BTreeMap<String, String>, key: &str) -> Option<&'a str> {
    metadata.get(key).map(String::as_str)
}
