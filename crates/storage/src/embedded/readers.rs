//! Read connections, lent out and taken back.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;

use super::folder::Folder;
use crate::StorageError;

/// Connections that are kept open while idle. More exist only while more threads read at once.
const IDLE: usize = 8;

#[derive(Debug)]
pub(super) struct Readers {
    folder: Arc<Folder>,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(folder: Arc<Folder>) -> Self {
        Self { folder, idle: Mutex::new(Vec::with_capacity(IDLE)) }
    }

    /// Opens one connection in advance.
    pub(super) fn warm(&self) -> Result<(), StorageError> {
        self.with(|connection| connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())))
    }

    /// Reads with an idle connection, or with a new one if all are in use.
    pub(super) fn with<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StorageError> {
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => {
                self.connect().map_err(|error| self.folder.explain("opening a read connection", error))?
            }
        };
        let answer = read(&connection).map_err(|error| self.folder.explain("reading", error));
        let mut idle = self.idle();
        if idle.len() < IDLE {
            idle.push(connection);
        }
        answer
    }

    fn connect(&self) -> rusqlite::Result<Connection> {
        let connection = super::connect(&self.folder)?;
        connection.pragma_update(None, "query_only", true)?;
        // Every commit of the writer empties this cache, so a larger one would not help.
        connection.pragma_update(None, "cache_size", -256)?;
        Ok(connection)
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
