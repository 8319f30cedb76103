"""Bytes to two servers; the status line of each answer must agree, and nobody may fall over."""

import os, pathlib, re, socket, sys, time, urllib.parse

OURS = urllib.parse.urlsplit(os.environ["VAULT_ADDR"])
PEER = urllib.parse.urlsplit(os.environ["PEER_ADDR"])
TOKEN = "X-Vault-Token: root\r\n"
HOST = "Host: 127.0.0.1\r\n"


def request(line, headers=HOST + TOKEN, body=b"", length=True):
    head = f"{line} HTTP/1.1\r\n{headers}"
    if length and (body or line.startswith(("POST", "PUT", "PATCH"))):
        head += f"Content-Length: {len(body)}\r\n"
    return head.encode("utf-8", "surrogateescape") + b"Connection: close\r\n\r\n" + body


def exchange(server, data, half_close=False, wait=10):
    """The statuses of all answers on one connection, or why there is none."""
    received = b""
    with socket.create_connection((server.hostname, server.port), timeout=wait) as connection:
        try:
            if callable(data):
                for part in data():
                    connection.sendall(part)
            else:
                connection.sendall(data)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # a server may answer and close before it has read everything
        try:
            while part := connection.recv(65536):
                received += part
        except socket.timeout:
            return "no answer in time"
        except OSError:
            pass
    # The next answer begins where a body ends, which may be in the middle of a line.
    statuses = [status.decode() for status in re.findall(rb"HTTP/1\.[01] (\d{3})", received)]
    return " ".join(statuses) or "closed without an answer"


def large(size, start=b'{"a": "', fill=b"x", end=b'"}', chunked=False):
    def parts():
        total = len(start) + size + len(end)
        framing = b"Transfer-Encoding: chunked\r\n" if chunked else f"Content-Length: {total}\r\n".encode()
        yield b"POST /v1/cubbyhole/large HTTP/1.1\r\n" + (HOST + TOKEN).encode() + framing + b"Connection: close\r\n\r\n"
        pieces = [start] + [fill * (1 << 20)] * (size >> 20) + [end]
        for piece in pieces:
            yield (f"{len(piece):x}\r\n".encode() + piece + b"\r\n") if chunked else piece
        if chunked:
            yield b"0\r\n\r\n"
    return parts


