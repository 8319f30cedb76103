"""Two answers side by side: random values become what they are, then everything must agree."""

import json, re

import decode

PATTERNS = [
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "<uuid>"),
    (re.compile(r"\b(?:hv)?s\.[A-Za-z0-9_-]{20,}"), "<service token>"),
    (re.compile(r"\b(?:hv)?b\.[A-Za-z0-9_-]{20,}"), "<batch token>"),
    (re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)"), "<time>"),
    (re.compile(r"\b(?:[0-9a-f]{2}:){17,19}[0-9a-f]{2}\b"), "<serial>"),
    (re.compile(r"\b(?:[0-9a-f]{2}-){17,19}[0-9a-f]{2}\b"), "<serial-with-hyphens>"),
    (re.compile(r"\b(pki|approle|token|cubbyhole|auth_\w+|kv|system|identity|ns_\w+)_[0-9a-f]{8}\b"), r"\1_<accessor>"),
    (re.compile(r"(?<=/)[A-Za-z0-9]{24}(?:[A-Za-z0-9]{4}|[A-Za-z0-9]{6})?(?![A-Za-z0-9])"), "<lease>"),
    (re.compile(r"127\.0\.0\.1:\d+"), "<address>"),
]
# The peer's and ours (docs/divergences.md: texts of tokens, accessors, lease ids).
ACCESSOR = re.compile(r"[A-Za-z0-9]{24}(?:[A-Za-z0-9]{5})?")
SECONDS = re.compile(r"ttl|lease_duration|duration|expire|period|remaining")


def answer(status, headers, body):
    """The comparable form of an answer."""
    kind = headers.get("Content-Type")
    text = body.decode("utf-8", errors="replace")
    if kind == "application/ocsp-response":
        return {"status": status, "content-type": kind, "body": decode.ocsp(body)}
    try:
        content = normal("", without_lints(json.loads(text))) if text.strip() else None
    except ValueError:
        if body[:1] == b"\x30":
            content = decode.raw(body)
        else:
            content = decode.words(text) or replaced(text)
    result = {"status": status, "content-type": kind, "body": content}
    for name in ("Location", "Retry-After", "Allow", "WWW-Authenticate"):
        if name in headers:
            result[name] = replaced(headers[name])
    return result


def without_lints(body):
    """The body without warnings of certificates that do not conform, which the peer does not have (docs/divergences.md)."""
    if isinstance(body, dict) and isinstance(body.get("warnings"), list):
        kept = [words for words in body["warnings"] if not str(words).startswith("the certificate does not conform: ")]
        body["warnings"] = kept or None
    return body


def normal(key, value):
    if isinstance(value, dict):
        pairs = [(replaced(name), normal(name, inner)) for name, inner in value.items()]
        if len({name for name, _ in pairs}) == len(pairs):
            return dict(pairs)
        return sorted(([name, inner] for name, inner in pairs), key=str)
    if isinstance(value, list):
        return [normal(key, inner) for inner in value]
    if isinstance(value, str):
        words = decode.words(value)
        if words is not None:
            return words
        if "accessor" in key and ACCESSOR.fullmatch(value):
            return "<accessor>"
        return replaced(value)
    return value


def replaced(text):
    for pattern, name in PATTERNS:
        text = pattern.sub(name, text)
    return text


def differences(ours, peer, where="", key=""):
    """Sentences `(where, ours, peer)` for all that does not agree."""
    if isinstance(ours, dict) and isinstance(peer, dict):
        for name in list(peer) + [name for name in ours if name not in peer]:
            here = f"{where}.{name}" if where else name
            if name not in ours:
                yield here, "(absent)", peer[name]
            elif name not in peer:
                yield here, ours[name], "(absent)"
            else:
                yield from differences(ours[name], peer[name], here, name)
    elif isinstance(ours, list) and isinstance(peer, list) and len(ours) == len(peer):
        for index, (one, other) in enumerate(zip(ours, peer)):
            yield from differences(one, other, f"{where}[{index}]", key)
    elif not agree(key, ours, peer):
        yield where, ours, peer


def agree(key, ours, peer):
    if type(ours) is not type(peer):
        return False
    if isinstance(ours, int) and not isinstance(ours, bool):
        near = abs(ours - peer) <= 5
        return ours == peer or (near and (ours > 1_500_000_000 or (SECONDS.search(key) and min(ours, peer) > 10)))
    if isinstance(ours, str):
        return ours == peer or decode.without_identifiers(ours) == decode.without_identifiers(peer)
    return ours == peer
