# A mount that is set up as health-check advises: both programs find nothing in it, and exit with 0.
import os, sys, time

import commands
from chancery_compat import Api, skip

PROGRAMS = ("bao", "chancery")
# What the check wants to see in the audit log.
REQUEST_KEYS = ("csr certificate issuer_ref common_name alt_names other_sans ip_sans uri_sans ttl not_after serial_number key_type "
                "private_key_format managed_key_name managed_key_id ou organization country locality province street_address "
                "postal_code permitted_dns_domains policy_identifiers ext_key_usage_oids").split()
RESPONSE_KEYS = "certificate issuing_ca serial_number error ca_chain".split()

server = commands.Server("target", os.environ["VAULT_ADDR"])
api = Api(server.address)
for path in ("config/acme", "config/auto-tidy", "tidy-status", "issuer/default/crl/delta"):
    api.write("sys/mounts/probe", type="pki")
    status, answer = api.send("GET", f"probe/{path}")
    api.ok("DELETE", "sys/mounts/probe")
    if status == 404:
        skip(f"{path} is not there yet")
api.write("sys/mounts/healthy", type="pki", config={"max_lease_ttl": "87600h"})
api.write("healthy/root/generate/internal", common_name="Healthy", ttl="87600h", key_type="ec")
api.write("healthy/roles/web", allowed_domains="a.example", allow_localhost=False, no_store=True)
api.write("healthy/config/auto-tidy", enabled=True, tidy_cert_store=True)
api.write("healthy/tidy", tidy_cert_store=True)
api.write("sys/mounts/healthy/tune", audit_non_hmac_request_keys=REQUEST_KEYS, audit_non_hmac_response_keys=RESPONSE_KEYS,
          passthrough_request_headers=["If-Modified-Since"],
          allowed_response_headers=["Last-Modified", "Replay-Nonce", "Link", "Location"])
for _ in range(100):
    if api.read("healthy/tidy-status")["data"]["state"] == "Finished":
        break

    time.sleep(0.1)
wrong = 0
for program in PROGRAMS:
    code, out, err = commands.run(server, program, ["health-check", "healthy"])
    if code != 0:
        wrong += 1
        print(f"{program} exits with {code}:\n{out}\n{err}")
print(f"{len(PROGRAMS) - wrong} passed, {wrong} failed, 0 skipped")
sys.exit(wrong > 0)
