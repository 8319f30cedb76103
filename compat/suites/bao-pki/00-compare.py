# Each command with both programs against both servers: same exit code, same output.
import json, os, pathlib, sys

import commands
from chancery_compat import Api

LIMITED = """
path "sys/internal/ui/mounts/*" { capabilities = ["read"] }
path "%s/cert/ca" { capabilities = ["read"] }
path "%s/roles" { capabilities = ["list"] }
"""

# Configurations of health-check, by name.
CONFIGS = {
    "none": {},
    "limits": {
        "ca_validity_period": {"root_expiry_critical": "5000d", "intermediate_expiry_warning": "45d",
                               "intermediate_expiry_informational": "400d"},
        "crl_validity_period": {"crl_expiry_pct_critical": "1", "delta_crl_expiry_pct_critical": 99},
        "root_issued_leaves": {"certs_to_fetch": 5},
        "too_many_certs": {"count_critical": "3", "count_warning": 1},
        "enable_auto_tidy": {"pause_duration_warning": "5m"},
        "tidy_last_run": {"last_run_critical": 86400},
        "hardware_backed_root": {"enabled": True},
    },
    "few": {"tidy_last_run": {"enabled": True}, "too_many_certs": {"enabled": "true"}},
    "unknown": {"tidy_last_run": {"foo": 1}},
    "time": {"enable_auto_tidy": {"pause_duration_critical": "soon"}},
    "percent": {"crl_validity_period": {"crl_expiry_pct_critical": 100}},
    "count": {"root_issued_leaves": {"certs_to_fetch": 0}},
    "enabled": {"tidy_last_run": {"enabled": "maybe"}},
}


def prepare(api, name):
    """Mounts NAME-root with two issuers and NAME-int, NAME-empty; roles and leaves in the first."""
    for part in ("root", "int", "empty"):
        api.write(f"sys/mounts/{name}-{part}", type="pki", config={"max_lease_ttl": "87600h"})
    root = f"{name}-root"
    api.write(f"{root}/root/generate/internal", common_name="Root", issuer_name="rootx", ttl="87600h", key_type="ec")
    api.write(f"{root}/root/rotate/internal", common_name="Other", issuer_name="other", ttl="900d", key_type="ec",
              organization=["Example", "More"], country="DE")
    api.write(f"{root}/roles/web", allowed_domains="a.example,*.b.example", allow_localhost=True,
              allow_glob_domains=True, allow_subdomains=True)
    api.write(f"{root}/roles/careful", allowed_domains="a.example", allow_localhost=False, no_store=True,
              allow_wildcard_certificates=False)
    for host in ("x", "y"):
        api.write(f"{root}/issue/web", common_name=f"{host}.a.example", ttl="1h")


def step(commands_of, servers):
    wrong = 0
    for server in servers:
        for command in commands_of:
            answers = {}
            for program in ("bao", "chancery"):
                answers[program] = commands.run(server, program, command)
            if answers["bao"] != answers["chancery"]:
                wrong += 1
                print(f"DIFFERENT against {server.name}: pki {' '.join(command)}")
                for program, (code, out, err) in answers.items():
                    print(f"--- {program}: exit code {code}\n{out}\n{err}")
    return wrong


servers = [commands.Server("target", os.environ["VAULT_ADDR"]), commands.Server("peer", os.environ["PEER_ADDR"])]
for name, config in CONFIGS.items():
    pathlib.Path(f"{name}.json").write_text(json.dumps(config))
pathlib.Path("broken.json").write_text("[")
for server in servers:
    api = Api(server.address)
    for program in ("bao", "chancery"):
        prepare(api, program)
    api.write("sys/policies/acl/limited", policy=LIMITED % ("bao-root", "bao-root"))
    server.tokens["limited"] = api.write("auth/token/create", policies=["limited"])["auth"]["client_token"]

