//! `pki issue`: an intermediate in one mount, signed by an issuer of another.
//!
//! Four to six writes in two mounts. Whichever of them fails, the command says what there is by then, how to go on
//! from there by hand, and how to take it back.

use std::collections::BTreeMap;

use chancery_client::{Answer, Request, Value};

use super::issuer::read_issuer;
use super::{pairs, ready, told};
use crate::command::{Call, Failure, Outcome};

pub(super) fn run(call: &mut Call<'_>) -> Outcome {
    if call.args.len() < 3 {
        let sentence = "Not enough arguments expected parent issuer and child-mount location and some key_value argument";
        return Err(Failure::Local(sentence.to_owned()));
    }
    let data = pairs(call, 2)?;
    let (parent, mount) = (call.path(0), call.path(1));
    issue(call, &parent, &mount, data)
}

/// How far it came.
#[derive(Debug, Default)]
struct Progress {
    parent: String,
    mount: String,
    name: String,
    csr: String,
    /// The key that was made for it.
    key_id: String,
    serial_number: String,
    chain: String,
    issuer_id: String,
}

/// Makes the request, has it signed, imports what was signed, and prints the new issuer.
pub(super) fn issue(
    call: &mut Call<'_>,
    parent: &str,
    mount: &str,
    mut data: BTreeMap<String, Value>,
) -> Outcome {
    ready(call)?;
    let Some((_, parent_name)) = parent.split_once("/issuer/") else {
        return Err(Failure::Local(format!(
            "Parent Issuer {parent} is Not a PKI Issuer Path of the format /mount/issuer/issuer-ref"
        )));
    };
    read_issuer(call, parent).map_err(|failure| {
        told(failure, |text| format!("Unable to access parent issuer {parent}: {text}"))
    })?;
    let name = call.flags.text("issuer_name").unwrap_or_default().to_owned();
    let mut progress =
        Progress { parent: parent.to_owned(), mount: mount.to_owned(), name, ..Progress::default() };

    generate(call, &data, &mut progress)?;
    data.insert("csr".to_owned(), Value::from(progress.csr.as_str()));
    let step = |call: &mut Call<'_>, progress: &mut Progress| -> Result<String, Failure> {
        let signed = sign(call, &data, progress)?;
        import_child(call, &signed.certificate, progress)?;
        import_chain(call, &signed, parent_name, progress)?;
        Ok(progress.issuer_id.clone())
    };
    let issuer_id = match step(call, &mut progress) {
        Ok(issuer_id) => issuer_id,
        Err(Failure::Done(code)) => return Err(Failure::Done(code)),
        Err(failure) => {
            call.ui.error(&progress.advice(&call.ui.program.clone()));
            return Err(told(failure, str::to_owned));
        }
    };
    let path = format!("{mount}/issuer/{issuer_id}");
    match call.answer(&Request::read(path.clone())) {
        Ok(Some(answer)) => call.print_answer(&answer),
        Ok(None) => Err(Failure::Local(format!("Error Reading Fully Imported Certificate from {path}"))),
        Err(failure) => Err(told(failure, |text| {
            format!("Error Reading Fully Imported Certificate from {path} : {text}")
        })),
    }
}

fn generate(
    call: &mut Call<'_>,
    data: &BTreeMap<String, Value>,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let mount = &progress.mount;
    let kind = call.flags.text("type").unwrap_or("internal").to_owned();
    let request = Request::write(format!("{mount}/intermediate/generate/{kind}"), data)?;
    let answer = call.answer(&request).map_err(|failure| {
        told(failure, |text| match () {
            () if text.contains("no handler for route") => {
                format!("Given Intermediate Mount {mount} Does Not Exist: {text}")
            }
            () if text.contains("unsupported path") => {
                format!("Given Intermediate Mount {mount} Is Not a PKI Mount: {text}")
            }
            () => format!("Failed to Generate Intermediate CSR on {mount}: {text}"),
        })
    })?;
    let answer = answer.unwrap_or_default();
    let Some(csr) = answer.text("csr") else {
        return Err(Failure::Local(format!(
            "Failed to Generate Intermediate CSR on {mount}: the answer has none"
        )));
    };
    if kind == "internal" {
        let key_id = answer.text("key_id").ok_or_else(|| {
            Failure::Local(format!("Failed to Generate Key on {mount}: the answer does not name it"))
        })?;
        progress.key_id = key_id.to_owned();
    }
    progress.csr = csr.to_owned();
    Ok(())
}

