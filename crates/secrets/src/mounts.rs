//! The mount table: which engine answers below which path.
//!
//! The table is small and lives in memory while the server is unsealed; every change is one durable
//! record before it takes effect. A request finds its mount by the longest prefix, which costs one
//! hash look-up per segment of its path and nothing per mount.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::digest;
use chancery_storage::{Name, Position, Unsealed, View};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, MutexGuard};

use crate::engine::{AnyEngine, Class, Mount, SystemLimits, Tuning, open};
use crate::error::Error;
use crate::measures::{self, MountMeasures};
use crate::probe::Prober;

/// Where the table's records lie, below the core's own view.
const COLLECTION: &str = "mounts";

/// How many records of an unmounted engine are removed with one commit.
const REMOVE_PAGE: usize = 1_000;

/// Paths that operators cannot mount at, above or below.
const RESERVED: [&str; 6] = ["auth/", "sys/", "cubbyhole/", "identity/", "audit/", "system/"];

/// A mount as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct MountEntry {
    /// Names the mount for good.
    pub uuid: String,
    /// Where it is mounted, with the slash at the end: `pki/`, `auth/approle/`.
    pub path: String,
    /// The engine: `pki`, `approle`, ….
    pub kind: String,
    /// Secret or auth.
    pub class: Class,
    /// Names the mount in policies and aliases.
    pub accessor: String,
    /// Accepted and shown; there is one node.
    pub local: bool,
    /// Accepted and shown; everything is sealed.
    pub seal_wrap: bool,
    /// Accepted and shown.
    pub external_entropy_access: bool,
    /// What an operator tuned.
    pub tuning: Tuning,
    /// Being unmounted: answers nothing any more; its records are on their way out.
    #[serde(default)]
    pub leaving: bool,
}

impl MountEntry {
    /// A fresh entry for `path`, which is normalised to end in one slash.
    pub fn new(class: Class, path: &str, kind: &str, tuning: Tuning) -> Self {
        let random = uuid::Uuid::new_v4().simple().to_string();
        Self {
            uuid: uuid::Uuid::new_v4().to_string(),
            path: full_path(class, path),
            kind: kind.to_owned(),
            class,
            accessor: accessor(class, kind, &random),
            local: false,
            seal_wrap: false,
            external_entropy_access: false,
            tuning,
            leaving: false,
        }
    }

    /// The entry of a mount that is always there. Its names are the same after each unsealing of the
    /// store that `cluster` names, so that what it stored, and what others wrote down, is found again.
    pub(crate) fn provided(class: Class, path: &str, kind: &str, cluster: &str) -> Self {
        let own =
            |purpose: &str| digest::digest(&digest::SHA256, format!("{purpose} {cluster} {kind}").as_bytes());
        let (description, headers): (&str, &[&str]) = match kind {
            "system" => ("system endpoints used for control, policy and debugging", &["Accept"]),
            "cubbyhole" => ("per-token private secret storage", &[]),
            _ => ("token based credentials", &[]),
        };
        let tuning = Tuning {
            description: description.to_owned(),
            passthrough_request_headers: headers.iter().map(|&header| header.to_owned()).collect(),
            ..Tuning::default()
        };
        let mut uuid = [0; 16];
        uuid.iter_mut().zip(own("uuid").as_ref()).for_each(|(byte, hashed)| *byte = *hashed);
        Self {
            uuid: uuid::Builder::from_random_bytes(uuid).into_uuid().to_string(),
            accessor: accessor(class, kind, &HEXLOWER.encode(own("accessor").as_ref())),
            local: kind == "cubbyhole",
            seal_wrap: kind == "system",
            ..Self::new(class, path, kind, tuning)
        }
    }
}

/// How mounts are named in policies and aliases: the kind, and eight hexadecimal digits.
fn accessor(class: Class, kind: &str, digits: &str) -> String {
    let digits: String = digits.chars().take(8).collect();
    match class {
        Class::Secret => format!("{kind}_{digits}"),
        Class::Auth => format!("auth_{kind}_{digits}"),
    }
}

/// `path` below its class, with one slash at the end: `pki/`, `auth/approle/`.
pub fn full_path(class: Class, path: &str) -> String {
    let path = path.trim_matches('/');
    match class {
        Class::Secret => format!("{path}/"),
        Class::Auth => format!("auth/{path}/"),
    }
}

