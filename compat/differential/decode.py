"""X.509 in words: what openssl says of a certificate, CSR or key, with what is random in it taken out."""

import base64, binascii, calendar, functools, hashlib, re, subprocess, time

PEM = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----\n(.*?)-----END \1-----", re.S)
WORDS = ("-noout", "-nameopt", "esc_2253,esc_ctrl,utf8,show_type,sep_multiline,space_eq,sname")

# Key identifiers of the CA certificates seen so far. Where each server made its own CA, two authority key
# identifiers agree if both are among these.
known_identifiers = set()


def words(text):
    """The decoded form of a PEM text, or of base64 DER, or `None` if it is neither."""
    blocks = PEM.findall(text)
    if blocks:
        return [decode(label, binascii.a2b_base64(body.replace("\n", ""))) for label, body in blocks]
    if text.startswith("M") and len(text) > 60 and len(text) % 4 == 0 and re.fullmatch(r"[A-Za-z0-9+/]+={0,2}", text):
        return [decode("DER", base64.b64decode(text))]
    return None


def raw(data):
    """The decoded form of DER bytes."""
    return decode("DER", data)


def ocsp(der):
    """What openssl says of an OCSP answer, without times, numbers, digests and signatures."""
    said = subprocess.run(["openssl", "ocsp", "-respin", "/dev/stdin", "-noverify", "-resp_text"], input=der,
                          capture_output=True).stdout.decode(errors="replace")
    lines = []
    for line in said.splitlines():
        if re.fullmatch(r"\s*(?:[0-9a-f]{2}:)*[0-9a-f]{2}:?", line) or "Signature Value" in line:
            continue
        line = re.sub(r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \d{4} GMT", "<time>", line.strip())
        lines.append(re.sub(r"\b[0-9A-F]{16,}\b", "<digits>", line))
    return lines or "unreadable OCSP answer"


@functools.lru_cache(100_000)
def decode(label, der):
    if label == "DER":
        for guess in ("CERTIFICATE", "CERTIFICATE REQUEST", "X509 CRL", "PRIVATE KEY"):
            found = decode(guess, der)
            if isinstance(found, dict):
                return found | {"pem": "none, this is DER"}
        return "unknown DER"
    if label.endswith("CERTIFICATE REQUEST"):
        return x509("req", label, der)
    if label == "CERTIFICATE":
        return x509("x509", label, der)
    if label == "X509 CRL":
        return crl(label, der)
    if label.endswith("PRIVATE KEY"):
        said = openssl("pkey", "-inform", "DER", "-noout", "-text", data=der)
        return {"pem": label, "form": key_form(der), "key": said.splitlines()[0]} if said else f"unreadable {label}"
    return f"unreadable {label}"


def x509(command, label, der):
    said = openssl(command, "-inform", "DER", "-text", *WORDS, data=der)
    if not said:
        return f"unreadable {label}"
    result = {"pem": label}
    own = hashlib.sha1(public_key(command, der)).hexdigest().upper()
    if "CA:TRUE" in said:
        known_identifiers.add(own)
    lines, skipping = [], False
    for line in said.splitlines():
        hexadecimal = re.fullmatch(r"\s*(?:[0-9a-f]{2}:)*[0-9a-f]{2}:?", line)
        # openssl's own complaint of a key that it does not know, with an address in it.
        if re.match(r"[0-9A-F]{16}:error:", line):
            continue
        if hexadecimal and (skipping or len(line.strip()) > 3):
            if not skipping and "Serial" in (lines[-1] if lines else ""):
                # One in 256 serials of 20 random bytes begins with a zero byte, which is not printed.
                length = len(line.strip().split(":"))
                result["serial"] = "about 20 bytes" if 18 <= length <= 20 else f"{length} bytes"
            skipping = True
            continue
        skipping = False
        if "Not Before" in line or "Not After" in line:
            moment = calendar.timegm(time.strptime(line.split(":", 1)[1].strip(), "%b %d %H:%M:%S %Y %Z"))
            result["not_before" if "Before" in line else "not_after"] = moment
            continue
        line = re.sub(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", "<uuid>", line)
        lines.append(re.sub(r"(?:keyid:)?((?:[0-9A-F]{2}:){19}[0-9A-F]{2})", lambda m: identifier(m.group(1), own), line))
    result["says"] = [line.strip() for line in lines if line.strip() and "Signature Value" not in line]
    return result


def crl(label, der):
    """A revocation list. Its number and dates differ, its entries may be in any order."""
    said = openssl("crl", "-inform", "DER", "-text", *WORDS, data=der)
    if not said:
        return f"unreadable {label}"
    head, _, entries = said.partition("Revoked Certificates:")
    lines, moments, after = [], [], ""
    for line in head.splitlines():
        if re.search(r"(Last|Next) Update", line):
            moments.append(calendar.timegm(time.strptime(line.split(":", 1)[1].strip(), "%b %d %H:%M:%S %Y %Z")))
            continue
        if re.search(r"CRL Number|Delta CRL Indicator", after):
            line = "<number>"
        after = line
        lines.append(re.sub(r"(?:keyid:)?((?:[0-9A-F]{2}:){19}[0-9A-F]{2})", lambda m: identifier(m.group(1), ""), line))
    entries = entries.partition("    Signature Algorithm")[0]
    entries = re.sub(r"Serial Number: [0-9A-F]{34,}", "Serial Number: <serial>", entries)
    entries = re.sub(r"Revocation Date: .*", "Revocation Date: <time>", entries)
    entries = [" ".join(entry.split()) for entry in entries.split("Serial Number:") if entry.strip()]
    says = [line.strip() for line in lines if line.strip() and "Signature Value" not in line]
    says = [line for line in says if not re.fullmatch(r"(?:[0-9a-f]{2}:)*[0-9a-f]{2}:?", line)]
    return {"pem": label, "lifetime": str(moments[-1] - moments[0]) if len(moments) == 2 else "none", "says": says,
            "entries": sorted(entries)}


def identifier(text, own):
    digits = text.replace(":", "")
    return "<SHA-1 of the key>" if digits == own else digits


def without_identifiers(text):
    """The text with the key identifiers of CAs that were seen replaced by the fact."""
    def one(match):
        return "<key identifier of a CA>" if match.group(0) in known_identifiers else match.group(0)
    return re.sub(r"\b[0-9A-F]{40}\b", one, text)


def key_form(der):
    """PKCS#8, PKCS#1 or SEC 1, by the first elements."""
    tags = [tag for tag, _ in elements(element(der)[1])]
    return {(2, 48): "PKCS#8", (2, 2): "PKCS#1", (2, 4): "SEC 1"}.get(tuple(tags[:2]), f"unknown {tags}")


def public_key(command, der):
    """The bits of the subject's public key."""
    (_, tbs, _), = [element(element(der)[1])]
    items = list(elements(tbs))
    if command == "x509":
        items = items[1:] if items[0][0] == 0xA0 else items
        spki = items[5][1]
    else:
        spki = items[2][1]
    return list(elements(spki))[1][1][1:]


def elements(data):
    while data:
        tag, value, data = element(data)
        yield tag, value


def element(data):
    tag, length, start = data[0], data[1], 2
    if length & 0x80:
        count = length & 0x7F
        length, start = int.from_bytes(data[2:2 + count], "big"), 2 + count
    return tag, data[start:start + length], data[start + length:]


def openssl(*arguments, data):
    done = subprocess.run(["openssl", *arguments], input=data, capture_output=True)
    return done.stdout.decode(errors="replace") if done.returncode == 0 else ""