/// What the parent gave.
struct Signed {
    certificate: String,
    issuer: String,
    chain: Vec<String>,
}

fn sign(
    call: &mut Call<'_>,
    data: &BTreeMap<String, Value>,
    progress: &mut Progress,
) -> Result<Signed, Failure> {
    let request = Request::write(format!("{}/sign-intermediate", progress.parent), data)?;
    let failed = |text: &str| format!("Error Signing Intermediate On {text}");
    let answer = call.answer(&request).map_err(|failure| told(failure, failed))?.unwrap_or_default();
    let text = |name: &str| {
        let missing = || Failure::Local(format!("Error Signing Intermediate: the answer has no {name}"));
        answer.text(name).map(str::to_owned).ok_or_else(missing)
    };
    let chain = answer.field("ca_chain").and_then(Value::as_array).unwrap_or_default();
    let chain: Vec<String> = chain.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    progress.serial_number = text("serial_number")?;
    progress.chain = chain.iter().map(|pem| format!("{pem}\n")).collect();
    Ok(Signed { certificate: text("certificate")?, issuer: text("issuing_ca")?, chain })
}

fn import_child(call: &mut Call<'_>, certificate: &str, progress: &mut Progress) -> Result<(), Failure> {
    let mount = progress.mount.clone();
    progress.issuer_id = import(call, &mount, certificate).map_err(|failure| {
        told(failure, |text| {
            format!("Error Importing Into {mount} Newly Created Issuer {certificate}: {text}")
        })
    })?;
    let (id, name) = (&progress.issuer_id, &progress.name);
    name_issuer(call, &mount, id, name).map_err(|failure| {
        told(failure, |text| {
            format!("Error Naming Newly Imported Issuer: error naming issuer {id} to {name}: {text}")
        })
    })?;
    progress.name.clear();
    Ok(())
}

fn import_chain(
    call: &mut Call<'_>,
    signed: &Signed,
    parent_name: &str,
    progress: &Progress,
) -> Result<(), Failure> {
    let mount = &progress.mount;
    let id = import(call, mount, &signed.issuer).map_err(|failure| {
        let certificate = &signed.issuer;
        told(failure, |text| {
            format!("Error Importing Into {mount} Newly Created Issuer {certificate}: {text}")
        })
    })?;
    // The parent may be known here already, under another name: that is no failure.
    match name_issuer(call, mount, &id, parent_name) {
        Err(Failure::Done(code)) => return Err(Failure::Done(code)),
        Err(failure) => {
            let serial = &progress.serial_number;
            let warning = told(failure, |text| {
                format!(
                    "Unable to Set Name on Parent Cert from {parent_name} Imported Into {mount} with serial {serial}, \
                     err: error naming issuer {id} to {parent_name}: {text}"
                )
            });
            if let Failure::Local(text) = warning {
                call.ui.warn(&text);
            }
        }
        Ok(()) => {}
    }
    // The new certificate and its issuer are there already.
    if signed.chain.len() > 2 {
        write_bundle(call, mount, &progress.chain).map_err(|failure| {
            told(failure, |text| format!("Error Importing CaChain into {mount}: {text}"))
        })?;
    }
    Ok(())
}

fn write_bundle(call: &mut Call<'_>, mount: &str, bundle: &str) -> Result<Answer, Failure> {
    let body = Value::Object([("pem_bundle".to_owned(), Value::from(bundle))].into());
    let request = Request::write(format!("{mount}/issuers/import/cert"), &body)?;
    Ok(call.answer(&request)?.unwrap_or_default())
}

/// Imports one certificate; the id of its issuer.
fn import(call: &mut Call<'_>, mount: &str, certificate: &str) -> Result<String, Failure> {
    let answer = write_bundle(call, mount, certificate)?;
    imported(&answer).ok_or_else(|| Failure::Local("the import does not name one issuer".to_owned()))
}

fn imported(answer: &Answer) -> Option<String> {
    let mut ids = answer.field("mapping")?.as_object()?.keys();
    let id = ids.next()?.clone();
    ids.next().is_none().then_some(id)
}

