"""What the Python steps share: a small HTTP client, and a durable server that they start and kill themselves."""

import http.client, json, os, pathlib, signal, socket, subprocess, sys, time, urllib.parse

SKIPPED = 77


def skip(sentence):
    print(sentence)
    sys.exit(SKIPPED)


class Api:
    """One connection to a server; answers are (status, decoded body)."""

    def __init__(self, address=None, token=None):
        self.address = address or os.environ["VAULT_ADDR"]
        self.token = os.environ.get("VAULT_TOKEN", "") if token is None else token
        self.connection = None

    def send(self, method, path, body=None, **headers):
        if self.connection is None:
            self.connection = http.client.HTTPConnection(urllib.parse.urlsplit(self.address).netloc, timeout=60)
        sent = {"X-Vault-Request": "true"} | ({"X-Vault-Token": self.token} if self.token else {})
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        data = json.dumps(body).encode() if isinstance(body, (dict, list)) else body
        try:
            self.connection.request(method, "/v1/" + path, data, sent)
            answer = self.connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            self.connection.close()
            self.connection = None
            raise
        try:
            return answer.status, json.loads(text) if text else None
        except ValueError:
            return answer.status, text

    def ok(self, method, path, body=None, **headers):
        """The body of an answer that must be a success."""
        status, answer = self.send(method, path, body, **headers)
        if status >= 300:
            raise SystemExit(f"FAILED: {method} {path} answers {status}: {answer}")
        return answer

    def write(self, path, **body):
        return self.ok("POST", path, body)

    def read(self, path):
        return self.ok("GET", path)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Durable:
    """The server under judgement on durable storage; `start`, `unseal`, `kill` as often as wanted."""

    def __init__(self, folder, lines=()):
        self.folder = pathlib.Path(folder).resolve()
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        self.address = f"http://127.0.0.1:{free_port()}"
        data = json.dumps(str(self.folder / "data"))
        if os.environ["TARGET"] == "openbao":
            storage = f'storage "raft" {{ path = {data} node_id = "one" }}\ncluster_addr = "http://127.0.0.1:{free_port()}"\n'
        else:
            storage = f'storage "embedded" {{ path = {data} }}\n'
        listen = self.address.removeprefix("http://")
        (self.folder / "server.hcl").write_text(
            storage + f'listener "tcp" {{ address = "{listen}" tls_disable = true }}\napi_addr = "{self.address}"\n'
            + "".join(line + "\n" for line in lines))
        self.process, self.keys, self.token = None, [], ""

    def start(self):
        log = open(self.folder / "log", "ab")
        self.process = subprocess.Popen([os.environ["SERVER"], "server", f"-config={self.folder}/server.hcl"],
                                        stdout=log, stderr=log, cwd=self.folder)
        with open(pathlib.Path(os.environ["HOME"]) / "pids", "a") as pids:
            pids.write(f"{self.process.pid}\n")
        self.wait(lambda status: status in (200, 429, 501, 503))

    def wait(self, wanted):
        """Waits until sys/health answers a status that is wanted."""
        deadline, status = time.monotonic() + 60, None
        while time.monotonic() < deadline:
            try:
                status, _ = Api(self.address, "").send("GET", "sys/health")
                if wanted(status):
                    return
            except (OSError, http.client.HTTPException):
                if self.process.poll() is not None:
                    raise SystemExit("FAILED: the server ended: " + (self.folder / "log").read_text()[-2000:])
            time.sleep(0.02)
        raise SystemExit(f"FAILED: after 60 s sys/health still answers {status}")

    def initialise(self, shares=1, threshold=1):
        made = Api(self.address, "").ok("PUT", "sys/init", {"secret_shares": shares, "secret_threshold": threshold})
        self.keys, self.token = made["keys_base64"][:threshold], made["root_token"]
        self.unseal()
        return self.api()

    def unseal(self):
        for key in self.keys:
            Api(self.address, "").ok("PUT", "sys/unseal", {"key": key})
        self.wait(lambda status: status == 200)

    def api(self):
        return Api(self.address, self.token)

    def kill(self):
        """SIGKILL: no chance to write anything any more."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
