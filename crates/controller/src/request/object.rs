//! A CertificateRequest as it is known: from the cache, or read a moment ago.

use std::time::Duration;

use chancery_kubernetes::cert_manager::{
    API_VERSION, CertificateRequest, CertificateRequestStatus, IssuerReference, KeyUsage, Time,
};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Resource;
use serde::{Deserialize, Serialize};

use super::policy::Known;
use crate::Key;
use crate::cache::{RequestFacts, UnsignedFacts};

/// A CertificateRequest.
#[derive(Debug)]
pub(super) struct Object {
    pub(super) key: Key,
    pub(super) uid: String,
    pub(super) version: String,
    pub(super) issuer_ref: IssuerReference,
    pub(super) duration: Option<Duration>,
    pub(super) is_ca: bool,
    pub(super) usages: Vec<KeyUsage>,
    pub(super) unsigned: Option<UnsignedFacts>,
    /// From the cache it has no certificate and no CA, even if the object does: see `is_whole`.
    pub(super) status: CertificateRequestStatus,
    has_certificate: bool,
    is_deleting: bool,
}

impl Object {
    /// As the cache has it.
    pub(super) fn cached(facts: &RequestFacts) -> Self {
        let status = CertificateRequestStatus {
            conditions: facts.conditions.clone(),
            failure_time: facts.failure_time.map(Time::new),
            certificate: None,
            ca: None,
        };
        Self {
            key: facts.key.clone(),
            uid: facts.uid.clone(),
            version: facts.resource_version.clone(),
            issuer_ref: facts.issuer_ref.clone(),
            duration: facts.duration,
            is_ca: facts.is_ca,
            usages: facts.usages.clone(),
            unsigned: facts.unsigned.clone(),
            status,
            has_certificate: facts.has_certificate,
            is_deleting: facts.is_deleting,
        }
    }

    /// As the API server showed it.
    pub(super) fn read(key: &Key, request: CertificateRequest) -> Self {
        let unsigned = Some(UnsignedFacts::of(&request));
        let CertificateRequest { metadata, spec, status, .. } = request;
        let status = status.unwrap_or_default();
        Self {
            key: key.clone(),
            uid: metadata.uid.unwrap_or_default(),
            version: metadata.resource_version.unwrap_or_default(),
            issuer_ref: spec.issuer_ref,
            duration: spec.duration.map(|duration| duration.0),
            is_ca: spec.is_ca.unwrap_or_default(),
            usages: spec.usages,
            unsigned,
            has_certificate: status.certificate.as_ref().is_some_and(|certificate| !certificate.is_empty()),
            status,
            is_deleting: metadata.deletion_timestamp.is_some(),
        }
    }

    /// Whether all of its status is here: what is written replaces it.
    pub(super) fn is_whole(&self) -> bool {
        !self.has_certificate || self.status.certificate.is_some()
    }

    /// What decides.
    pub(super) fn known(&self) -> Known<'_> {
        Known {
            namespace: &self.key.namespace,
            issuer_ref: &self.issuer_ref,
            conditions: &self.status.conditions,
            has_failure_time: self.status.failure_time.is_some(),
            has_certificate: self.has_certificate,
            is_deleting: self.is_deleting,
        }
    }

    /// What events refer to.
    pub(super) fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some(API_VERSION.to_owned()),
            kind: Some(CertificateRequest::kind(&()).into_owned()),
            namespace: Some(self.key.namespace.clone()),
            name: Some(self.key.name.clone()),
            uid: Some(self.uid.clone()),
            resource_version: Some(self.version.clone()),
            field_path: None,
        }
    }

    /// What a PUT of its status sends: of all else an API server takes nothing from it. The UID refuses an object that was
    /// made anew under the same name.
    pub(super) fn with_status<'a>(&'a self, status: &'a CertificateRequestStatus) -> StatusOnly<'a> {
        StatusOnly {
            api_version: API_VERSION,
            kind: "CertificateRequest",
            metadata: Identity {
                namespace: &self.key.namespace,
                name: &self.key.name,
                uid: &self.uid,
                resource_version: &self.version,
            },
            status,
        }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StatusOnly<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Identity<'a>,
    status: &'a CertificateRequestStatus,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Identity<'a> {
    namespace: &'a str,
    name: &'a str,
    uid: &'a str,
    resource_version: &'a str,
}

/// What matters of the answer to it.
#[derive(Debug, Deserialize)]
pub(super) struct Written {
    pub(super) metadata: Version,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Version {
    pub(super) resource_version: String,
}
