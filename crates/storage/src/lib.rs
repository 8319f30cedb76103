//! Bytes at rest: backends, the encryption barrier, seals and views.
