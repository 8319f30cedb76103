//! Certificates against a double of the API server, with an issuer of a few lines beside it.

mod clock;
mod failures;
mod interrupted;
mod life;
mod policy;
mod world;
