//! Fixed keys and clock, harness and fixtures; for tests only.