MEBI = 1 << 20
CASES = {
    # heads
    "no HTTP at all": b"hello\r\n\r\n",
    "HTTP/0.9": b"GET /v1/sys/health\r\n\r\n",
    "HTTP/1.0": b"GET /v1/sys/health HTTP/1.0\r\n\r\n",
    "HTTP/3.0": b"GET /v1/sys/health HTTP/3.0\r\n\r\n",
    "no host": b"GET /v1/sys/health HTTP/1.1\r\nConnection: close\r\n\r\n",
    "two hosts": b"GET /v1/sys/health HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
    "a space before the colon": b"GET /v1/sys/health HTTP/1.1\r\nHost: a\r\nX-Vault-Token : root\r\nConnection: close\r\n\r\n",
    "a NUL in a header": b"GET /v1/sys/health HTTP/1.1\r\nHost: a\r\nX-A: a\x00b\r\nConnection: close\r\n\r\n",
    "a folded header": b"GET /v1/sys/mounts HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\nX-Vault-Token: root\r\nConnection: close\r\n\r\n",
    "a header of two megabytes": request("GET /v1/sys/health", HOST + "X-A: " + "a" * 2 * MEBI + "\r\n"),
    "a path of two megabytes": request("GET /v1/" + "a" * 2 * MEBI),
    "a path of 4,000 characters": request("GET /v1/cubbyhole/" + "a" * 4000),
    "ten thousand headers": request("GET /v1/sys/health", HOST + "".join(f"X-{n}: 1\r\n" for n in range(10_000))),
    "an absolute URI": request("GET http://127.0.0.1/v1/sys/mounts"),
    "an asterisk": request("OPTIONS *"),
    "no slash": request("GET v1/sys/mounts"),
    "an unknown method": request("BREW /v1/sys/mounts"),
    "TRACE": request("TRACE /v1/sys/mounts"),
    "CONNECT": request("CONNECT /v1/sys/mounts"),
    "a lower-case method": request("get /v1/sys/mounts"),
    # framing
    "two lengths": b"POST /v1/cubbyhole/x HTTP/1.1\r\n" + (HOST + TOKEN).encode() + b"Content-Length: 2\r\nContent-Length: 3\r\nConnection: close\r\n\r\n{} ",
    "length and chunks": b"POST /v1/cubbyhole/x HTTP/1.1\r\n" + (HOST + TOKEN).encode() + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n8\r\n{\"a\":1} \r\n0\r\n\r\n",
    "a negative length": b"POST /v1/cubbyhole/x HTTP/1.1\r\n" + (HOST + TOKEN).encode() + b"Content-Length: -1\r\nConnection: close\r\n\r\n",
    "a length that is no number": b"POST /v1/cubbyhole/x HTTP/1.1\r\n" + (HOST + TOKEN).encode() + b"Content-Length: x\r\nConnection: close\r\n\r\n",
    "a bad chunk": b"POST /v1/cubbyhole/x HTTP/1.1\r\n" + (HOST + TOKEN).encode() + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    "chunks": b"POST /v1/cubbyhole/x HTTP/1.1\r\n" + (HOST + TOKEN).encode() + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n7\r\n{\"a\":1}\r\n0\r\n\r\n",
    "two requests at once": request("GET /v1/sys/mounts").replace(b"Connection: close\r\n", b"") + request("GET /v1/sys/auth"),
    # bodies
    "31 MiB": large(31 * MEBI),
    "33 MiB": large(33 * MEBI),
    "33 MiB in chunks": large(33 * MEBI, chunked=True),
    "33 MiB of white space": large(33 * MEBI, b'{"a": 1', b" ", b"}"),
    "five million brackets": large(5 * MEBI, b"", b"[", b""),
    "a million nested objects": large(5 * MEBI, b"", b'{"a":', b""),
    "not UTF-8": request("POST /v1/cubbyhole/x", body=b'{"a": "\xff\xfe"}'),
    "UTF-16": request("POST /v1/cubbyhole/x", body='{"a": "b"}'.encode("utf-16")),
    "a byte order mark": request("POST /v1/cubbyhole/x", body=b'\xef\xbb\xbf{"a": "b"}'),
    "a NUL after the body": request("POST /v1/cubbyhole/x", body=b'{"a": "b"}\x00'),
    "a NUL in a string": request("POST /v1/cubbyhole/x", body=b'{"a": "\\u0000"}'),
    "a raw NUL in a string": request("POST /v1/cubbyhole/x", body=b'{"a": "\x00"}'),
    "a raw newline in a string": request("POST /v1/cubbyhole/x", body=b'{"a": "\n"}'),
    "a number of 10,000 digits": request("POST /v1/cubbyhole/x", body=b'{"a": ' + b"9" * 10_000 + b"}"),
    "the same key 10,000 times": request("POST /v1/cubbyhole/x", body=b"{" + b'"a":1,' * 9_999 + b'"a":1}'),
    "20,000 keys": request("POST /v1/cubbyhole/x", body=b"{" + b",".join(b'"k%d":1' % n for n in range(20_000)) + b"}"),
    "an array of 20,000 numbers": request("POST /v1/cubbyhole/x", body=b'{"a":[' + b",".join([b"1"] * 20_000) + b"]}"),
    # paths
    "traversal": request("GET /v1/../../etc/passwd"),
    "encoded traversal": request("GET /v1/%2e%2e/%2e%2e/etc/passwd"),
    "traversal within a mount": request("GET /v1/cubbyhole/../sys/mounts"),
    "encoded traversal within a mount": request("GET /v1/cubbyhole/%2e%2e/sys/mounts"),
    "an encoded slash": request("GET /v1/sys%2fmounts"),
    "twice encoded": request("GET /v1/sys/%256dounts"),
    "an encoded NUL": request("GET /v1/sys/mounts%00"),
    "an encoded newline": request("GET /v1/cubbyhole/a%0d%0ab"),
    "a broken escape": request("GET /v1/sys/%zz"),
    "an escape cut off": request("GET /v1/sys/mounts%2"),
    "raw bytes above 127": b"GET /v1/cubbyhole/\xff\xfe HTTP/1.1\r\n" + (HOST + TOKEN).encode() + b"Connection: close\r\n\r\n",
    "overlong UTF-8": request("GET /v1/%c0%ae%c0%ae/sys/mounts"),
    "a backslash": request("GET /v1/sys\\mounts"),
    "a query alone": request("GET /v1/?list=true"),
    "nothing after v1": request("GET /v1"),
    # tokens
    "no token": request("GET /v1/sys/mounts", HOST),
    "an empty token": request("GET /v1/sys/mounts", HOST + "X-Vault-Token: \r\n"),
    "two tokens": request("GET /v1/sys/mounts", HOST + TOKEN + "X-Vault-Token: other\r\n"),
    "two tokens, the other way": request("GET /v1/sys/mounts", HOST + "X-Vault-Token: other\r\n" + TOKEN),
    "a forged service token": request("GET /v1/sys/mounts", HOST + "X-Vault-Token: s.AAAAAAAAAAAAAAAAAAAAAAAA\r\n"),
    "a forged batch token": request("GET /v1/sys/mounts", HOST + "X-Vault-Token: b.AAAAAQIDBAUGBwgJCgsMDQ4PEBESExQ\r\n"),
    "a forged long batch token": request("GET /v1/sys/mounts", HOST + "X-Vault-Token: hvb." + "A" * 500 + "\r\n"),
    "a token of 100,000 characters": request("GET /v1/sys/mounts", HOST + "X-Vault-Token: " + "a" * 100_000 + "\r\n"),
    "a token that is a path": request("GET /v1/sys/mounts", HOST + "X-Vault-Token: ../../root\r\n"),
    "a token of bytes": b"GET /v1/sys/mounts HTTP/1.1\r\nHost: a\r\nX-Vault-Token: \xff\xfe\r\nConnection: close\r\n\r\n",
    "a token with another's namespace": request("GET /v1/sys/mounts", HOST + "X-Vault-Token: root.abcde\r\n"),
    # headers of the API
    "a namespace that is not there": request("GET /v1/sys/mounts", HOST + TOKEN + "X-Vault-Namespace: absent\r\n"),
    "the root namespace": request("GET /v1/sys/mounts", HOST + TOKEN + "X-Vault-Namespace: root\r\n"),
    "an empty namespace": request("GET /v1/sys/mounts", HOST + TOKEN + "X-Vault-Namespace: \r\n"),
    "a bad wrapping time": request("GET /v1/sys/mounts", HOST + TOKEN + "X-Vault-Wrap-TTL: soon\r\n"),
    "a negative wrapping time": request("GET /v1/sys/mounts", HOST + TOKEN + "X-Vault-Wrap-TTL: -5\r\n"),
    "a bad request header": request("GET /v1/sys/mounts", HOST + TOKEN + "X-Vault-Request: false\r\n"),
    "MFA words": request("GET /v1/sys/mounts", HOST + TOKEN + "X-Vault-MFA: a:b\r\n"),
}

# These end by the client's silence, so they get a half-closed connection.
HALF_CLOSED = {
    "a head that ends": b"GET /v1/sys/health HTTP/1.1\r\nHost: a\r\n",
    "a body that ends": request("POST /v1/cubbyhole/x", HOST + TOKEN + "Content-Length: 100\r\n", b'{"a": 1}', length=False),
}

accepted = {}
for line in pathlib.Path(os.environ["SUITE"], "accepted.txt").read_text().splitlines():
    if line.strip() and not line.startswith("#"):
        case, status, reason = line.split(" : ", 2)
        accepted[case] = (status, reason)

passed = failed = 0
for name, data in (CASES | HALF_CLOSED).items():
    ours = exchange(OURS, data, name in HALF_CLOSED)
    peer = exchange(PEER, data, name in HALF_CLOSED)
    alive = exchange(OURS, request("GET /v1/sys/health", HOST))
    good = (ours == peer or accepted.get(name, ("",))[0] == ours) and alive == "200"
    passed, failed = passed + good, failed + (not good)
    if not good or "-v" in sys.argv:
        print(f"{'agrees' if good else 'DIFFERS'}  {name}: ours {ours}, peer {peer}" + ("" if alive == "200" else f", and then ours: {alive}"))
print(f"{passed} passed, {failed} failed, 0 skipped")
sys.exit(1 if failed else 0)
