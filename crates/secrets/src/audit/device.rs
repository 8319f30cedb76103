//! The file device: one JSON line per record.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Mutex, PoisonError};

use aws_lc_rs::hmac;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::hash::hash;
use crate::error::Error;

/// Read and write for the owner, nothing for others.
const DEFAULT_MODE: u32 = 0o600;

/// A device as it is stored.
#[derive(Clone, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// Its name, with a slash at the end.
    pub path: String,
    /// `file`.
    pub kind: String,
    /// For people.
    pub description: String,
    /// Accepted and shown; there is one node.
    pub local: bool,
    /// `file_path`, `mode`, `log_raw`, `hmac_accessor`, `prefix`, `elide_list_responses`, `format`.
    pub options: BTreeMap<String, String>,
    /// The key of the hashes.
    salt: [u8; 32],
}

impl DeviceRecord {
    /// Checks the options of a new device and gives it a salt.
    pub fn new(
        path: &str,
        kind: &str,
        description: &str,
        local: bool,
        options: BTreeMap<String, String>,
    ) -> Result<Self, Error> {
        if kind != "file" {
            return Err(Error::invalid(format!("unknown backend type: {kind:?}")));
        }
        let option = |name: &str| options.get(name).map(String::as_str).unwrap_or_default();
        if option("file_path").is_empty() {
            return Err(Error::invalid("file_path is required"));
        }
        if !matches!(option("format"), "" | "json") {
            return Err(Error::invalid(format!(
                "unknown format type {:?}; only json is offered",
                option("format")
            )));
        }
        parse_mode(option("mode"))?;
        for name in ["log_raw", "hmac_accessor", "elide_list_responses"] {
            parse_flag(name, option(name), false)?;
        }
        let mut salt = [0; 32];
        aws_lc_rs::rand::fill(&mut salt).map_err(|_| Error::internal("internal error", "no random bytes"))?;
        Ok(Self {
            path: format!("{}/", path.trim_matches('/')),
            kind: kind.to_owned(),
            description: description.to_owned(),
            local,
            options,
            salt,
        })
    }
}

fn parse_mode(text: &str) -> Result<u32, Error> {
    match text {
        "" | "0000" => Ok(DEFAULT_MODE),
        text => u32::from_str_radix(text, 8)
            .ok()
            .filter(|mode| *mode <= 0o777)
            .ok_or_else(|| Error::invalid(format!("mode {text:?} is no octal file mode"))),
    }
}

fn parse_flag(name: &str, text: &str, default: bool) -> Result<bool, Error> {
    match text {
        "" => Ok(default),
        "1" | "t" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(Error::invalid(format!("{name}: {text:?} is neither true nor false"))),
    }
}

/// A device in service.
pub struct Device {
    /// Its record.
    pub record: DeviceRecord,
    /// Secrets stand in the clear; for development.
    pub(super) log_raw: bool,
    /// Accessors are hashed too.
    pub(super) hmac_accessor: bool,
    /// Lists are recorded by their length.
    pub(super) elide_lists: bool,
    pub(super) salt: hmac::Key,
    prefix: Vec<u8>,
    target: Target,
}

enum Target {
    /// Takes everything and keeps nothing; for measurements.
    Discard,
    Stdout,
    File {
        path: String,
        mode: u32,
        file: Mutex<Option<File>>,
    },
}

impl Device {
    /// Opens the device; its file is opened with the first record.
    pub(super) fn open(record: DeviceRecord) -> Self {
        let option = |name: &str| record.options.get(name).map(String::as_str).unwrap_or_default();
        let flag = |name: &str, default: bool| parse_flag(name, option(name), default).unwrap_or(default);
        let target = match option("file_path") {
            "discard" => Target::Discard,
            "stdout" => Target::Stdout,
            path => Target::File {
                path: path.to_owned(),
                mode: parse_mode(option("mode")).unwrap_or(DEFAULT_MODE),
                file: Mutex::new(None),
            },
        };
        Self {
            log_raw: flag("log_raw", false),
            hmac_accessor: flag("hmac_accessor", true),
            elide_lists: flag("elide_list_responses", false),
            salt: hmac::Key::new(hmac::HMAC_SHA256, &record.salt),
            prefix: option("prefix").as_bytes().to_vec(),
            target,
            record,
        }
    }

