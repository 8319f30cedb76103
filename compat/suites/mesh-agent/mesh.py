"""A small mesh: a CA that speaks Istio's protocol, agents, and Envoys that get their certificates from these."""

import asyncio, concurrent.futures, datetime, http.client, ipaddress, json, os, pathlib, signal, socket, subprocess, sys, threading, time

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from chancery_compat import free_port

PEM = serialization.Encoding.PEM
passed = 0


def check(what, condition, *more):
    global passed
    if not condition:
        print("FAILED:", what, *more)
        sys.exit(1)
    print("ok:", what)
    passed += 1


def done():
    print(f"{passed} passed, 0 failed, 0 skipped")


def until(what, look, seconds=20):
    """What `look` finds, once it finds anything."""
    deadline, error = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        try:
            if found := look():
                return found
        except (OSError, http.client.HTTPException, KeyError, IndexError) as caught:
            error = caught
        time.sleep(0.02)
    print("FAILED:", what, error or "")
    for log in pathlib.Path().glob("*.log"):
        print(f"--- {log}\n{log.read_text()[-3000:]}")
    sys.exit(1)


def remember(process):
    with open(pathlib.Path(os.environ["HOME"]) / "pids", "a") as pids:
        pids.write(f"{process.pid}\n")
    return process


def pem(certificate):
    return certificate.public_bytes(PEM).decode()


def key_pem(key):
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


class Root:
    def __init__(self, name):
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        self.certificate = (self.builder(self.name, self.key.public_key(), 86400)
                            .add_extension(x509.BasicConstraints(True, None), True).add_extension(usage, True)
                            .sign(self.key, hashes.SHA256()))

    def builder(self, subject, key, seconds):
        now = datetime.datetime.now(datetime.timezone.utc)
        return (x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key)
                .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(seconds=5))
                .not_valid_after(now + datetime.timedelta(seconds=seconds)))

    def leaf(self, names, key, seconds):
        usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
        both = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        return (self.builder(x509.Name([]), key, seconds).add_extension(x509.SubjectAlternativeName(names), True)
                .add_extension(x509.BasicConstraints(False, None), True).add_extension(usage, True).add_extension(both, False)
                .sign(self.key, hashes.SHA256()))


def fields(message):
    """The fields of a protobuf message, by number: numbers, and bytes."""
    at, found = 0, {}

    def number():
        nonlocal at
        value, shift = 0, 0
        while True:
            byte, at = message[at], at + 1
            value, shift = value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    while at < len(message):
        head = number()
        value = number()
        if head & 7 == 2:
            value, at = message[at:at + value], at + value
        found[head >> 3] = value
    return found


def texts(*values):
    """A message with each of them as an element of field 1."""
    made = b""
    for value in values:
        data, length = value.encode(), b""
        size = len(data)
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        made += b"\x0a" + length + bytes([size]) + data
    return made


class CA(grpc.GenericRpcHandler):
    """`istio.v1.auth.IstioCertificateService`. `root` signs; `roots` are given out; `life` is that of what it signs."""

    def __init__(self, life):
        self.root, self.life, self.calls, self.requests, self.refuse = Root("one"), life, [], [], False
        self.roots = [self.root]
        # The connection to the CA has a root of its own: the mesh's is changed.
        serving = Root("serving")
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = serving.leaf([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))], key.public_key(), 86400)
        pathlib.Path("ca-root.pem").write_text(pem(serving.certificate))
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), [self])
        credentials = grpc.ssl_server_credentials([(key_pem(key), pem(leaf).encode())])
        self.address = f"127.0.0.1:{self.server.add_secure_port('127.0.0.1:0', credentials)}"
        self.server.start()

    def service(self, details):
        if details.method == "/istio.v1.auth.IstioCertificateService/CreateCertificate":
            return grpc.unary_unary_rpc_method_handler(self.create)

    def create(self, request, context):
        request = fields(request)
        metadata = dict(context.invocation_metadata())
        self.calls.append(metadata)
        if self.refuse:
            context.abort(grpc.StatusCode.UNAVAILABLE, "as told")
        if metadata.get("authorization") != "Bearer the-token":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "request authenticate failure")
        csr = x509.load_pem_x509_csr(request[1])
        if not csr.is_signature_valid:
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "request authenticate failure")
        extension = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = list(extension.value)
        self.requests.append((csr, extension))
        leaf = self.root.leaf(names, csr.public_key(), self.life or request[3])
        return texts(pem(leaf), "".join(pem(root.certificate) for root in self.roots))


