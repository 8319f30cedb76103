//! `sys/metrics`: what was measured.

use std::sync::Arc;

use chancery_api::fields;

use super::Sys;
use crate::engine::Call;
use crate::error::Error;
use crate::response::Response;
use crate::route::Routes;

/// The path of this family.
pub(super) fn routes(routes: Routes<Sys>) -> Routes<Sys> {
    routes.route("metrics", |r| {
        r.read(Sys::measurements, "What was measured since the server started.").measurements().help(
            "Counters, gauges and times in JSON, or as Prometheus reads them. A listener may show them to \
                 everybody, also while the server is sealed.",
        )
    })
}

fields! {
    /// How to write what was measured.
    #[derive(Debug)]
    pub(super) struct Format {
        body {
            /// `prometheus`, or nothing for JSON.
            format: String = String::new(),
        }
    }
}

impl Sys {
    async fn measurements(self: Arc<Self>, _: Call, body: Format) -> Result<Response, Error> {
        let measured = self.core()?.measured(&body.format);
        measured.ok_or_else(|| Error::invalid("nothing is measured here"))
    }
}
