"""After a revocation `openssl verify -crl_check` fails for that certificate and holds for another; deltas included."""

import pathlib, subprocess
from chancery_compat import Api

api = Api()


def verify(certificate, lists, *arguments):
    pathlib.Path("leaf.pem").write_text(certificate + "\n")
    pathlib.Path("lists.pem").write_text("\n".join(lists) + "\n")
    done = subprocess.run(["openssl", "verify", "-CAfile", "ca.pem", "-CRLfile", "lists.pem", "-crl_check", *arguments,
                           "leaf.pem"], capture_output=True, text=True)
    return "good" if done.returncode == 0 else "revoked" if "certificate revoked" in done.stderr else done.stderr


def same(what, got, wanted):
    if got != wanted:
        raise SystemExit(f"FAILED: {what}: {got}, not {wanted}")


def listed(mount, kind="crl"):
    return api.read(f"{mount}/issuer/default/{kind}")["data"]["crl"]


checks = 0
for kind, bits in (("rsa", 2048), ("ec", 224), ("ec", 256), ("ec", 384), ("ec", 521), ("ed25519", 0)):
    mount = f"revoked-{kind}-{bits}"
    api.write(f"sys/mounts/{mount}", type="pki", config={"max_lease_ttl": "8760h"})
    ca = api.write(f"{mount}/root/generate/internal", common_name="root", ttl="8000h", key_type=kind, key_bits=bits)
    pathlib.Path("ca.pem").write_text(ca["data"]["certificate"] + "\n")
    # openssl looks for deltas only where the certificate or the complete list says that there are some.
    api.write(f"{mount}/config/urls", crl_distribution_points="http://ca.example.com/crl",
              delta_crl_distribution_points="http://ca.example.com/delta")
    api.write(f"{mount}/roles/r", allow_any_name=True, key_type="ec", ttl="24h")
    bad, later, good = (api.write(f"{mount}/issue/r", common_name=name)["data"] for name in ("bad", "later", "good"))
    for leaf in (bad, later, good):
        same(f"{mount} before", verify(leaf["certificate"], [listed(mount)]), "good")
    api.write(f"{mount}/revoke", serial_number=bad["serial_number"])
    for leaf, wanted in ((bad, "revoked"), (later, "good"), (good, "good")):
        same(f"{mount} complete", verify(leaf["certificate"], [listed(mount)]), wanted)
    der = api.ok("GET", f"{mount}/crl")
    same(f"{mount}: DER and PEM", subprocess.run(["openssl", "crl", "-inform", "DER"], input=der, capture_output=True,
                                                 check=True).stdout.decode(), listed(mount))

    api.write(f"{mount}/config/crl", auto_rebuild=True, enable_delta=True)
    before = listed(mount)
    api.write(f"{mount}/revoke", serial_number=later["serial_number"])
    api.read(f"{mount}/crl/rotate-delta")
    same(f"{mount}: complete in between", listed(mount), before)
    both = [before, listed(mount, "crl/delta")]
    for leaf, wanted in ((bad, "revoked"), (later, "revoked"), (good, "good")):
        same(f"{mount} delta", verify(leaf["certificate"], both, "-use_deltas", "-extended_crl"), wanted)
    same(f"{mount} without delta", verify(later["certificate"], [before]), "good")
    checks += 12
print(f"{checks} passed, 0 failed, 0 skipped")
