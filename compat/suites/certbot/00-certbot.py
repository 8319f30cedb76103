"""certbot obtains, renews and revokes certificates, with and without a binding."""

import json, os, pathlib, stat, subprocess, sys

sys.path.insert(0, os.environ["SUITE"])
from acme_server import HTTP_PORT, Server, must

server = Server("certbot-server")
passed = 0


def certbot(account, *arguments, fails=False):
    """Runs certbot with the files of one account; answers what it said."""
    global passed
    folder = pathlib.Path(account).resolve()
    command = ["certbot", "--non-interactive", "--config-dir", f"{folder}/config", "--work-dir", f"{folder}/work",
               "--logs-dir", f"{folder}/logs", *arguments]
    run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    must((run.returncode != 0) == fails, " ".join(arguments), "->", run.returncode, run.stdout)
    passed += 1
    return run.stdout


def certificate(account, name):
    return pathlib.Path(account) / "config/live" / name


def openssl(*arguments):
    return subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True).stdout


def serial(path):
    return openssl("x509", "-in", str(path / "cert.pem"), "-noout", "-serial").strip().removeprefix("serial=").lower()


def verify(path, *names):
    openssl("verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", "root.pem", str(path / "cert.pem"))
    said = openssl("x509", "-in", str(path / "cert.pem"), "-noout", "-ext", "subjectAltName")
    found = sorted(part.strip().removeprefix("DNS:") for part in said.split("\n", 1)[1].split(","))
    must(found == sorted(names), "names", found)


def revoked(path):
    digits = serial(path)
    colons = ":".join(digits[at:at + 2] for at in range(0, len(digits), 2))
    return server.api.read(f"pki/cert/{colons}")["data"]["revocation_time"] > 0


here = ["--server", server.directory()]
new = ["--agree-tos", "--no-eff-email", "-m", "ops@example.com"]
standalone = ["--standalone", "--preferred-challenges", "http", "--http-01-port", str(HTTP_PORT), "--http-01-address", "127.0.0.1"]

certbot("one", "register", *here, *new)
certbot("one", "update_account", *here, "-m", "other@example.com")
certbot("one", "certonly", *here, *standalone, "-d", "a.acme.test", "-d", "b.acme.test")
first = certificate("one", "a.acme.test")
verify(first, "a.acme.test", "b.acme.test")
before = serial(first)
certbot("one", "renew", *standalone, "--force-renewal", "--no-random-sleep-on-renew")
must(serial(first) != before, "renewal made no other certificate")
verify(first, "a.acme.test", "b.acme.test")
must(not revoked(first), "nobody revoked it")
certbot("one", "revoke", *here, "--cert-path", str(first / "cert.pem"), "--no-delete-after-revoke")
must(revoked(first), "it was not revoked")

certbot("one", "certonly", *here, *standalone, "--key-type", "rsa", "-d", "c.acme.test")
second = certificate("one", "c.acme.test")
verify(second, "c.acme.test")
certbot("two", "revoke", *here, "--cert-path", str(second / "cert.pem"), "--key-path", str(second / "privkey.pem"),
        "--no-delete-after-revoke")
must(revoked(second), "the key did not revoke it")

hook = pathlib.Path("hook.py").resolve()
hook.write_text(f"""#!{sys.executable}
import json, os, pathlib
path = pathlib.Path({str(server.names.texts)!r})
texts = json.loads(path.read_text()) if path.exists() else {{}}
texts.setdefault("_acme-challenge." + os.environ["CERTBOT_DOMAIN"], []).append(os.environ["CERTBOT_VALIDATION"])
path.write_text(json.dumps(texts))
""")
hook.chmod(hook.stat().st_mode | stat.S_IXUSR)
certbot("one", "certonly", *here, "--manual", "--preferred-challenges", "dns", "--manual-auth-hook", str(hook),
        "-d", "*.w.acme.test", "-d", "w.acme.test")
verify(certificate("one", "w.acme.test"), "*.w.acme.test", "w.acme.test")

# A directory that lets in whoever an operator gave a key.
server.api.write("pki/config/acme", eab_policy="always-required")
role = ["--server", server.directory("roles/web/")]
certbot("three", "register", *role, *new, fails=True)
key = server.api.write("pki/roles/web/acme/new-eab")["data"]
certbot("three", "register", *role, *new, "--eab-kid", key["id"], "--eab-hmac-key", key["key"])
certbot("four", "register", *role, *new, "--eab-kid", key["id"], "--eab-hmac-key", key["key"], fails=True)
certbot("three", "certonly", *role, *standalone, "-d", "d.acme.test")
verify(certificate("three", "d.acme.test"), "d.acme.test")
certbot("one", "certonly", *here, *standalone, "-d", "e.acme.test", fails=True)
server.api.write("pki/config/acme", eab_policy="not-required")
certbot("one", "unregister", *here)

print(f"{passed} passed, 0 failed, 0 skipped")
