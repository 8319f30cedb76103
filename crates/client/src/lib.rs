//! Sends requests of the Vault HTTP API.