class Agent:
    """`chancery mesh agent` for one service account of the namespace `sandbox`."""

    def __init__(self, ca, account, *more):
        self.account, self.id = account, f"spiffe://cluster.local/ns/sandbox/sa/{account}"
        self.socket = pathlib.Path(f"{account}/socket").resolve()
        self.log = pathlib.Path(f"agent-{account}.log").resolve()
        pathlib.Path("token").write_text("the-token\n")
        self.port = free_port()
        self.command = [
            os.environ["CHANCERY"], "mesh", "agent", f"-ca-address={ca.address}", "-ca-root-file=ca-root.pem", "-token-file=token",
            "-namespace=sandbox", f"-service-account={account}", "-cluster-id=Kubernetes", f"-socket={self.socket}",
            f"-status-port={self.port}", f"-certs={account}/certs", "-log-level=debug", *more]
        self.process = None

    def start(self):
        with open(self.log, "ab") as log:
            self.process = remember(subprocess.Popen(self.command, stdout=log, stderr=log))
        return self

    def ready(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        connection.request("GET", "/healthz/ready")
        return connection.getresponse().status == 200

    def metrics(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()

    def memory(self):
        """What is resident: all, and what is no file's."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        sizes = {line.split()[0]: int(line.split()[1]) / 1024 for line in status if line.startswith(("VmRSS", "RssAnon"))}
        return f"{sizes['VmRSS:']:.1f} MB, of its own {sizes['RssAnon:']:.1f} MB"

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        return self.process.wait(timeout=10)


def port():
    """A free one that nothing else in this suite picks."""
    for number in range(23000, 23100):
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", number))
            except OSError:
                continue
        if number not in taken:
            taken.add(number)
            return number
    raise SystemExit("FAILED: no port from 23000 to 23099 is free")


taken = set()


def sds(name, timeout="0s", kind="GRPC"):
    source = {"api_type": kind, "transport_api_version": "V3", "set_node_on_first_message_only": True,
              "grpc_services": [{"envoy_grpc": {"cluster_name": "sds-grpc"}}]}
    return {"name": name, "sds_config": {"api_config_source": source, "resource_api_version": "V3", "initial_fetch_timeout": timeout}}


def http2_options(**more):
    return {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions", **more}}


def tls(kind, peer, certificate="default", timeout="0s", api="GRPC"):
    """A transport socket whose secrets come from the agent, and whose peer must be `peer`."""
    match = [{"san_type": "URI", "matcher": {"exact": peer}}]
    context = {"@type": f"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{kind}",
               "common_tls_context": {
                   "tls_certificate_sds_secret_configs": [sds(certificate, timeout, api)],
                   "combined_validation_context": {"default_validation_context": {"match_typed_subject_alt_names": match},
                                                   "validation_context_sds_secret_config": sds("ROOTCA", timeout, api)}}}
    if kind == "DownstreamTlsContext":
        context["require_client_certificate"] = True
    return {"name": "envoy.transport_sockets.tls", "typed_config": context}


def listener(name, number, route, transport=None):
    manager = {"@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
               "stat_prefix": name,
               "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
                   "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
               "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}} | route]}]}}
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    if transport:
        chain["transport_socket"] = transport
    address = {"socket_address": {"address": "127.0.0.1", "port_value": number}}
    return {"name": name, "address": address, "filter_chains": [chain]}


def cluster(name, number, transport=None, per_connection=1):
    endpoint = {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": number}}}}
    made = {"name": name, "type": "STATIC", "connect_timeout": "5s",
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
            # A handshake for each so many requests.
            "typed_extension_protocol_options": http2_options(
                explicit_http_config={"http_protocol_options": {}},
                common_http_protocol_options={"max_requests_per_connection": per_connection})}
    return made | ({"transport_socket": transport} if transport else {})


class Envoy:
    def __init__(self, name, agent, listeners, clusters=()):
        self.name, self.admin = name, port()
        self.log = pathlib.Path(f"envoy-{name}.log").resolve()
        agent_cluster = {"name": "sds-grpc", "type": "STATIC", "connect_timeout": "1s",
                         "load_assignment": {"cluster_name": "sds-grpc", "endpoints": [{"lb_endpoints": [
                             {"endpoint": {"address": {"pipe": {"path": str(agent.socket)}}}}]}]},
                         "typed_extension_protocol_options": http2_options(explicit_http_config={"http2_protocol_options": {}})}
        config = {"node": {"id": f"sidecar~127.0.0.1~{name}", "cluster": name},
                  "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": self.admin}}},
                  "static_resources": {"listeners": listeners, "clusters": [agent_cluster, *clusters]}}
        path = pathlib.Path(f"envoy-{name}.json").resolve()
        path.write_text(json.dumps(config))
        with open(self.log, "wb") as log:
            self.process = remember(subprocess.Popen(
                ["envoy", "-c", str(path), "--concurrency", "1", "--disable-hot-restart", "--log-level", "info"], stdout=log, stderr=log))

    def get(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=5)
        connection.request("GET", path)
        return connection.getresponse().read().decode()

    def stat(self, name):
        """The sum of the counters whose name ends like this."""
        lines = (line.rsplit(": ", 1) for line in self.get("/stats?filter=" + name).splitlines() if ": " in line)
        return sum(int(value) for key, value in lines if key.endswith(name))

    def certificates(self):
        return json.loads(self.get("/certs"))["certificates"]

    def serials(self):
        """The serial numbers of the workload's certificates in use."""
        found = set()
        for entry in self.certificates():
            found |= {int(one["serial_number"], 16) for one in entry.get("cert_chain", [])[:1]}
        return found

    def roots(self):
        found = set()
        for entry in self.certificates():
            found |= {int(one["serial_number"], 16) for one in entry.get("ca_cert", [])}
        return found

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=20)


class Traffic:
    """Requests without a pause, from a thread of their own."""

    def __init__(self, number):
        self.port, self.count, self.failures, self.over = number, 0, [], False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.over:
            try:
                answer = request(self.port)
                if answer != (200, "hello"):
                    self.failures.append(answer)
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
            self.count += 1
            time.sleep(0.005)

    def end(self):
        self.over = True
        self.thread.join()


class Steady:
    """So many requests a second, whatever becomes of them: each of 40 connections has a schedule of its own."""

    CONNECTIONS = 40

    def __init__(self, number, rate):
        self.port, self.pause, self.count, self.failures, self.over = number, self.CONNECTIONS / rate, 0, [], False
        self.begun, self.slowest = time.monotonic(), 0.0
        self.thread = threading.Thread(target=lambda: asyncio.run(self.all()), daemon=True)
        self.thread.start()

    async def all(self):
        await asyncio.gather(*(self.one(index) for index in range(self.CONNECTIONS)))

    async def one(self, index):
        due, stream = time.monotonic() + self.pause * index / self.CONNECTIONS, None
        while not self.over:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            sent = time.monotonic()
            try:
                stream = stream or await asyncio.open_connection("127.0.0.1", self.port)
                answer = await asyncio.wait_for(self.ask(*stream), 10)
                if not answer.endswith(b"\r\n\r\nhello") or not answer.startswith(b"HTTP/1.1 200 "):
                    self.failures.append(answer[:200])
            except (OSError, EOFError, asyncio.TimeoutError) as error:
                self.failures.append(repr(error))
                stream = None
            self.count += 1
            self.slowest = max(self.slowest, time.monotonic() - sent)
            due += self.pause

    async def ask(self, reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: httpbin\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        return head + await reader.readexactly(length)

    def end(self):
        self.over = True
        self.thread.join()
        self.seconds = time.monotonic() - self.begun
        print(f"{self.count / self.seconds:.0f} requests a second for {self.seconds:.0f} s, the slowest {self.slowest * 1e3:.0f} ms")


def request(number):
    connection = http.client.HTTPConnection("127.0.0.1", number, timeout=10)
    connection.request("GET", "/")
    answer = connection.getresponse()
    found = answer.status, answer.read().decode()
    connection.close()
    return found
