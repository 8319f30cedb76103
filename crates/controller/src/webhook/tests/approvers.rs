//! Somebody who says who may approve.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// An API server that knows nothing but who may approve what.
#[derive(Clone, Default)]
pub(super) struct Approvers(Arc<Mutex<BTreeSet<(String, String)>>>);

impl Approvers {
    pub(super) fn allow(&self, user: &str, signer: &str) {
        self.0.lock().expect("unpoisoned").insert((user.to_owned(), signer.to_owned()));
    }

    async fn answer(self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (path, method) = (request.uri().path().to_owned(), request.method().clone());
        let body = request.into_body().collect().await.expect("a body").to_bytes();
        let (code, answer) = match path.as_str() {
            "/apis" => (
                200,
                json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": [{
                "name": "example.com", "versions": [{ "groupVersion": "example.com/v1", "version": "v1" }] }] }),
            ),
            "/apis/example.com/v1" => (
                200,
                json!({ "kind": "APIResourceList", "groupVersion": "example.com/v1",
                "resources": [
                    { "name": "signs/status", "singularName": "", "namespaced": false, "kind": "Sign", "verbs": [] },
                    { "name": "signs", "singularName": "sign", "namespaced": false, "kind": "Sign", "verbs": [] },
                ] }),
            ),
            "/apis/authorization.k8s.io/v1/subjectaccessreviews" if method == http::Method::POST => {
                let mut review: Value = serde_json::from_slice(&body).expect("a review");
                let asked = &review["spec"]["resourceAttributes"];
                assert_eq!((&asked["verb"], &asked["resource"]), (&json!("approve"), &json!("signers")));
                assert_eq!(asked["group"], "cert-manager.io");
                let of = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let pair = (of(&review["spec"]["user"]), of(&asked["name"]));
                let allowed = self.0.lock().expect("unpoisoned").contains(&pair);
                review["status"] = json!({ "allowed": allowed });
                (201, review)
            }
            _ => (404, json!({ "kind": "Status", "code": 404, "reason": "NotFound", "message": "nothing" })),
        };
        let mut response = Response::new(Full::new(Bytes::from(answer.to_string())));
        *response.status_mut() = http::StatusCode::from_u16(code).expect("a code");
        response
    }

    pub(super) async fn serve(self, tasks: &mut JoinSet<()>) -> String {
        let socket = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let url = format!("http://{}", socket.local_addr().expect("an address"));
        tasks.spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                let own = self.clone();
                let service = service_fn(move |request| {
                    let own = own.clone();
                    async move { Ok::<_, Infallible>(own.answer(request).await) }
                });
                tokio::spawn(async move {
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = http.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        url
    }
}