# {p} stands for the mounts of the program that is asked, bao- for those of the peer's program: what only reads is asked of
# the same mounts.
READS = [
    ["health-check", "bao-root"],
    ["health-check", "/bao-root/"],
    ["health-check", "-format=json", "bao-root"],
    ["health-check", "-format=yaml", "bao-root"],
    ["health-check", "-format=pretty", "bao-root"],
    ["health-check", "-format=raw", "bao-root"],
    ["health-check", "bao-empty"],
    ["health-check", "sys"],
    ["health-check", "auth/token"],
    ["health-check", "nowhere"],
    ["health-check"],
    ["health-check", "a", "-b"],
    ["health-check", "-return-indicator=x", "bao-root"],
    ["health-check", "-list", "bao-root"],
    ["health-check", "-list", "-format=json", "bao-root"],
    ["health-check", "-list", "-format=yaml", "bao-root"],
    ["health-check", "-list"],
    *(["health-check", f"-return-indicator={indicator}", "-format=json", "bao-root"]
      for indicator in ("default", "informational", "warning", "critical", "permission")),
    *(["health-check", f"-health-config={name}.json", "-format=json", "bao-root"] for name in CONFIGS),
    ["health-check", "-default-disabled", "bao-root"],
    ["health-check", "-default-disabled", "-format=json", "bao-root"],
    ["health-check", "-default-disabled", "-health-config=few.json", "bao-root"],
    ["health-check", "-health-config=nowhere.json", "bao-root"],
    ["@limited", "health-check", "-format=json", "bao-root"],
    ["@none", "health-check", "-format=json", "bao-root"],
    ["verify-sign", "bao-root/issuer/rootx", "bao-int/issuer/intx"],
    ["verify-sign", "-format=json", "bao-root/issuer/rootx", "bao-int/issuer/intx"],
    ["verify-sign", "-format=yaml", "bao-root/issuer/rootx", "bao-root/issuer/other"],
    ["verify-sign", "-format=pretty", "bao-root/issuer/rootx", "bao-int/issuer/intx"],
    ["verify-sign", "bao-int/issuer/intx", "bao-int/issuer/intx"],
    ["verify-sign", "bao-root/issuer/rootx", "bao-int/issuer/nowhere"],
    ["verify-sign", "bao-root/issuer/nowhere", "bao-int/issuer/intx"],
    ["verify-sign", "bao-root/issuer/rootx", "bao-root/config/urls"],
    ["verify-sign", "bao-root/issuer/rootx", "nowhere/issuer/x"],
    ["verify-sign", "a", "b", "-c"],
    ["verify-sign", "a"],
    ["verify-sign"],
    ["list-intermediates", "bao-root/issuer/rootx", "bao-int", "bao-root/issuer/default", "bao-empty"],
    ["list-intermediates", "-use_names", "bao-root/issuer/rootx"],
    ["list-intermediates", "-use_names", "-format=json", "bao-root/issuer/rootx", "bao-int"],
    ["list-intermediates", "-use_names", "-format=yaml", "bao-root/issuer/rootx", "bao-root", "bao-int"],
    *(["list-intermediates", "-use_names", flag, "bao-root/issuer/other", "bao-root", "bao-int"]
      for flag in ("-path_match", "-subject_match=false", "-direct_sign=false", "-indirect_sign=false", "-key_id_match=false")),
    ["list-intermediates", "bao-root/issuer/nowhere"],
    ["list-intermediates", "bao-root/issuer/rootx", "nowhere"],
    ["list-intermediates"],
    ["list-intermediates", "-output-curl-string", "bao-root/issuer/rootx"],
]
WRITES = [
    ["issue", "-issuer_name=intx", "{p}-root/issuer/rootx", "{p}-int", "common_name=Int", "ttl=8000h", "key_type=ec"],
    ["issue", "-format=json", "{p}-root/issuer/other", "{p}-int", "common_name=Second", "ttl=100h", "key_type=rsa", "ou=a", "ou=b"],
    ["issue", "{p}-root/issuer/rootx", "nowhere", "common_name=a"],
    ["issue", "{p}-root/rootx", "{p}-int", "common_name=a"],
    ["issue", "{p}-root/issuer/nowhere", "{p}-int", "common_name=a"],
    ["issue", "{p}-root/issuer/rootx", "{p}-int"],
    ["issue", "{p}-root/issuer/rootx", "{p}-int", "x"],
    ["reissue", "-format=json", "-issuer_name=again", "{p}-root/issuer/rootx", "{p}-int/issuer/intx", "{p}-int"],
    ["reissue", "-format=yaml", "-type=existing", "{p}-root/issuer/rootx", "{p}-int/issuer/intx", "{p}-int", "ttl=10h"],
    ["reissue", "{p}-root/issuer/rootx", "{p}-root/issuer/other", "{p}-int", "key_type=rsa", "common_name=New"],
    ["reissue", "{p}-root/issuer/rootx", "{p}-int/issuer/nowhere", "{p}-int", "ttl=10h"],
    ["reissue", "{p}-root/issuer/rootx", "{p}-int/issuer/intx"],
]
wrong = step(WRITES, servers) + step(READS, servers)

# What was made by either program is the same but for its keys and times.
for server in servers:
    contents = {}
    for program in ("bao", "chancery"):
        contents[program] = commands.certificates(Api(server.address), f"{program}-int")
    if contents["bao"] != contents["chancery"]:
        wrong += 1
        print(f"DIFFERENT certificates against {server.name}:\n{contents['bao']}\n---\n{contents['chancery']}")
asked = 2 * (len(WRITES) + len(READS) + 1)
print(f"{asked - wrong} passed, {wrong} failed, 0 skipped")
sys.exit(wrong > 0)
