//! A client that is to be killed between two of its writes: the double stops answering at one of them.

use super::control::{ApiServer, Fault, Request};

/// At which write the double stops.
#[derive(Debug)]
pub(super) struct Stop {
    /// How many writes pass before that one.
    left: usize,
    /// Whether that one is done.
    is_done: bool,
    /// The write itself, once it has come.
    at: Option<Request>,
}

impl Stop {
    /// What becomes of a request.
    pub(super) fn meet(&mut self, request: &Request) -> Option<Fault> {
        if !is_write(request) {
            return None;
        }
        if self.at.is_some() {
            return Some(Fault::Hang);
        }
        // Events tell of the work, and a Lease of who does it; they are no steps of it.
        if matches!(request.resource.as_str(), "events" | "leases") {
            return None;
        }
        if self.left > 0 {
            self.left -= 1;
            return None;
        }
        self.at = Some(request.clone());
        Some(if self.is_done { Fault::HangAfter } else { Fault::Hang })
    }
}

fn is_write(request: &Request) -> bool {
    matches!(request.verb.as_str(), "create" | "update" | "patch" | "delete" | "deletecollection")
}

impl ApiServer {
    /// The `number`th write from now (from 0; Events and Leases are not counted) is done or not done, but not answered, and
    /// no write behind it is looked at, until [`heal`](Self::heal). Who sends them can be killed at that point.
    pub fn stop_at_write(&self, number: usize, is_done: bool) {
        self.shared.state().stop = Some(Stop { left: number, is_done, at: None });
    }

    /// The write at which the double stopped, if it has.
    pub fn stopped_at(&self) -> Option<Request> {
        self.shared.state().stop.as_ref()?.at.clone()
    }
}
