"""PKI: roots, intermediates, issuers, keys, roles, certificates."""

import os, subprocess
import hvac

client = hvac.Client(url=os.environ["VAULT_ADDR"], token=os.environ["VAULT_TOKEN"])
pki = client.secrets.pki
for mount in ("root", "sub"):
    client.sys.enable_secrets_engine("pki", path=mount, config={"max_lease_ttl": "87600h"})

made = pki.generate_root("exported", "hvac root", extra_params={"ttl": "8760h", "issuer_name": "top", "key_type": "ec"}, mount_point="root")["data"]
assert made["private_key_type"] == "ec" and made["issuer_name"] == "top" and made["key_id"], made
assert pki.read_ca_certificate(mount_point="root").strip() == made["certificate"].strip()
assert pki.read_ca_certificate_chain(mount_point="root").strip()
pki.set_urls({"issuing_certificates": ["http://x/ca"], "crl_distribution_points": ["http://x/crl"]}, mount_point="root")
assert pki.read_urls(mount_point="root")["data"]["issuing_certificates"] == ["http://x/ca"]

csr = pki.generate_intermediate("internal", "hvac sub", extra_params={"key_type": "ec"}, mount_point="sub")["data"]["csr"]
signed = pki.sign_intermediate(csr, "hvac sub", extra_params={"ttl": "4000h"}, mount_point="root")["data"]
pki.set_signed_intermediate(signed["certificate"] + "\n" + made["certificate"], mount_point="sub")
issuers = pki.list_issuers(mount_point="sub")["data"]
assert len(issuers["keys"]) == 2 and set(issuers["key_info"]) == set(issuers["keys"]), issuers
default = client.read("sub/config/issuers")["data"]["default"]
pki.update_issuer(default, extra_params={"issuer_name": "mesh"}, mount_point="sub")
assert pki.read_issuer("mesh", mount_point="sub")["data"]["issuer_id"] == default

role = {"allowed_domains": "example.com", "allow_subdomains": True, "max_ttl": "72h", "key_type": "ec", "allow_ip_sans": True}
pki.create_or_update_role("web", role, mount_point="sub")
assert pki.read_role("web", mount_point="sub")["data"]["max_ttl"] == 259200
assert pki.list_roles(mount_point="sub")["data"]["keys"] == ["web"]
leaf = pki.generate_certificate("web", "a.example.com", extra_params={"alt_names": "b.example.com"}, mount_point="sub")["data"]
assert leaf["ca_chain"] and leaf["private_key_type"] == "ec" and isinstance(leaf["expiration"], int)
subprocess.run(["openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "h.key", "-out", "h.csr", "-subj",
                "/CN=c.example.com"], check=True, capture_output=True)
request = open("h.csr").read()
pki.create_or_update_role("any", role | {"key_type": "any"}, mount_point="sub")
signed = pki.sign_certificate("any", request, "c.example.com", mount_point="sub")["data"]
verbatim = pki.sign_verbatim(request, mount_point="sub")["data"]
listed = pki.list_certificates(mount_point="sub")["data"]["keys"]
assert {leaf["serial_number"], signed["serial_number"], verbatim["serial_number"]} <= set(listed)
stored = pki.read_certificate(leaf["serial_number"], mount_point="sub")["data"]["certificate"]
assert stored.strip() == leaf["certificate"].strip()

bundle = made["certificate"] + "\n" + made["private_key"]
client.sys.enable_secrets_engine("pki", path="taken")
pki.submit_ca_information(bundle, mount_point="taken")
assert pki.read_ca_certificate(mount_point="taken").strip() == made["certificate"].strip()
pki.delete_role("web", mount_point="sub")
pki.delete_root(mount_point="taken")
