#!/usr/bin/env python3
"""Writes the `got` lines of name_rules.txt by asking a running OpenBao.

Needs BAO_ADDR and BAO_TOKEN of a server that may be scribbled on (a `-dev` one) and the openssl
command. Run it in this folder: ./record_name_rules.py
"""
import json, os, re, subprocess, urllib.error, urllib.request

ADDR, TOKEN = os.environ["BAO_ADDR"], os.environ["BAO_TOKEN"]


def call(method, path, body=None):
    request = urllib.request.Request(f"{ADDR}/v1/{path}", method=method,
                                     data=json.dumps(body).encode() if body is not None else None,
                                     headers={"X-Vault-Token": TOKEN})
    try:
        with urllib.request.urlopen(request) as answer:
            text = answer.read()
            return json.loads(text) if text else {}
    except urllib.error.HTTPError as error:
        return {"errors": json.loads(error.read()).get("errors", [])}


def fields(text):
    return dict(part.split("=", 1) for part in text.split(" | "))


def openssl(pem, *arguments):
    return subprocess.run(["openssl", "x509", "-noout", *arguments], input=pem.encode(),
                          capture_output=True).stdout.decode()


def names(pem):
    subject = openssl(pem, "-subject", "-nameopt", "oneline,-esc_msb,utf8").strip().removeprefix("subject=").strip()
    text = openssl(pem, "-ext", "subjectAltName", "-nameopt", "utf8")
    sans = text.split("\n", 1)[1].strip() if "\n" in text else ""
    critical = " (critical)" if "critical" in text.split("\n", 1)[0] else ""
    return f"ok | {subject} | {sans}{critical}"


def main():
    call("POST", "sys/mounts/name-rules", {"type": "pki"})
    root = call("POST", "name-rules/root/generate/internal", {"common_name": "Root", "key_type": "ec", "ttl": "700h"})
    assert "errors" not in root, root
    out = []
    for line in open("name_rules.txt", encoding="utf-8").read().splitlines():
        if line.startswith("got: "):
            continue
        out.append(line)
        if line.startswith("role: "):
            role = {"key_type": "ec", "ttl": "1h", **fields(line[6:])}
            call("DELETE", "name-rules/roles/case")
            answer = call("POST", "name-rules/roles/case", role)
            assert not answer.get("errors"), (line, answer)
        if line.startswith("ask: "):
            answer = call("POST", "name-rules/issue/case", fields(line[5:]))
            if "data" in answer:
                out.append("got: " + names(answer["data"]["certificate"]))
            else:
                out.append("got: " + re.sub(r"\s*\n\s*", " ", "; ".join(answer["errors"])))
    open("name_rules.txt", "w", encoding="utf-8").write("\n".join(out) + "\n")
    call("DELETE", "sys/mounts/name-rules")


main()