/// An opened mount.
pub struct MountPoint {
    /// Its record, as of when it was opened; the tuning in force is the mount's.
    pub entry: MountEntry,
    /// What the engine was given.
    pub mount: Arc<Mount>,
    /// The engine.
    pub engine: Arc<dyn AnyEngine>,
    /// What is measured of it.
    pub(crate) measures: MountMeasures,
    tainted: AtomicBool,
    /// Its record may say so already: there is no way back.
    leaving: AtomicBool,
}

impl MountPoint {
    fn new(entry: MountEntry, mount: Arc<Mount>, engine: Arc<dyn AnyEngine>) -> Arc<Self> {
        let measures = MountMeasures::new(&entry.kind, &entry.path, &engine.counted());
        let (tainted, leaving) = (AtomicBool::new(false), AtomicBool::new(false));
        Arc::new(Self { entry, mount, engine, measures, tainted, leaving })
    }

    /// Whether it is on its way out and answers nothing.
    pub fn tainted(&self) -> bool {
        self.tainted.load(Ordering::Acquire)
    }

    /// The entry with the tuning in force.
    pub fn current(&self) -> MountEntry {
        MountEntry { tuning: (*self.mount.tuning()).clone(), ..self.entry.clone() }
    }
}

type Table = HashMap<String, Arc<MountPoint>>;

/// The mount table.
pub struct Mounts {
    unsealed: Arc<Unsealed>,
    root: View,
    system: SystemLimits,
    prober: Arc<dyn Prober>,
    table: RwLock<Arc<Table>>,
    /// What was tuned of the mounts that the core provides, by path.
    provided: HashMap<String, Tuning>,
    /// Held while the table changes, so that two changes cannot pass each other's checks.
    changing: Mutex<()>,
    /// Held over an unmounting, from first to last.
    unmounting: Mutex<()>,
}

impl Mounts {
    /// Loads the table and opens every engine in it. Unmountings that a crash interrupted go on.
    pub async fn open(
        unsealed: Arc<Unsealed>,
        root: View,
        system: SystemLimits,
        prober: Arc<dyn Prober>,
    ) -> Result<Self, Error> {
        let mut mounts = Self {
            unsealed,
            root,
            system,
            prober,
            table: RwLock::new(Arc::new(Table::new())),
            provided: HashMap::new(),
            changing: Mutex::new(()),
            unmounting: Mutex::new(()),
        };
        let mut entries: Vec<MountEntry> = Vec::new();
        for (_, record) in mounts.root.scan(COLLECTION, Position::Start, usize::MAX).await? {
            entries.push(serde_json::from_slice(&record.value)?);
        }
        for entry in entries {
            if is_provided(&entry.path) {
                // Nobody mounted it, but somebody tuned it; the core opens it.
                mounts.provided.insert(entry.path, entry.tuning);
                continue;
            }
            if entry.leaving {
                mounts.remove_records(&entry).await?;
                continue;
            }
            let point = mounts.open_entry(entry).await?;
            mounts.insert(point);
        }
        Ok(mounts)
    }

    /// Puts a mount into the table that the core itself provides: `sys/`, `cubbyhole/`, `auth/token/`.
    /// It has a record only if it was tuned.
    pub fn provide(&self, entry: MountEntry, mount: Arc<Mount>, engine: Arc<dyn AnyEngine>) {
        if let Some(tuning) = self.provided.get(&entry.path) {
            mount.tune(tuning.clone());
        }
        self.insert(MountPoint::new(entry, mount, engine));
    }