    /// Writes a record of its own, as the peer does: a device that cannot be written to is refused
    /// when it is added, not when the first request needs it.
    pub(super) fn prove(&self, now: Timestamp) -> io::Result<()> {
        let record = json!({
            "time": now.to_string(),
            "type": "request",
            "auth": { "token_type": "default" },
            "request": {
                "id": uuid::Uuid::new_v4().to_string(),
                "operation": "update",
                "namespace": { "id": "root" },
                "path": "sys/audit/test",
            },
        });
        self.write(record.to_string().as_bytes())
    }

    /// Writes one record as one line. It has left the process when this returns.
    pub(super) fn write(&self, line: &[u8]) -> io::Result<()> {
        let line = [self.prefix.as_slice(), line, b"\n"].concat();
        match &self.target {
            Target::Discard => Ok(()),
            Target::Stdout => io::stdout().lock().write_all(&line),
            Target::File { path, mode, file } => {
                let mut slot = file.lock().unwrap_or_else(PoisonError::into_inner);
                let file = match &mut *slot {
                    Some(file) => file,
                    empty => empty.insert(open(path, *mode)?),
                };
                append(file, &line)
            }
        }
    }

    /// Closes the file; the next record opens it anew.
    pub(super) fn reopen(&self) {
        if let Target::File { file, .. } = &self.target {
            *file.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    /// The keyed hash of `text`.
    pub fn hash(&self, text: &str) -> String {
        hash(&self.salt, text)
    }
}

fn open(path: &str, mode: u32) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(mode).open(path)
}

/// Appends all of `line` or, as far as the file system lets us, nothing: half a record would make
/// the next one unreadable too.
fn append(file: &mut File, line: &[u8]) -> io::Result<()> {
    let regular = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len());
    file.write_all(line).inspect_err(|_| {
        if let Some(length) = regular {
            // Best effort; the error of the write is what counts.
            let _ = file.set_len(length);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn lines_are_appended_and_survive_a_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let options = options(&[("file_path", path.to_str().unwrap()), ("prefix", "@cee: ")]);
        let device = Device::open(DeviceRecord::new("file", "file", "", false, options).unwrap());
        device.write(b"{\"a\":1}").unwrap();
        std::fs::rename(&path, folder.path().join("audit.log.1")).unwrap();
        device.reopen();
        device.write(b"{\"a\":2}").unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("audit.log.1")).unwrap(), "@cee: {\"a\":1}\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "@cee: {\"a\":2}\n");
    }

    #[test]
    fn a_device_whose_folder_is_missing_fails_its_proof() {
        let options = options(&[("file_path", "/nonexistent-folder/audit.log")]);
        let device = Device::open(DeviceRecord::new("file", "file", "", false, options).unwrap());
        assert!(device.prove(Timestamp::UNIX_EPOCH).is_err());
        assert!(device.write(b"{}").is_err());
    }

    #[test]
    fn a_full_device_reports_the_failure() {
        let options = options(&[("file_path", "/dev/full")]);
        let device = Device::open(DeviceRecord::new("file", "file", "", false, options).unwrap());
        assert!(device.write(b"{}").is_err());
    }

    #[test]
    fn bad_options_are_refused_by_name() {
        for (kind, given, message) in [
            ("socket", &[("file_path", "x")][..], "unknown backend type: \"socket\""),
            ("file", &[], "file_path is required"),
            ("file", &[("file_path", "x"), ("mode", "zz")], "mode \"zz\" is no octal file mode"),
            (
                "file",
                &[("file_path", "x"), ("log_raw", "maybe")],
                "log_raw: \"maybe\" is neither true nor false",
            ),
            (
                "file",
                &[("file_path", "x"), ("format", "jsonx")],
                "unknown format type \"jsonx\"; only json is offered",
            ),
        ] {
            let error = DeviceRecord::new("a", kind, "", false, options(given)).err().unwrap();
            assert_eq!(error.message(), message);
        }
    }
}
