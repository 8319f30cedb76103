//! `sys/`: the server's own paths.
//!
//! The one engine that sees the whole core. A file per family; this one joins their tables.

mod audit;
mod capabilities;
mod ceremonies;
pub(crate) mod info;
pub(crate) mod keys;
mod leases;
mod measurements;
mod mounts;
pub(crate) mod openapi;
mod policies;
mod seal;
mod tools;
mod ui;
mod wrapping;

use std::sync::{Arc, LazyLock, Weak};

use crate::core::{Active, Core};
use crate::engine::Engine;
use crate::error::Error;
use crate::route::Routes;

/// The version of the API that is spoken here, with our own as build metadata. Clients switch
/// features on by it.
pub const API_VERSION: &str = concat!("2.7.2+chancery.", env!("CARGO_PKG_VERSION"));

/// The engine behind `sys/`.
pub struct Sys {
    core: Weak<Core>,
    ceremonies: ceremonies::Ceremonies,
    moves: mounts::Moves,
}

static ROUTES: LazyLock<Routes<Sys>> = LazyLock::new(|| {
    let routes = Routes::new();
    let routes = seal::routes(routes);
    let routes = keys::routes(routes);
    let routes = ceremonies::routes(routes);
    let routes = mounts::routes(routes);
    let routes = policies::routes(routes);
    let routes = capabilities::routes(routes);
    let routes = ui::routes(routes);
    let routes = openapi::routes(routes);
    let routes = leases::routes(routes);
    let routes = wrapping::routes(routes);
    let routes = audit::routes(routes);
    let routes = tools::routes(routes);
    let routes = measurements::routes(routes);
    info::routes(routes)
});

impl Sys {
    /// The engine of this core.
    pub(crate) fn new(core: Weak<Core>) -> Self {
        Self { core, ceremonies: ceremonies::Ceremonies::default(), moves: mounts::Moves::default() }
    }

    /// The table of its paths; also asked while the server is sealed.
    pub(crate) fn table() -> &'static Routes<Self> {
        &ROUTES
    }

    /// The core. It lives as long as anybody can ask.
    fn core(&self) -> Result<Arc<Core>, Error> {
        self.core.upgrade().ok_or_else(Error::sealed)
    }

    /// What exists only while unsealed.
    fn active(&self) -> Result<Arc<Active>, Error> {
        self.core()?.active()
    }
}

impl Engine for Sys {
    fn routes() -> &'static Routes<Self> {
        &ROUTES
    }
}
