"""Mounts, auth methods, policies, capabilities, health."""

import os
import hvac

client = hvac.Client(url=os.environ["VAULT_ADDR"], token=os.environ["VAULT_TOKEN"])
sys = client.sys
assert client.is_authenticated() and sys.is_initialized() and not sys.is_sealed()
health = sys.read_health_status(method="GET")
assert health["initialized"] and not health["sealed"] and not health["standby"], health
assert sys.read_health_status(method="HEAD").status_code == 200
assert sys.read_leader_status()["ha_enabled"] is False
assert sys.read_seal_status()["sealed"] is False

sys.enable_secrets_engine("pki", path="py", description="first", config={"default_lease_ttl": "1h", "max_lease_ttl": "10h"})
mounts = sys.list_mounted_secrets_engines()
assert mounts["py/"]["type"] == "pki" and mounts["data"]["py/"] == mounts["py/"], mounts
assert mounts["py/"]["config"]["max_lease_ttl"] == 36000
sys.tune_mount_configuration("py", default_lease_ttl="2h", max_lease_ttl="20h", description="second")
tune = sys.read_mount_configuration("py")
assert tune["max_lease_ttl"] == 72000 and tune["data"]["default_lease_ttl"] == 7200, tune
assert sys.retrieve_mount_option("py", "absent", "d") == "d"
moved = sys.move_backend("py", "moved")
assert moved.status_code if hasattr(moved, "status_code") else moved["data"]["migration_id"]
import time
for _ in range(100):
    if "moved/" in sys.list_mounted_secrets_engines():
        break
    time.sleep(0.05)
names = sys.list_mounted_secrets_engines()["data"]
assert "moved/" in names and "py/" not in names
sys.disable_secrets_engine("moved")
assert "moved/" not in sys.list_mounted_secrets_engines()["data"]
try:
    sys.enable_secrets_engine("nonsense", path="x")
    raise SystemExit("FAILED: an unknown engine is mounted")
except hvac.exceptions.InvalidRequest as error:
    assert "plugin not found" in str(error), error

sys.enable_auth_method("approle", path="py-approle", description="d", config={"default_lease_ttl": "1h"})
methods = sys.list_auth_methods()
assert methods["py-approle/"]["type"] == "approle" and methods["data"]["token/"]["type"] == "token"
sys.tune_auth_method("py-approle", max_lease_ttl="5h")
assert sys.read_auth_method_tuning("py-approle")["data"]["max_lease_ttl"] == 18000
sys.disable_auth_method("py-approle")
assert "py-approle/" not in sys.list_auth_methods()["data"]

text = 'path "a/*" {\n  capabilities = ["read"]\n}\n'
sys.create_or_update_policy("py-policy", text)
assert sys.read_policy("py-policy")["rules"] == text == sys.read_policy("py-policy")["data"]["rules"]
assert sys.read_acl_policy("py-policy")["data"]["policy"] == text
assert "py-policy" in sys.list_policies()["data"]["policies"] and "py-policy" in sys.list_policies()["policies"]
assert "py-policy" in sys.list_acl_policies()["data"]["keys"]
sys.create_or_update_policy("py-json", {"path": {"b": {"capabilities": ["list"]}}})
made = client.auth.token.create(policies=["py-policy", "py-json"])["auth"]["client_token"]
capabilities = sys.get_capabilities(["a/x", "b", "c"], token=made)
assert capabilities["a/x"] == ["read"] and capabilities["b"] == ["list"] and capabilities["c"] == ["deny"], capabilities
sys.delete_policy("py-policy")
sys.delete_acl_policy("py-json")
try:
    sys.read_policy("py-policy")
    raise SystemExit("FAILED: a deleted policy is read")
except hvac.exceptions.InvalidPath:
    pass
