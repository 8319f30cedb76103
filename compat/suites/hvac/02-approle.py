"""AppRole: every call that hvac has."""

import os
import hvac

client = hvac.Client(url=os.environ["VAULT_ADDR"], token=os.environ["VAULT_TOKEN"])
client.sys.enable_auth_method("approle")
approle = client.auth.approle

approle.create_or_update_approle("job", token_policies=["a", "b"], token_ttl="10m", token_max_ttl="1h", secret_id_num_uses=3,
                                 secret_id_ttl="5m", token_bound_cidrs=["127.0.0.0/8"], token_num_uses=4)
role = approle.read_role("job")["data"]
assert role["token_policies"] == ["a", "b"] and role["token_ttl"] == 600 and role["secret_id_num_uses"] == 3, role
assert approle.list_roles()["data"]["keys"] == ["job"]
approle.update_role_id("job", "own-role-id")
assert approle.read_role_id("job")["data"]["role_id"] == "own-role-id"

made = approle.generate_secret_id("job", metadata={"team": "blue"}, cidr_list=["127.0.0.1/32"])["data"]
assert made["secret_id_num_uses"] == 3 and made["secret_id_ttl"] == 300, made
read = approle.read_secret_id("job", made["secret_id"])["data"]
assert read["metadata"] == {"team": "blue"} and read["cidr_list"] == ["127.0.0.1/32"], read
assert approle.read_secret_id_accessor("job", made["secret_id_accessor"])["data"]["secret_id_num_uses"] == 3
assert approle.list_secret_id_accessors("job")["data"]["keys"] == [made["secret_id_accessor"]]

user = hvac.Client(url=os.environ["VAULT_ADDR"])
auth = user.auth.approle.login("own-role-id", made["secret_id"])["auth"]
assert auth["policies"] == ["a", "b", "default"] and auth["metadata"]["role_name"] == "job" and auth["num_uses"] == 4, auth
assert auth["metadata"]["team"] == "blue", auth
assert user.token == auth["client_token"] and user.is_authenticated()
assert approle.read_secret_id("job", made["secret_id"])["data"]["secret_id_num_uses"] == 2
approle.destroy_secret_id_accessor("job", made["secret_id_accessor"])
try:
    hvac.Client(url=os.environ["VAULT_ADDR"]).auth.approle.login("own-role-id", made["secret_id"])
    raise SystemExit("FAILED: a destroyed secret id logs in")
except hvac.exceptions.InvalidRequest as error:
    assert "invalid role or secret ID" in str(error), error

approle.create_custom_secret_id("job", "custom-one", metadata={"k": "v"})
assert user.auth.approle.login("own-role-id", "custom-one")["auth"]["metadata"]["k"] == "v"
approle.destroy_secret_id("job", "custom-one")

wrapped = approle.generate_secret_id("job", wrap_ttl="60s")["wrap_info"]
assert wrapped["creation_path"] == "auth/approle/role/job/secret-id"
secret = client.sys.unwrap(wrapped["token"])["data"]["secret_id"]
assert user.auth.approle.login("own-role-id", secret)["auth"]["client_token"]
approle.delete_role("job")
try:
    approle.read_role("job")
    raise SystemExit("FAILED: a deleted role is read")
except hvac.exceptions.InvalidPath:
    pass
