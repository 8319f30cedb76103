"""A root, an intermediate and a leaf of each key type: keys are sound, requests verify, chains verify strictly."""

import base64, pathlib, subprocess
from chancery_compat import Api

api = Api()


def openssl(*arguments, data=None, fails=False):
    done = subprocess.run(["openssl", *arguments], input=data, capture_output=True)
    if (done.returncode != 0) != fails:
        raise SystemExit(f"FAILED: openssl {' '.join(arguments)}: {done.stdout.decode()}{done.stderr.decode()}")
    return done.stdout.decode() + done.stderr.decode()


def same(what, got, wanted):
    if got != wanted:
        raise SystemExit(f"FAILED: {what} is {got!r} and should be {wanted!r}")


def holds(what, text, part):
    if part not in text:
        raise SystemExit(f"FAILED: {what} does not contain {part!r}:\n{text}")


def save(name, text):
    pathlib.Path(name).write_text(text if text.endswith("\n") else text + "\n")
    return name


KINDS = [("rsa", 2048, "sha256WithRSAEncryption"), ("rsa", 3072, "sha256WithRSAEncryption"),
         ("rsa", 4096, "sha256WithRSAEncryption"), ("ec", 224, "ecdsa-with-SHA256"), ("ec", 256, "ecdsa-with-SHA256"),
         ("ec", 384, "ecdsa-with-SHA384"), ("ec", 521, "ecdsa-with-SHA512"), ("ed25519", 0, "ED25519"),
         ("rsa-pss", 2048, "rsassaPss")]

for kind, bits, signature in KINDS:
    name = f"{kind}-{bits}"
    key = {"key_type": kind.removesuffix("-pss"), "key_bits": bits} | ({"use_pss": True} if kind == "rsa-pss" else {})
    for mount in (f"{name}-root", f"{name}-sub"):
        api.write(f"sys/mounts/{mount}", type="pki", config={"max_lease_ttl": "87600h"})
    root = api.write(f"{name}-root/root/generate/exported", common_name=f"{name} root", ttl="87600h", **key)["data"]
    save("root.key", root["private_key"])
    save("root.crt", root["certificate"])
    holds("the check", openssl("pkey", "-in", "root.key", "-check", "-noout"), "Key is valid")
    same("the root's key", openssl("x509", "-in", "root.crt", "-noout", "-pubkey"), openssl("pkey", "-in", "root.key", "-pubout"))
    holds(f"the root of {name}", openssl("x509", "-in", "root.crt", "-noout", "-text"), f"Signature Algorithm: {signature}")

    made = api.write(f"{name}-sub/intermediate/generate/exported", common_name=f"{name} sub", **key)["data"]
    save("sub.csr", made["csr"])
    save("sub.key", made["private_key"])
    holds("the request", openssl("req", "-in", "sub.csr", "-verify", "-noout"), "OK")
    holds("the check", openssl("pkey", "-in", "sub.key", "-check", "-noout"), "Key is valid")
    signed = api.write(f"{name}-root/root/sign-intermediate", csr=made["csr"], common_name=f"{name} sub", ttl="43800h",
                       max_path_length=0, **({"use_pss": True} if kind == "rsa-pss" else {}))["data"]
    save("sub.crt", signed["certificate"])
    api.write(f"{name}-sub/intermediate/set-signed", certificate=signed["certificate"] + "\n" + root["certificate"])

    api.write(f"{name}-sub/roles/leaf", allow_any_name=True, allowed_uri_sans="*", ttl="24h", **key)
    for private_format in ("", "pkcs8"):
        leaf = api.write(f"{name}-sub/issue/leaf", common_name="leaf.example.com", alt_names="user@example.com",
                         ip_sans="192.0.2.1,2001:db8::1", uri_sans="spiffe://cluster.local/ns/a/sa/b",
                         **({"private_key_format": private_format} if private_format else {}))["data"]
        save("leaf.crt", leaf["certificate"])
        save("leaf.key", leaf["private_key"])
        holds("the check", openssl("pkey", "-in", "leaf.key", "-check", "-noout"), "Key is valid")
        same("the leaf's key", openssl("x509", "-in", "leaf.crt", "-noout", "-pubkey"),
             openssl("pkey", "-in", "leaf.key", "-pubout"))
        same("openssl verify", openssl("verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname",
                                       "leaf.example.com", "-verify_ip", "192.0.2.1", "-CAfile", "root.crt", "-untrusted",
                                       "sub.crt", "leaf.crt"), "leaf.crt: OK\n")
        openssl("verify", "-x509_strict", "-CAfile", "root.crt", "-untrusted", "sub.crt", "-verify_hostname",
                "other.example.com", "leaf.crt", fails=True)
    der = api.write(f"{name}-sub/issue/leaf", common_name="leaf.example.com", format="der")["data"]
    openssl("x509", "-inform", "DER", "-noout", data=base64.b64decode(der["certificate"]))
    openssl("pkey", "-inform", "DER", "-noout", data=base64.b64decode(der["private_key"]))
    bundle = api.write(f"{name}-sub/issue/leaf", common_name="leaf.example.com", format="pem_bundle")["data"]
    openssl("pkey", "-noout", data=bundle["certificate"].encode())
    openssl("x509", "-noout", data=bundle["certificate"].encode())

    # The same root from other hands: taken with each private key format that openssl writes.
    openssl("pkey", "-in", "root.key", "-out", "pkcs8.key")
    formats = ["pkcs8.key"]
    if kind != "ed25519":
        openssl("pkey", "-in", "root.key", "-traditional", "-out", "traditional.key")
        formats.append("traditional.key")
    for file in formats:
        mount = f"{name}-{file.split('.')[0]}"
        api.write(f"sys/mounts/{mount}", type="pki", config={"max_lease_ttl": "87600h"})
        taken = api.write(f"{mount}/config/ca", pem_bundle=pathlib.Path("root.crt").read_text() + pathlib.Path(file).read_text())
        same("the imported keys", len(taken["data"]["imported_keys"]), 1)
    print(f"{name}: root, intermediate and leaves verify", flush=True)
