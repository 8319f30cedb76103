//! The objects, their versions, and what happened to them.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;

use super::kind::{Kind, Target};
use super::selector::Selectors;
use super::status::Failure;

/// So many changes of a kind are remembered; whoever is further behind is told 410.
const REMEMBERED: usize = 50_000;

/// Where an object of a kind lives: its namespace (empty: none), its name.
pub(super) type Place = (String, String);

/// One change: what was, and what is since.
#[derive(Debug)]
pub(super) struct Change {
    pub(super) revision: u64,
    pub(super) place: Place,
    pub(super) before: Option<Arc<Value>>,
    pub(super) after: Option<Arc<Value>>,
    /// What is to be shown: what is since, or what was when it went, with the version of its going.
    shown: Arc<Value>,
    whole: OnceLock<Bytes>,
    partial: OnceLock<Bytes>,
}

impl Change {
    /// The object in JSON, written once for all who watch; its metadata only, if asked so.
    pub(super) fn json(&self, metadata_only: bool) -> &Bytes {
        if metadata_only {
            self.partial.get_or_init(|| metadata_of(&self.shown).to_string().into())
        } else {
            self.whole.get_or_init(|| self.shown.to_string().into())
        }
    }
}

/// The objects of a kind.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) objects: BTreeMap<Place, Arc<Value>>,
    pub(super) log: VecDeque<Arc<Change>>,
    /// The version of the newest change that is not remembered any more.
    forgotten: u64,
    /// The newest change, for watches.
    pub(super) news: watch::Sender<u64>,
}

#[derive(Debug)]
pub(super) struct Store {
    pub(super) revision: u64,
    /// Nobody can resume behind a version before this one.
    pub(super) compacted: u64,
    pub(super) kinds: Vec<Arc<Kind>>,
    pub(super) tables: HashMap<String, Table>,
    /// Whether dependents go when their owners have gone.
    pub(super) collects_garbage: bool,
    /// Dependents by the `uid` of an owner: qualified kind, place.
    pub(super) dependents: HashMap<String, BTreeSet<(String, Place)>>,
    /// Owners that went.
    pub(super) gone: VecDeque<String>,
    /// Dependents that came to be and whose owners are to be looked for.
    pub(super) arrived: VecDeque<(String, Place)>,
    pub(super) born: u64,
}

impl Table {
    fn new() -> Self {
        Self { objects: BTreeMap::new(), log: VecDeque::new(), forgotten: 0, news: watch::Sender::new(0) }
    }

    /// The changes behind a version.
    pub(super) fn since(&self, revision: u64) -> impl DoubleEndedIterator<Item = &Arc<Change>> {
        let from = self.log.partition_point(|change| change.revision <= revision);
        self.log.range(from..)
    }

    /// The objects as they were at a version, in order, behind a place; of one namespace, if one is named.
    pub(super) fn at<'a>(
        &'a self,
        revision: u64,
        namespace: Option<&'a str>,
        after: Option<&Place>,
    ) -> impl Iterator<Item = (&'a Place, &'a Arc<Value>)> {
        // Later changes are undone: of several of one object, the earliest knows what was.
        let mut undone: BTreeMap<&Place, Option<&Arc<Value>>> = BTreeMap::new();
        for change in self.since(revision).rev() {
            undone.insert(&change.place, change.before.as_ref());
        }
        let first = (namespace.unwrap_or_default().to_owned(), String::new());
        let from = match after {
            Some(after) if *after > first => Bound::Excluded(after.clone()),
            _ => Bound::Included(first),
        };
        let here = move |place: &Place| namespace.is_none_or(|namespace| place.0 == namespace);
        let then: Vec<_> = undone.range::<Place, _>((from.clone(), Bound::Unbounded)).collect();
        let then = then.into_iter().filter_map(|(place, object)| object.map(|object| (*place, object)));
        let mut then =
            then.take_while(move |(place, _)| here(place)).collect::<Vec<_>>().into_iter().peekable();
        let now = self.objects.range((from, Bound::Unbounded)).take_while(move |(place, _)| here(place));
        let mut now = now.filter(move |(place, _)| !undone.contains_key(place)).peekable();
        std::iter::from_fn(move || match (now.peek(), then.peek()) {
            (Some(one), Some(other)) if other.0 < one.0 => then.next(),
            (None, _) => then.next(),
            _ => now.next(),
        })
    }
}

impl Store {
    pub(super) fn new() -> Self {
        Self {
            revision: 100,
            compacted: 0,
            kinds: Kind::known().into_iter().map(Arc::new).collect(),
            tables: HashMap::new(),
            collects_garbage: true,
            dependents: HashMap::new(),
            gone: VecDeque::new(),
            arrived: VecDeque::new(),
            born: 0,
        }
    }

