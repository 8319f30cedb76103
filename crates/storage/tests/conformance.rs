//! Every backend passes the one suite.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use std::collections::HashMap;
use std::sync::Mutex;

use chancery_storage::{Embedded, Memory, conformance};

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_backend_conforms() {
    let stores: Mutex<HashMap<String, Memory>> = Mutex::default();
    let open = async |name: &str| stores.lock().unwrap().entry(name.to_owned()).or_default().reopened();
    conformance::exercise(open).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_embedded_backend_conforms() {
    let folder = tempfile::tempdir().unwrap();
    conformance::exercise(async |name: &str| Embedded::open(folder.path().join(name)).unwrap()).await;
}
