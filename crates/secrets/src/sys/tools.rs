//! Random bytes and hashes.

use std::sync::Arc;

use aws_lc_rs::digest;
use chancery_api::fields;
use data_encoding::{BASE64, HEXLOWER};
use serde_json::json;

use super::Sys;
use crate::engine::Call;
use crate::error::Error;
use crate::response::Response;
use crate::route::Routes;

/// The most random bytes of one answer.
const MOST_BYTES: i64 = 128 * 1024;

/// The paths of this family.
pub(super) fn routes(routes: Routes<Sys>) -> Routes<Sys> {
    routes
        .route("tools/random", |r| r.update(Sys::random, "Random bytes."))
        .route("tools/random/{urlbytes}", |r| {
            r.update(Sys::random_of, "So many random bytes, or from this source.")
        })
        .route("tools/random/{source}/{urlbytes}", |r| {
            r.update(Sys::random_from, "So many random bytes from this source.")
        })
        .route("tools/hash", |r| r.update(Sys::hash, "The hash of a text."))
        .route("tools/hash/{urlalgorithm}", |r| {
            r.update(Sys::hash_by, "The hash of a text by this algorithm.")
        })
}

fields! {
    /// Random bytes.
    #[derive(Debug)]
    pub(super) struct RandomRequest {
        body {
            /// How many.
            bytes: i64 = 32,
            /// `base64` or `hex`.
            format: String = "base64".to_owned(),
            /// `platform`, `seal` or `all`; there is one source here.
            source: String = "platform".to_owned(),
        }
    }
}

fields! {
    /// Random bytes.
    #[derive(Debug)]
    pub(super) struct RandomOf {
        path {
            /// How many, or the source.
            urlbytes: String,
        }
        body {
            /// How many.
            bytes: i64 = 32,
            /// `base64` or `hex`.
            format: String = "base64".to_owned(),
            /// `platform`, `seal` or `all`; there is one source here.
            source: String = "platform".to_owned(),
        }
    }
}

fields! {
    /// Random bytes.
    #[derive(Debug)]
    pub(super) struct RandomFrom {
        path {
            /// `platform`, `seal` or `all`; there is one source here.
            source: String,
            /// How many.
            urlbytes: String,
        }
        body {
            /// `base64` or `hex`.
            format: String = "base64".to_owned(),
        }
    }
}

fields! {
    /// A text to hash.
    #[derive(Debug)]
    pub(super) struct HashRequest {
        body {
            /// The text in base64.
            input: String = String::new(),
            /// `sha2-224`, `sha2-256`, `sha2-384`, `sha2-512`, `sha3-256`, `sha3-384` or `sha3-512`.
            algorithm: String = "sha2-256".to_owned(),
            /// `hex` or `base64`.
            format: String = "hex".to_owned(),
        }
    }
}

fields! {
    /// A text to hash.
    #[derive(Debug)]
    pub(super) struct HashBy {
        path {
            /// The algorithm.
            urlalgorithm: String,
        }
        body {
            /// The text in base64.
            input: String = String::new(),
            /// The algorithm of the path wins.
            algorithm: String = String::new(),
            /// `hex` or `base64`.
            format: String = "hex".to_owned(),
        }
    }
}

impl Sys {
    async fn random(self: Arc<Self>, _: Call, body: RandomRequest) -> Result<Response, Error> {
        random(body.bytes, &body.format, &body.source)
    }

    async fn random_of(self: Arc<Self>, _: Call, body: RandomOf) -> Result<Response, Error> {
        match body.urlbytes.as_str() {
            source @ ("platform" | "seal" | "all") => random(body.bytes, &body.format, source),
            bytes => random(count(bytes)?, &body.format, &body.source),
        }
    }

    async fn random_from(self: Arc<Self>, _: Call, body: RandomFrom) -> Result<Response, Error> {
        random(count(&body.urlbytes)?, &body.format, &body.source)
    }

    async fn hash(self: Arc<Self>, _: Call, body: HashRequest) -> Result<Response, Error> {
        hash(&body.input, &body.algorithm, &body.format)
    }

    async fn hash_by(self: Arc<Self>, _: Call, body: HashBy) -> Result<Response, Error> {
        hash(&body.input, &body.urlalgorithm, &body.format)
    }
}

