//! A durable store on one machine: a folder with an SQLite database, one writer, many readers.
//!
//! ```text
//! commit ─▶ queue ─▶ writer thread: everything that waits, in one transaction, one fsync ─▶ answers
//! get    ─▶ an idle read connection, in place
//! ```
//!
//! SQLite runs in WAL mode with `synchronous=FULL`: COMMIT returns after the log is on disk, and a reader sees
//! a transaction only from then on. What is written here is one table of keys and values.
//! While one fsync runs, the next group gathers by itself; where many write at once the writer waits a
//! moment for company (ADR 0009).

mod checkpoint;
mod folder;
mod queue;
mod readers;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use async_trait::async_trait;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _};

use crate::StorageError;
use crate::backend::{Backend, Batch, Key};
use checkpoint::Checkpointer;
use folder::Folder;
use queue::Queue;
use readers::Readers;

/// "chan" in ASCII, in the database header: an SQLite file of somebody else is not taken over.
const APPLICATION_ID: i32 = 0x6368_616E;
/// The layout below.
const FORMAT: i32 = 1;
/// A value of the usual size of a certificate fits several times into a page.
const PAGE_SIZE: i32 = 8192;
/// The most that one batch may carry: SQLite's own limit for a value is 10^9 bytes.
const LARGEST_BATCH: usize = 256 << 20;
/// Up to this many keys are read in place; more go to the blocking pool.
const SHORT_SCAN: usize = 32;

/// Both bounds stand as plain terms, so that the index ends the search. `?2 IS NULL OR k < ?2` would only
/// filter: a short collection would read on through all that lies behind it.
const KEYS: &str = "SELECT k FROM kv WHERE k >= ?1 AND k < ?2 ORDER BY k LIMIT ?3";
const RECORDS: &str = "SELECT k, v FROM kv WHERE k >= ?1 AND k < ?2 ORDER BY k LIMIT ?3";
/// For a prefix that no key lies behind.
const ALL_KEYS: &str = "SELECT k FROM kv WHERE k >= ?1 AND ?2 IS NULL ORDER BY k LIMIT ?3";
const ALL_RECORDS: &str = "SELECT k, v FROM kv WHERE k >= ?1 AND ?2 IS NULL ORDER BY k LIMIT ?3";

/// A durable store in a folder of its own. Dropping it finishes what was accepted and closes it.
pub struct Embedded {
    folder: Arc<Folder>,
    queue: Arc<Queue>,
    readers: Arc<Readers>,
    threads: Vec<JoinHandle<()>>,
}

impl Embedded {
    /// Opens the store in this folder, which is created (for this user only) if it does not exist.
    ///
    /// # Errors
    /// [`StorageError::Locked`] if another process has it open; [`StorageError::ReadOnly`];
    /// [`StorageError::Corrupt`] if it is no store of ours; [`StorageError::Full`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StorageError> {
        Self::open_limited(path, None)
    }

    /// As [`open`](Self::open), for a store that never grows beyond about `largest` bytes (its
    /// write-ahead log not counted): beyond that, writes answer [`StorageError::Full`].
    ///
    /// # Errors
    /// As `open`.
    pub fn open_limited(path: impl Into<PathBuf>, largest: Option<u64>) -> Result<Self, StorageError> {
        let folder = Arc::new(Folder::lock(path.into())?);
        let (writing, checkpointing) = prepare(&folder, largest)
            .map_err(|error| folder.explain("opening the database", error))?
            .ok_or_else(|| not_ours(folder.database()))?;
        folder.sync()?;
        let queue = Arc::new(Queue::new());
        let readers = Arc::new(Readers::new(Arc::clone(&folder)));
        // The first read connection now, so that the first request does not pay for it.
        readers.warm()?;

        let checkpointer = Arc::new(Checkpointer::new());
        let threads = vec![
            spawn("storage-checkpoint", {
                let checkpointer = Arc::clone(&checkpointer);
                move || checkpointer.run(&checkpointing)
            })?,
            spawn("storage-writer", {
                let (queue, folder) = (Arc::clone(&queue), Arc::clone(&folder));
                move || writer::run(&writing, &queue, &folder, &checkpointer)
            })?,
        ];
        Ok(Self { folder, queue, readers, threads })
    }

    /// The folder of the store.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

#[async_trait]
impl Backend for Embedded {
    async fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, StorageError> {
        // In place: microseconds from the page cache, where a hop to another thread costs more.
        self.readers.with(|connection| {
            let mut statement = connection.prepare_cached("SELECT v FROM kv WHERE k = ?1")?;
            statement.query_row([key.as_bytes()], |row| row.get(0)).optional()
        })
    }

    async fn keys(&self, prefix: &[u8], after: Option<&Key>, limit: usize) -> Result<Vec<Key>, StorageError> {
        self.range(prefix, after, limit, |connection, from, to, limit| {
            let mut statement = connection.prepare_cached(if to.is_some() { KEYS } else { ALL_KEYS })?;
            let rows =
                statement.query_map((from, to, limit), |row| Ok(Key::from(row.get_ref(0)?.as_blob()?)))?;
            rows.collect()
        })
        .await
    }

    async fn scan(
        &self,
        prefix: &[u8],
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Vec<u8>)>, StorageError> {
        self.range(prefix, after, limit, |connection, from, to, limit| {
            let mut statement =
                connection.prepare_cached(if to.is_some() { RECORDS } else { ALL_RECORDS })?;
            let rows = statement.query_map((from, to, limit), |row| {
                Ok((Key::from(row.get_ref(0)?.as_blob()?), row.get(1)?))
            })?;
            rows.collect()
        })
        .await
    }

