//! Facts in little memory: as JSON, compressed against others of their kind, to which they are mostly alike.

use std::sync::OnceLock;

use lz4_flex::block::{compress, compress_with_dict, decompress, decompress_with_dict};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::store::Source;

/// What is longer is no pattern.
const LONGEST_PATTERN: usize = 8 * 1024;

/// Packs facts of one kind. The first typical ones are its pattern from then on: the others are mostly like them.
#[derive(Debug, Default)]
pub(super) struct Packer {
    pattern: OnceLock<Box<[u8]>>,
}

/// Facts, packed.
#[derive(Debug, Clone)]
pub(super) struct Packed {
    bytes: Box<[u8]>,
    /// Of the JSON.
    length: u32,
    /// Which watch they came from.
    pub(super) source: Source,
    /// Whether there was a pattern already.
    has_pattern: bool,
}

impl Packer {
    /// Packs what [`json`] made. Of what `is_typical` there will be many.
    pub(super) fn pack(&self, json: &[u8], is_typical: bool, source: Source) -> Option<Packed> {
        let length = u32::try_from(json.len()).ok()?;
        let (bytes, has_pattern) = match self.pattern.get() {
            Some(pattern) => (compress_with_dict(json, pattern), true),
            None => (compress(json), false),
        };
        if is_typical && !has_pattern && json.len() <= LONGEST_PATTERN {
            self.pattern.get_or_init(|| json.into());
        }
        Some(Packed { bytes: bytes.into_boxed_slice(), length, source, has_pattern })
    }

    /// The JSON that was packed here; `None`: that is a fault of this program, and logged.
    pub(super) fn json(&self, packed: &Packed) -> Option<Vec<u8>> {
        let Packed { bytes, length, has_pattern, .. } = packed;
        let json = match self.pattern.get() {
            Some(pattern) if *has_pattern => decompress_with_dict(bytes, *length as usize, pattern),
            _ => decompress(bytes, *length as usize),
        };
        json.inspect_err(|error| tracing::error!(%error, "an object that is kept cannot be unpacked")).ok()
    }

    /// The facts that were packed here.
    pub(super) fn unpack<V: DeserializeOwned>(&self, packed: &Packed) -> Option<V> {
        let value = serde_json::from_slice(&self.json(packed)?);
        value.inspect_err(|error| tracing::error!(%error, "an object that is kept cannot be read")).ok()
    }
}

/// Facts as they are packed; `None`: they cannot be, which is logged.
pub(super) fn json(value: &impl Serialize) -> Option<Vec<u8>> {
    serde_json::to_vec(value).inspect_err(|error| tracing::error!(%error, "an object cannot be kept")).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn certificate(number: usize, is_ready: bool) -> Value {
        let mut object = json!({
            "metadata": {
                "name": format!("certificate-{number}"), "namespace": "istio-system",
                "uid": format!("{:08x}-55aa-4c1e-9d1f-{:012x}", number * 7_654_321, number * 987_654_321),
                "creationTimestamp": "2026-01-02T03:04:05Z", "resourceVersion": (1000 + number).to_string(),
            },
            "spec": {
                "secretName": format!("certificate-{number}-tls"), "duration": "720h0m0s",
                "dnsNames": [format!("service-{number}.istio-system.svc")],
                "issuerRef": { "name": "vault-issuer", "kind": "Issuer", "group": "cert-manager.io" },
            },
        });
        if is_ready {
            object["status"] = json!({ "revision": 1, "conditions": [{
                "type": "Ready", "status": "True", "reason": "Ready", "observedGeneration": 1,
                "message": "Certificate is up to date and has not expired",
                "lastTransitionTime": "2026-01-02T03:04:06Z",
            }]});
        }
        object
    }

    fn packed(packer: &Packer, value: &Value, is_typical: bool) -> Packed {
        packer.pack(&json(value).expect("JSON"), is_typical, 1).expect("not that long")
    }

    #[test]
    fn what_is_packed_is_unpacked_whether_there_was_a_pattern_or_not() {
        let packer = Packer::default();
        let all = (0..50).map(|number| certificate(number, number % 3 == 2));
        let all = all.chain([json!({}), json!(null), json!("x".repeat(100_000))]);
        let all: Vec<(Value, Packed)> = all
            .map(|value| {
                let packed = packed(&packer, &value, value.get("status").is_some());
                (value, packed)
            })
            .collect();
        for (value, packed) in &all {
            assert_eq!(packer.unpack::<Value>(packed).as_ref(), Some(value));
            assert_eq!(packed.source, 1);
        }
        assert_eq!(all.iter().filter(|(_, packed)| !packed.has_pattern).count(), 3);
    }

    #[test]
    fn those_that_are_alike_take_a_third() {
        let packer = Packer::default();
        packed(&packer, &certificate(1, false), false);
        packed(&packer, &json!("x".repeat(LONGEST_PATTERN)), true);
        packed(&packer, &certificate(2, true), true);
        let packed = packed(&packer, &certificate(1_234_567, true), true);
        assert!(
            packed.bytes.len() * 3 < packed.length as usize,
            "{} of {}",
            packed.bytes.len(),
            packed.length
        );
    }
}
