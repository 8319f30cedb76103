//! Secret ids: made, looked up, listed and ended.

use super::*;

#[tokio::test]
async fn an_expired_secret_id_is_refused_at_once_and_removed_by_upkeep() {
    let mut bed = Bed::new().await;
    let role_id = bed.role("web", json!({})).await;
    let empty = bed.memory.dump().len();
    let (secret_id, accessor) = bed.secret_id("web", json!({ "ttl": "1h" })).await;
    let (lasting, _) = bed.secret_id("web", json!({ "ttl": "3h" })).await;
    bed.login(&role_id, &secret_id).await.unwrap();
    bed.pass(3600);
    assert_eq!(message(bed.login(&role_id, &secret_id).await), invalid("invalid role or secret ID"));
    assert_eq!(bed.uses_left("web", &secret_id).await, None);
    assert!(bed.list("role/web/secret-id", json!({})).await.unwrap().contains(&accessor));

    Arc::clone(&bed.engine).tick(bed.now).await.unwrap();
    assert!(!bed.list("role/web/secret-id", json!({})).await.unwrap().contains(&accessor));
    bed.login(&role_id, &lasting).await.unwrap();
    bed.pass(7200);
    Arc::clone(&bed.engine).tick(bed.now).await.unwrap();
    assert_eq!(bed.memory.dump().len(), empty, "nothing is left behind");
}

#[tokio::test]
async fn a_text_registered_again_outlives_the_expiry_of_its_first_life() {
    let mut bed = Bed::new().await;
    let role_id = bed.role("web", json!({})).await;
    let custom = |ttl: &str| json!({ "secret_id": "chosen", "ttl": ttl });
    bed.write("role/web/custom-secret-id", custom("1h")).await.unwrap();
    assert_eq!(
        message(bed.write("role/web/custom-secret-id", custom("1h")).await),
        invalid("failed to store secret_id: SecretID is already registered")
    );
    bed.write("role/web/secret-id/destroy", json!({ "secret_id": "chosen" })).await.unwrap();
    bed.write("role/web/custom-secret-id", custom("9h")).await.unwrap();
    bed.pass(2 * 3600);
    Arc::clone(&bed.engine).tick(bed.now).await.unwrap();
    bed.login(&role_id, "chosen").await.unwrap();
}

#[tokio::test]
async fn secret_ids_stay_within_the_roles_limits() {
    let bed = Bed::new().await;
    let role = json!({
        "secret_id_num_uses": 2, "secret_id_ttl": "1h",
        "secret_id_bound_cidrs": "127.0.0.0/8", "token_bound_cidrs": "127.0.0.0/8",
    });
    bed.role("web", role).await;
    let subset = "failed to verify subset relationship between CIDR blocks on the role [\"127.0.0.0/8\"] and CIDR blocks on the secret ID [\"10.0.0.0/8\"]";
    for (body, text) in [
        (json!({ "num_uses": 3 }), "num_uses cannot be higher than the role's secret_id_num_uses"),
        (json!({ "num_uses": 0 }), "num_uses cannot be higher than the role's secret_id_num_uses"),
        (json!({ "num_uses": -1 }), "num_uses cannot be negative"),
        (json!({ "ttl": "2h" }), "ttl cannot be longer than the role's secret_id_ttl"),
        (json!({ "ttl": 0 }), "ttl cannot be longer than the role's secret_id_ttl"),
        (json!({ "cidr_list": "10.0.0.0/8" }), subset),
        (json!({ "token_bound_cidrs": "10.0.0.0/8" }), subset),
    ] {
        assert_eq!(message(bed.write("role/web/secret-id", body).await), invalid(text));
    }
    let made = data(&bed.write("role/web/secret-id", json!({ "num_uses": 1, "ttl": "30m" })).await.unwrap());
    assert_eq!((&made["secret_id_num_uses"], &made["secret_id_ttl"]), (&json!(1), &json!(1800)));
    assert_eq!(
        message(bed.write("role/none/secret-id", json!({})).await),
        (Kind::NotFound, "role \"none\" does not exist".to_owned())
    );
}