    /// The kind that a request names.
    pub(super) fn kind_of(&self, target: &Target) -> Option<Arc<Kind>> {
        let fits = |kind: &&Arc<Kind>| {
            kind.plural == target.plural && kind.group == target.group && kind.version == target.version
        };
        self.kinds.iter().find(fits).cloned()
    }

    /// Makes a kind known, in place of one of the same name.
    pub(super) fn define(&mut self, kind: Kind) {
        let same = |one: &Arc<Kind>| {
            one.plural == kind.plural && one.group == kind.group && one.version == kind.version
        };
        self.kinds.retain(|one| !same(one));
        self.kinds.push(Arc::new(kind));
    }

    pub(super) fn table(&mut self, qualified: &str) -> &mut Table {
        if !self.tables.contains_key(qualified) {
            self.tables.insert(qualified.to_owned(), Table::new());
        }
        self.tables.get_mut(qualified).expect("a table")
    }

    pub(super) fn find(&self, qualified: &str, place: &Place) -> Option<&Arc<Value>> {
        self.tables.get(qualified)?.objects.get(place)
    }

    pub(super) fn get(&self, kind: &Kind, namespace: &str, name: &str) -> Result<&Arc<Value>, Failure> {
        let place = (namespace.to_owned(), name.to_owned());
        self.find(&kind.qualified(), &place).ok_or_else(|| Failure::not_found(kind, name))
    }

    /// The objects of a kind; of one namespace, if one is named.
    pub(super) fn list(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        selectors: &Selectors,
    ) -> Vec<Arc<Value>> {
        let Some(table) = self.tables.get(&kind.qualified()) else { return Vec::new() };
        let all = table.at(self.revision, namespace, None).map(|(_, object)| object);
        all.filter(|object| selectors.matches(object)).cloned().collect()
    }

    /// The oldest version from which the changes of a kind are known.
    pub(super) fn oldest(&self, qualified: &str) -> u64 {
        self.tables.get(qualified).map_or(0, |table| table.forgotten).max(self.compacted)
    }

    /// Nobody may begin behind a version of before; watches that are open have seen what was.
    pub(super) fn compact(&mut self) {
        // Something else was written meanwhile, as in a real store.
        self.revision += 1;
        self.compacted = self.revision;
    }

    /// Writes what an object is from now on, or that it is no more. Answers it with its version.
    pub(super) fn commit(
        &mut self,
        kind: &Kind,
        place: Place,
        object: Option<Value>,
        dry: bool,
    ) -> Arc<Value> {
        let revision = self.revision + 1;
        let qualified = kind.qualified();
        let before = self.find(&qualified, &place).cloned();
        let versioned = |mut object: Value| {
            object["metadata"]["resourceVersion"] = revision.to_string().into();
            Arc::new(object)
        };
        let after = object.map(versioned);
        let shown = match (&after, &before) {
            (Some(after), _) => Arc::clone(after),
            (None, Some(before)) => versioned(Value::clone(before)),
            (None, None) => return Arc::default(),
        };
        if dry {
            return shown;
        }
        self.revision = revision;
        self.index_owners(&qualified, &place, before.as_deref(), after.as_deref());
        let table = self.table(&qualified);
        match &after {
            Some(object) => table.objects.insert(place.clone(), Arc::clone(object)),
            None => table.objects.remove(&place),
        };
        let (whole, partial) = (OnceLock::new(), OnceLock::new());
        let answer = Arc::clone(&shown);
        table.log.push_back(Arc::new(Change { revision, place, before, after, shown, whole, partial }));
        if table.log.len() > REMEMBERED
            && let Some(oldest) = table.log.pop_front()
        {
            table.forgotten = oldest.revision;
        }
        table.news.send_replace(revision);
        if kind.plural == "customresourcedefinitions" {
            self.learn(&answer);
        }
        answer
    }

    /// Five characters, as `generateName` gets them: no vowels, nothing that looks like another.
    pub(super) fn suffix(&mut self) -> String {
        const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
        self.born += 1;
        // A number in a mixed order, so that names are neither sorted nor repeated.
        let mut number = self.born.wrapping_mul(7_778_777) % 27_u64.pow(5);
        let mut suffix = String::new();
        for _ in 0..5 {
            suffix.push(LETTERS[(number % 27) as usize].into());
            number /= 27;
        }
        suffix
    }
}

/// A field of an object's metadata; empty if it is not there.
pub(super) fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// An object as `PartialObjectMetadata`.
pub(super) fn metadata_of(object: &Value) -> Value {
    serde_json::json!({
        "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"],
    })
}
