"""Case files: parsing, variables, and the material (keys, CSRs, certificates) that cases ask for."""

import sys, base64, functools, itertools, json, pathlib, re, subprocess, tempfile, time, urllib.parse
from dataclasses import dataclass, field

sys.setrecursionlimit(100_000)
HERE = pathlib.Path(__file__).resolve().parent
VARIABLE = re.compile(r"\$\$|\$(\w+)(?:\(([^)]*)\))?")
STRING_OR_VARIABLE = re.compile(r'"(?:[^"\\]|\\.)*"|\$\$|\$\w+(?:\([^)]*\))?', re.S)


@dataclass
class Action:
    """One line of a case: a request or something around it."""
    verb: str
    rest: str
    line: int


@dataclass
class Case:
    file: str
    name: str
    actions: list = field(default_factory=list)
    each: list = field(default_factory=list)

    @property
    def title(self):
        return f"{self.file}: {self.name}"

    def expanded(self):
        """The case once for each combination of its `each` lines, with the values in its name."""
        if not self.each:
            yield self, {}
            return
        for values in itertools.product(*(values for _, values in self.each)):
            bound = dict(zip((name for name, _ in self.each), values))
            words = ", ".join(f"{name}={short(json.dumps(value))}" for name, value in bound.items())
            yield Case(self.file, f"{self.name} [{words}]", self.actions), bound


def short(text, limit=90):
    return text if len(text) <= limit else text[: limit - 1] + "…"


def read(path):
    """The cases of a file; one named `setup` comes first if there is one."""
    cases, current = [], None
    for number, raw in enumerate(path.read_text().splitlines(), 1):
        line = raw.rstrip()
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        indent = len(line) - len(line.lstrip())
        verb, _, rest = line.strip().partition(" ")
        if indent == 0:
            if line.strip() == "setup":
                current = Case(path.stem, "setup")
            elif verb == "case" and rest:
                current = Case(path.stem, rest)
            else:
                raise SystemExit(f"{path}:{number}: expected 'case …' or 'setup'")
            cases.append(current)
        elif current is None:
            raise SystemExit(f"{path}:{number}: a request outside a case")
        elif indent > 4:
            target = current.actions[-1] if current.actions else None
            if target is None:
                raise SystemExit(f"{path}:{number}: nothing to continue")
            target.rest += "\n" + line.strip()
        elif verb == "each":
            name, _, values = rest.partition(" ")
            current.each.append((name, [json.loads(v) for v in re.split(r"\s+\|\s+", values)]))
        else:
            current.actions.append(Action(verb, rest.strip(), number))
    return cases


class Variables:
    """What `$name` stands for: bound names first, then functions."""

    def __init__(self, bound):
        self.bound = bound

    def value(self, name, arguments):
        if arguments is None:
            return self.bound.get(name, f"<no {name}>")
        if name not in FUNCTIONS:
            raise SystemExit(f"there is no function ${name}()")
        return FUNCTIONS[name](self.text(arguments))

    def text(self, source):
        def one(match):
            if match.group(0) == "$$":
                return "$"
            value = self.value(match.group(1), match.group(2))
            return value if isinstance(value, str) else json.dumps(value)
        return VARIABLE.sub(one, source)

    def body(self, source):
        def one(match):
            token = match.group(0)
            if token.startswith('"'):
                escaped = VARIABLE.sub(lambda m: "$" if m.group(0) == "$$" else self.escaped(m), token[1:-1])
                return f'"{escaped}"'
            if token == "$$":
                return "$"
            inner = VARIABLE.fullmatch(token)
            return json.dumps(self.value(inner.group(1), inner.group(2)))
        return STRING_OR_VARIABLE.sub(one, source)

    def escaped(self, match):
        value = self.value(match.group(1), match.group(2))
        return json.dumps(value if isinstance(value, str) else json.dumps(value))[1:-1]