fn count(text: &str) -> Result<i64, Error> {
    text.parse().map_err(|_| {
        Error::invalid(format!(
            "error parsing url-set byte count: strconv.Atoi: parsing {text:?}: invalid syntax"
        ))
    })
}

fn random(bytes: i64, format: &str, source: &str) -> Result<Response, Error> {
    if bytes < 1 {
        return Err(Error::invalid("'bytes' cannot be less than 1"));
    }
    if bytes > MOST_BYTES {
        return Err(Error::invalid(format!("'bytes' should be less than {MOST_BYTES}")));
    }
    if !matches!(source, "platform" | "seal" | "all" | "") {
        return Err(Error::invalid(format!(
            "unsupported entropy source {source:?}; must be \"platform\" or \"seal\", or \"all\""
        )));
    }
    let mut random = vec![0; usize::try_from(bytes).unwrap_or_default()];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| Error::internal("internal error", "no randomness"))?;
    let text = match format {
        "base64" => BASE64.encode(&random),
        "hex" => HEXLOWER.encode(&random),
        other => {
            return Err(Error::invalid(format!(
                "unsupported encoding format {other:?}; must be \"hex\" or \"base64\""
            )));
        }
    };
    let response = Response::data(&json!({ "random_bytes": text }))?;
    Ok(match source {
        "seal" => response.warn("no seal/entropy augmentation available, using platform entropy source"),
        _ => response,
    })
}

fn hash(input: &str, algorithm: &str, format: &str) -> Result<Response, Error> {
    let input = BASE64.decode(input.as_bytes()).map_err(|error| {
        let place = error.position;
        Error::invalid(format!("unable to decode input as base64: illegal base64 data at input byte {place}"))
    })?;
    let algorithm = match algorithm {
        "sha2-224" => &digest::SHA224,
        "sha2-256" => &digest::SHA256,
        "sha2-384" => &digest::SHA384,
        "sha2-512" => &digest::SHA512,
        "sha3-256" => &digest::SHA3_256,
        "sha3-384" => &digest::SHA3_384,
        "sha3-512" => &digest::SHA3_512,
        other => return Err(Error::invalid(format!("unsupported algorithm {other}"))),
    };
    let sum = digest::digest(algorithm, &input);
    let text = match format {
        "hex" => HEXLOWER.encode(sum.as_ref()),
        "base64" => BASE64.encode(sum.as_ref()),
        other => {
            return Err(Error::invalid(format!(
                "unsupported encoding format {other}; must be \"hex\" or \"base64\""
            )));
        }
    };
    Response::data(&json!({ "sum": text }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(algorithm: &str) -> String {
        let response = hash("YWJj", algorithm, "hex").unwrap();
        let data: serde_json::Value = serde_json::from_str(response.data.unwrap().get()).unwrap();
        data["sum"].as_str().unwrap().to_owned()
    }

    #[test]
    fn hashes_are_those_of_the_standards() {
        // FIPS 180-4 and FIPS 202: the hash of "abc".
        for (algorithm, expected) in [
            ("sha2-224", "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"),
            ("sha2-256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
            ("sha3-256", "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532"),
        ] {
            assert_eq!(sum(algorithm), expected);
        }
        assert_eq!(sum("sha2-384").len(), 96);
        assert_eq!(sum("sha3-512").len(), 128);
    }

    #[test]
    fn what_cannot_be_done_is_said_in_the_peers_words() {
        for (outcome, message) in [
            (hash("YWJj", "md5", "hex"), "unsupported algorithm md5"),
            (hash("YWJj", "sha2-256", "x"), "unsupported encoding format x; must be \"hex\" or \"base64\""),
            (random(0, "hex", "platform"), "'bytes' cannot be less than 1"),
            (random(200_000, "hex", "platform"), "'bytes' should be less than 131072"),
            (random(1, "x", "platform"), "unsupported encoding format \"x\"; must be \"hex\" or \"base64\""),
            (
                count("x").and_then(|bytes| random(bytes, "hex", "")),
                "error parsing url-set byte count: strconv.Atoi: parsing \"x\": invalid syntax",
            ),
        ] {
            assert_eq!(outcome.unwrap_err().message(), message);
        }
    }
}
