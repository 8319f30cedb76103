//! The Workload API, and the end.

use super::*;

fn spiffe<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", "true".parse().unwrap());
    request
}

#[tokio::test]
async fn spiffe_clients_get_the_same_identity_without_the_root_in_the_chain() {
    let world = World::new().await;
    *world.double.state.life.lock().unwrap() = Some(Duration::from_secs(2));
    let agent = world.agent().await;
    let mut client = agent.workload().await;
    let mut svids = client.fetch_x509svid(spiffe(X509svidRequest {})).await.unwrap().into_inner();
    let first = svids.message().await.unwrap().unwrap();
    let [svid] = &first.svids[..] else { panic!("one identity") };
    assert_eq!(svid.spiffe_id, ID);
    let leaf = Certificate::from_der(&svid.x509_svid).unwrap();
    let key = PrivateKey::from_der(&svid.x509_svid_key).unwrap();
    assert_eq!(leaf.public_key(), Some(key.public_key()));
    assert_eq!(*key.to_der(KeyForm::Pkcs8), svid.x509_svid_key);
    assert_eq!(svid.bundle, world.double.ca().root().der());

    let mut bundles = client.fetch_x509_bundles(spiffe(X509BundlesRequest {})).await.unwrap().into_inner();
    let bundle = bundles.message().await.unwrap().unwrap().bundles;
    assert_eq!(bundle.len(), 1);
    assert_eq!(bundle["spiffe://cluster.local"], world.double.ca().root().der());

    // A renewal is news for the first, and none for the second.
    let second = timeout(Duration::from_secs(10), svids.message()).await.unwrap().unwrap().unwrap();
    assert_ne!(second.svids[0].x509_svid, svid.x509_svid);
    assert!(timeout(Duration::from_millis(100), bundles.message()).await.is_err());
    agent.stop().await;
}

#[tokio::test]
async fn the_workload_api_wants_its_header_and_has_no_tokens() {
    let world = World::new().await;
    let agent = world.agent().await;
    let mut client = agent.workload().await;
    let status = client.fetch_x509svid(X509svidRequest {}).await.expect_err("no header");
    assert_eq!(status.code(), Code::InvalidArgument);
    let status = client.fetch_x509_bundles(X509BundlesRequest {}).await.expect_err("no header");
    assert_eq!(status.code(), Code::InvalidArgument);
    let status = client.fetch_jwtsvid(JwtsvidRequest::default()).await.expect_err("no header");
    assert_eq!(status.code(), Code::InvalidArgument);
    let status = client.fetch_jwtsvid(spiffe(JwtsvidRequest::default())).await.expect_err("no tokens");
    assert_eq!(status.code(), Code::Unimplemented);
    agent.stop().await;
}

#[tokio::test]
async fn without_an_identity_spiffe_clients_are_told_to_come_again() {
    let world = World::new().await;
    *world.double.state.hang.lock().unwrap() = true;
    let agent = world.agent().await;
    let status = agent.workload().await.fetch_x509svid(spiffe(X509svidRequest {})).await.expect_err("none");
    assert_eq!(status.code(), Code::Unavailable);
    agent.stop().await;
}

#[tokio::test]
async fn a_stopped_agent_leaves_no_socket_and_the_next_one_serves() {
    let world = World::new().await;
    let first = world.agent().await;
    let mut stream = first.stream(&["default"]).await;
    stream.next().await.unwrap();
    first.stop().await;
    assert!(!Path::new(&world.path("run/socket")).exists());
    assert_eq!(stream.next().await.expect_err("it stopped").code(), Code::Unavailable);
    let second = world.agent().await;
    second.stream(&["default"]).await.next().await.unwrap();
    second.stop().await;
}
