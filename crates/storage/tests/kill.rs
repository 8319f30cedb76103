//! The process is killed in the middle of its work, again and again: what was acknowledged is there.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chancery_storage::{Backend, Batch, Embedded, Key};

/// Two records that belong together, so that half a batch would be noticed.
fn pair(writer: usize, number: usize) -> [Key; 2] {
    ["one", "two"].map(|half| Key::from(format!("{writer:02}/{number:06}/{half}").as_str()))
}

/// Starts the child on this folder, kills it after a while, and answers the pairs it acknowledged.
fn acknowledged_before_the_kill(folder: &Path, after: Duration) -> Vec<(usize, usize)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_writes_until_it_is_killed", "--ignored", "--nocapture", "--quiet"])
        .env("STORE", folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = Vec::new();
    let mut started = None;
    while let Some(Ok(line)) = lines.next() {
        // The last line may have been cut by the kill.
        let mut words = line.split(' ');
        if let (Some("acknowledged"), Some(writer), Some(number), Some("end")) =
            (words.next(), words.next(), words.next(), words.next())
        {
            acknowledged.push((writer.parse().unwrap(), number.parse().unwrap()));
        }
        if started.get_or_insert_with(Instant::now).elapsed() >= after {
            // SIGKILL; what the child had already printed is still read.
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    acknowledged
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_commits_survive_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    for round in 0..8_u64 {
        let acknowledged =
            acknowledged_before_the_kill(folder.path(), Duration::from_millis(40 + 37 * round));
        assert!(!acknowledged.is_empty(), "the child must have done something in round {round}");
        expected.extend(acknowledged);

        let store = Embedded::open(folder.path()).unwrap();
        for &(writer, number) in &expected {
            for key in pair(writer, number) {
                assert_eq!(store.get(&key).await.unwrap().as_deref(), Some(key.as_bytes()), "round {round}");
            }
        }
        // What was not acknowledged may be there, but never half of it.
        let keys = store.keys(b"", None, usize::MAX).await.unwrap();
        assert!(keys.len() >= 2 * expected.len());
        for half in keys.chunks(2) {
            let [one, two] = half else { panic!("half a batch in round {round}: {half:?}") };
            assert_eq!(one.as_bytes().strip_suffix(b"one"), two.as_bytes().strip_suffix(b"two"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by acknowledged_commits_survive_a_kill, which kills it"]
async fn child_writes_until_it_is_killed() {
    let store = Arc::new(Embedded::open(std::env::var("STORE").unwrap()).unwrap());
    let writers: Vec<_> = (0..16)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let first =
                    store.keys(format!("{writer:02}/").as_bytes(), None, usize::MAX).await.unwrap().len() / 2;
                for number in first.. {
                    let mut batch = Batch::new();
                    for key in pair(writer, number) {
                        let value = key.as_bytes().to_vec();
                        batch.put(key, value);
                    }
                    store.commit(batch).await.unwrap();
                    let line = format!("acknowledged {writer} {number} end\n");
                    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}