def called(value):
    """The values of `each`, with the functions in them called (a `$name` stays as it is)."""
    if isinstance(value, dict):
        return {name: called(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [called(inner) for inner in value]
    if isinstance(value, str) and re.search(r"\$\w+\(", value):
        return Variables({}).text(value)
    return value


# ---- material ---------------------------------------------------------------------------------------------

WORK = pathlib.Path(tempfile.mkdtemp(prefix="differential-"))
CURVES = {"p224": "secp224r1", "p256": "P-256", "p384": "P-384", "p521": "P-521"}


def openssl(*arguments, data=None):
    done = subprocess.run(["openssl", *arguments], input=data, capture_output=True)
    if done.returncode:
        raise SystemExit(f"openssl {' '.join(map(str, arguments))}: {done.stderr.decode()}")
    return done.stdout


def parameters(text):
    """`a=b; c=d=e` as a dictionary; a semicolon and a space separate, the first `=` divides."""
    pairs = (part.strip().partition("=") for part in text.split("; ") if part.strip())
    return {name.strip(): value for name, _, value in pairs}


@functools.lru_cache(None)
def key_file(kind, purpose):
    """A key of the kind, one for each purpose in a run."""
    path = WORK / f"{kind}-{re.sub(r'[^a-zA-Z0-9]', '_', purpose)}.key"
    if kind.startswith("rsa"):
        openssl("genpkey", "-algorithm", "RSA", "-pkeyopt", f"rsa_keygen_bits:{kind[3:]}", "-out", path)
    elif kind == "ed25519":
        openssl("genpkey", "-algorithm", "ED25519", "-out", path)
    elif kind == "dsa":
        openssl("genpkey", "-genparam", "-algorithm", "DSA", "-pkeyopt", "dsa_paramgen_bits:2048", "-out", f"{path}.params")
        openssl("genpkey", "-paramfile", f"{path}.params", "-out", path)
    else:
        curve = CURVES.get(kind, kind)
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", f"ec_paramgen_curve:{curve}",
                "-pkeyopt", "ec_param_enc:named_curve", "-out", path)
    return path


def extensions(arguments, default=()):
    given = [value for value in (arguments.get("ext") or "").split("|") if value]
    if "san" in arguments:
        given.append("subjectAltName=" + arguments["san"])
    return [word for value in (given or default) for word in ("-addext", value)]


@functools.lru_cache(None)
def csr(text):
    arguments = parameters(text)
    key = key_file(arguments.get("key", "rsa2048"), "csr")
    digest = ["-" + arguments["md"]] if "md" in arguments else []
    options = [word for value in arguments.get("sigopt", "").split("|") if value for word in ("-sigopt", value)]
    multi = ["-multivalue-rdn"] if "multi" in arguments else []
    return openssl("req", "-new", "-utf8", "-key", key, "-subj", arguments.get("subj", "/"), *multi, *digest, *options,
                   *extensions(arguments)).decode()


CA_EXTENSIONS = ("basicConstraints=critical,CA:true", "keyUsage=critical,keyCertSign,cRLSign")


@functools.lru_cache(None)
def authority(text):
    """Certificate file and key file of a self-signed CA."""
    arguments = parameters(text)
    kind, name = arguments.get("key", "p256"), arguments.get("cn", "root")
    key = key_file(kind, "ca " + name)
    path = WORK / f"authority-{len(list(WORK.iterdir()))}.crt"
    subject = arguments.get("subj", f"/CN={name}")
    if "expired" in arguments:
        expired(key, subject, path)
    else:
        openssl("req", "-x509", "-new", "-key", key, "-subj", subject, "-days", arguments.get("days", "3650"),
                "-out", path, *extensions(arguments, CA_EXTENSIONS))
    return path, key


def expired(key, subject, path):
    """A self-signed CA certificate of the year 2020; only `openssl ca` takes both dates."""
    (WORK / "index.txt").write_text("")
    (WORK / "ca.cnf").write_text(
        f"[ca]\ndefault_ca = d\n[d]\ndatabase = {WORK}/index.txt\nnew_certs_dir = {WORK}\nrand_serial = yes\n"
        "policy = p\ndefault_md = sha256\nx509_extensions = e\n[p]\ncommonName = supplied\n"
        "[e]\nbasicConstraints = critical,CA:true\nkeyUsage = critical,keyCertSign,cRLSign\nsubjectKeyIdentifier = hash\n")
    openssl("req", "-new", "-key", key, "-subj", subject, "-out", f"{path}.csr")
    openssl("ca", "-config", WORK / "ca.cnf", "-batch", "-notext", "-selfsign", "-keyfile", key, "-in", f"{path}.csr",
            "-startdate", "20200101000000Z", "-enddate", "20210101000000Z", "-out", path)


@functools.lru_cache(None)
def child(text):
    arguments = parameters(text)
    parent, parent_key = authority(f"key={arguments.get('parent-key', 'p256')}; cn={arguments.get('parent', 'root')}")
    key = key_file(arguments.get("key", "p256"), "child " + arguments.get("cn", "child"))
    certificate = openssl("req", "-x509", "-new", "-key", key, "-CA", parent, "-CAkey", parent_key, "-days",
                          arguments.get("days", "1825"), "-subj", f"/CN={arguments.get('cn', 'child')}",
                          *extensions(arguments, CA_EXTENSIONS)).decode()
    return certificate + key.read_text()


def damaged(how):
    """A CSR with the fault that its name says."""
    der = bytearray(base64.b64decode("".join(csr("key=p256; subj=/CN=a.example.com").splitlines()[1:-1])))
    if how == "bad-signature":
        der[-1] ^= 1
    elif how == "truncated":
        del der[-10:]
    elif how == "trailing":
        der += b"\x00\x00"
    text = base64.encodebytes(bytes(der)).decode()
    if how == "long-lines":
        text = text.replace("\n", "") + "\n"
    if how == "base64-der":
        return text.replace("\n", "")
    label = {"new-label": "NEW CERTIFICATE REQUEST", "old-label": "CERTIFICATE"}.get(how, "CERTIFICATE REQUEST")
    text = f"-----BEGIN {label}-----\n{text}-----END {label}-----\n"
    if how == "windows-lines":
        text = text.replace("\n", "\r\n")
    return text.rstrip("\n") if how == "no-final-newline" else text


def ocsp(text):
    """An OCSP request in base64: `issuer` in PEM, `serials` with commas between them, `md`, `nonce` and `more` bytes behind."""
    arguments = parameters(text)
    folder = pathlib.Path(tempfile.mkdtemp(dir=WORK))
    (folder / "issuer.crt").write_text(arguments["issuer"] + "\n")
    serials = [word for one in arguments["serials"].split(",") for word in ("-serial", "0x" + one.replace(":", ""))]
    openssl("ocsp", "-issuer", folder / "issuer.crt", "-" + arguments.get("md", "sha1"), *serials,
            "-nonce" if "nonce" in arguments else "-no_nonce", "-reqout", folder / "request.der")
    der = (folder / "request.der").read_bytes() + bytes.fromhex(arguments.get("more", ""))
    return base64.b64encode(der).decode()


FUNCTIONS = {
    "csr": csr,
    "bundle": lambda text: "".join(path.read_text() for path in authority(text)),
    "cert": lambda text: authority(text)[0].read_text(),
    "key": lambda text: authority(text)[1].read_text(),
    "child": child,
    "time": lambda text: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + int(text))),
    "damaged": damaged,
    "ocsp": ocsp,
    "quoted": lambda text: urllib.parse.quote(text, safe=""),
    "b64": lambda text: base64.b64encode(text.encode()).decode(),
    "file": lambda text: (HERE / "data" / text).read_text(),
    "nest": lambda text: functools.reduce(lambda inner, _: {"a": inner}, range(int(text)), "end"),
    "numbered": lambda text: ",".join(f"n{index}.example.com" for index in range(int(text))),
    "repeat": lambda text: text.rpartition(",")[0] * int(text.rpartition(",")[2]),
}
