"""The world outside an ACME server, on loopback: a name server, and a client with knobs for what no client should send."""

import base64, hashlib, hmac, json, os, pathlib, socket, struct, threading, urllib.error, urllib.request

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils


class Names:
    """A name server: every name is 127.0.0.1, and has the TXT records of the file `txt.json` in this folder."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        self.texts = pathlib.Path("txt.json").resolve()
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            query, client = self.socket.recvfrom(4096)
            try:
                self.socket.sendto(self.answer(query), client)
            except (IndexError, ValueError, struct.error):
                pass

    def answer(self, query):
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode())
            at += 1 + query[at]
        kind, = struct.unpack("!H", query[at + 1:at + 3])
        data = []
        if kind == 1:
            data = [bytes([127, 0, 0, 1])]
        if kind == 16 and self.texts.exists():
            known = json.loads(self.texts.read_text()).get(".".join(labels).lower(), [])
            data = [bytes([len(text)]) + text.encode() for text in known]
        records = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 1, len(one)) + one for one in data)
        return query[:2] + b"\x85\x80" + struct.pack("!HHHH", 1, len(data), 0, 0) + query[12:at + 5] + records


def b64(data):
    return base64.urlsafe_b64encode(data.encode() if isinstance(data, str) else data).rstrip(b"=").decode()


def number(value, size=None):
    return b64(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


class Key:
    """An account's key."""

    MAKE = {
        "ES256": lambda: ec.generate_private_key(ec.SECP256R1()), "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
        "ES512": lambda: ec.generate_private_key(ec.SECP521R1()), "RS256": lambda: rsa.generate_private_key(65537, 2048),
        "EdDSA": ed25519.Ed25519PrivateKey.generate,
    }

    def __init__(self, algorithm="ES256"):
        self.algorithm, self.key = algorithm, self.MAKE[algorithm]()

    def jwk(self):
        public = self.key.public_key()
        if self.algorithm == "RS256":
            numbers = public.public_numbers()
            return {"e": number(numbers.e), "kty": "RSA", "n": number(numbers.n)}
        if self.algorithm == "EdDSA":
            raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
            return {"crv": "Ed25519", "kty": "OKP", "x": b64(raw)}
        numbers, size = public.public_numbers(), (public.curve.key_size + 7) // 8
        return {"crv": f"P-{public.curve.key_size}", "kty": "EC", "x": number(numbers.x, size), "y": number(numbers.y, size)}

    def thumbprint(self):
        return b64(hashlib.sha256(json.dumps(self.jwk(), sort_keys=True, separators=(",", ":")).encode()).digest())

    def sign(self, data):
        if self.algorithm == "RS256":
            return self.key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        if self.algorithm == "EdDSA":
            return self.key.sign(data)
        chosen = {"ES256": hashes.SHA256(), "ES384": hashes.SHA384(), "ES512": hashes.SHA512()}[self.algorithm]
        size = (self.key.curve.key_size + 7) // 8
        return b"".join(part.to_bytes(size, "big") for part in utils.decode_dss_signature(self.key.sign(data, ec.ECDSA(chosen))))


def signed(key, payload, header):
    """A JWS; a payload of None is empty, headers of None are left out."""
    header = {name: value for name, value in ({"alg": key.algorithm} | header).items() if value is not None}
    protected, body = b64(json.dumps(header)), "" if payload is None else b64(json.dumps(payload))
    return {"protected": protected, "payload": body, "signature": b64(key.sign(f"{protected}.{body}".encode()))}


def binding(jwk, key_id, secret, url):
    """An external account binding."""
    secret = base64.urlsafe_b64decode(secret + "=" * (-len(secret) % 4))
    protected, body = b64(json.dumps({"alg": "HS256", "kid": key_id, "url": url})), b64(json.dumps(jwk))
    return {"protected": protected, "payload": body, "signature": b64(hmac.new(secret, f"{protected}.{body}".encode(), "sha256").digest())}


class Answer:
    def __init__(self, status, headers, text):
        self.status, self.headers, self.text = status, headers, text
        try:
            self.json = json.loads(text)
        except ValueError:
            self.json = {}

    def problem(self):
        """The name of the problem, or nothing."""
        kind = self.json.get("type", "") if isinstance(self.json, dict) else ""
        return kind.removeprefix("urn:ietf:params:acme:error:") if kind.startswith("urn:") else ""

    def __repr__(self):
        return f"{self.status} {self.text[:600]!r}"


def ask(method, url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/jose+json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return Answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.headers, error.read())


class Client:
    """A client of one directory."""

    def __init__(self, directory, key=None):
        self.base, self.key, self.kid = directory.removesuffix("/directory"), key or Key(), None

    def nonce(self):
        return ask("HEAD", f"{self.base}/new-nonce").headers["Replay-Nonce"]

    def post(self, where, payload, key=None, **header):
        """A signed request; header fields given here replace the usual ones."""
        where = where if where.startswith("http") else f"{self.base}/{where}"
        usual = {"nonce": self.nonce(), "url": where}
        if "jwk" not in header and "kid" not in header:
            usual |= {"kid": self.kid} if self.kid else {"jwk": self.key.jwk()}
        return ask("POST", where, signed(key or self.key, payload, usual | header))

    def register(self, **payload):
        answer = self.post("new-account", {"termsOfServiceAgreed": True} | payload, jwk=self.key.jwk())
        if answer.status in (200, 201):
            self.kid = answer.headers["Location"]
        return answer

    def order(self, *names, **more):
        return self.post("new-order", {"identifiers": [{"type": "dns", "value": name} for name in names]} | more)
