//! Probes: `/livez` and `/readyz`.

use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the controller lives and is ready.
#[derive(Debug, Default)]
pub struct Health {
    ready: AtomicBool,
}

impl Health {
    /// All watches were read once.
    pub fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    /// Whether all watches were read once.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }
}
