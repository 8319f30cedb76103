//! Keystores of a Certificate's Secret.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::issuer::SecretKeySelector;
use super::value::words;

/// Keystores that are kept beside the certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Keystores {
    /// keystore.jks and truststore.jks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jks: Option<JksKeystore>,
    /// keystore.p12 and truststore.p12.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pkcs12: Option<Pkcs12Keystore>,
}

/// A Java keystore.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JksKeystore {
    /// Whether it is made.
    pub create: bool,
    /// Alias of the entry; certificate by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// The password in a Secret. Exactly one of this and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<SecretKeySelector>,
    /// The password itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// A PKCS#12 keystore.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pkcs12Keystore {
    /// Whether it is made.
    pub create: bool,
    /// Which algorithms it is encrypted with; LegacyRC2 by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Pkcs12Profile>,
    /// The password in a Secret. Exactly one of this and password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<SecretKeySelector>,
    /// The password itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

impl fmt::Debug for JksKeystore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JksKeystore").field("create", &self.create).finish_non_exhaustive()
    }
}

impl fmt::Debug for Pkcs12Keystore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Pkcs12Keystore");
        shown.field("create", &self.create).field("profile", &self.profile).finish_non_exhaustive()
    }
}

words! {
    /// Algorithms of a PKCS#12 keystore.
    Pkcs12Profile {
        /// RC2 and triple DES; read by everything old.
        LegacyRc2 = "LegacyRC2",
        /// Triple DES.
        LegacyDes = "LegacyDES",
        /// AES-256-CBC, PBKDF2, SHA-256.
        Modern2023 = "Modern2023",
        /// The same with PBMAC1.
        Modern2026 = "Modern2026",
    }
}
