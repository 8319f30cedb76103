"""Makes one certificate and one CRL of each kind and lints it."""

import fnmatch, os, pathlib, subprocess, sys
from chancery_compat import Api

try:
    from pkilint import loader, report  # noqa: F401
    from pkilint import pkix
    from pkilint.pkix import certificate, crl, extension, name
except ImportError:
    print("pkilint is not installed")
    sys.exit(77)

validator = certificate.create_pkix_certificate_validator_container(
    certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
    [certificate.create_issuer_validator_container([]), certificate.create_validity_validator_container(),
     certificate.create_subject_validator_container([]), certificate.create_extensions_validator_container([]),
     certificate.create_spki_validator_container([])])

list_validator = crl.create_pkix_crl_validator_container(
    [pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
     pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS)],
    [crl.create_issuer_validator_container([]), crl.create_validity_validator_container([]),
     crl.create_extensions_validator_container([])])

api = Api()
made = {}
lists = {}


def csr(key, subject, names=""):
    options = {"rsa": ["rsa:2048"], "ec": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]}[key]
    more = ["-addext", f"subjectAltName={names}"] if names else []
    subprocess.run(["openssl", "req", "-new", "-newkey", *options, "-nodes", "-keyout", "r.key", "-out", "r.csr", "-subj",
                    subject, *more], check=True, capture_output=True)
    return pathlib.Path("r.csr").read_text()


for kind, bits in (("rsa", 2048), ("rsa", 4096), ("ec", 256), ("ec", 384), ("ed25519", 0), ("mldsa", 65)):
    mount = f"{kind}-{bits}"
    api.write(f"sys/mounts/{mount}", type="pki", config={"max_lease_ttl": "87600h"})
    api.write(f"sys/mounts/{mount}-sub", type="pki", config={"max_lease_ttl": "87600h"})
    for place in (mount, f"{mount}-sub"):
        api.write(f"{place}/config/urls", issuing_certificates="http://ca.example.com/ca.der",
                  crl_distribution_points="http://ca.example.com/ca.crl", ocsp_servers="http://ca.example.com/ocsp")
    key = {"key_type": kind, "key_bits": bits}
    made[f"root {mount}"] = api.write(f"{mount}/root/generate/internal", common_name="Lint Root", organization="Example",
                                      country="DE", ttl="87600h", **key)["data"]["certificate"]
    request = api.write(f"{mount}-sub/intermediate/generate/internal", common_name="Lint Sub", **key)["data"]["csr"]
    for words, extra in (("", {}), (" with constraints", {"max_path_length": 0, "permitted_dns_domains": "example.com",
                                                        "excluded_dns_domains": "evil.example.com"})):
        signed = api.write(f"{mount}/root/sign-intermediate", csr=request, common_name="Lint Sub", organization="Example",
                           ttl="43800h", format="pem", **extra)["data"]["certificate"]
        made[f"intermediate{words} {mount}"] = signed
    plain = made[f"intermediate {mount}"]
    api.write(f"{mount}-sub/intermediate/set-signed", certificate=plain)
    sub = f"{mount}-sub"
    api.write(f"{sub}/roles/server", allow_any_name=True, key_type="ec", ttl="24h", client_flag=False)
    api.write(f"{sub}/roles/email", allow_any_name=True, key_type="any", ttl="24h", email_protection_flag=True,
              server_flag=False, client_flag=False)
    api.write(f"{sub}/roles/mesh", allowed_uri_sans="spiffe://*", require_cn=False, key_type="any", ttl="1h")
    api.write(f"{sub}/roles/policies", allow_any_name=True, key_type="ec", ttl="24h", policy_identifiers="1.3.6.1.4.1.99999.1",
              ou="one,two", organization="Example", country="DE", province="BY", locality="München", postal_code="80331",
              street_address="Straße 1")
    made[f"server {mount}"] = api.write(f"{sub}/issue/server", common_name="a.example.com", alt_names="b.example.com",
                                        ip_sans="192.0.2.1")["data"]["certificate"]
    made[f"e-mail {mount}"] = api.write(f"{sub}/sign/email", csr=csr("ec", "/CN=user@example.com"),
                                        common_name="user@example.com")["data"]["certificate"]
    made[f"spiffe {mount}"] = api.write(f"{sub}/sign/mesh", csr=csr("rsa", "/", "URI:spiffe://cluster.local/ns/foo/sa/sleep"))[
        "data"]["certificate"]
    made[f"subject {mount}"] = api.write(f"{sub}/issue/policies", common_name="a.example.com")["data"]["certificate"]
    made[f"verbatim {mount}"] = api.write(f"{sub}/sign-verbatim", csr=csr("ec", "/O=Example/CN=a.example.com",
                                                                         "DNS:a.example.com"), ttl="1h")["data"]["certificate"]

    lists[f"empty complete {mount}"] = api.read(f"{sub}/issuer/default/crl")["data"]["crl"]
    api.write(f"{sub}/config/urls", delta_crl_distribution_points="http://ca.example.com/delta.crl")
    api.write(f"{sub}/config/crl", auto_rebuild=True, enable_delta=True)
    serial = api.write(f"{sub}/issue/server", common_name="r.example.com")["data"]["serial_number"]
    api.write(f"{sub}/revoke", serial_number=serial)
    api.read(f"{sub}/crl/rotate-delta")
    lists[f"delta {mount}"] = api.read(f"{sub}/issuer/default/crl/delta")["data"]["crl"]
    api.read(f"{sub}/crl/rotate")
    lists[f"complete {mount}"] = api.read(f"{sub}/issuer/default/crl")["data"]["crl"]
    lists[f"empty delta {mount}"] = api.read(f"{sub}/issuer/default/crl/delta")["data"]["crl"]
    lists[f"signed {mount}"] = api.write(f"{sub}/issuer/default/sign-revocation-list", crl_number=7, revoked_certs=[
        {"serial_number": serial, "revocation_time": "2026-01-02T03:04:05Z",
         "extensions": [{"id": "2.5.29.21", "value": "CgEB"}]}])["data"]["crl"]

accepted = [[part.strip() for part in line.split(" : ")]
            for line in pathlib.Path(os.environ["SUITE"], "accepted.txt").read_text().splitlines()
            if line.strip() and not line.startswith("#")]
used, bad = set(), []
documents = [(what, loader.RFC5280CertificateDocumentLoader().load_pem_document(pem, what), validator)
             for what, pem in made.items()]
documents += [(f"CRL {what}", loader.RFC5280CertificateListDocumentLoader().load_pem_document(pem, what), list_validator)
              for what, pem in lists.items()]
for what, document, judge in documents:
    for result in judge.validate(document.root):
        for finding in result.finding_descriptions:
            if finding.finding.severity.name not in ("WARNING", "ERROR", "FATAL"):
                continue
            code = finding.finding.code
            match = [entry[0] + entry[1] for entry in accepted if fnmatch.fnmatch(what, entry[0]) and entry[1] == code]
            used.update(match)
            if not match:
                bad.append(f"{what}: {finding.finding.severity.name} {code} {finding.message or ''} at {result.node.path}")
for entry in accepted:
    if entry[0] + entry[1] not in used:
        bad.append(f"accepted.txt: no longer found: {' : '.join(entry)}")
print("\n".join(bad))
print(f"{len(made)} certificates of {len(set(what.rsplit(' ', 1)[0] for what in made))} kinds and {len(lists)} CRLs linted, {len(bad)} findings")
sys.exit(1 if bad else 0)
