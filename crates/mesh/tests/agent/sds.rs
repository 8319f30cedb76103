//! Secret discovery.

use super::*;

#[tokio::test]
async fn envoys_two_secrets_are_delivered_and_pushed_at_each_renewal() {
    let world = World::new().await;
    // Half a second, the least that there is, after each issuance.
    *world.double.state.life.lock().unwrap() = Some(Duration::from_secs(2));
    let agent = world.agent().await;
    let mut default = agent.stream(&["default"]).await;
    let mut roots = agent.stream(&["ROOTCA"]).await;

    let first = default.next().await.unwrap();
    let [(name, chain)] = &secrets(&first)[..] else { panic!("one secret") };
    assert_eq!(name, "default");
    assert!(chain.ends_with(&world.double.ca().root_pem()));
    assert_eq!(secrets(&roots.next().await.unwrap()), [("ROOTCA".to_owned(), world.double.ca().root_pem())]);
    default.send.send(asks(&["default"], &first.nonce)).await.unwrap();

    let second = default.next().await.unwrap();
    assert_ne!(second.version_info, first.version_info);
    assert_ne!(secrets(&second), secrets(&first));
    // The roots are the same, and nobody hears of them.
    assert!(roots.is_quiet().await);

    // A new root beside the old one.
    let old = world.double.ca().root_pem();
    *world.double.state.ca.lock().unwrap() = Arc::new(Ca::new("new"));
    old.clone_into(&mut world.double.state.further_roots.lock().unwrap());
    let both = roots.next().await.unwrap();
    let [(_, bundle)] = &secrets(&both)[..] else { panic!("one secret") };
    assert!(bundle.contains(&old) && bundle.contains(&world.double.ca().root_pem()));
    agent.stop().await;
    assert!(!world.path("run/socket").exists());
}

#[tokio::test]
async fn certificates_are_renewed_though_nobody_is_there() {
    let world = World::new().await;
    *world.double.state.life.lock().unwrap() = Some(Duration::from_secs(1));
    let agent = world.agent().await;
    until(|| async { world.double.calls().len() }, |calls| *calls >= 3).await;
    agent.stop().await;
}

#[tokio::test]
async fn who_asks_before_there_is_a_certificate_gets_it_when_it_comes() {
    let world = World::new().await;
    world.double.state.refusals.lock().unwrap().push_back(Code::Unauthenticated);
    let agent = world.agent().await;
    let mut both = agent.stream(&["default", "ROOTCA"]).await;
    // The CA refuses the first call, and is asked again half a second later.
    let mut names = Vec::new();
    while names.len() < 2 {
        names.extend(secrets(&both.next().await.unwrap()).into_iter().map(|(name, _)| name));
    }
    names.sort();
    assert_eq!(names, ["ROOTCA", "default"]);
    assert!(both.is_quiet().await);
    // Once both are there, one answer has both.
    let mut both = agent.stream(&["default", "ROOTCA"]).await;
    assert_eq!(secrets(&both.next().await.unwrap()).len(), 2);
    agent.stop().await;
}

#[tokio::test]
async fn an_unknown_name_ends_its_own_stream_and_no_other() {
    let world = World::new().await;
    let agent = world.agent().await;
    let mut good = agent.stream(&["default"]).await;
    good.next().await.unwrap();
    let status = agent.stream(&["kubernetes://gateway"]).await.next().await.expect_err("unknown");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("kubernetes://gateway"));
    let mut anonymous = agent.stream(&[]).await;
    anonymous.send.send(asks(&["default"], "")).await.unwrap();
    anonymous.next().await.unwrap();

    let (send, requests) = mpsc::channel(4);
    send.send(DiscoveryRequest { node: None, ..asks(&["default"], "") }).await.unwrap();
    let answers = agent.sds().await.stream_secrets(ReceiverStream::new(requests)).await.unwrap().into_inner();
    let status = Stream { send, answers }.next().await.expect_err("nobody");
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "missing node information"));

    good.send.send(asks(&["default"], "")).await.unwrap();
    good.next().await.unwrap();
    agent.stop().await;
}

