"""A container of the certificate service, started here: its volumes are folders, and there is no API server."""

import base64, http.client, os, pathlib, subprocess, time

from chancery_compat import free_port

CHANCERY = os.environ["CHANCERY"]


def remember(process):
    with open(pathlib.Path(os.environ["HOME"]) / "pids", "a") as pids:
        pids.write(f"{process.pid}\n")
    return process


def background(folder, name, *arguments):
    with open(folder / f"{name}.log", "ab") as log:
        return remember(subprocess.Popen([CHANCERY, *arguments], cwd=folder, stdout=log, stderr=log,
                                         env={"PATH": os.environ["PATH"], "HOME": str(folder)}))


def is_ready(port, path):
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False


def until(look, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if look():
            return True
        time.sleep(0.05)
    return False


def mounted(folder, spec, container, cluster):
    """Writes what is mounted; says which folder stands for which."""
    places = {}
    for mount in container["volumeMounts"]:
        volume = next(volume for volume in spec["volumes"] if volume["name"] == mount["name"])
        place = folder / mount["name"]
        place.mkdir()
        places[mount["mountPath"]] = place
        source = volume["secret"]
        data = cluster["/".join(["secret", "cert-manager", source["secretName"]])]["data"]
        items = source.get("items") or [{"key": key, "path": key} for key in data]
        for item in items:
            (place / item["path"]).write_bytes(base64.b64decode(data[item["key"]]))
    return places


def certificate(folder, spec, cluster, server, address):
    """The service as the pod says; then an agent of sleep in foo that asks it. The folder with what the agent got, or the logs."""
    folder.mkdir()
    (container,) = spec["containers"]
    ports = {port["name"]: free_port() for port in container["ports"]}
    token = subprocess.run([CHANCERY, "mesh", "dev-token", "-folder=tokens", "-namespace=foo", "-service-account=sleep"],
                           cwd=folder, capture_output=True, text=True, check=True).stdout
    (folder / "token").write_text(token)
    places = mounted(folder, spec, container, cluster)
    arguments, names = [], ""
    for argument in container["args"]:
        flag, equals, value = argument.partition("=")
        for path, place in places.items():
            value = value.replace(path, str(place))
        value = {"-vault-addr": server if value == address else value, "-serving-address": f"127.0.0.1:{ports['grpc']}",
                 "-readiness-probe-port": str(ports["probes"]), "-metrics-port": str(ports["metrics"])}.get(flag, value)
        if flag == "-serving-certificate-dns-names":
            names = value.split(",")[0]
        arguments.append(flag + equals + value)
    # In the place of TokenReviews.
    arguments += ["-without-kubernetes", "-jwks-file=tokens/jwks.json", "-jwks-issuer=https://kubernetes.default.svc.cluster.local"]
    service = background(folder, "service", *arguments)
    ready = until(lambda: is_ready(ports["probes"], container["readinessProbe"]["httpGet"]["path"]))
    alive = is_ready(ports["probes"], container["livenessProbe"]["httpGet"]["path"]) and is_ready(ports["metrics"], "/metrics")
    root = next(place for place in places.values() if (place / "ca.cert.pem").exists()) / "ca.cert.pem"
    agent = background(folder, "agent", "mesh", "agent", f"-ca-address=127.0.0.1:{ports['grpc']}", f"-ca-server-name={names}", f"-ca-root-file={root}",
                       "-token-file=token", "-namespace=foo", "-service-account=sleep", "-output-certs=got", "-certs=none",
                       f"-socket={folder}/agent/socket", "-cluster-id=Kubernetes")
    (folder / "got").mkdir(exist_ok=True)
    got = until(lambda: (folder / "got/root-cert.pem").exists() and (folder / "got/cert-chain.pem").exists())
    for process in agent, service:
        process.terminate()
        process.wait(timeout=20)
    return ready and alive and got, "".join((folder / f"{name}.log").read_text()[-1500:] for name in ("service", "agent"))
