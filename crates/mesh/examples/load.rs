//! Calls a certificate service as many agents do, for `cargo xtask bench mesh`.
//!
//! `load ADDRESS ROOT_FILE TOKEN_FOLDER rate STREAMS SECONDS`: so many calls at a time, over a few connections.
//! `load ADDRESS ROOT_FILE TOKEN_FOLDER storm WORKLOADS SECONDS`: so many workloads come within that time, each with a
//! token, a key and a connection of its own.
//!
//! Prints one line of JSON: `calls`, `failed`, `seconds`, `p50_ms`, `p99_ms`.
//!
//! It shares the processors with what it measures, so it does no more than needed: it writes a call's two HTTP/2 frames by
//! itself, and sends what it has to say at one time in one record.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use chancery_api::{Clock, SystemClock};
use chancery_issuance::{Certificate, CsrRequest, Curve, KeySpec, PrivateKey, RequestedNames, create_csr};
use chancery_mesh::Workload;
use chancery_mesh::proto::istio::{IstioCertificateRequest, IstioCertificateResponse};
use chancery_mesh::token::ISTIO_CA;
use chancery_mesh::token::dev::{DevIssuer, ISSUER, TokenRequest};
use h2::client::SendRequest;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, TE};
use prost::Message;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::BufWriter;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The name that agents expect of a service that they reach by `localhost`.
const NAME: &str = "istiod.istio-system.svc";

/// Connections of the measurement of the rate.
const CONNECTIONS: usize = 4;

/// Workloads of the storm that are on their way at once.
const AT_ONCE: usize = 200;

/// The bytes of answers that may be on their way over a connection: so many that the service never waits.
const WINDOW: u32 = 16 << 20;

/// The length of what stands before a gRPC message.
const PREFIX: usize = 5;

/// Where the service is, and how to know it.
#[derive(Clone)]
struct Service {
    address: String,
    tls: TlsConnector,
}

impl Service {
    async fn connect(&self) -> Result<SendRequest<Bytes>, Failure> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let stream = self.tls.connect(ServerName::try_from(NAME)?, stream).await?;
        let mut builder = h2::client::Builder::new();
        builder.initial_connection_window_size(WINDOW).enable_push(false);
        let (sender, connection) = builder.handshake(BufWriter::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// What a workload sends.
struct Caller {
    head: http::Request<()>,
    message: Bytes,
}

impl Caller {
    fn new(issuer: &DevIssuer, number: usize) -> Result<Self, Failure> {
        let workload = Workload { namespace: "load".into(), service_account: format!("sa-{number}") };
        let id = workload.spiffe_id(&Workload::trust_domain("cluster.local")?)?;
        let key = PrivateKey::generate(KeySpec::Ec(Curve::P256))?;
        let request = CsrRequest {
            names: RequestedNames { uri_sans: vec![id.as_str().to_owned()], ..RequestedNames::default() },
            critical_names: true,
            ..CsrRequest::default()
        };
        let csr = create_csr(&request, &key)?.pem;
        let wanted = TokenRequest {
            workload,
            audiences: vec![ISTIO_CA.to_owned()],
            ttl: Duration::from_secs(3600),
            pod: None,
            node: None,
        };
        let token = issuer.token(&wanted, SystemClock.now())?;
        let head = http::Request::post(format!(
            "https://{NAME}/istio.v1.auth.IstioCertificateService/CreateCertificate"
        ))
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .header(AUTHORIZATION, HeaderValue::try_from(format!("Bearer {}", token.expose()))?)
        .body(())?;
        let request = IstioCertificateRequest { csr, validity_duration: 3600, metadata: None };
        let mut message = BytesMut::new();
        message.put_u8(0);
        message.put_u32(request.encoded_len().try_into()?);
        request.encode(&mut message)?;
        Ok(Self { head, message: message.freeze() })
    }

    /// One call; whether what came back is a chain.
    async fn call(&self, connection: &SendRequest<Bytes>) -> Result<(), Failure> {
        let mut connection = connection.clone().ready().await?;
        let (response, mut sending) = connection.send_request(self.head.clone(), false)?;
        sending.send_data(self.message.clone(), true)?;
        let (head, mut body) = response.await?.into_parts();
        let mut answer = Vec::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk?;
            body.flow_control().release_capacity(chunk.len())?;
            answer.extend_from_slice(&chunk);
        }
        let trailers = body.trailers().await?.unwrap_or(head.headers);
        if trailers.get("grpc-status").is_none_or(|status| status != "0") {
            return Err(format!("refused: {trailers:?}").into());
        }
        let message = answer.get(PREFIX..).ok_or("no message")?;
        if IstioCertificateResponse::decode(message)?.cert_chain.len() < 2 {
            return Err("fewer than two elements".into());
        }
        Ok(())
    }
}

async fn rate(
    service: Service,
    issuer: &DevIssuer,
    streams: usize,
    time: Duration,
) -> Result<String, Failure> {
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(service.connect().await?);
    }
    let begin = Instant::now();
    // Before that, the service warms up.
    let counts_from = begin + Duration::from_secs(1);
    let end = counts_from + time;
    let mut tasks = Vec::new();
    for number in 0..streams {
        let caller = Caller::new(issuer, number)?;
        let connection = connections.get(number % CONNECTIONS).ok_or("no connection")?.clone();
        tasks.push(tokio::spawn(async move {
            let (mut times, mut failed) = (Vec::new(), 0);
            while Instant::now() < end {
                let sent = Instant::now();
                let outcome = caller.call(&connection).await;
                if let Err(error) = &outcome {
                    eprintln!("{error}");
                    failed += 1;
                } else if sent >= counts_from {
                    times.push(sent.elapsed());
                }
            }
            (times, failed)
        }));
    }
    let (mut times, mut failed) = (Vec::new(), 0);
    for task in tasks {
        let (more, failures) = task.await?;
        times.extend(more);
        failed += failures;
    }
    Ok(told(times, failed, time))
}