    /// The mount that `path` belongs to, and the rest of the path. The longest prefix wins.
    pub fn find<'p>(&self, path: &'p str) -> Option<(Arc<MountPoint>, &'p str)> {
        let table = self.table();
        let mut end = path.len();
        while let Some(slash) = path.get(..end).and_then(|head| head.rfind('/')) {
            if let (Some(prefix), Some(rest)) = (path.get(..=slash), path.get(slash + 1..))
                && let Some(point) = table.get(prefix)
            {
                return (!point.tainted()).then(|| (Arc::clone(point), rest));
            }
            end = slash;
        }
        // A mount may be asked for without its slash; mounts do not nest, so this hides none.
        let point = table.get(&format!("{path}/"))?;
        (!point.tainted()).then(|| (Arc::clone(point), ""))
    }

    /// The mount at exactly `path` (with its slash).
    pub fn at(&self, path: &str) -> Option<Arc<MountPoint>> {
        self.table().get(path).filter(|point| !point.tainted()).map(Arc::clone)
    }

    /// The mount of this uuid or accessor.
    pub fn by_accessor(&self, accessor: &str) -> Option<Arc<MountPoint>> {
        self.table().values().find(|point| point.entry.accessor == accessor).map(Arc::clone)
    }

    /// Every mount, by path.
    pub fn all(&self) -> BTreeMap<String, Arc<MountPoint>> {
        self.table().iter().map(|(path, point)| (path.clone(), Arc::clone(point))).collect()
    }

    /// Mounts an engine. The record is durable before the first request reaches it.
    pub async fn enable(&self, entry: MountEntry) -> Result<Arc<MountPoint>, Error> {
        let _changing = self.changing.lock().await;
        self.check_free(entry.class, &entry.path, None)?;
        // Opened first: an unknown type or a refused option leaves no record behind.
        let point = self.open_entry(entry).await?;
        self.store(&point.entry).await?;
        self.insert(Arc::clone(&point));
        Ok(point)
    }

    /// Takes a mount of this class out of service. From here on it answers nothing; the caller revokes
    /// what it gave out, then calls [`Unmounting::remove`]. A mount whose unmounting broke off before
    /// is handed out again, so that asking once more goes on with it.
    pub async fn taint(&self, class: Class, path: &str) -> Result<Option<Unmounting<'_>>, Error> {
        // One after another: whoever comes second finds nothing, or what the first could not finish.
        let alone = self.unmounting.lock().await;
        let _changing = self.changing.lock().await;
        let cannot = || Error::invalid(format!("cannot unmount {path:?}"));
        // The identity store of other servers is not here, and its place stays free.
        if is_provided(path) || path == "identity/" {
            return Err(cannot());
        }
        let Some(point) = self.table().get(path).map(Arc::clone) else { return Ok(None) };
        // `sys/mounts/auth/approle` leads here too, and asks for less than `sys/auth/approle` does.
        if point.entry.class != class {
            return Err(cannot());
        }
        point.tainted.store(true, Ordering::Release);
        Ok(Some(Unmounting { mounts: self, point, _alone: alone }))
    }

    /// Moves a mount to another path; what it stored stays with it.
    pub async fn remount(&self, from: &str, to: &str) -> Result<(), Error> {
        let _changing = self.changing.lock().await;
        let point = self.movable(from, to)?;
        let entry = MountEntry { path: to.to_owned(), ..point.current() };
        self.store(&entry).await?;
        let moved = MountPoint::new(entry, Arc::clone(&point.mount), Arc::clone(&point.engine));
        self.update(|table| {
            table.remove(from);
            table.insert(to.to_owned(), moved);
        });
        Ok(())
    }

    /// The mount at `from`, if it may move to `to` as things are.
    pub fn movable(&self, from: &str, to: &str) -> Result<Arc<MountPoint>, Error> {
        let point = self.at(from).ok_or_else(|| Error::invalid(format!("no matching mount at {from:?}")))?;
        if is_provided(from) {
            return Err(Error::invalid(format!("cannot remount {from:?}")));
        }
        self.check_free(point.entry.class, to, Some(from))?;
        Ok(point)
    }

    /// Changes the settings of a mount, from those in force; they are once they are durable.
    pub async fn tune(
        &self,
        path: &str,
        change: impl FnOnce(&MountPoint, &mut Tuning) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let _changing = self.changing.lock().await;
        let point = self
            .at(path)
            .ok_or_else(|| Error::invalid(format!("tune of path {path:?} failed: no mount entry found")))?;
        let mut tuning = (*point.mount.tuning()).clone();
        change(&point, &mut tuning)?;
        let entry = MountEntry { tuning: tuning.clone(), ..point.entry.clone() };
        self.store(&entry).await?;
        point.mount.tune(tuning);
        Ok(())
    }

    /// Whether a mount of this class may stand at `path`: not reserved, not above or below another.
    fn check_free(&self, class: Class, path: &str, moving: Option<&str>) -> Result<(), Error> {
        let below_class = match class {
            Class::Secret => path,
            Class::Auth => path.strip_prefix("auth/").unwrap_or(path),
        };
        if below_class == "/" || below_class.is_empty() {
            return Err(Error::invalid("missing path to mount at"));
        }
        let reserved = class == Class::Secret && RESERVED.iter().any(|reserved| path.starts_with(reserved));
        if reserved {
            return Err(Error::invalid(match moving {
                None => format!("cannot mount {path:?}"),
                Some(_) => format!("cannot remount to destination {path}"),
            }));
        }
        if path.split('/').any(|segment| segment == "." || segment == "..")
            || path.chars().any(char::is_control)
            || path.contains("//")
        {
            return Err(Error::invalid(format!("path {path:?} is not a clean path")));
        }
        let table = self.table();
        let in_use = table.keys().find(|used| {
            let other = Some(used.as_str()) != moving || used.as_str() == path;
            other && (path.starts_with(used.as_str()) || used.starts_with(path))
        });
        match in_use {
            Some(used) => {
                // Who asks names auth methods without the prefix that their table adds.
                let used = used.strip_prefix("auth/").unwrap_or(used);
                Err(Error::invalid(match moving {
                    None => format!("path is already in use at {used}"),
                    Some(_) => format!("path already in use at {used:?}"),
                }))
            }
            None => Ok(()),
        }
    }

    async fn open_entry(&self, entry: MountEntry) -> Result<Arc<MountPoint>, Error> {
        let view = self.unsealed.view(&entry.uuid)?;
        let mount = Mount::new(
            entry.uuid.clone(),
            entry.accessor.clone(),
            entry.class,
            view,
            self.system,
            entry.tuning.clone(),
        );
        let mount = Arc::new(mount.asking(Arc::clone(&self.prober)));
        let engine = open(&entry.kind, Arc::clone(&mount)).await?;
        Ok(MountPoint::new(entry, mount, engine))
    }

    async fn store(&self, entry: &MountEntry) -> Result<(), Error> {
        Ok(self.root.put_json(COLLECTION, &Name::new(entry.uuid.as_str()), entry).await?)
    }

    async fn remove_records(&self, entry: &MountEntry) -> Result<(), Error> {
        let view = self.unsealed.view(&entry.uuid)?;
        while view.delete_scope(REMOVE_PAGE).await? == REMOVE_PAGE {}
        Ok(self.root.delete(COLLECTION, &Name::new(entry.uuid.as_str())).await?)
    }

    fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn insert(&self, point: Arc<MountPoint>) {
        self.update(|table| {
            table.insert(point.entry.path.clone(), point);
        });
    }

    fn update(&self, change: impl FnOnce(&mut Table)) {
        let mut guard = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let mut table = (**guard).clone();
        change(&mut table);
        for class in [Class::Secret, Class::Auth] {
            let count = table.values().filter(|point| point.entry.class == class).count();
            measures::count_mounts(class, count);
        }
        *guard = Arc::new(table);
    }
}

