//! Logins: who gets in, at what cost, and who is locked out.

use super::*;

#[tokio::test]
async fn a_login_carries_the_roles_terms_and_the_secret_ids_metadata() {
    let bed = Bed::new().await;
    let role = json!({
        "token_policies": "p", "token_ttl": "1h", "token_max_ttl": "2h", "token_num_uses": 7,
        "token_bound_cidrs": "192.0.2.0/24",
    });
    let role_id = bed.role("web", role).await;
    let (secret_id, _) = bed
        .secret_id(
            "web",
            json!({ "metadata": r#"{"k":"v","role_name":"other"}"#, "token_bound_cidrs": "192.0.2.0/28" }),
        )
        .await;
    let login = bed.login(&role_id, &secret_id).await.unwrap();
    assert_eq!(login.policies, ["p"]);
    assert_eq!(
        (login.ttl, login.max_ttl, login.num_uses, login.renewable),
        (Ttl::hours(1), Ttl::hours(2), 7, true)
    );
    assert_eq!(login.metadata["k"], "v");
    assert_eq!(login.metadata["role_name"], "web", "a secret id cannot pass for another role's");
    assert_eq!(login.alias, Some(role_id));
    assert_eq!(login.bound_cidrs, ["192.0.2.0/28".parse().unwrap()]);
}

#[tokio::test]
async fn a_strictly_bound_token_works_from_the_logins_address_only() {
    let bed = Bed::new().await;
    let role_id = bed.role("web", json!({ "token_strictly_bind_ip": true })).await;
    let (secret_id, _) = bed.secret_id("web", json!({})).await;
    assert_eq!(bed.login(&role_id, &secret_id).await.unwrap().bound_cidrs, ["192.0.2.1/32".parse().unwrap()]);
}

#[tokio::test]
async fn white_space_around_credentials_does_not_count() {
    let bed = Bed::new().await;
    let role_id = bed.role("web", json!({})).await;
    let (secret_id, _) = bed.secret_id("web", json!({ "num_uses": 1 })).await;
    bed.login(&format!(" {role_id}\n"), &format!("\t{secret_id} ")).await.unwrap();
    assert_eq!(bed.uses_left("web", &secret_id).await, None, "the one use is spent");
    assert_eq!(message(bed.login(" ", &secret_id).await), invalid("missing role_id"));
    assert_eq!(message(bed.login(&role_id, " ").await), invalid("missing secret_id"));
}

#[tokio::test]
async fn wrong_credentials_are_refused_without_saying_which() {
    let bed = Bed::new().await;
    let role_id = bed.role("web", json!({})).await;
    let (secret_id, _) = bed.secret_id("web", json!({})).await;
    let other = bed.role("other", json!({})).await;
    for (role_id, secret_id, text) in [
        ("", "", "missing role_id"),
        (role_id.as_str(), "", "missing secret_id"),
        (role_id.as_str(), "wrong", "invalid role or secret ID"),
        ("wrong", secret_id.as_str(), "invalid role or secret ID"),
        (other.as_str(), secret_id.as_str(), "invalid role or secret ID"),
    ] {
        assert_eq!(message(bed.login(role_id, secret_id).await), invalid(text));
    }
    bed.login(&role_id, &secret_id).await.unwrap();
}

#[tokio::test]
async fn a_role_without_secret_ids_lets_its_networks_in() {
    let mut bed = Bed::new().await;
    let role_id =
        bed.role("web", json!({ "bind_secret_id": false, "bound_cidr_list": "192.0.2.0/24" })).await;
    bed.login(&role_id, "").await.unwrap();
    assert_eq!(
        message(bed.write("role/web/secret-id", json!({})).await),
        invalid("bind_secret_id is not set on the role")
    );
    bed.address = Some("198.51.100.1".parse().unwrap());
    assert_eq!(
        message(bed.login(&role_id, "").await),
        invalid("source address \"198.51.100.1\" unauthorized by CIDR restrictions on the role")
    );
}

#[tokio::test]
async fn a_login_from_a_wrong_network_does_not_cost_a_use() {
    let mut bed = Bed::new().await;
    let role_id = bed.role("web", json!({})).await;
    let (secret_id, _) = bed.secret_id("web", json!({ "num_uses": 1, "cidr_list": "10.0.0.0/8" })).await;
    assert_eq!(
        message(bed.login(&role_id, &secret_id).await),
        invalid("source address \"192.0.2.1\" unauthorized through CIDR restrictions on the secret ID")
    );
    assert_eq!(bed.uses_left("web", &secret_id).await, Some(1));
    bed.address = Some("10.1.1.1".parse().unwrap());
    bed.login(&role_id, &secret_id).await.unwrap();
}

#[tokio::test]
async fn uses_are_counted_down_durably_and_the_last_one_removes_the_secret_id() {
    let bed = Bed::new().await;
    let role_id = bed.role("web", json!({ "secret_id_num_uses": 3 })).await;
    let (secret_id, accessor) = bed.secret_id("web", json!({})).await;
    for left in [Some(2), Some(1), None] {
        bed.login(&role_id, &secret_id).await.unwrap();
        assert_eq!(bed.uses_left("web", &secret_id).await, left);
        assert_eq!(bed.restarted().await.uses_left("web", &secret_id).await, left);
    }
    assert_eq!(message(bed.login(&role_id, &secret_id).await), invalid("invalid role or secret ID"));
    assert_eq!(
        message(
            bed.write("role/web/secret-id-accessor/lookup", json!({ "secret_id_accessor": accessor })).await
        ),
        (Kind::NotFound, format!("failed to find accessor entry for secret_id_accessor: {accessor:?}"))
    );
    assert_eq!(message(bed.list("role/web/secret-id", json!({})).await), (Kind::NotFound, String::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn concurrent_logins_use_a_secret_id_exactly_as_often_as_it_allows() {
    let bed = Arc::new(Bed::new().await);
    // A second process on the same store: its locks are not ours, only the stored conditions hold between us.
    let other = Arc::new(bed.restarted().await);
    let role_id = bed.role("web", json!({})).await;
    let (secret_id, _) = bed.secret_id("web", json!({ "num_uses": 20 })).await;
    let logins: Vec<_> = (0..60)
        .map(|number| {
            let bed = Arc::clone(if number % 2 == 0 { &bed } else { &other });
            let (role_id, secret_id) = (role_id.clone(), secret_id.clone());
            tokio::spawn(async move { bed.login(&role_id, &secret_id).await.is_ok() })
        })
        .collect();
    let mut granted = 0;
    for login in logins {
        granted += usize::from(login.await.unwrap());
    }
    assert_eq!(granted, 20);
}

#[tokio::test]
async fn an_unlimited_login_writes_nothing() {
    let bed = Bed::new().await;
    let role_id = bed.role("web", json!({})).await;
    let (secret_id, _) = bed.secret_id("web", json!({ "ttl": "1h" })).await;
    let before = bed.memory.dump();
    for _ in 0..3 {
        bed.login(&role_id, &secret_id).await.unwrap();
    }
    assert_eq!(bed.memory.dump(), before);
}

#[tokio::test]
async fn five_different_wrong_secret_ids_lock_their_address_out_and_nobody_else() {
    let mut bed = Bed::new().await;
    let role_id = bed.role("web", json!({})).await;
    let (secret_id, _) = bed.secret_id("web", json!({})).await;
    // A client with one stale secret id repeats it for ever and locks nobody out.
    for _ in 0..20 {
        assert_eq!(message(bed.login(&role_id, "stale").await), invalid("invalid role or secret ID"));
    }
    bed.login(&role_id, &secret_id).await.unwrap();
    for number in 1..5 {
        assert_eq!(
            message(bed.login(&role_id, &format!("guess {number}")).await),
            invalid("invalid role or secret ID")
        );
    }
    assert_eq!(
        message(bed.login(&role_id, &secret_id).await),
        (Kind::PermissionDenied, "permission denied".into())
    );
    bed.address = Some("192.0.2.2".parse().unwrap());
    bed.login(&role_id, &secret_id).await.unwrap();
    bed.address = Some("192.0.2.1".parse().unwrap());
    bed.pass(15 * 60);
    bed.login(&role_id, &secret_id).await.unwrap();
}

#[tokio::test]
async fn a_renewal_follows_the_role_as_it_is_now_and_ends_with_it() {
    let bed = Bed::new().await;
    let role_id = bed.role("web", json!({ "token_ttl": "1h", "token_max_ttl": "2h" })).await;
    let (secret_id, _) = bed.secret_id("web", json!({})).await;
    let login = bed.login(&role_id, &secret_id).await.unwrap();
    bed.write("role/web", json!({ "token_ttl": "30m", "token_max_ttl": "40m", "token_period": "90m" }))
        .await
        .unwrap();
    let terms = bed.engine.renewal_terms(&login.internal).await.unwrap();
    assert_eq!(
        (terms.ttl, terms.max_ttl, terms.period),
        (Ttl::seconds(1800), Ttl::seconds(2400), Ttl::seconds(5400))
    );
    bed.delete("role/web", json!({})).await.unwrap();
    assert_eq!(
        message(bed.engine.renewal_terms(&login.internal).await),
        invalid("failed to renew entry: role \"web\" does not exist during renewal")
    );
}
