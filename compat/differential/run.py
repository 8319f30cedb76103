#!/usr/bin/env python3
"""The same requests to two servers, and what differs between their answers. See README.md."""

import argparse, base64, concurrent.futures, contextlib, fnmatch, http.client, io, json, os, pathlib, secrets, shutil, sys, tempfile
import time, urllib.parse

sys.dont_write_bytecode = True
import compare, script

HERE = pathlib.Path(__file__).resolve().parent
ENVELOPE = {"errors", "request_id", "lease_id", "renewable", "lease_duration", "data", "wrap_info", "warnings", "auth"}
METHODS = {"GET", "POST", "PUT", "DELETE", "LIST", "PATCH", "HEAD", "OPTIONS", "SCAN"}


class Connection(http.client.HTTPConnection):
    """Sends paths as they stand, also those that no well-behaved client would send."""

    def _encode_request(self, request):
        return request.encode("utf-8")

    def _validate_path(self, url):
        pass


class Server:
    def __init__(self, name, url, token):
        self.name, self.token = name, token
        self.host = urllib.parse.urlsplit(url).netloc
        self.connection = None
        self.bound = {}

    def send(self, method, path, body, token, headers):
        sent = {"X-Vault-Request": "true"} | ({"X-Vault-Token": token} if token else {}) | headers
        if method == "PATCH":
            sent.setdefault("Content-Type", "application/merge-patch+json")
        target = path if path.startswith("/") else f"/v1/{path}"
        for attempt in (1, 2):
            try:
                if self.connection is None:
                    self.connection = Connection(self.host, timeout=60)
                self.connection.request(method, target, body, sent)
                answer = self.connection.getresponse()
                data = answer.read()
                return compare.answer(answer.status, {name.title(): value for name, value in answer.getheaders()}, data), data
            except (http.client.HTTPException, OSError) as error:
                self.connection.close()
                self.connection = None
                if attempt == 2:
                    return {"status": f"no answer: {error!r}", "content-type": None, "body": None}, b""


class Known:
    """Differences that docs/divergences.md explains: `case glob :: place globs :: words that stand there`."""

    def __init__(self):
        pages = HERE.parent.parent / "docs/divergences.md"
        documented = pages.read_text()
        self.entries, self.used = [], set()
        for number, line in enumerate((HERE / "known.txt").read_text().splitlines(), 1):
            if line.strip() and not line.startswith("#"):
                case, place, words = (part.strip() for part in line.split(" :: "))
                if words not in documented:
                    raise SystemExit(f"known.txt:{number}: docs/divergences.md does not say '{words}'")
                self.entries.append((case, place, words))

    def covers(self, case, place, one_refused):
        for entry in self.entries:
            if glob(case, entry[0]):
                for pattern in entry[1].split(" | "):
                    if glob(place, pattern) or (pattern == "envelope" and one_refused and place in ENVELOPE):
                        self.used.add(entry)
                        return True
        return False


def glob(text, pattern):
    return fnmatch.fnmatchcase(text.replace("[", "("), pattern.replace("[", "("))


class Runner:
    def __init__(self, ours, peer, options):
        self.servers, self.options, self.known = (ours, peer), options, Known()
        self.passed = self.failed = self.excused = 0

    def file(self, path):
        cases = script.read(path)
        chosen = [case for case in cases if self.options.filter in case.title]
        if not chosen:
            return
        if cases[0].name == "setup" and cases[0] not in chosen:
            chosen.insert(0, cases[0])
        self.fresh_mount()
        started = time.monotonic()
        before = (self.passed, self.failed)
        self.suspects = []
        for case in chosen:
            for expanded, values in case.expanded():
                self.bind(values)
                self.case(expanded, values)
        self.again(cases[0])
        print(f"{path.stem}: {self.passed - before[0]} agree, {self.failed - before[1]} differ"
              f" ({time.monotonic() - started:.1f} s)", flush=True)

    def fresh_mount(self):
        mount = "d" + secrets.token_hex(4)
        for server in self.servers:
            server.bound = {"m": mount}

    def bind(self, values):
        values = script.called(values)
        for server in self.servers:
            server.bound.update(values)

    def again(self, first):
        """A difference that two more looks do not find was a matter of timing: two servers are never asked at one instant."""
        for last in (False, True):
            suspects, self.suspects = self.suspects, None if last else []
            for case, values in suspects:
                self.fresh_mount()
                if first.name == "setup" and case.title != first.title:
                    for expanded, setup in first.expanded():
                        self.bind(setup)
                        self.case(expanded, setup, counted=False)
                self.bind(values)
                self.case(case, values)

    def case(self, case, values, counted=True):
        findings, exchange, token, headers = [], None, None, {}
        asked = 0
        for action in case.actions + [None]:
            if exchange and (action is None or action.verb != "except"):
                findings += self.judge(case, *exchange)
                exchange = None
            if action is None:
                break
            if action.verb in METHODS:
                asked += 1
                exchange = (action, self.exchange(action, token, headers), [])
                token, headers = None, {}
            elif action.verb == "as":
                token = action.rest
            elif action.verb == "with":
                name, _, value = action.rest.partition(":")
                headers[name.strip()] = value.strip()
            elif action.verb == "save":
                name, _, place = action.rest.partition(" ")
                for server in self.servers:
                    server.bound[name] = pick(server.last, place)
            elif action.verb == "join":
                name, _, body = action.rest.partition(" ")
                for server in self.servers:
                    variables = script.Variables(server.bound)
                    server.bound[name] = server.bound[name] | json.loads(variables.body(body))
            elif action.verb == "except":
                exchange[2].extend(action.rest.split())
            elif action.verb == "pause":
                time.sleep(float(action.rest))
            else:
                raise SystemExit(f"{case.title}: line {action.line}: unknown word {action.verb}")
        if not counted:
            return
        if findings and self.suspects is not None:
            self.suspects.append((case, values))
            return
        if findings:
            self.failed += 1
            print(f"\nDIFFERS  {case.title}")
            for text in findings:
                print(text)
            print(flush=True)
        else:
            self.passed += 1

    def exchange(self, action, token, headers):
        path, _, body = action.rest.replace("\n", " ", 1 if " " not in action.rest.split("\n")[0] else 0).partition(" ")
        answers = []
        for server in self.servers:
            variables = script.Variables(server.bound)
            used = {None: server.token, "nobody": ""}.get(token, variables.text(token or ""))
            if body.startswith("bytes "):
                data = base64.b64decode(variables.text(body.removeprefix("bytes ")))
            else:
                data = variables.body(body).encode("utf-8", "surrogateescape") if body else None
            sent = {name: variables.text(value) for name, value in headers.items()}
            answer, raw = server.send(action.verb, variables.text(path), data, used, sent)
            try:
                server.last = json.loads(raw) if raw else None
            except ValueError:
                server.last = raw.decode(errors="replace")
            answers.append(answer)
        return answers

    def judge(self, case, action, answers, exceptions):
        ours, peer = answers
        found = []
        one_refused = refused(ours) != refused(peer)
        for place, one, other in compare.differences(ours, peer):
            place = place.removeprefix("body.")
            if any(place == name or place.startswith((name + ".", name + "[")) for name in exceptions):
                continue
            if self.known.covers(f"{case.title} {action.verb} {action.rest}", place, one_refused):
                self.excused += 1
                continue
            found.append((place, one, other))
        if not found and not self.options.verbose:
            return []
        lines = [f"  {action.verb} {action.rest}"]
        lines.append(f"      ours  {brief(ours)}")
        lines.append(f"      peer  {brief(peer)}")
        lines += [f"        {place}:\n          ours  {show(one)}\n          peer  {show(other)}" for place, one, other in found]
        if not found:
            print("agrees   " + case.title + "\n" + "\n".join(lines))
            return []
        return ["\n".join(lines)]