#[tokio::test]
async fn a_refused_secret_is_not_sent_again_until_it_changes() {
    let world = World::new().await;
    let agent = world.agent().await;
    let mut stream = agent.stream(&["default"]).await;
    let first = stream.next().await.unwrap();
    let refused = Some(Refused { code: 13, message: "no PEM".to_owned(), details: Vec::new() });
    let refusal = DiscoveryRequest { error_detail: refused, ..asks(&["default"], &first.nonce) };
    stream.send.send(refusal).await.unwrap();
    assert!(stream.is_quiet().await);
    stream.send.send(asks(&["default", "ROOTCA"], &first.nonce)).await.unwrap();
    assert_eq!(secrets(&stream.next().await.unwrap())[0].0, "ROOTCA");
    agent.stop().await;
}

#[tokio::test]
async fn the_incremental_variant_knows_what_the_client_has() {
    let world = World::new().await;
    let agent = world.agent().await;
    let ask = |names: &[&str], versions: &[(&str, &str)]| DeltaDiscoveryRequest {
        node: asks(&[], "").node,
        type_url: SECRET_TYPE.to_owned(),
        resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
        initial_resource_versions: versions.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        ..DeltaDiscoveryRequest::default()
    };
    let begin = async |request| {
        let (send, requests) = mpsc::channel(4);
        send.send(request).await.unwrap();
        let answers = agent.sds().await.delta_secrets(ReceiverStream::new(requests)).await.unwrap();
        (send, answers.into_inner())
    };
    let (_send, mut answers) = begin(ask(&["default", "ROOTCA"], &[])).await;
    let mut versions = BTreeMap::new();
    for _ in 0..2 {
        let answer = answers.message().await.unwrap().unwrap();
        let [resource] = &answer.resources[..] else { panic!("one resource") };
        versions.insert(resource.name.clone(), resource.version.clone());
    }
    assert_eq!(versions.keys().collect::<Vec<_>>(), ["ROOTCA", "default"]);

    let known = [("default", versions["default"].as_str()), ("ROOTCA", "old")];
    let (_send, mut answers) = begin(ask(&["default", "ROOTCA"], &known)).await;
    assert_eq!(answers.message().await.unwrap().unwrap().resources[0].name, "ROOTCA");
    assert!(timeout(Duration::from_millis(200), answers.message()).await.is_err());
    agent.stop().await;
}

