//! Auth methods: engines mounted under `auth/`, the only ones that may answer a login.

pub mod approle;
pub mod networks;
