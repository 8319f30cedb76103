"""Tokens, their roles and accessors, leases, wrapping."""

import os
import hvac

client = hvac.Client(url=os.environ["VAULT_ADDR"], token=os.environ["VAULT_TOKEN"])
tokens = client.auth.token

made = tokens.create(policies=["default"], ttl="1h", explicit_max_ttl="3h", num_uses=9, display_name="py", meta={"a": "b"})
auth = made["auth"]
assert auth["policies"] == ["default"] and auth["lease_duration"] == 3600 and auth["metadata"] == {"a": "b"}, auth
found = tokens.lookup(auth["client_token"])["data"]
assert found["display_name"] == "token-py" and found["num_uses"] == 9 and found["explicit_max_ttl"] == 10800, found
assert tokens.lookup_accessor(auth["accessor"])["data"]["id"] == ""
assert auth["accessor"] in tokens.list_accessors()["data"]["keys"]
assert tokens.renew(auth["client_token"], increment="2h")["auth"]["lease_duration"] == 7200
assert tokens.renew_accessor(auth["accessor"])["auth"]["client_token"] == ""
other = hvac.Client(url=os.environ["VAULT_ADDR"], token=auth["client_token"])
assert other.auth.token.lookup_self()["data"]["num_uses"] == 8
assert other.auth.token.renew_self()["auth"]["renewable"] is True
other.auth.token.revoke_self()
try:
    other.auth.token.lookup_self()
    raise SystemExit("FAILED: a revoked token works")
except hvac.exceptions.Forbidden:
    pass

orphan = tokens.create_orphan(policies=["default"])["auth"]
assert orphan["orphan"] is True
tokens.revoke_accessor(orphan["accessor"])
batch = tokens.create(policies=["default"], type="batch")["auth"]
assert batch["token_type"] == "batch" and batch["accessor"] == ""

tokens.create_or_update_role("py-role", allowed_policies=["default"], orphan=True, renewable=False, token_period="1h")
assert tokens.read_role("py-role")["data"]["orphan"] is True
assert "py-role" in tokens.list_roles()["data"]["keys"]
assert tokens.create(role_name="py-role")["auth"]["orphan"] is True
tokens.delete_role("py-role")

wrapped = client.write_data("sys/wrapping/wrap", data={"x": "y", "n": 5}, wrap_ttl="60s")["wrap_info"]
assert wrapped["ttl"] == 60 and wrapped["creation_path"] == "sys/wrapping/wrap"
assert client.lookup_token(wrapped["token"]) if hasattr(client, "lookup_token") else True
opened = client.sys.unwrap(wrapped["token"])["data"]
assert opened == {"x": "y", "n": 5}, opened
try:
    client.sys.unwrap(wrapped["token"])
    raise SystemExit("FAILED: a wrapping token is used twice")
except hvac.exceptions.InvalidRequest as error:
    assert "wrapping token is not valid or does not exist" in str(error), error

# Some hvac calls read with the wrapping token itself.
wrapped = client.auth.token.create(policies=["default"], wrap_ttl="60s")["wrap_info"]["token"]
inner = hvac.Client(url=os.environ["VAULT_ADDR"], token=wrapped).sys.unwrap()["auth"]
assert inner["policies"] == ["default"]
