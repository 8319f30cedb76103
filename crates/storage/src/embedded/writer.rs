//! The one thread that writes: group after group, each in one transaction with one fsync.

use rusqlite::{Connection, ErrorCode, OptionalExtension as _};

use super::checkpoint::Checkpointer;
use super::folder::Folder;
use super::queue::{Company, Queue, Request};
use crate::StorageError;
use crate::backend::{Batch, Change, Expect};
use crate::measures::WriterMeasures;

/// A transaction ends at this size even if more waits, so that the first in the group do not wait for
/// the last. Measured in bytes because that is what an fsync is paid in.
const LARGEST_GROUP: usize = 4 << 20;

/// Writes until the queue is closed and empty, or the disk cannot be trusted any more.
pub(super) fn run(connection: &Connection, queue: &Queue, folder: &Folder, checkpointer: &Checkpointer) {
    let _leaving = Leaving { queue, checkpointer };
    let measures = WriterMeasures::new();
    let mut waiting = Vec::new();
    let mut company = Company::default();
    while queue.take(&mut waiting, &mut company) {
        let mut requests = waiting.drain(..);
        while !requests.as_slice().is_empty() {
            let mut size = 0_usize;
            let mut group = Vec::with_capacity(requests.len());
            while size < LARGEST_GROUP
                && let Some(request) = requests.next()
            {
                size = size.saturating_add(request.batch.size());
                group.push(request);
            }
            if let Err(stopped) = write(connection, folder, &measures, group) {
                // Memory and disk may differ now, and a later fsync could succeed without having written
                // what this one lost. Only reading the log anew, on the next start, tells what is there.
                tracing::error!(error = %stopped, "storage stopped: the outcome of a commit is unknown");
                let refusal = StorageError::unavailable(
                    "an earlier commit had an unknown outcome; restart the server to read the store anew",
                    stopped,
                );
                queue.close(refusal.clone());
                refuse(requests, &refusal);
                while queue.take(&mut waiting, &mut company) {
                    refuse(waiting.drain(..), &refusal);
                }
                return;
            }
            checkpointer.wrote(connection, size);
        }
    }
}

/// Refuses what was not begun.
fn refuse(requests: impl Iterator<Item = Request>, refusal: &StorageError) {
    requests.for_each(|request| answer(request, Err(refusal.clone())));
}

/// Writes a group and answers each of its members. `Err` if the outcome is unknown.
fn write(
    connection: &Connection,
    folder: &Folder,
    measures: &WriterMeasures,
    group: Vec<Request>,
) -> Result<(), StorageError> {
    let outcome = {
        let _timer = measures.commit(group.len());
        transact(connection, &group)
    };
    match outcome {
        Ok(conflicts) => {
            for (request, conflict) in group.into_iter().zip(conflicts) {
                answer(request, if conflict { Err(StorageError::Conflict) } else { Ok(()) });
            }
            Ok(())
        }
        Err(Failed::Nothing(error)) => {
            let mut group = group;
            if group.len() > 1 {
                // One of them may be at fault, such as one that is too large for the disk: each for itself.
                return group
                    .drain(..)
                    .try_for_each(|request| write(connection, folder, measures, vec![request]));
            }
            let error = folder.explain("writing", error);
            tracing::warn!(%error, "a storage commit was refused");
            group.drain(..).for_each(|request| answer(request, Err(error.clone())));
            Ok(())
        }
        Err(Failed::Unknown(error)) => {
            let what = format!("committing to {}", folder.path().display());
            let error = StorageError::unknown_outcome(what, error);
            group.into_iter().for_each(|request| answer(request, Err(error.clone())));
            Err(error)
        }
    }
}

/// How a transaction failed.
enum Failed {
    /// Nothing of it is in the store.
    Nothing(rusqlite::Error),
    /// It may be there after a restart.
    Unknown(rusqlite::Error),
}

impl From<rusqlite::Error> for Failed {
    fn from(error: rusqlite::Error) -> Self {
        Self::Nothing(error)
    }
}

/// One transaction over the group; answers for each member whether an expectation did not hold.
fn transact(connection: &Connection, group: &[Request]) -> Result<Vec<bool>, Failed> {
    execute(connection, "BEGIN IMMEDIATE")?;
    match apply_all(connection, group) {
        Ok((conflicts, false)) => {
            execute(connection, "ROLLBACK")?;
            Ok(conflicts)
        }
        Ok((conflicts, true)) => match execute(connection, "COMMIT") {
            Ok(()) => Ok(conflicts),
            Err(error) => {
                roll_back(connection);
                Err(after_commit(error))
            }
        },
        Err(error) => {
            roll_back(connection);
            Err(Failed::Nothing(error))
        }
    }
}

/// What a failed COMMIT left behind.
///
/// The record that makes a transaction count is written last, and only then comes the fsync. A full disk
/// means that this record could not be written. After any other failure of input or output it may be there.
fn after_commit(error: rusqlite::Error) -> Failed {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            Failed::Nothing(error)
        }
        _ => Failed::Unknown(error),
    }
}

fn roll_back(connection: &Connection) {
    // After some errors SQLite has done it already.
    if !connection.is_autocommit()
        && let Err(error) = execute(connection, "ROLLBACK")
    {
        tracing::error!(%error, "a failed storage transaction could not be rolled back");
    }
}

/// Applies each batch whose expectations hold; answers who did not, and whether anything was written.
fn apply_all(connection: &Connection, group: &[Request]) -> rusqlite::Result<(Vec<bool>, bool)> {
    let mut written = false;
    let mut conflicts = Vec::with_capacity(group.len());
    for request in group {
        // Checked before the first change, so a refused batch leaves nothing to undo.
        let holds = all_hold(connection, &request.batch)?;
        if holds && !request.batch.changes().is_empty() {
            apply(connection, &request.batch)?;
            written = true;
        }
        conflicts.push(!holds);
    }
    Ok((conflicts, written))
}

fn all_hold(connection: &Connection, batch: &Batch) -> rusqlite::Result<bool> {
    for expectation in batch.expectations() {
        let holds = match expectation {
            Expect::Absent(key) => {
                !connection.prepare_cached("SELECT 1 FROM kv WHERE k = ?1")?.exists([key.as_bytes()])?
            }
            Expect::BeginsWith(key, head) => connection
                .prepare_cached("SELECT v FROM kv WHERE k = ?1")?
                .query_row([key.as_bytes()], |row| Ok(row.get_ref(0)?.as_blob()?.starts_with(head)))
                .optional()?
                .unwrap_or(false),
        };
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

fn apply(connection: &Connection, batch: &Batch) -> rusqlite::Result<()> {
    for change in batch.changes() {
        match change {
            Change::Put(key, value) => {
                let mut put = connection.prepare_cached(
                    "INSERT INTO kv(k, v) VALUES(?1, ?2) ON CONFLICT(k) DO UPDATE SET v = excluded.v",
                )?;
                put.execute((key.as_bytes(), value.as_slice()))?;
            }
            Change::Delete(key) => {
                connection.prepare_cached("DELETE FROM kv WHERE k = ?1")?.execute([key.as_bytes()])?;
            }
        }
    }
    Ok(())
}

fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}

fn answer(request: Request, outcome: Result<(), StorageError>) {
    // A caller that went away does not want to know.
    let _ = request.answer.send(outcome);
}

/// However the writer ends, nobody waits for it in vain.
struct Leaving<'a> {
    queue: &'a Queue,
    checkpointer: &'a Checkpointer,
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.queue.close(super::queue::closed("the writer has stopped"));
        self.queue.abandon();
        self.checkpointer.stop();
    }
}