    async fn commit(&self, batch: Batch) -> Result<(), StorageError> {
        let size = batch.size();
        if size > LARGEST_BATCH {
            return Err(StorageError::TooLarge { size, limit: LARGEST_BATCH });
        }
        self.queue.commit(batch).await
    }
}

impl Embedded {
    /// Runs a range query, in place if it is short.
    async fn range<T: Send + 'static>(
        &self,
        prefix: &[u8],
        after: Option<&Key>,
        limit: usize,
        query: RangeQuery<T>,
    ) -> Result<Vec<T>, StorageError> {
        let from = match after.map(Key::as_bytes).filter(|after| *after >= prefix) {
            // The next key in byte order after any key is that key and a zero byte.
            Some(after) => [after, &[0]].concat(),
            None => prefix.to_vec(),
        };
        let to = end_of(prefix);
        let rows = i64::try_from(limit).unwrap_or(i64::MAX);
        let read =
            move |readers: &Readers| readers.with(|connection| query(connection, &from, to.as_deref(), rows));
        if limit <= SHORT_SCAN {
            return read(&self.readers);
        }
        let readers = Arc::clone(&self.readers);
        tokio::task::spawn_blocking(move || read(&readers))
            .await
            .map_err(|error| StorageError::unavailable("reading a range", error))?
    }
}

/// Reads keys from the first bound on, below the second if there is one, at most so many.
type RangeQuery<T> = fn(&Connection, &[u8], Option<&[u8]>, i64) -> rusqlite::Result<Vec<T>>;

impl Drop for Embedded {
    fn drop(&mut self) {
        self.queue.close(queue::closed("its owner has gone"));
        // The writer leaves when the queue is empty, and tells the checkpointer to.
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a storage thread panicked");
            }
        }
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("path", &self.path()).finish_non_exhaustive()
    }
}

/// The connections of the writer and of the checkpointer; `None` if the database is somebody else's.
fn prepare(folder: &Folder, largest: Option<u64>) -> rusqlite::Result<Option<(Connection, Connection)>> {
    let writing = connect(folder)?;
    writing.pragma_update(None, "page_size", PAGE_SIZE)?;
    let tables: i64 = writing.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let application: i32 = writing.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let format: i32 = writing.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let new = tables == 0 && application == 0;
    if !new && (application, format) != (APPLICATION_ID, FORMAT) {
        return Ok(None);
    }
    writing.pragma_update(None, "journal_mode", "WAL")?;
    writing.pragma_update(None, "synchronous", "FULL")?;
    writing.pragma_update(None, "wal_autocheckpoint", 0)?;
    // What is written lies mostly at the end of the table and of each collection's range. The operating
    // system's page cache holds the rest, for all connections.
    writing.pragma_update(None, "cache_size", -2048)?;
    if new {
        writing.execute_batch(&format!(
            "BEGIN IMMEDIATE;
             CREATE TABLE kv(k BLOB PRIMARY KEY NOT NULL, v BLOB NOT NULL);
             PRAGMA application_id = {APPLICATION_ID};
             PRAGMA user_version = {FORMAT};
             COMMIT;"
        ))?;
    }
    if let Some(largest) = largest {
        let pages = i64::try_from(largest).unwrap_or(i64::MAX) / i64::from(PAGE_SIZE);
        writing.pragma_update(None, "max_page_count", pages)?;
    }
    let checkpointing = connect(folder)?;
    checkpointing.pragma_update(None, "synchronous", "FULL")?;
    Ok(Some((writing, checkpointing)))
}

fn connect(folder: &Folder) -> rusqlite::Result<Connection> {
    // Each connection is used by one thread at a time: no lock of its own.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    // The folder's lock keeps other processes out, so the connections need not lock ranges of files against
    // them (two system calls for each read): their locks and the log's index lie in this process' memory.
    let connection = Connection::open_with_flags_and_vfs(folder.database(), flags, c"unix-excl")?;
    connection.set_prepared_statement_cache_capacity(16);
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    Ok(connection)
}

fn not_ours(database: PathBuf) -> StorageError {
    StorageError::corrupt(format!(
        "{} is not a store that this version of the program wrote; choose another folder",
        database.display()
    ))
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StorageError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(run)
        .map_err(|error| StorageError::unavailable("starting the storage threads", error))
}

/// The first key that is greater than every key with this prefix; `None` if there is none.
fn end_of(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_searched_from_its_first_key_to_its_last() {
        let folder = tempfile::tempdir().unwrap();
        let store = Embedded::open(folder.path()).unwrap();
        for sql in [KEYS, RECORDS] {
            let plan = store.readers.with(|connection| {
                connection.query_row(&format!("EXPLAIN QUERY PLAN {sql}"), (&b"a"[..], &b"b"[..], 1), |row| {
                    row.get::<_, String>("detail")
                })
            });
            let plan = plan.unwrap();
            assert!(plan.ends_with("(k>? AND k<?)"), "{plan}");
        }
    }

    #[test]
    fn a_prefix_ends_before_its_successor() {
        assert_eq!(end_of(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(end_of(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(end_of(b"\xff"), None);
        assert_eq!(end_of(b""), None);
    }
}
