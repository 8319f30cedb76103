//! Writes the Rust of the .proto files beside it into `src/proto/`.

use std::error::Error;
use std::path::Path;

const FILES: &[&str] = &["istio/ca.proto", "envoy/sds.proto", "envoy/tls.proto", "spiffe/workload.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    let protos = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let target = protos.join("../src/proto");
    std::fs::create_dir_all(&target)?;
    let descriptors = protox::compile(FILES, [&protos])?;
    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".")
        .out_dir(target)
        .compile_fds(descriptors)?;
    Ok(())
}
