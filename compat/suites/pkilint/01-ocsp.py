"""Makes OCSP answers of each kind and lints them."""

import pathlib, subprocess, sys, urllib.request
from chancery_compat import Api

try:
    from pkilint import loader, pkix, report  # noqa: F401
    from pkilint.pkix import extension, name, ocsp
except ImportError:
    print("pkilint is not installed")
    sys.exit(77)

validator = ocsp.create_pkix_ocsp_response_validator_container(
    [ocsp.create_response_decoder(), pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
     pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS)], [])

api = Api()
answers = {}
for kind, bits in (("rsa", 2048), ("ec", 256), ("ec", 384), ("ed25519", 0), ("mldsa", 44)):
    mount = f"lint-ocsp-{kind}-{bits}"
    api.write(f"sys/mounts/{mount}", type="pki", config={"max_lease_ttl": "87600h"})
    root = api.write(f"{mount}/root/generate/internal", common_name="Lint Root", ttl="87600h", key_type=kind, key_bits=bits)
    pathlib.Path("root.crt").write_text(root["data"]["certificate"] + "\n")
    api.write(f"{mount}/roles/leaf", allow_any_name=True, key_type="ec", ttl="24h")
    leaf = api.write(f"{mount}/issue/leaf", common_name="a.example.com")["data"]
    pathlib.Path("leaf.crt").write_text(leaf["certificate"] + "\n")

    def ask(what, *words):
        subprocess.run(["openssl", "ocsp", "-issuer", "root.crt", "-reqout", "request.der", *words], check=True, capture_output=True)
        request = urllib.request.Request(f"{api.address}/v1/{mount}/ocsp", pathlib.Path("request.der").read_bytes(),
                                         {"Content-Type": "application/ocsp-request"})
        try:
            with urllib.request.urlopen(request) as answer:
                answers[f"{what} {mount}"] = answer.read()
        except urllib.error.HTTPError as error:
            answers[f"{what} {mount}"] = error.read()

    ask("good", "-cert", "leaf.crt")
    ask("without nonce", "-cert", "leaf.crt", "-no_nonce")
    ask("several", "-cert", "leaf.crt", "-serial", "7", "-sha256", "-serial", "8")
    api.write(f"{mount}/revoke", serial_number=leaf["serial_number"])
    ask("revoked", "-cert", "leaf.crt")
    api.write(f"{mount}/config/crl", ocsp_expiry="0")
    ask("without end", "-cert", "leaf.crt")
    api.write(f"{mount}/config/crl", ocsp_disable=True)
    ask("refused", "-cert", "leaf.crt")

bad = []
for what, der in answers.items():
    document = loader.RFC6960OCSPResponseDocumentLoader().load_document(der, what)
    for result in validator.validate(document.root):
        for finding in result.finding_descriptions:
            if finding.finding.severity.name in ("WARNING", "ERROR", "FATAL"):
                bad.append(f"{what}: {finding.finding.severity.name} {finding.finding.code} {finding.message or ''}")
print("\n".join(bad))
print(f"{len(answers)} OCSP answers linted, {len(bad)} findings")
sys.exit(1 if bad else 0)
