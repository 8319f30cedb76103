"""Running `pki` commands, and what they print with all taken out that differs from run to run."""

import json, os, re, subprocess

PROGRAMS = {"bao": os.environ["BAO"], "chancery": os.environ["CHANCERY"]}
MASKS = [
    (re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "<uuid>"),
    (re.compile(r"(?:[0-9a-f]{2}:){17,19}[0-9a-f]{2}"), "<serial>"),
    (re.compile(r"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----", re.S), r"<\1>"),
    (re.compile(r"T\d\d:\d\d:\d\dZ"), "T<time>"),
    # docs/divergences.md: "`pki` commands: sentences that name OpenBao"
    (re.compile(r"(?:OpenBao|the server)'{1,2}s"), "the server's"),
    # docs/divergences.md: "`pki` commands: sentences with errors of typing, or of Go's JSON parser"
    (re.compile(r"Failled"), "Failed"),
    (re.compile(r"Intermeidate"), "Intermediate"),
    (re.compile(r"(Failed to parse configuration file \S+:).*"), r"\1 <reason>"),
    (re.compile(r"(?:bao|chancery) print token"), "<program> print token"),
]


class Server:
    def __init__(self, name, address):
        self.name, self.address = name, address
        self.tokens = {"root": os.environ["VAULT_TOKEN"], "none": "s.nobody"}


def run(server, program, command):
    """Exit code, standard output, standard error. The first word may name the token: `@limited`."""
    token = "root"
    if command[0].startswith("@"):
        token, command = command[0][1:], command[1:]
    arguments = [part.replace("{p}", program) for part in command]
    environment = os.environ | {"BAO_ADDR": server.address, "VAULT_ADDR": server.address,
                                "BAO_TOKEN": server.tokens[token], "VAULT_TOKEN": server.tokens[token]}
    done = subprocess.run([PROGRAMS[program], "pki", *arguments], env=environment, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL)
    # What our program writes goes to mounts of its own, which then pass for the peer's program's.
    own = program == "chancery" and any("{p}" in part for part in command)
    return done.returncode, printed(masked(done.stdout, own)), masked(done.stderr, own).strip()


def masked(text, own):
    if own:
        text = re.sub(r"\bchancery-(root|int|empty)\b", r"bao-\1", text)
    for pattern, name in MASKS:
        text = pattern.sub(name, text)
    # The peer prints the headers of a request in any order.
    headers = lambda found: " ".join(sorted(re.findall(r'-H "[^"]*"', found[0]))) + " "
    text = re.sub(r'(?:-H "[^"]*" ){2,}', headers, text)
    return text


def printed(text):
    """The output with the rows in order that the peer prints in none."""
    try:
        return ordered(json.loads(text))
    except ValueError:
        # YAML breaks lines by their length, which masks change.
        if re.search(r"^- endpoint: ", text, re.M):
            text = re.sub(r"\n    +", " ", text)
        # The rows of a table; the tables stay where they are. The masked width of a column does not count.
        sections = re.split(r"\n\n+", text)
        return "\n\n".join("\n".join(sorted(re.sub(r"  +", "  ", line) for line in part.split("\n"))) for part in sections)


def ordered(value):
    if isinstance(value, dict):
        # The order of the keys is judged too.
        return [[name, ordered(inner)] for name, inner in value.items()]
    if isinstance(value, list):
        return sorted((ordered(inner) for inner in value), key=json.dumps)
    return value


def certificates(api, mount):
    """What the issuers of a mount look like, without their keys, serial numbers and times."""
    found = []
    for issuer in api.ok("LIST", f"{mount}/issuers")["data"]["keys"]:
        data = api.read(f"{mount}/issuer/{issuer}")["data"]
        said = subprocess.run(["openssl", "x509", "-noout", "-subject", "-issuer", "-ext",
                               "subjectAltName,basicConstraints,keyUsage,nameConstraints"],
                              input=data["certificate"], capture_output=True, text=True).stdout
        found.append(f"{data['issuer_name']}: {said}{bool(data['key_id'])} {len(data['ca_chain'])}")
    return "\n".join(sorted(found)).replace("chancery-", "bao-")
