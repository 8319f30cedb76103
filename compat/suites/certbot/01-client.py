"""What certbot does not do: tls-alpn-01, odd account keys, key changes, renewal information; and what nobody should do."""

import datetime, hashlib, os, socket, ssl, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

sys.path.insert(0, os.environ["SUITE"])
from acme_server import HTTP_PORT, PEER, TLS_PORT, Server, must
from acme_world import Client, Key, ask, b64, signed

server = Server("client-server")
directory = server.directory()
counts = {"passed": 0, "skipped": 0}
files = {}


class Files(BaseHTTPRequestHandler):
    """What is at `/.well-known/acme-challenge/…`: a text, or where to go."""

    def do_GET(self):
        found = files.get(self.path.rsplit("/")[-1])
        if found and found.startswith(("http:", "/")):
            self.send_response(302)
            self.send_header("Location", found)
            self.end_headers()
        else:
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write((found or "").encode())

    def log_message(self, *_):
        pass


ThreadingHTTPServer.allow_reuse_address = True
web = ThreadingHTTPServer(("127.0.0.1", HTTP_PORT), Files)
threading.Thread(target=web.serve_forever, daemon=True).start()


def check(what, condition, *more):
    must(condition, what, *more)
    counts["passed"] += 1


def ours(what, condition, *more):
    """What the peer does in another way, or not at all."""
    if PEER:
        counts["skipped"] += 1
    else:
        check(what, condition() if callable(condition) else condition, *more)


def csr(key, *names):
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), False)
    return b64(builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER))


def settled(client, url):
    """The authorization once it is decided."""
    for _ in range(900):
        answer = client.post(url, None)
        if answer.json["status"] != "pending":
            return answer
        time.sleep(0.1)
    return answer


def challenge(client, order, kind):
    url = order.json["authorizations"][0]
    return url, next(one for one in client.post(url, None).json["challenges"] if one["type"] == kind)


def prove(client, order, kind="http-01"):
    url, one = challenge(client, order, kind)
    files[one["token"]] = f"{one['token']}.{client.key.thumbprint()}"
    client.post(one["url"], {})
    return settled(client, url)


def obtain(client, *names, **more):
    order = client.order(*names, **more)
    must(order.status == 201, order)
    prove(client, order)
    key = ec.generate_private_key(ec.SECP256R1())
    done = client.post(order.json["finalize"], {"csr": csr(key, *names)})
    must(done.status == 200, done)
    chain = client.post(done.json["certificate"], None)
    return x509.load_pem_x509_certificate(chain.text), key, order


for algorithm in Key.MAKE:
    client = Client(directory, Key(algorithm))
    check(f"an account with {algorithm}", client.register().status == 201)
    leaf, _, _ = obtain(client, "a.acme.test")
    check(f"a certificate for an account with {algorithm}", leaf.subject is not None)

# tls-alpn-01
client = Client(directory)
client.register()
order = client.order("t.acme.test")
url, one = challenge(client, order, "tls-alpn-01")
digest = hashlib.sha256(f"{one['token']}.{client.key.thumbprint()}".encode()).digest()
key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.timezone.utc)
name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "t")])
identifier = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31"), b"\x04\x20" + digest)
presented = (x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
             .serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
             .add_extension(x509.SubjectAlternativeName([x509.DNSName("t.acme.test")]), False)
             .add_extension(identifier, True).sign(key, hashes.SHA256()))
