//! The overlays of an IstioOperator, and the TSB ControlPlane that nests them.
//!
//! A [`Path`] says where in an object, a [`Patch`] what to put there, an [`Overlay`] in which object. [`apply`] works
//! through a list of overlays on the objects of a manifest; [`lint`] says beforehand what is likely not meant.
//! [`ControlPlane`] renders the document that points Istio to a certificate service, and carries out both of its levels:
//! on the IstioOperator, and by that on istiod's own objects.
//!
//! Documents are [`Node`]s, which keep the order of keys, so that what is printed can be compared with what was read.

mod control_plane;
mod environment;
mod lint;
mod node;
mod objects;
mod patch;
mod path;

pub use control_plane::{ControlPlane, Document, Failure, Fault, Outcome};
pub use environment::{EnvironmentError, merge_environment};
pub use lint::{Lint, Rule, lint};
pub use node::{Map, Node, NodeError, Number};
pub use objects::{MatchPolicy, Overlay, OverlayError, OverlayFault, apply, manifest};
pub use patch::{Compatibility, Patch, PatchError, PatchFault};
pub use path::{Element, Index, Path, PathError};