def refused(answer):
    return isinstance(answer["body"], dict) and "errors" in answer["body"]


def brief(answer):
    body = answer["body"]
    if isinstance(body, dict):
        body = {name: value for name, value in body.items() if value not in (None, "", [], {}, False, 0) and name != "request_id"}
    body = without_words(body)
    return f"{answer['status']} {script.short(json.dumps(body, ensure_ascii=False), 400)}"


def without_words(value):
    """The value with decoded certificates and the like left out: only their differences are shown."""
    if isinstance(value, dict):
        return f"<{value['pem']}>" if "pem" in value else {name: without_words(inner) for name, inner in value.items()}
    return [without_words(inner) for inner in value] if isinstance(value, list) else value


def show(value):
    return value if value == "(absent)" else script.short(json.dumps(value, ensure_ascii=False), 1500)


def pick(value, place):
    """The part of a JSON value at `a.b.0`; `%first` is the first key of an object."""
    for name in place.split("."):
        try:
            value = next(iter(value)) if name == "%first" else value[int(name) if isinstance(value, list) else name]
        except (KeyError, IndexError, TypeError, ValueError, StopIteration):
            return f"<no {place}>"
    return value


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ours", required=True, metavar="URL")
    parser.add_argument("--peer", required=True, metavar="URL")
    parser.add_argument("--token", default="root")
    parser.add_argument("-v", "--verbose", action="store_true", help="show answers that agree, too")
    parser.add_argument("filter", nargs="?", default="", help="a part of 'file: case'")
    options = parser.parse_args()
    paths = sorted((HERE / "cases").glob("*.case"))
    # Those of the PKI stay within their mounts. The others see, and some change, the server as a whole.
    beside_others = [path for path in paths if path.stem.startswith("pki-")]
    passed, failed, excused, used = 0, 0, 0, set()
    try:
        # The longest first, so that none is left over at the end.
        beside_others.sort(key=lambda path: -path.stat().st_size)
        with concurrent.futures.ProcessPoolExecutor(os.cpu_count(), initializer=own_folder) as pool:
            results = list(pool.map(judged, beside_others, [options] * len(beside_others)))
        results += [judged(path, options) for path in paths if path not in beside_others]
    finally:
        shutil.rmtree(script.WORK, ignore_errors=True)
    for result in results:
        passed, failed, excused = passed + result[0], failed + result[1], excused + result[2]
        used |= result[3]
    if not options.filter and os.environ.get("TARGET") != "openbao":
        for entry in Known().entries:
            if entry not in used:
                print("known.txt: no longer differs: " + " :: ".join(map(str, entry)))
    if excused:
        print(f"{excused} known differences (docs/divergences.md)")
    print(f"{passed} passed, {failed} failed, 0 skipped")
    sys.exit(1 if failed else 0)


def own_folder():
    """Each process makes keys and certificates in a folder of its own, inside that of the first."""
    script.WORK = pathlib.Path(tempfile.mkdtemp(dir=script.WORK))


def judged(path, options):
    """Runs the cases of one file and prints what it found in one piece."""
    servers = [Server("ours", options.ours, options.token), Server("peer", options.peer, options.token)]
    runner = Runner(*servers, options)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        runner.file(path)
    sys.stdout.write(said.getvalue())
    sys.stdout.flush()
    return runner.passed, runner.failed, runner.excused, runner.known.used


if __name__ == "__main__":
    main()
