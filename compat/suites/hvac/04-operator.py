"""A durable server: initialise, unseal, seal, audit devices, rotation, rekeying with hvac."""

import os, pathlib
import hvac
from chancery_compat import Durable

# OpenBao takes audit devices over the API only if its configuration says so.
lines = ["unsafe_allow_api_audit_creation = true"] if os.environ["TARGET"] == "openbao" else []
server = Durable("operator", lines)
server.start()
client = hvac.Client(url=server.address)
assert not client.sys.is_initialized()
made = client.sys.initialize(secret_shares=5, secret_threshold=3)
assert len(made["keys"]) == 5 == len(made["keys_base64"])
client.token = made["root_token"]
assert client.sys.is_sealed()
assert client.sys.submit_unseal_key(made["keys"][0])["progress"] == 1
assert client.sys.submit_unseal_key(reset=True)["progress"] == 0
assert client.sys.submit_unseal_keys(made["keys"][1:4])["sealed"] is False

client.sys.enable_audit_device("file", path="log", options={"file_path": str(pathlib.Path("audit.log").resolve())})
devices = client.sys.list_enabled_audit_devices()
assert devices["log/"]["type"] == "file" and devices["data"]["log/"]["path"] == "log/", devices
digest = client.sys.calculate_hash("log", "some text")["data"]["hash"]
assert digest.startswith("hmac-sha256:")
client.sys.create_or_update_policy("audited", 'path "x" { capabilities = ["read"] }')
lines = pathlib.Path("audit.log").read_text()
assert "sys/policy/audited" in lines or "sys/policies/acl/audited" in lines
assert made["root_token"] not in lines
client.sys.disable_audit_device("log")
assert "log/" not in client.sys.list_enabled_audit_devices()["data"]

status = client.sys.read_backup_keys if hasattr(client.sys, "read_backup_keys") else None
assert client.sys.get_encryption_key_status()["data"]["term"] == 1
client.sys.rotate_encryption_key()
assert client.sys.get_encryption_key_status()["data"]["term"] == 2

client.sys.enable_secrets_engine("pki", path="kept")
client.sys.seal()
assert client.sys.is_sealed()
assert client.sys.submit_unseal_keys(made["keys_base64"][:3])["sealed"] is False
server.wait(lambda status: status == 200)
assert "kept/" in client.sys.list_mounted_secrets_engines()["data"]
server.kill()