#[tokio::test]
async fn a_secret_id_never_outlives_the_mounts_maximum() {
    let bed = Bed::new().await;
    bed.role("web", json!({ "secret_id_ttl": "10000h" })).await;
    let made = data(&bed.write("role/web/secret-id", json!({})).await.unwrap());
    assert_eq!(made["secret_id_ttl"], json!(2_764_800));
    let lookup = json!({ "secret_id": made["secret_id"] });
    let read = data(&bed.write("role/web/secret-id/lookup", lookup).await.unwrap());
    assert_eq!(read["secret_id_ttl"], json!(36_000_000));
    assert_eq!(read["expiration_time"], json!((NOW + Duration::from_secs(2_764_800)).to_string()));
}

#[tokio::test]
async fn looking_up_by_text_and_by_accessor_gives_the_same_properties() {
    let bed = Bed::new().await;
    bed.role("web", json!({})).await;
    let (secret_id, accessor) =
        bed.secret_id("web", json!({ "metadata": r#"{"k":"v"}"#, "cidr_list": "10.0.0.0/8" })).await;
    let by_text =
        data(&bed.write("role/web/secret-id/lookup", json!({ "secret_id": secret_id })).await.unwrap());
    let asked = json!({ "secret_id_accessor": accessor });
    let by_accessor = data(&bed.write("role/web/secret-id-accessor/lookup", asked).await.unwrap());
    assert_eq!(by_text, by_accessor);
    assert_eq!(
        by_text,
        json!({
            "cidr_list": ["10.0.0.0/8"], "creation_time": "2027-01-15T08:00:00.123456789Z",
            "expiration_time": "0001-01-01T00:00:00Z", "last_updated_time": "2027-01-15T08:00:00.123456789Z",
            "metadata": {"k": "v"}, "secret_id_accessor": accessor, "secret_id_num_uses": 0, "secret_id_ttl": 0,
            "token_bound_cidrs": [],
        })
    );
    assert!(
        bed.write("role/web/secret-id/lookup", json!({ "secret_id": "zzz" })).await.unwrap().data.is_none()
    );
}

#[tokio::test]
async fn a_destroyed_secret_id_is_gone_by_either_name() {
    let bed = Bed::new().await;
    let role_id = bed.role("web", json!({})).await;
    let empty = bed.memory.dump().len();
    for operation in [Operation::Update, Operation::Delete] {
        for by in ["secret-id", "secret-id-accessor"] {
            let (secret_id, accessor) = bed.secret_id("web", json!({ "ttl": "1h" })).await;
            bed.login(&role_id, &secret_id).await.unwrap();
            let body = json!({ "secret_id": secret_id, "secret_id_accessor": accessor });
            bed.ask(operation, &format!("role/web/{by}/destroy"), body).await.unwrap();
            assert_eq!(message(bed.login(&role_id, &secret_id).await), invalid("invalid role or secret ID"));
            assert_eq!(bed.memory.dump().len(), empty);
        }
    }
    // Destroying what is not there succeeds by text; an unknown accessor is an error.
    bed.write("role/web/secret-id/destroy", json!({ "secret_id": "zzz" })).await.unwrap();
    let unknown =
        bed.write("role/web/secret-id-accessor/destroy", json!({ "secret_id_accessor": "zzz" })).await;
    assert_eq!(message(unknown).0, Kind::NotFound);
}

#[tokio::test]
async fn secret_ids_are_listed_in_pages_in_the_order_of_their_birth() {
    let mut bed = Bed::new().await;
    bed.role("web", json!({})).await;
    let mut made = Vec::new();
    for _ in 0..5 {
        bed.pass(1);
        made.push(bed.secret_id("web", json!({})).await.1);
    }
    assert_eq!(bed.list("role/web/secret-id", json!({})).await.unwrap(), made);
    assert_eq!(bed.list("role/web/secret-id", json!({ "limit": 2 })).await.unwrap(), made[..2]);
    let next = json!({ "limit": 2, "after": made[1] });
    assert_eq!(bed.list("role/web/secret-id", next).await.unwrap(), made[2..4]);
    assert_eq!(
        message(bed.list("role/none/secret-id", json!({})).await),
        invalid("role \"none\" does not exist")
    );
}
