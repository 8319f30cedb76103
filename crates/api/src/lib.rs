//! The Vault HTTP API as types.