with open("alpn.pem", "wb") as file:
    file.write(presented.public_bytes(serialization.Encoding.PEM))
    file.write(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("alpn.pem")
context.set_alpn_protocols(["acme-tls/1"])
listener = socket.create_server(("127.0.0.1", TLS_PORT))


def shake():
    while True:
        connection, _ = listener.accept()
        try:
            context.wrap_socket(connection, server_side=True).close()
        except OSError:
            pass


threading.Thread(target=shake, daemon=True).start()
client.post(one["url"], {})
decided = settled(client, url)
check("tls-alpn-01", decided.json["status"] == "valid", decided)

# Redirects.
order = client.order("r.acme.test")
url, one = challenge(client, order, "http-01")
files[one["token"]] = "/x/final"
files["final"] = f"{one['token']}.{client.key.thumbprint()}"
client.post(one["url"], {})
check("a redirect on the host", settled(client, url).json["status"] == "valid")
if PEER:
    counts["skipped"] += 1
else:
    order = client.order("s.acme.test")
    url, one = challenge(client, order, "http-01")
    files[one["token"]] = "http://10.0.0.1/final"
    client.post(one["url"], {})
    for _ in range(100):
        now = client.post(one["url"], None).json
        if "error" in now:
            break
        time.sleep(0.1)
    check("a redirect to a private address", now.get("error", {}).get("type", "").endswith("rejectedIdentifier"), now)

# Requests that must be refused; what they are refused with is the peer's, where it is not a 500 of its own.
other = Client(directory)
other.register()
order = client.order("x.acme.test")
nonce = client.nonce()
check("a nonce", client.post("orders", None, nonce=nonce).status == 200)
for what, answer, status, problem in [
    ("a nonce again", client.post("orders", None, nonce=nonce), 400, "badNonce"),
    ("no nonce", client.post("orders", None, nonce=None), 400, "badNonce"),
    ("another URL", client.post("orders", None, url="https://elsewhere.test/"), 401, "unauthorized"),
    ("both key and account", client.post("orders", None, kid=client.kid, jwk=client.key.jwk()), 400, "malformed"),
    ("an account that is not there", client.post("orders", None, kid=client.kid[:-4] + "0000"), 400, "accountDoesNotExist"),
    ("another's order", other.post(order.headers["Location"], None), 400, "malformed"),
    ("another's authorization", other.post(order.json["authorizations"][0], None), 400, "malformed"),
    ("an order too early", client.post(order.headers["Location"] + "/cert", None), 403, "orderNotReady"),
    ("a name in upper case", client.order("A.acme.test"), 400, "malformed"),
    ("a wildcard inside", client.order("a.*.acme.test"), 400, "malformed"),
    ("an address as a name", client.order("127.0.0.1"), 400, "malformed"),
    ("another kind of identifier", client.post("new-order", {"identifiers": [{"type": "email", "value": "a@b"}]}), 400, "unsupportedIdentifier"),
    ("times of the client's own", client.order("a.acme.test", notAfter="2030-01-01T00:00:00Z"), 400, "malformed"),
]:
    check(what, (answer.status, answer.problem()) == (status, problem), answer)
    ours(f"{what}: a fresh nonce", bool(answer.headers["Replay-Nonce"]), answer)
for algorithm in ["none", "HS256", "ES384"]:
    answer = client.post("orders", None, alg=algorithm)
    check(f"{algorithm} is refused", answer.status >= 400, answer)
    ours(f"{algorithm} in the words of the standard", answer.problem() == "badSignatureAlgorithm", answer)
forged = signed(Key(), None, {"kid": client.kid, "nonce": client.nonce(), "url": f"{client.base}/orders"})
check("another's signature", ask("POST", f"{client.base}/orders", forged).status >= 400)

# Revocation.
leaf, key, _ = obtain(client, "v.acme.test")
der = b64(leaf.public_bytes(serialization.Encoding.DER))
check("another's certificate", other.post("revoke-cert", {"certificate": der}).problem() == "malformed")
check("an own certificate", client.post("revoke-cert", {"certificate": der}).status == 200)
check("a second time", client.post("revoke-cert", {"certificate": der}).problem() == "alreadyRevoked")

# Beyond the peer.
if PEER:
    counts["skipped"] += 3
else:
    fresh = Key("ES384")
    where = f"{client.base}/key-change"
    inner = signed(fresh, {"account": client.kid, "oldKey": client.key.jwk()}, {"jwk": fresh.jwk(), "url": where})
    check("a key change", client.post(where, inner).status == 200)
    client.key = fresh
    check("the new key", client.post("orders", None).status == 200)
    leaf, _, _ = obtain(client, "n.acme.test")
    authority = leaf.extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value.key_identifier
    serial = leaf.serial_number.to_bytes((leaf.serial_number.bit_length() + 8) // 8, "big")
    window = ask("GET", f"{client.base}/renewal-info/{b64(authority)}.{b64(serial)}")
    check("renewal information", "suggestedWindow" in window.json, window)

print(f"{counts['passed']} passed, 0 failed, {counts['skipped']} skipped")