#[tokio::test]
async fn a_single_answer_has_all_names_and_files_among_them() {
    let world = World::new().await;
    let agent = world.agent().await;
    let file = format!("file-root:{}", world.path("roots.pem").display());
    let answer = agent.sds().await.fetch_secrets(asks(&["default", &file, "ROOTCA"], "")).await.unwrap();
    let names: Vec<_> = secrets(answer.get_ref()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["default", &file, "ROOTCA"]);
    for (names, code) in [(&["other"][..], Code::InvalidArgument), (&[], Code::InvalidArgument)] {
        assert_eq!(agent.sds().await.fetch_secrets(asks(names, "")).await.expect_err("no").code(), code);
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_client_that_never_reads_keeps_nobody_else_waiting_and_nothing_of_it_is_kept() {
    let world = World::new().await;
    let agent = world.agent().await;
    agent.stream(&["default"]).await.next().await.unwrap();
    let flood = agent.stream(&["default"]).await;
    // Each of these asks for everything again; after what the windows hold nothing more is taken.
    let mut sent = 0_u32;
    while sent < 50_000
        && let Ok(Ok(())) = timeout(Duration::from_millis(500), flood.send.send(asks(&["default"], ""))).await
    {
        sent += 1;
    }
    assert!(sent < 20_000, "{sent} requests were taken");
    agent.stream(&["default"]).await.next().await.unwrap();
    agent.stop().await;
}

#[tokio::test]
async fn files_are_served_without_a_ca_and_followed() {
    let mut world = World::new().await;
    world.set("FILE_MOUNTED_CERTS", "true");
    let certs = world.path("certs");
    std::fs::create_dir(&certs).unwrap();
    let ca = world.double.ca();
    let write = |chain: &str, key: &str| {
        std::fs::write(certs.join("cert-chain.pem"), chain).unwrap();
        std::fs::write(certs.join("key.pem"), key).unwrap();
    };
    let agent = world.agent().await;
    let mut default = agent.stream(&["default"]).await;
    assert!(default.is_quiet().await);
    let (first, key) = ca.leaf(ID);
    write(&first, &key);
    assert_eq!(secrets(&default.next().await.unwrap())[0].1, first);
    let (second, key) = ca.leaf(ID);
    write(&second, &key);
    assert_eq!(secrets(&default.next().await.unwrap())[0].1, second);
    assert!(world.double.calls().is_empty());
    agent.stop().await;
}

#[tokio::test]
async fn issued_certificates_are_written_out() {
    let mut world = World::new().await;
    let folder = world.path("certs");
    world.set("OUTPUT_CERTS", folder.to_str().unwrap());
    let agent = world.agent().await;
    let chain = secrets(&agent.stream(&["default"]).await.next().await.unwrap())[0].1.clone();
    let read = async || std::fs::read_to_string(folder.join("cert-chain.pem")).unwrap_or_default();
    until(read, |written| *written == chain).await;
    let key = PrivateKey::from_pem(&std::fs::read_to_string(folder.join("key.pem")).unwrap()).unwrap();
    assert_eq!(Certificate::from_pem(&chain).unwrap().public_key(), Some(key.public_key()));
    agent.stop().await;
}

#[tokio::test]
async fn another_providers_socket_is_left_to_it() {
    let world = World::new().await;
    let provider = world.agent().await;
    let files = world.agent_at(world.path("run/files-socket")).await;
    let name = format!("file-root:{}", world.path("roots.pem").display());
    let answer = files.stream(&[&name]).await.next().await.unwrap();
    assert_eq!(secrets(&answer)[0].1, world.double.ca().root_pem());
    provider.stream(&["default"]).await.next().await.unwrap();
    files.stop().await;
    provider.stream(&["default"]).await.next().await.unwrap();
    provider.stop().await;
}

#[tokio::test]
async fn another_providers_socket_that_is_announced_must_be_there() {
    let world = World::new().await;
    let settings = Settings { socket_is_foreign: true, ..world.settings() };
    let error = run(settings, std::future::ready(())).await.expect_err("nobody answers");
    assert!(error.to_string().contains("WORKLOAD_IDENTITY_SOCKET_FILE"), "{error}");
    assert!(!world.path("run").exists());
}

#[tokio::test]
async fn when_another_provider_is_gone_the_agent_ends_to_take_over() {
    let world = World::new().await;
    let provider = world.agent().await;
    let settings = world.settings();
    let files = tokio::spawn(run(settings, std::future::pending()));
    let files_socket = world.path("run/files-socket");
    until(|| Channel::to(&files_socket), Option::is_some).await;
    sleep(Duration::from_millis(200)).await;
    assert!(!files.is_finished());
    provider.stop().await;
    let error = timeout(Duration::from_secs(5), files).await.expect("it must end").unwrap();
    assert!(matches!(error, Err(AgentError::ProviderGone(path)) if path == world.path("run/socket")));
    assert!(!files_socket.exists());
}

#[tokio::test]
async fn a_new_root_in_the_file_of_the_cas_roots_is_a_reason_to_renew() {
    let world = World::new().await;
    let agent = world.agent().await;
    let mut roots = agent.stream(&["ROOTCA"]).await;
    let old = world.double.ca().root_pem();
    assert_eq!(secrets(&roots.next().await.unwrap())[0].1, old);
    assert!(roots.is_quiet().await);
    assert_eq!(world.double.calls().len(), 1);

    let new = Ca::new("new").root_pem();
    (*world.double.state.further_roots.lock().unwrap()).clone_from(&new);
    std::fs::write(world.path("roots.pem"), format!("{old}{new}")).unwrap();
    let answer = secrets(&roots.next().await.unwrap())[0].1.clone();
    assert!(answer.contains(&old) && answer.contains(&new), "{answer}");
    assert_eq!(world.double.calls().len(), 2);
    agent.stop().await;
}
