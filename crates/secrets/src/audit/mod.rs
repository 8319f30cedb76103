//! The audit log: who asked for what, and what came of it.
//!
//! Audit is not logging. Every request that reaches the pipeline is recorded before its handler runs
//! and again before its reply leaves; if devices exist and none of them could write the record, the
//! request fails. Strings that could be secrets stand in a record as a keyed hash, with a key per
//! device, so that a known value can be looked for and an unknown one not be read.

mod device;
mod hash;
mod headers;
mod record;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use chancery_storage::{Name, Position, View};
use jiff::Timestamp;
use tokio::sync::Mutex;

pub use device::{Device, DeviceRecord};
pub use headers::{AuditedHeader, AuditedHeaders, HeaderName};
pub use record::{Outcome, Receipt, RequestRecord};

use crate::error::{Error, Kind};
use crate::measures::AuditMeasures;
use crate::token::TokenStore;

const COLLECTION: &str = "audit";
const HEADERS: &str = "audit-headers";

/// The audit devices, and which request headers they record.
pub struct Audit {
    root: View,
    devices: RwLock<Arc<BTreeMap<String, Arc<Device>>>>,
    headers: RwLock<Arc<AuditedHeaders>>,
    measures: AuditMeasures,
    /// Held while devices or headers change.
    changing: Mutex<()>,
}

impl Audit {
    /// Opens every device. One that cannot be opened now (its disk is away) is kept and tried again
    /// with each record: it counts as failing until then.
    pub async fn open(root: View) -> Result<Self, Error> {
        let mut devices = BTreeMap::new();
        for (_, record) in root.scan(COLLECTION, Position::Start, usize::MAX).await? {
            let record: DeviceRecord = serde_json::from_slice(&record.value)?;
            devices.insert(record.path.clone(), Arc::new(Device::open(record)));
        }
        let mut headers = AuditedHeaders::new();
        for (name, record) in root.scan(HEADERS, Position::Start, usize::MAX).await? {
            headers.insert(HeaderName::parse(name.text())?, serde_json::from_slice(&record.value)?);
        }
        Ok(Self {
            root,
            devices: RwLock::new(Arc::new(devices)),
            headers: RwLock::new(Arc::new(headers)),
            measures: AuditMeasures::new(),
            changing: Mutex::new(()),
        })
    }

    /// Whether nothing is recorded at all.
    pub fn is_empty(&self) -> bool {
        self.devices().is_empty()
    }

    /// Every device by its path.
    pub fn devices(&self) -> Arc<BTreeMap<String, Arc<Device>>> {
        Arc::clone(&self.devices.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds a device, once it has been proved to work and its record is durable.
    pub async fn enable(&self, record: DeviceRecord, now: Timestamp) -> Result<(), Error> {
        let _changing = self.changing.lock().await;
        if self.devices().contains_key(&record.path) {
            return Err(Error::invalid("path already in use"));
        }
        let device = Device::open(record);
        device
            .prove(now)
            .map_err(|error| Error::invalid(format!("the audit device does not work: {error}")))?;
        self.root.put_json(COLLECTION, &Name::new(device.record.path.as_str()), &device.record).await?;
        self.update(|devices| {
            devices.insert(device.record.path.clone(), Arc::new(device));
        });
        Ok(())
    }

    /// Takes a device away. Its file stays.
    pub async fn disable(&self, path: &str) -> Result<(), Error> {
        let _changing = self.changing.lock().await;
        self.root.delete(COLLECTION, &Name::new(path)).await?;
        self.update(|devices| {
            devices.remove(path);
        });
        Ok(())
    }

    /// Every request header that is recorded.
    pub fn headers(&self) -> Arc<AuditedHeaders> {
        Arc::clone(&self.headers.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Records a request header from now on, once that is durable.
    pub async fn record_header(&self, name: HeaderName, header: AuditedHeader) -> Result<(), Error> {
        let _changing = self.changing.lock().await;
        self.root.put_json(HEADERS, &Name::new(name.as_str()), &header).await?;
        self.update_headers(|headers| {
            headers.insert(name, header);
        });
        Ok(())
    }

    /// Records a request header no more.
    pub async fn forget_header(&self, name: &HeaderName) -> Result<(), Error> {
        let _changing = self.changing.lock().await;
        self.root.delete(HEADERS, &Name::new(name.as_str())).await?;
        self.update_headers(|headers| {
            headers.remove(name);
        });
        Ok(())
    }

    /// The hash under which the device at `path` writes `text`.
    pub fn hash(&self, path: &str, text: &str) -> Option<String> {
        self.devices().get(path).map(|device| device.hash(text))
    }

    /// Opens the files anew, after they were rotated away.
    pub fn reopen(&self) {
        for device in self.devices().values() {
            device.reopen();
        }
    }

    /// Records a request. The receipt is what the answer's record needs; without devices it is empty
    /// and nothing was built.
    pub async fn request(
        &self,
        record: RequestRecord<'_>,
        tokens: &TokenStore,
        now: Timestamp,
    ) -> Result<Receipt, Error> {
        let devices = self.devices();
        if devices.is_empty() {
            return Ok(Receipt::none());
        }
        let receipt = Receipt::of(&record, tokens, &self.headers());
        self.measures.request(|| write(&devices, |device| receipt.request_line(device, now)))?;
        Ok(receipt)
    }

    /// Records what came of a request. If this fails there must be no reply.
    pub async fn response(
        &self,
        receipt: Receipt,
        outcome: Outcome<'_>,
        now: Timestamp,
    ) -> Result<(), Error> {
        let devices = self.devices();
        // A request that came before the first device is not recorded halfway.
        if devices.is_empty() || receipt.is_none() {
            return Ok(());
        }
        self.measures.response(|| write(&devices, |device| receipt.response_line(device, &outcome, now)))
    }

    fn update_headers(&self, change: impl FnOnce(&mut AuditedHeaders)) {
        let mut guard = self.headers.write().unwrap_or_else(PoisonError::into_inner);
        let mut headers = (**guard).clone();
        change(&mut headers);
        *guard = Arc::new(headers);
    }

    fn update(&self, change: impl FnOnce(&mut BTreeMap<String, Arc<Device>>)) {
        let mut guard = self.devices.write().unwrap_or_else(PoisonError::into_inner);
        let mut devices = (**guard).clone();
        change(&mut devices);
        *guard = Arc::new(devices);
    }
}

/// Writes one line to every device; one success is enough.
fn write(
    devices: &BTreeMap<String, Arc<Device>>,
    line: impl Fn(&Device) -> Result<Vec<u8>, Error>,
) -> Result<(), Error> {
    let mut written = false;
    for (path, device) in devices {
        match line(device)
            .and_then(|line| device.write(&line).map_err(|error| Error::internal("audit", error)))
        {
            Ok(()) => written = true,
            Err(error) => tracing::error!(path, ?error, "an audit device failed"),
        }
    }
    if written {
        return Ok(());
    }
    Err(Error::of(
        Kind::Internal,
        "no audit device could record the request, so it is not served; free its disk or mend it",
    ))
}
