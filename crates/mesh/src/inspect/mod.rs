//! What an Envoy holds.
