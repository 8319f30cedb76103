"""A certificate in parts that can be compared: what is random in it is taken out, everything else stays as it is."""

import calendar, hashlib, sys, time

import der

sys.path.insert(0, __file__.rsplit("/suites/", 1)[0] + "/differential")
import decode

NAMES = {
    "2.5.29.14": "subject key identifier", "2.5.29.15": "key usage", "2.5.29.17": "subject alternative names",
    "2.5.29.19": "basic constraints", "2.5.29.30": "name constraints", "2.5.29.31": "CRL distribution points",
    "2.5.29.32": "policies", "2.5.29.35": "authority key identifier", "2.5.29.37": "extended key usage",
    "1.3.6.1.5.5.7.1.1": "authority information access",
}


def parts(data, own_key):
    """The parts of a certificate in DER; `own_key` is whether the server made the key."""
    tbs, algorithm, _ = der.children(der.read(data)[1])
    fields = der.children(tbs[1])
    version = fields.pop(0)[1].hex() if fields[0][0] == 0xA0 else "1"
    serial, inner, issuer, validity, subject, key = fields[:6]
    start, end = (moment(tag, text) for tag, text, _ in der.children(validity[1]))
    bits = der.children(key[1])[1][1][1:]
    found = {
        "version": version,
        "serial number": "about 20 bytes" if 17 <= len(serial[1]) <= 20 else f"{len(serial[1])} bytes",
        "signature algorithm": algorithm[2].hex() if inner[2] == algorithm[2] else "two",
        "issuer": issuer[2].hex(),
        "not before": start,
        "not after": end,
        "subject": subject[2].hex(),
        "key": f"{der.children(key[1])[0][2].hex()}, {len(bits) // 8 * 64} bits or so" if own_key else key[2].hex(),
    }
    for tag, content, whole in fields[6:]:
        if tag != 0xA3:
            found[f"field {tag:x}"] = whole.hex()
            continue
        order = []
        for _, extension, whole in der.children(der.read(content)[1]):
            name = der.dotted(der.children(extension)[0][1])
            name = NAMES.get(name, name)
            text = whole.hex()
            own = hashlib.sha1(bits).hexdigest()
            order.append(name)
            found[name] = text.replace(own, "<SHA-1 of the key>")
        found["extensions"] = order
    return found


def moment(tag, text):
    text = text.decode()
    if tag == 23:
        text = ("19" if text[:2] >= "50" else "20") + text
    return calendar.timegm(time.strptime(text, "%Y%m%d%H%M%SZ"))


def differences(ours, peer):
    for name in {**peer, **ours}:
        one, other = ours.get(name, "(absent)"), peer.get(name, "(absent)")
        near = name.startswith("not ") and isinstance(one, int) and isinstance(other, int) and abs(one - other) <= 5
        if one != other and not near:
            yield name, one, other


def words(pem):
    """What openssl says of each block of a PEM text, for people."""
    return [said for said in decode.words(pem) if isinstance(said, dict)]
