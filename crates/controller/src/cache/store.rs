//! What is known of objects of one kind, packed, with an index.

use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::hash::{BuildHasher, Hash, RandomState};
use std::marker::PhantomData;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::packed::{self, Packed, Packer};
use crate::issuer::IssuerKey;

/// What an object can be found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Term<'a> {
    /// Its UID.
    Uid(&'a str),
    /// The UID of the Certificate that controls it.
    Owner(&'a str),
    /// The issuer that it refers to.
    Issuer(&'a IssuerKey),
    /// A Secret that it refers to.
    Secret {
        /// The Secret's namespace.
        namespace: &'a str,
        /// The Secret's name.
        name: &'a str,
    },
    /// A Secret that it refers to, in the namespace of cluster resources.
    ClusterSecret(&'a str),
}

/// Facts that can be kept.
pub trait Facts<K>: Serialize + DeserializeOwned {
    /// Says what they are to be found by. A term may be said twice.
    fn terms(&self, key: &K, say: &mut dyn FnMut(Term<'_>));

    /// Whether most that are kept are of this shape. It has to do with memory only.
    fn is_typical(&self) -> bool;
}

/// A change: what was known before, and what is known now. One of them is always there.
#[derive(Debug)]
pub struct Change<'a, K, V> {
    /// Whose.
    pub key: &'a K,
    /// Before.
    pub before: Option<&'a Arc<V>>,
    /// Now; `None`: it is gone.
    pub now: Option<&'a Arc<V>>,
}

type Listener<K, V> = Box<dyn Fn(&Change<'_, K, V>) + Send + Sync>;

/// Which watch said it, where a store is fed by several. What one says goes is not gone if another has said since that it
/// is there.
pub type Source = u16;

/// What is known of objects of one kind.
///
/// It is kept packed and unpacked when it is read: that takes some microseconds, and a tenth of the memory. Each object is written by one watch only; whoever reads sees it before or after a change, never
/// between, and the index with it.
pub struct Store<K, V> {
    state: RwLock<State<K>>,
    listeners: RwLock<Vec<Listener<K, V>>>,
    packer: Packer,
    hasher: RandomState,
    of: PhantomData<fn() -> V>,
}

struct State<K> {
    facts: HashMap<Arc<K>, Packed>,
    /// By the hash of a term. Two terms may share one: whoever looks up by it checks.
    index: HashMap<u64, Keys<K>>,
}

/// Mostly one: many must not take the room of it.
enum Keys<K> {
    One(Arc<K>),
    #[expect(clippy::box_collection, reason = "there are tens of thousands of ones")]
    Many(Box<HashSet<Arc<K>>>),
}

/// A list that is being read: nothing of it counts until it is whole.
pub struct Reading<K> {
    source: Source,
    /// `None`: as it was.
    seen: HashMap<Arc<K>, Option<Packed>>,
}

impl<K: Debug> Debug for Reading<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reading").field("source", &self.source).finish_non_exhaustive()
    }
}

impl<K, V> Default for Store<K, V> {
    fn default() -> Self {
        Self {
            state: RwLock::new(State { facts: HashMap::new(), index: HashMap::new() }),
            listeners: RwLock::default(),
            packer: Packer::default(),
            hasher: RandomState::new(),
            of: PhantomData,
        }
    }
}

impl<K: Debug, V> Debug for Store<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl<K: Clone + Eq + Hash + Debug, V: Facts<K>> Store<K, V> {
    /// Has changes told to somebody. What calls is a watch: it must not wait.
    pub fn listen(&self, listener: impl Fn(&Change<'_, K, V>) + Send + Sync + 'static) {
        self.listeners.write().unwrap_or_else(PoisonError::into_inner).push(Box::new(listener));
    }

    /// What is known of one.
    pub fn get(&self, key: &K) -> Option<Arc<V>> {
        let packed = self.read().facts.get(key)?.clone();
        self.packer.unpack(&packed).map(Arc::new)
    }

    /// Whether anything is known of one.
    pub fn contains(&self, key: &K) -> bool {
        self.read().facts.contains_key(key)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.read().facts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The keys of all.
    pub fn keys(&self) -> Vec<K> {
        self.read().facts.keys().map(|key| K::clone(key)).collect()
    }

    /// All, one unpacked after the other as they are asked for, and as they are then.
    pub fn all(&self) -> impl Iterator<Item = (K, Arc<V>)> {
        self.keys().into_iter().filter_map(|key| self.get(&key).map(|value| (key, value)))
    }

    /// All that fit. It looks at every one: not for what happens often.
    pub fn find(&self, fits: impl Fn(&V) -> bool) -> Vec<Arc<V>> {
        let state = self.read();
        let all = state.facts.values().filter_map(|packed| self.packer.unpack(packed));
        all.filter(|value| fits(value)).map(Arc::new).collect()
    }

    /// All that are found by a term, in no order.
    pub fn find_by(&self, term: Term<'_>) -> Vec<(K, Arc<V>)> {
        let keys = self.keys_by(term);
        let found = keys.into_iter().filter_map(|key| {
            let value = self.get(&key)?;
            let mut is_found = false;
            value.terms(&key, &mut |said| is_found |= said == term);
            is_found.then_some((key, value))
        });
        found.collect()
    }

    /// The keys of all that are found by a term; once in a long while there may be one too many.
    pub fn keys_by(&self, term: Term<'_>) -> Vec<K> {
        match self.read().index.get(&self.hasher.hash_one(term)) {
            None => Vec::new(),
            Some(Keys::One(key)) => vec![K::clone(key)],
            Some(Keys::Many(keys)) => keys.iter().map(|key| K::clone(key)).collect(),
        }
    }

    /// It is there, like this.
    pub fn apply(&self, key: K, value: V) {
        self.apply_from(0, key, &value);
    }

    /// The same, from one of several watches.
    pub fn apply_from(&self, source: Source, key: K, value: &V) {
        let Some(json) = packed::json(value) else { return };
        if self.read().facts.get(&key).is_some_and(|known| self.is_same(known, &json, source)) {
            return;
        }
        let Some(packed) = self.packer.pack(&json, value.is_typical(), source) else { return };
        let before = self.insert(&mut self.write(), Arc::new(key.clone()), packed, value);
        self.tell(&key, before.as_ref());
    }

    /// It is gone.
    pub fn delete(&self, key: &K) {
        self.delete_from(0, key);
    }

    /// The same, from one of several watches.
    pub fn delete_from(&self, source: Source, key: &K) {
        let mut state = self.write();
        if state.facts.get(key).is_some_and(|packed| packed.source == source) {
            let before = self.remove(&mut state, key);
            drop(state);
            self.tell(key, before.as_ref());
        }
    }

    /// These are there and no others: a watch was read anew.
    pub fn replace(&self, all: impl IntoIterator<Item = (K, V)>) {
        let mut reading = self.begin(0);
        for (key, value) in all {
            self.add(&mut reading, key, &value);
        }
        self.end(reading);
    }

    /// A watch is read anew.
    pub fn begin(&self, source: Source) -> Reading<K> {
        Reading { source, seen: HashMap::new() }
    }

    /// It says that this one is there.
    pub fn add(&self, reading: &mut Reading<K>, key: K, value: &V) {
        let Some(json) = packed::json(value) else { return };
        let known =
            self.read().facts.get_key_value(&key).map(|(key, known)| (Arc::clone(key), known.clone()));
        let packed = match &known {
            Some((_, known)) if self.is_same(known, &json, reading.source) => None,
            _ => match self.packer.pack(&json, value.is_typical(), reading.source) {
                None => return,
                packed => packed,
            },
        };
        let key = known.map_or_else(|| Arc::new(key), |(key, _)| key);
        reading.seen.insert(key, packed);
    }

    /// It was read to its end: what it named is there, and of what came from it before, nothing else.
    pub fn end(&self, reading: Reading<K>) {
        let Reading { source, seen } = reading;
        let mut changes = Vec::new();
        {
            let mut state = self.write();
            let is_gone = |(key, packed): &(&Arc<K>, &Packed)| {
                packed.source == source && !seen.contains_key(key.as_ref())
            };
            let gone: Vec<Arc<K>> =
                state.facts.iter().filter(is_gone).map(|(key, _)| Arc::clone(key)).collect();
            for key in gone {
                let before = self.remove(&mut state, &key);
                changes.push((key, before));
            }
            for (key, packed) in seen {
                let Some(packed) = packed else { continue };
                let Some(value) = self.packer.unpack::<V>(&packed) else { continue };
                let before = self.insert(&mut state, Arc::clone(&key), packed, &value);
                changes.push((key, before));
            }
        }
        for (key, before) in changes {
            self.tell(&key, before.as_ref());
        }
    }

    fn insert(&self, state: &mut State<K>, key: Arc<K>, packed: Packed, value: &V) -> Option<Arc<V>> {
        let before = self.remove(state, &key);
        value.terms(&key, &mut |term| {
            let keys = state.index.entry(self.hasher.hash_one(term));
            keys.and_modify(|keys| keys.add(&key)).or_insert_with(|| Keys::One(Arc::clone(&key)));
        });
        state.facts.insert(key, packed);
        before
    }

    fn remove(&self, state: &mut State<K>, key: &K) -> Option<Arc<V>> {
        let packed = state.facts.remove(key)?;
        let before: V = self.packer.unpack(&packed)?;
        before.terms(key, &mut |term| {
            let hash = self.hasher.hash_one(term);
            if state.index.get_mut(&hash).is_some_and(|keys| keys.is_last(key)) {
                state.index.remove(&hash);
            }
        });
        Some(Arc::new(before))
    }

    fn tell(&self, key: &K, before: Option<&Arc<V>>) {
        let listeners = self.listeners.read().unwrap_or_else(PoisonError::into_inner);
        if listeners.is_empty() {
            return;
        }
        let now = self.get(key);
        for listener in listeners.iter() {
            listener(&Change { key, before, now: now.as_ref() });
        }
    }

    /// Whether what is known is this, and came from there.
    fn is_same(&self, known: &Packed, json: &[u8], source: Source) -> bool {
        known.source == source && self.packer.json(known).is_some_and(|known| known == json)
    }

    fn read(&self) -> RwLockReadGuard<'_, State<K>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<K>> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Keys<K> {
    fn add(&mut self, key: &Arc<K>) {
        match self {
            Self::One(one) if one == key => {}
            Self::One(one) => *self = Self::Many(Box::new([Arc::clone(one), Arc::clone(key)].into())),
            Self::Many(keys) => {
                keys.insert(Arc::clone(key));
            }
        }
    }

    /// Takes a key out; whether none is left.
    fn is_last(&mut self, key: &K) -> bool {
        match self {
            Self::One(one) => one.as_ref() == key,
            Self::Many(keys) => {
                keys.remove(key);
                keys.is_empty()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Thing {
        owner: Option<String>,
        size: u32,
    }

    impl Facts<String> for Thing {
        fn terms(&self, _: &String, say: &mut dyn FnMut(Term<'_>)) {
            if let Some(owner) = &self.owner {
                say(Term::Owner(owner));
                say(Term::Owner(owner));
            }
        }

        fn is_typical(&self) -> bool {
            self.size > 1
        }
    }

    fn thing(owner: &str, size: u32) -> Thing {
        Thing { owner: (!owner.is_empty()).then(|| owner.to_owned()), size }
    }

    fn owned(store: &Store<String, Thing>, owner: &str) -> Vec<String> {
        let mut keys: Vec<String> =
            store.find_by(Term::Owner(owner)).into_iter().map(|(key, _)| key).collect();
        keys.sort();
        assert_eq!(keys.len(), store.keys_by(Term::Owner(owner)).len());
        keys
    }

    #[test]
    fn the_index_follows_every_change() {
        let store = Store::default();
        store.apply("a".to_owned(), thing("x", 1));
        store.apply("b".to_owned(), thing("x", 1));
        store.apply("c".to_owned(), thing("", 1));
        assert_eq!(owned(&store, "x"), ["a", "b"]);
        store.apply("a".to_owned(), thing("y", 1));
        assert_eq!(owned(&store, "x"), ["b"]);
        assert_eq!(owned(&store, "y"), ["a"]);
        store.replace([("b".to_owned(), thing("y", 2))]);
        assert_eq!(owned(&store, "y"), ["b"]);
        store.delete(&"b".to_owned());
        assert!(owned(&store, "y").is_empty() && owned(&store, "x").is_empty() && store.is_empty());
        assert!(store.read().index.is_empty());
    }

    #[test]
    fn only_changes_are_told_with_what_was_before() {
        let store: Store<String, Thing> = Store::default();
        let told = Arc::new(Mutex::new(Vec::new()));
        let listener = Arc::clone(&told);
        store.listen(move |change| {
            let size = |thing: Option<&Arc<Thing>>| thing.map(|thing| thing.size);
            listener.lock().expect("told").push((change.key.clone(), size(change.before), size(change.now)));
        });
        let said = || std::mem::take(&mut *told.lock().expect("told"));
        store.apply("a".to_owned(), thing("x", 1));
        store.apply("a".to_owned(), thing("x", 1));
        assert_eq!(said(), [("a".to_owned(), None, Some(1))]);
        store.replace([("a".to_owned(), thing("x", 1)), ("b".to_owned(), thing("x", 2))]);
        assert_eq!(said(), [("b".to_owned(), None, Some(2))]);
        store.replace([("b".to_owned(), thing("x", 3))]);
        assert_eq!(said(), [("a".to_owned(), Some(1), None), ("b".to_owned(), Some(2), Some(3))]);
        store.delete(&"a".to_owned());
        assert!(said().is_empty());
    }

    #[test]
    fn a_list_counts_only_when_it_is_whole() {
        let store = Store::default();
        store.apply("a".to_owned(), thing("x", 1));
        let mut reading = store.begin(0);
        store.add(&mut reading, "b".to_owned(), &thing("x", 1));
        assert_eq!(owned(&store, "x"), ["a"]);
        store.end(reading);
        assert_eq!(owned(&store, "x"), ["b"]);
    }

    #[test]
    fn what_one_watch_loses_another_may_have_found() {
        let store = Store::default();
        store.apply_from(1, "a".to_owned(), &thing("x", 1));
        store.apply_from(2, "a".to_owned(), &thing("x", 1));
        store.delete_from(1, &"a".to_owned());
        store.end(store.begin(1));
        assert!(store.contains(&"a".to_owned()));
        store.delete_from(2, &"a".to_owned());
        assert!(store.is_empty());
    }
}
