//! What is removed, and what stays.

use super::super::records::collection;
use super::super::tidy::{Buffers, Removed};
use super::*;

async fn tidied(bed: &Bed) -> Removed {
    let day = Duration::from_secs(24 * 3600);
    let buffers = Buffers { order: day, account: day * 30 };
    let mut removed = Removed::default();
    let mut after = None;
    loop {
        let engine = &bed.engine;
        after = engine.tidy_acme_page(after.as_ref(), 2, buffers, bed.now(), &mut removed).await.unwrap();
        if after.is_none() {
            return Removed { looked_at: 0, ..removed };
        }
    }
}

#[tokio::test]
async fn orders_go_when_they_and_their_certificates_ended_and_accounts_when_they_have_none() {
    let bed = Bed::new().await;
    let busy = Client::new(&bed, "acme/").await;
    let (_idle, _other) = (Client::new(&bed, "acme/").await, Client::new(&bed, "acme/").await);
    bed.write("acme/new-eab", json!({})).await.unwrap();
    busy.certificate(&["a.example"]).await;
    let pending = busy.order(&["b.example"]).await;
    let day = 24 * 3600;
    assert_eq!(tidied(&bed).await, Removed::default());
    bed.later(2 * day);
    assert_eq!(tidied(&bed).await, Removed { orders: 1, ..Removed::default() });
    assert_eq!(busy.read(&pending.header(Header::Location)).await.problem(), "malformed");
    bed.later(28 * day);
    assert_eq!(
        tidied(&bed).await,
        Removed { bindings: 1, ended: 2, ..Removed::default() },
        "accounts are ended first"
    );
    assert_eq!(tidied(&bed).await, Removed { accounts: 2, ..Removed::default() });
    assert_eq!(busy.read(&busy.kid).await.status, 200, "its certificate counts still");
    bed.later(4 * day);
    assert_eq!(tidied(&bed).await, Removed { orders: 1, ended: 1, ..Removed::default() });
    assert_eq!(tidied(&bed).await, Removed { accounts: 1, ..Removed::default() });
    let view = &bed.engine.store.view;
    for collection in [
        collection::ACCOUNTS,
        collection::ACCOUNT_KEYS,
        collection::ORDERS,
        collection::AUTHORIZATIONS,
        collection::VALIDATIONS,
        collection::CERTIFICATES,
        collection::EAB,
    ] {
        assert_eq!(view.list(collection, None, 10).await.unwrap(), [], "{collection}");
    }
}

#[tokio::test]
async fn an_account_that_tidying_ended_begins_anew_with_its_next_request_for_one() {
    let bed = Bed::new().await;
    let client = Client::new(&bed, "acme/").await;
    bed.later(31 * 24 * 3600);
    assert_eq!(tidied(&bed).await, Removed { ended: 1, ..Removed::default() });
    let refused = client.order(&["a.example"]).await;
    assert_eq!(refused.refusal(), (401, "unauthorized".to_owned()));
    let only = client.new_account(json!({ "onlyReturnExisting": true })).await;
    assert_eq!(only.problem(), "accountDoesNotExist");
    let again = client.new_account(json!({})).await;
    assert_eq!((again.status, again.header(Header::Location)), (201, client.kid.clone()));
    assert_eq!(client.order(&["a.example"]).await.status, 201);
    assert_eq!(tidied(&bed).await, Removed::default(), "it is as good as new");
}

#[tokio::test]
async fn an_account_that_got_an_order_while_it_was_ended_is_not_ended() {
    let bed = Bed::new().await;
    let client = Client::new(&bed, "acme/").await;
    bed.later(31 * 24 * 3600);
    let mut removed = Removed::default();
    let view = &bed.engine.store.view;
    let name = view.list(collection::ACCOUNTS, None, 1).await.unwrap().remove(0);
    let account = super::super::records::read(view, collection::ACCOUNTS, &name).await.unwrap().unwrap();
    client.order(&["a.example"]).await;
    bed.engine.remove_account(&name, &account, &mut removed).await.unwrap();
    assert_eq!(removed, Removed::default());
    assert_eq!(client.order(&["b.example"]).await.status, 201);
}

#[tokio::test]
async fn an_order_whose_certificate_cannot_be_read_stays_and_holds_up_nothing() {
    let bed = Bed::new().await;
    let client = Client::new(&bed, "acme/").await;
    let leaf = client.certificate(&["a.example"]).await;
    client.order(&["b.example"]).await;
    let name = crate::engine::pki::store::certificate_name(&leaf.serial_number());
    let view = &bed.engine.store.view;
    view.put(crate::engine::pki::store::collection::CERTIFICATES, &name, b"nonsense").await.unwrap();
    bed.later(100 * 24 * 3600);
    assert_eq!(tidied(&bed).await, Removed { orders: 1, ..Removed::default() });
}

#[tokio::test]
async fn certificates_of_acme_are_counted_where_that_is_asked_for() {
    let bed = Bed::new().await;
    bed.write("config/auto-tidy", json!({ "maintain_stored_certificate_counts": true })).await.unwrap();
    bed.tick().await;
    Client::new(&bed, "acme/").await.certificate(&["a.example"]).await;
    let status = bed.ask(Operation::Read, "tidy-status", Value::Null).await.unwrap();
    let status: Value = serde_json::from_str(status.data.unwrap().get()).unwrap();
    assert_eq!(status["current_cert_store_count"], 1, "{status}");
}

#[tokio::test]
async fn what_could_not_be_removed_is_removed_by_the_next_round() {
    let bed = Bed::new().await;
    let client = Client::new(&bed, "acme/").await;
    client.order(&["b.example"]).await;
    bed.later(3 * 24 * 3600);
    let day = Duration::from_secs(24 * 3600);
    let buffers = Buffers { order: day, account: day * 30 };
    for fault in [Fault::Fails, Fault::FailsAfterPersisting] {
        bed.next_commit(fault);
        let mut removed = Removed::default();
        assert!(bed.engine.tidy_acme_page(None, 10, buffers, bed.now(), &mut removed).await.is_err());
    }
    assert_eq!(tidied(&bed).await, Removed::default(), "the second of them had been removed");
    assert_eq!(client.read(&client.url("orders")).await.json(), json!({ "orders": [] }));
}
