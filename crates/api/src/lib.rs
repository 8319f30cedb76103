//! The Vault HTTP API as types.
//!
//! A request body is a struct declared once with [`fields!`]: the names of its fields, their types,
//! defaults and one line of documentation each. From that declaration come the lenient decoding
//! that clients of this API rely on (numbers and booleans as strings, durations in Go's syntax,
//! comma-separated lists), the list of parameters nobody asked for, and the schema behind the path
//! help and the OpenAPI document. Answers travel in an [`envelope::Envelope`].
//!
//! Nothing here decides anything: the crate knows how values look on the wire, the one clock that
//! the edges of the program hold, and how a secret string is kept from being printed.

mod clock;
pub mod duration;
pub mod envelope;
pub mod fields;
pub mod hcl;
mod secret;
mod value;

pub use clock::{Clock, FixedClock, SystemClock};
pub use duration::Ttl;
pub use fields::{Field, FieldError, Fields, Input, Kind};
pub use secret::Secret;
pub use value::{Json, KeyValues, Object, Strings};

pub use serde_json::value::RawValue;