/// An unmounting under way; the next one waits for its end. If it is dropped half-way the mount answers
/// nothing, and unmounting can be asked for again.
pub struct Unmounting<'a> {
    mounts: &'a Mounts,
    /// What is unmounted.
    pub point: Arc<MountPoint>,
    _alone: MutexGuard<'a, ()>,
}

impl Unmounting<'_> {
    /// Undoes [`Mounts::taint`], when what the mount gave out could not be revoked; not if an earlier
    /// unmounting went too far for that.
    pub fn restore(&self) {
        if !self.point.leaving.load(Ordering::Acquire) {
            self.point.tainted.store(false, Ordering::Release);
        }
    }

    /// Forgets the mount and all that it stored. If this fails it can be done again, and if we die on
    /// the way, opening goes on with it.
    pub async fn remove(&self) -> Result<(), Error> {
        let Self { mounts, point, .. } = self;
        let _changing = mounts.changing.lock().await;
        // Also if we do not learn the outcome.
        point.leaving.store(true, Ordering::Release);
        let entry = MountEntry { leaving: true, ..point.current() };
        mounts.store(&entry).await?;
        mounts.update(|table| {
            table.remove(&entry.path);
        });
        let removed = mounts.remove_records(&entry).await;
        if removed.is_err() {
            // Back to where the next attempt looks for it.
            mounts.insert(Arc::clone(point));
        }
        removed
    }
}

/// Mounts that the core itself provides.
pub(crate) fn is_provided(path: &str) -> bool {
    matches!(path, "sys/" | "cubbyhole/" | "auth/token/")
}
