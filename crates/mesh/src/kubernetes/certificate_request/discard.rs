//! Deleting CertificateRequests behind the back of those who wait, and what others left behind.

use std::time::Duration;

use jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ListParams, ObjectMeta};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{GENERATE_NAME, IDENTITIES};
use chancery_kubernetes::Pauses;
use chancery_kubernetes::{ApiError, optional, request};

/// How many deletions may be waiting. What does not fit is cleaned up later.
pub(super) const QUEUE: usize = 4096;

/// How many deletions are under way at once.
const AT_ONCE: usize = 16;

/// How often one is tried.
const ATTEMPTS: usize = 5;

/// How often leftovers are looked for after the start.
const CLEAN_UP_EVERY: Duration = Duration::from_secs(600);

/// Deletes what comes through the queue, until the queue is closed and empty.
pub(super) async fn delete_all(api: Api<DynamicObject>, mut names: mpsc::Receiver<String>) {
    let mut under_way = JoinSet::new();
    while let Some(name) = names.recv().await {
        while under_way.len() >= AT_ONCE {
            under_way.join_next().await;
        }
        while under_way.try_join_next().is_some() {}
        let api = api.clone();
        under_way.spawn(async move { delete(&api, &name).await });
    }
    while under_way.join_next().await.is_some() {}
}

async fn delete(api: &Api<DynamicObject>, name: &str) {
    let mut pauses = Pauses::new(Duration::from_millis(200), Duration::from_secs(5));
    for _ in 0..ATTEMPTS {
        match optional(api.delete(name, &DeleteParams::default())).await {
            Ok(_) => return,
            Err(error) if error.is_transient() => {
                tracing::debug!(name, %error, "a CertificateRequest could not be deleted yet");
                sleep(pauses.pause()).await;
            }
            Err(error) => {
                tracing::warn!(name, %error, "a CertificateRequest cannot be deleted");
                return;
            }
        }
    }
    tracing::warn!(name, "a CertificateRequest could not be deleted; it is left for the next clean-up");
}

/// Looks for leftovers, now and from time to time: those of a process that died, and those whose creation was never
/// confirmed. `now` is the clock. It does not return.
pub(super) async fn clean_up(
    api: Api<DynamicObject>,
    queue: mpsc::Sender<String>,
    age: Duration,
    now: impl Fn() -> Timestamp + Send,
) {
    loop {
        match leftovers(&api, age, now()).await {
            Ok(names) if names.is_empty() => {}
            Ok(names) => {
                tracing::info!(count = names.len(), "CertificateRequests were left behind and are deleted");
                for name in names {
                    if queue.send(name).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "leftover CertificateRequests cannot be looked for"),
        }
        sleep(CLEAN_UP_EVERY).await;
    }
}

async fn leftovers(api: &Api<DynamicObject>, age: Duration, now: Timestamp) -> Result<Vec<String>, ApiError> {
    let mut names = Vec::new();
    let mut page = ListParams::default().limit(500);
    loop {
        let list = request(api.list_metadata(&page)).await?;
        names.extend(list.items.iter().filter_map(|item| leftover(&item.metadata, age, now)));
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(names),
        }
    }
}

/// The name of a request that we made and that nobody can be waiting for any more.
fn leftover(metadata: &ObjectMeta, age: Duration, now: Timestamp) -> Option<String> {
    let name = metadata.name.as_deref().filter(|name| name.starts_with(GENERATE_NAME))?;
    metadata.annotations.as_ref()?.get(IDENTITIES)?;
    let created = metadata.creation_timestamp.as_ref()?.0.as_second();
    let is_old = now.as_second().saturating_sub(created) > i64::try_from(age.as_secs()).ok()?;
    (is_old && metadata.deletion_timestamp.is_none()).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_old_requests_of_our_own_are_leftovers() {
        let now = "2026-06-01T12:00:00Z".parse().expect("an instant");
        let found = |name: &str, annotation: &str, created: &str| {
            let metadata = json!({
                "name": name, "annotations": { annotation: "x" }, "creationTimestamp": created,
            });
            let metadata = serde_json::from_value(metadata).expect("metadata");
            leftover(&metadata, Duration::from_secs(900), now).is_some()
        };
        assert!(found("istio-csr-a", IDENTITIES, "2026-06-01T11:00:00Z"));
        assert!(!found("istio-csr-a", IDENTITIES, "2026-06-01T11:50:00Z"));
        assert!(!found("istio-csr-a", "other", "2026-06-01T11:00:00Z"));
        assert!(!found("somebody-elses", IDENTITIES, "2026-06-01T11:00:00Z"));
    }
}
