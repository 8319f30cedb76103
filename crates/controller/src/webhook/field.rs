//! Refusals of fields in the API server's words: `spec.vault.auth: Required value: …`.

use std::fmt;

/// The path of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Path(String);

impl Path {
    /// A field at the root of an object.
    pub(crate) fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// A field of this one.
    pub(crate) fn child(&self, name: &str) -> Self {
        Self(format!("{}.{name}", self.0))
    }

    /// The items of this list, which differ by this field.
    pub(crate) fn key(&self, name: &str) -> Self {
        Self(format!("{}[{name}]", self.0))
    }

    /// An item of this list.
    pub(crate) fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything that is wrong with an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Errors(Vec<String>);

impl Errors {
    /// Whether nothing is wrong.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A field is missing.
    pub(crate) fn required(&mut self, path: &Path, detail: &str) {
        self.add(path, "Required value", detail);
    }

    /// A field must not be there, or not be changed.
    pub(crate) fn forbidden(&mut self, path: &Path, detail: &str) {
        self.add(path, "Forbidden", detail);
    }

    /// A text is wrong.
    pub(crate) fn invalid(&mut self, path: &Path, value: &str, detail: impl fmt::Display) {
        self.add(path, &format!("Invalid value: {value:?}"), &detail.to_string());
    }

    /// A number, a length of time or something else that stands without quotes is wrong.
    pub(crate) fn invalid_plain(&mut self, path: &Path, value: impl fmt::Display, detail: impl fmt::Display) {
        self.add(path, &format!("Invalid value: {value}"), &detail.to_string());
    }

    /// A text is longer than so many bytes.
    pub(crate) fn too_long(&mut self, path: &Path, bytes: usize) {
        self.add(path, "Too long", &format!("may not be more than {bytes} bytes"));
    }

    /// A value is none of these.
    pub(crate) fn unsupported(&mut self, path: &Path, value: impl fmt::Display, supported: &[&str]) {
        let supported: Vec<String> = supported.iter().map(|one| format!("{one:?}")).collect();
        let detail = format!("supported values: {}", supported.join(", "));
        self.add(path, &format!("Unsupported value: {value}"), &detail);
    }

    /// A value is there a second time.
    pub(crate) fn duplicate(&mut self, path: &Path, value: &str) {
        self.add(path, &format!("Duplicate value: {value:?}"), "");
    }

    fn add(&mut self, path: &Path, kind: &str, detail: &str) {
        let separator = if detail.is_empty() { "" } else { ": " };
        self.0.push(format!("{path}: {kind}{separator}{detail}"));
    }
}

impl fmt::Display for Errors {
    /// One as it is, several as a list.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [one] => f.write_str(one),
            all => write!(f, "[{}]", all.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_read_as_the_api_servers_own() {
        let spec = Path::new("spec");
        let mut errors = Errors::default();
        errors.required(&spec.child("vault").child("server"), "");
        assert_eq!(errors.to_string(), "spec.vault.server: Required value");
        errors.invalid(&spec.child("ipAddresses").index(1), "x\n", "invalid IP address");
        errors.forbidden(&spec, "cannot change spec after creation");
        errors.unsupported(&spec.child("size"), 7, &["256", "384"]);
        errors.duplicate(&spec.child("formats"), "DER");
        errors.too_long(&spec.child("commonName"), 64);
        errors.invalid_plain(&spec.child("limit"), 0, "must not be less than 1");
        assert_eq!(
            errors.to_string(),
            "[spec.vault.server: Required value, spec.ipAddresses[1]: Invalid value: \"x\\n\": invalid IP address, \
             spec: Forbidden: cannot change spec after creation, \
             spec.size: Unsupported value: 7: supported values: \"256\", \"384\", \
             spec.formats: Duplicate value: \"DER\", spec.commonName: Too long: may not be more than 64 bytes, \
             spec.limit: Invalid value: 0: must not be less than 1]"
        );
    }
}
