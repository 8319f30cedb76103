"""openssl asks over OCSP, with each key type, and verifies what it is told."""

import base64, os, pathlib, subprocess, urllib.parse, urllib.request
from chancery_compat import Api

api = Api()
PEER = os.environ.get("TARGET") == "openbao"
KINDS = [("rsa", 2048), ("rsa", 3072), ("ec", 224), ("ec", 256), ("ec", 384), ("ec", 521)]
if not PEER:
    KINDS.append(("ed25519", 0))  # OpenBao answers 500


def openssl(*arguments):
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def holds(what, text, *parts):
    for part in parts:
        if part not in text:
            raise SystemExit(f"FAILED: {what} does not contain {part!r}:\n{text}")


def lacks(what, text, part):
    if part in text:
        raise SystemExit(f"FAILED: {what} contains {part!r}:\n{text}")


def save(name, text):
    pathlib.Path(name).write_text(text.rstrip("\n") + "\n")
    return name


def fetch(url, data=None, kind="application/ocsp-request"):
    request = urllib.request.Request(url, data, {"Content-Type": kind} if data is not None else {})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read()


for kind, bits in KINDS:
    mount = f"ocsp-{kind}-{bits}"
    url = f"{api.address}/v1/{mount}/ocsp"
    api.write(f"sys/mounts/{mount}", type="pki", config={"max_lease_ttl": "87600h"})
    root = api.write(f"{mount}/root/generate/internal", common_name=f"{mount} root", ttl="87600h", key_type=kind,
                     key_bits=bits)["data"]["certificate"]
    save("root.crt", root)
    api.write(f"{mount}/roles/leaf", allow_any_name=True, key_type="ec", ttl="24h")
    leaves = [api.write(f"{mount}/issue/leaf", common_name="leaf.example.com")["data"] for _ in range(2)]
    for name, leaf in zip(("good.crt", "bad.crt"), leaves):
        save(name, leaf["certificate"])
    api.write(f"{mount}/revoke", serial_number=leaves[1]["serial_number"])

    for digest in ("sha1", "sha256", "sha384", "sha512"):
        ask = ("ocsp", "-issuer", "root.crt", "-url", url, "-CAfile", "root.crt", f"-{digest}")
        _, said = openssl(*ask, "-cert", "good.crt")
        holds(f"{mount} {digest}", said, "Response verify OK", "good.crt: good", "This Update:", "Next Update:")
        _, said = openssl(*ask, "-cert", "bad.crt")
        holds(f"{mount} {digest}", said, "Response verify OK", "bad.crt: revoked", "Revocation Time:")
        if not PEER:
            lacks(f"{mount} {digest}", said, "WARNING: no nonce in response")

    # Several certificates in a request, and the answer in a file, as a stapling server keeps it.
    ask = ("ocsp", "-issuer", "root.crt", "-cert", "good.crt", "-cert", "bad.crt", "-serial", "12345", "-no_nonce")
    openssl(*ask, "-reqout", "request.der")
    request = pathlib.Path("request.der").read_bytes()
    status, media, answer = fetch(url, request)
    if (status, media) != (200, "application/ocsp-response"):
        raise SystemExit(f"FAILED: {mount}: {status} {media}")
    pathlib.Path("answer.der").write_bytes(answer)
    if not PEER:
        _, said = openssl(*ask, "-respin", "answer.der", "-CAfile", "root.crt")
        holds(f"{mount}: several", said, "Response verify OK", "good.crt: good", "bad.crt: revoked", "12345: good")

    # The same in a path.
    openssl("ocsp", "-issuer", "root.crt", "-cert", "bad.crt", "-no_nonce", "-reqout", "request.der")
    text = base64.b64encode(pathlib.Path("request.der").read_bytes()).decode()
    paths = [urllib.parse.quote(text, safe="")]
    if "//" not in text:
        paths.append(text)
    if not PEER:
        paths.append(urllib.parse.quote(text.rstrip("="), safe=""))
    for path in paths:
        status, media, answer = fetch(f"{url}/{path}")
        pathlib.Path("answer.der").write_bytes(answer)
        _, said = openssl("ocsp", "-issuer", "root.crt", "-cert", "bad.crt", "-no_nonce", "-respin", "answer.der", "-CAfile",
                          "root.crt")
        holds(f"{mount}: {path}", said, "Response verify OK", "bad.crt: revoked")
    print(f"{mount}: good, revoked, several, in paths", flush=True)

# Somebody else's certificates, and nobody to answer.
mount, other = "ocsp-ec-256", "ocsp-ec-384"
url = f"{api.address}/v1/{mount}/ocsp"
save("root.crt", api.read(f"{mount}/cert/ca")["data"]["certificate"])
save("other.crt", api.read(f"{other}/cert/ca")["data"]["certificate"])
if not PEER:  # OpenBao answers with the digests of its own issuer, so that openssl finds nothing in it
    _, said = openssl("ocsp", "-issuer", "other.crt", "-serial", "7", "-url", url, "-VAfile", "root.crt")
    holds("a stranger", said, "Response verify OK", "7: unknown")


def refused(what, name, number, status, body=None, **config):
    openssl("ocsp", "-issuer", "root.crt", "-serial", "7", "-reqout", "request.der")
    answered, media, answer = fetch(url, pathlib.Path("request.der").read_bytes() if body is None else body)
    if (answered, media, answer) != (status, "application/ocsp-response", bytes([0x30, 3, 10, 1, number])):
        raise SystemExit(f"FAILED: {what}: {answered} {media} {answer!r}")
    pathlib.Path("answer.der").write_bytes(answer)
    _, said = openssl("ocsp", "-respin", "answer.der", "-noverify")
    holds(what, said, f"Responder Error: {name} ({number})")


refused("nonsense", "malformedrequest", 1, 400, b"nonsense")
issuer = api.read(f"{mount}/issuer/default")["data"]["issuer_id"]
api.write(f"{mount}/issuer/{issuer}", usage="read-only,issuing-certificates,crl-signing")
refused("no usage", "unauthorized", 6, 401)
api.write(f"{mount}/issuer/{issuer}", usage="read-only,issuing-certificates,crl-signing,ocsp-signing")
api.write(f"{mount}/config/crl", ocsp_disable=True)
refused("disabled", "unauthorized", 6, 401)
refused("disabled", "unauthorized", 6, 401, b"nonsense")
print("refusals are OCSP's own", flush=True)