async fn storm(
    service: Service,
    issuer: &DevIssuer,
    workloads: usize,
    within: Duration,
) -> Result<String, Failure> {
    let begin = Instant::now();
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let gap = within.div_f64(workloads as f64);
    let mut tasks = Vec::new();
    for number in 0..workloads {
        let due = begin + gap.mul_f64(number as f64);
        tokio::time::sleep_until(due.into()).await;
        let place = Arc::clone(&places).acquire_owned().await?;
        let caller = Caller::new(issuer, number)?;
        let service = service.clone();
        tasks.push(tokio::spawn(async move {
            let sent = Instant::now();
            let outcome = async { caller.call(&service.connect().await?).await }.await;
            drop(place);
            if let Err(error) = &outcome {
                eprintln!("{error}");
            }
            outcome.map(|()| sent.elapsed()).ok()
        }));
    }
    let (mut times, mut failed) = (Vec::new(), 0);
    for task in tasks {
        match task.await? {
            Some(time) => times.push(time),
            None => failed += 1,
        }
    }
    Ok(told(times, failed, begin.elapsed()))
}

fn told(mut times: Vec<Duration>, failed: usize, took: Duration) -> String {
    times.sort_unstable();
    let at = |part: f64| {
        times.get((times.len() as f64 * part) as usize).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    serde_json::json!({
        "calls": times.len(),
        "failed": failed,
        "seconds": took.as_secs_f64(),
        "p50_ms": at(0.5),
        "p99_ms": at(0.99),
    })
    .to_string()
}

// One thread: the service and its server need the processors more.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, roots, tokens, mode, many, seconds] = arguments.as_slice() else {
        return Err("load ADDRESS ROOT_FILE TOKEN_FOLDER rate|storm NUMBER SECONDS".into());
    };
    let issuer = DevIssuer::open(Path::new(tokens), ISSUER)?;
    let mut store = RootCertStore::empty();
    for root in Certificate::all_from_pem(&std::fs::read_to_string(roots)?)? {
        store.add(root.der().to_vec().into())?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = config.with_root_certificates(store).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    // Each agent comes for the first time.
    config.resumption = rustls::client::Resumption::disabled();
    let service = Service { address: address.clone(), tls: TlsConnector::from(Arc::new(config)) };
    let (many, time) = (many.parse()?, Duration::from_secs(seconds.parse()?));
    let told = match mode.as_str() {
        "rate" => rate(service, &issuer, many, time).await?,
        "storm" => storm(service, &issuer, many, time).await?,
        other => return Err(format!("{other:?} is neither rate nor storm").into()),
    };
    println!("{told}");
    Ok(())
}
