//! An fsync that fails for real: the device below the file system has no room for what was promised.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::process::Command;

use chancery_storage::{Backend, Batch, Embedded, Key, StorageError};

async fn put(store: &Embedded, number: usize) -> Result<(), StorageError> {
    let mut batch = Batch::new();
    batch.put(Key::from(format!("key/{number:04}").as_str()), vec![b'x'; 20_000]);
    store.commit(batch).await
}

/// A file system of 64 MB whose device is a file on a disk of 8 MB. Writing works, into memory; bringing it
/// to the device does not. Then the disk grows, and what the device has is read anew.
#[test]
fn after_a_failed_fsync_the_store_stops_and_keeps_what_it_acknowledged() {
    let (folder, notes) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let script = r#"
        mount -t tmpfs -o size=8m none "$STORE" || exit 77
        truncate -s 64M "$STORE/device" && mkfs.ext4 -q -F "$STORE/device" || exit 77
        mkdir "$STORE/disk" && mount -o loop "$STORE/device" "$STORE/disk" || exit 77
        "$TEST" --exact child_writes_until_an_fsync_fails --ignored --nocapture || exit 2
        umount "$STORE/disk" && mount -o remount,size=80m "$STORE" || exit 3
        mount -o loop "$STORE/device" "$STORE/disk" || exit 4
        "$TEST" --exact child_finds_what_was_acknowledged --ignored --nocapture || exit 5
        umount "$STORE/disk"
    "#;
    let status = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .env("STORE", folder.path())
        .env("ACKNOWLEDGED", notes.path().join("acknowledged"))
        .env("TEST", std::env::current_exe().unwrap())
        .status();
    match status.ok().and_then(|status| status.code()) {
        Some(0) => {}
        // No such program, not root, no loop device, or no such file system.
        None | Some(1 | 77) => eprintln!("skipped: this machine does not let tests mount a device"),
        Some(code) => panic!("the script failed with {code}"),
    }
}

#[tokio::test]
#[ignore = "run by after_a_failed_fsync_the_store_stops_and_keeps_what_it_acknowledged"]
async fn child_writes_until_an_fsync_fails() {
    let folder = std::env::var("STORE").unwrap();
    let store = Embedded::open(format!("{folder}/disk/store")).unwrap();
    let mut written = 0;
    let error = loop {
        match put(&store, written).await {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    fs::write(std::env::var("ACKNOWLEDGED").unwrap(), written.to_string()).unwrap();
    assert!(written > 20, "{written}");
    assert!(matches!(error, StorageError::UnknownOutcome { .. }), "{error:?}");
    let expected = format!("the outcome of a storage commit is unknown: committing to {folder}/disk/store");
    assert_eq!(error.to_string(), expected);

    // A later fsync could succeed without having written what this one lost, so there is none.
    let error = put(&store, written + 1).await.unwrap_err();
    assert!(matches!(error, StorageError::Unavailable { .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        "storage is unavailable: an earlier commit had an unknown outcome; restart the server to read the store anew"
    );
    assert!(store.get(&Key::from("key/0000")).await.unwrap().is_some(), "reading goes on");
}

#[tokio::test]
#[ignore = "run by after_a_failed_fsync_the_store_stops_and_keeps_what_it_acknowledged"]
async fn child_finds_what_was_acknowledged() {
    let folder = std::env::var("STORE").unwrap();
    let written = fs::read_to_string(std::env::var("ACKNOWLEDGED").unwrap()).unwrap();
    let written: usize = written.parse().unwrap();
    let store = Embedded::open(format!("{folder}/disk/store")).unwrap();
    for number in 0..written {
        let value = store.get(&Key::from(format!("key/{number:04}").as_str())).await.unwrap();
        assert_eq!(value.map(|value| value.len()), Some(20_000), "{number} of {written}");
    }
    put(&store, written + 1).await.unwrap();
}
