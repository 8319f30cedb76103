//! What can be permitted at a path.

use crate::request::Operation;

/// One capability, by the name that policies use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capability {
    /// Write what is not there yet.
    Create,
    /// Remove.
    Delete,
    /// Nothing at all, whatever else is said.
    Deny,
    /// The names directly below.
    List,
    /// Change in part.
    Patch,
    /// Read.
    Read,
    /// All names below.
    Scan,
    /// Use paths that only privileged tokens may use.
    Sudo,
    /// Write what is there.
    Update,
}

impl Capability {
    /// All of them, in the order of their names.
    pub const ALL: [Self; 9] = [
        Self::Create,
        Self::Delete,
        Self::Deny,
        Self::List,
        Self::Patch,
        Self::Read,
        Self::Scan,
        Self::Sudo,
        Self::Update,
    ];

    /// Its name in policies.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Deny => "deny",
            Self::List => "list",
            Self::Patch => "patch",
            Self::Read => "read",
            Self::Scan => "scan",
            Self::Sudo => "sudo",
            Self::Update => "update",
        }
    }

    /// The capability of that name; names are case-sensitive.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|capability| capability.name() == name)
    }

    /// What an operation needs; `None` for help, which needs nothing.
    #[must_use]
    pub const fn needed_for(operation: Operation) -> Option<Self> {
        match operation {
            Operation::Read => Some(Self::Read),
            Operation::Create => Some(Self::Create),
            Operation::Update => Some(Self::Update),
            Operation::Patch => Some(Self::Patch),
            Operation::Delete => Some(Self::Delete),
            Operation::List => Some(Self::List),
            Operation::Scan => Some(Self::Scan),
            Operation::Help => None,
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// A set of capabilities. Once it holds `deny` it holds nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities(u16);

impl Capabilities {
    /// The empty set.
    pub const NONE: Self = Self(0);
    /// Only `deny`.
    pub const DENY: Self = Self(Capability::Deny.bit());

    /// The set with one more.
    #[must_use]
    pub const fn with(self, capability: Capability) -> Self {
        self.union(Self(capability.bit()))
    }

    /// Both sets together.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        let both = self.0 | other.0;
        if both & Self::DENY.0 != 0 { Self::DENY } else { Self(both) }
    }

    /// Whether the set has it.
    #[must_use]
    pub const fn has(self, capability: Capability) -> bool {
        self.0 & capability.bit() != 0
    }

    /// Whether all is denied.
    #[must_use]
    pub const fn is_deny(self) -> bool {
        self.has(Capability::Deny)
    }

    /// The names, in their order; `deny` if there are none.
    #[must_use]
    pub fn names(self) -> Vec<&'static str> {
        self.among(Capability::ALL)
    }

    /// The names, those that came later to policies at the end, as the peer's resultant ACL has them.
    #[must_use]
    pub fn names_by_age(self) -> Vec<&'static str> {
        use Capability::{Create, Delete, Deny, List, Patch, Read, Scan, Sudo, Update};
        self.among([Deny, Create, Delete, List, Read, Sudo, Update, Patch, Scan])
    }

    fn among(self, all: [Capability; 9]) -> Vec<&'static str> {
        let names: Vec<_> = all.into_iter().filter(|one| self.has(*one)).map(Capability::name).collect();
        if names.is_empty() { vec![Capability::Deny.name()] } else { names }
    }
}

impl FromIterator<Capability> for Capabilities {
    fn from_iter<T: IntoIterator<Item = Capability>>(iter: T) -> Self {
        iter.into_iter().fold(Self::NONE, Self::with)
    }
}
