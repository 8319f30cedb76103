//! HTTP and TLS around the secrets server; health and metrics.