fn name_issuer(call: &mut Call<'_>, mount: &str, id: &str, name: &str) -> Result<(), Failure> {
    if name.is_empty() || name == "default" {
        return Ok(());
    }
    let body = Value::Object([("issuer_name".to_owned(), Value::from(name))].into());
    call.answer(&Request::patch(format!("{mount}/issuer/{id}"), &body)?)?;
    Ok(())
}

impl Progress {
    /// What there is by now, how to go on, and how to take it back.
    fn advice(&self, program: &str) -> String {
        let Self { parent, mount, name, csr, key_id, serial_number, chain, issuer_id } = self;
        let mut done = vec![format!("a request was made in {mount}")];
        let mut on = Vec::new();
        let mut back = Vec::new();
        if serial_number.is_empty() {
            on.push(format!(
                "Save this request as request.csr and have it signed by \"{program} write {parent}/sign-intermediate \
                 csr=@request.csr ...\", with the same pairs as here:\n{csr}"
            ));
        } else {
            done.push(format!("{parent} has signed it, with the serial number {serial_number}"));
        }
        if issuer_id.is_empty() {
            let what = if chain.is_empty() { "what it answers" } else { "this chain" };
            on.push(format!(
                "Save {what} as chain.pem and import it by \"{program} write {mount}/issuers/import/cert \
                 pem_bundle=@chain.pem\":\n{chain}"
            ));
            if !key_id.is_empty() {
                back.push(format!("\"{program} delete {mount}/key/{key_id}\" removes the key."));
            }
            if let (false, Some((parent_mount, _))) =
                (serial_number.is_empty(), parent.split_once("/issuer/"))
            {
                back.push(format!(
                    "\"{program} write {parent_mount}/revoke serial_number={serial_number}\" revokes the certificate."
                ));
            }
        } else {
            done.push(format!("it is the issuer {issuer_id} of {mount}"));
        }
        if !name.is_empty() {
            let id = if issuer_id.is_empty() { "ISSUER_ID" } else { issuer_id };
            on.push(format!("Name it by \"{program} patch {mount}/issuer/{id} issuer_name={name}\"."));
        }
        let mut text = format!("This failed half way. So far, {}.\n", done.join("; "));
        for (title, lines) in [("To go on:", on), ("To take it back:", back)] {
            if !lines.is_empty() {
                text.push_str(&format!("\n{title}\n{}\n", lines.join("\n")));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress() -> Progress {
        Progress {
            parent: "pki/issuer/root".into(),
            mount: "int".into(),
            name: "web".into(),
            csr: "CSR".into(),
            key_id: "key-1".into(),
            ..Progress::default()
        }
    }

    #[test]
    fn a_failure_says_what_there_is_and_how_to_go_on_or_back() {
        let unsigned = progress().advice("bao");
        for part in [
            "a request was made in int",
            "bao write pki/issuer/root/sign-intermediate csr=@request.csr",
            "CSR",
            "bao write int/issuers/import/cert",
            "issuer_name=web",
            "bao delete int/key/key-1",
        ] {
            assert!(unsigned.contains(part), "{part}: {unsigned}");
        }
        assert!(!unsigned.contains("revoke"));

        let signed =
            Progress { serial_number: "01:02".into(), chain: "CHAIN".into(), ..progress() }.advice("bao");
        assert!(signed.contains("bao write pki/revoke serial_number=01:02") && signed.contains("CHAIN"));
        assert!(!signed.contains("CSR"));

        let serial_number = "01:02".to_owned();
        let imported = Progress { serial_number, issuer_id: "id-1".into(), ..progress() }.advice("bao");
        assert!(imported.contains("bao patch int/issuer/id-1 issuer_name=web"));
        assert!(!imported.contains("take it back"));
    }

    #[test]
    fn an_import_names_exactly_one_issuer() {
        let answer = |mapping: &str| {
            let data = Value::parse(&format!("{{\"mapping\":{mapping}}}")).expect("JSON");
            Answer { data: data.as_object().cloned(), ..Answer::default() }
        };
        assert_eq!(imported(&answer(r#"{"a":""}"#)), Some("a".into()));
        for other in ["null", "{}", r#"{"a":"","b":""}"#] {
            assert_eq!(imported(&answer(other)), None);
        }
    }
}
