"""What the charts tell our binary, told to our binary."""

import base64, json, os, pathlib, re, secrets, ssl, subprocess, sys, time, urllib.error, urllib.request

sys.path.insert(0, os.environ["SUITE"])
from cases import CASES
from charts import Rendered, Tally, describe, pod_of
from chancery_compat import Api, Durable, free_port, skip

if os.environ["TARGET"] != "chancery":
    skip("the charts are of our own binary")
CHANCERY = os.environ["CHANCERY"]
tally = Tally()
rendered = {case[0]: Rendered(*case[1:]) for case in CASES}


def run(arguments, **variables):
    """Without any of the variables of this machine."""
    try:
        ended = subprocess.run([CHANCERY, *arguments], capture_output=True, text=True, timeout=10,
                               env={"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], **variables})
    except subprocess.TimeoutExpired:
        return None, "it runs"
    return ended.returncode, ended.stdout + ended.stderr


# Each flag that a chart gives is one of the command's.
flags, absent = {}, set()


def flags_of(command):
    if command not in flags:
        code, text = run([*command, "-help"])
        flags[command] = set(re.findall(r"^ +-([a-z][-a-z0-9]*)", text, re.MULTILINE)) if code == 0 and text.startswith("Usage: chancery " + " ".join(command)) else None
    return flags[command]


calls = {}
for name, one in rendered.items():
    for made in one.objects:
        for container in (pod_of(made) or ({}, {"containers": []}))[1]["containers"]:
            arguments = container["args"]
            first = next((index for index, word in enumerate(arguments) if word.startswith("-")), len(arguments))
            command, given = tuple(arguments[:first]), arguments[first:]
            calls[name, describe(made)] = (command, given, container)
            tally.check(f"{name}: {describe(made)} runs chancery", container["command"] == ["chancery"])
            if (known := flags_of(command)) is None:
                absent.add(command)
                continue
            for flag in given:
                # The flag of a switch may say =true or =false.
                word = flag.lstrip("-").partition("=")[0]
                tally.check(f"{name}: {describe(made)}: {' '.join(command)} has -{word}", word in known)
for command in absent:
    tally.check(f"there is a command {' '.join(command)}", command == ("controller",))
    tally.skip(f"this binary has no command {' '.join(command)}: its flags are not checked")

# The certificate service takes the values too: it gets as far as asking for the API server, which is not there.
for (name, what), (command, given, _) in calls.items():
    if command == ("mesh", "ca"):
        code, said = run([*command, *given])
        said = said.strip().splitlines()[-1] if said.strip() else ""
        tally.check(f"{name}: {what}: the settings are taken", code == 1 and said.startswith("Kubernetes: "), said)
    if command == ("controller",) and flags_of(command) is not None:
        code, said = run([*command, *given])
        tally.check(f"{name}: {what}: the settings are taken", not re.search("invalid value|not defined|unknown", said), said[-500:])

# The server starts with the configuration of the chart, in other folders and at another port.
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE


def status_of(url):
    try:
        with urllib.request.urlopen(url, timeout=10, context=context) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def probes_of(name):
    container = next(container for (case, what), (_, _, container) in calls.items() if case == name and what.startswith("StatefulSet"))
    return {probe: (container[probe]["httpGet"]["scheme"].lower(), container[probe]["httpGet"]["path"]) for probe in (
        "startupProbe", "livenessProbe", "readinessProbe")}


def good(status):
    """As the kubelet sees it."""
    return 200 <= status < 400


def certificates(folder):
    """What a Secret of the server holds: tls.crt, tls.key, ca.crt."""
    ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    for words in (
        ["req", "-x509", *ec, "-keyout", "ca.key", "-out", "ca.crt", "-days", "1", "-subj", "/CN=authority"],
        ["req", *ec, "-keyout", "tls.key", "-out", "tls.csr", "-subj", "/CN=server", "-addext", "subjectAltName=IP:127.0.0.1"],
        ["x509", "-req", "-in", "tls.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-days", "1", "-copy_extensions", "copy", "-out", "tls.crt"],
    ):
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=folder)


for name in ("server-default", "server-plain", "server-all", "server-own-config"):
    folder = pathlib.Path(name).resolve()
    server = Durable(folder)
    port = int(server.address.rsplit(":", 1)[1])
    config_map = next(one for one in rendered[name].objects if one["kind"] == "ConfigMap")
    (file, text), = config_map["data"].items()
    for place in ("tls", "client-ca", "seal"):
        (folder / place).mkdir()
    certificates(folder / "tls")
    (folder / "client-ca/ca.crt").write_bytes((folder / "tls/ca.crt").read_bytes())
    (folder / "seal/current").write_bytes(secrets.token_bytes(32))
    (folder / "seal/previous").write_text(base64.b64encode(secrets.token_bytes(32)).decode() + "\n")
    text = text.replace("/etc/chancery/", f"{folder}/").replace("/var/lib/chancery/", f"{folder}/data/").replace("[::]:8200", f"127.0.0.1:{port}")
    (folder / "server.hcl").unlink()
    (folder / file).write_text(text)
    probes = probes_of(name)
    scheme = probes["readinessProbe"][0]
    tally.check(f"{name}: probes speak as the listener does", (scheme == "https") == ("tls_cert_file" in text), scheme)

    with open(folder / "log", "ab") as log:
        server.process = subprocess.Popen([CHANCERY, "server", f"-config={folder / file}"], stdout=log, stderr=log)
    with open(pathlib.Path(os.environ["HOME"]) / "pids", "a") as pids:
        pids.write(f"{server.process.pid}\n")

    def ask(probe):
        return status_of(f"{scheme}://127.0.0.1:{port}{probes[probe][1]}")

    def until(wanted):
        for _ in range(400):
            try:
                if wanted(ask("livenessProbe")):
                    return True
            except OSError:
                if server.process.poll() is not None:
                    return False
            time.sleep(0.025)
        return False

    tally.check(f"{name}: a new server is alive", until(good), (folder / "log").read_text()[-2000:])
    if server.process.poll() is not None:
        continue
    tally.check(f"{name}: and not ready", ask("readinessProbe") == 501, ask("readinessProbe"))
    # The command of the chart's notes.
    words = re.search(r"-- chancery (operator init.*)", rendered[name].notes).group(1).split()
    here = {"VAULT_ADDR": f"{scheme}://127.0.0.1:{port}", "VAULT_CACERT": f"{folder}/tls/ca.crt"}
    code, said = run([*words, "-format=json"], **here)
    tally.check(f"{name}: it is initialised", code == 0, said)
    if code:
        continue
    made = json.loads(said[said.index("{"):])
    if 'seal "static"' in text:
        tally.check(f"{name}: it unseals itself", until(lambda status: status == 200) and ask("readinessProbe") == 200)
    else:
        tally.check(f"{name}: sealed, it is alive and not ready", (ask("livenessProbe"), ask("startupProbe"), ask("readinessProbe")) == (204, 204, 503))
        words = re.search(r"-- chancery (operator unseal.*)", rendered[name].notes).group(1).split()
        for key in made["unseal_keys_b64"][:made["unseal_threshold"]]:
            run([*words, key], **here)
        tally.check(f"{name}: unsealed, it is ready", ask("readinessProbe") == 200, ask("readinessProbe"))
    monitor = next((one for one in rendered[name].objects if one["kind"] == "ServiceMonitor"), None)
    if monitor:
        endpoint = monitor["spec"]["endpoints"][0]
        status = status_of(f"{scheme}://127.0.0.1:{port}{endpoint['path']}?format={endpoint['params']['format'][0]}")
        tally.check(f"{name}: metrics need a token unless they are open", status == (403 if "authorization" in endpoint else 200), status)
    # What it does not understand it warns of.
    tally.check(f"{name}: no setting is passed over", "found in configuration" not in (folder / "log").read_text(), (folder / "log").read_text()[-2000:])
    server.process.terminate()
    tally.check(f"{name}: it ends in order", server.process.wait(timeout=20) == 0)

# The development server, as its container starts it.
(_, given, container) = next(call for (name, what), call in calls.items() if name == "server-dev" and what.startswith("StatefulSet"))
port = free_port()
variables = {variable["name"]: variable["value"] for variable in container["env"]} | {
    "HOME": os.environ["HOME"], "VAULT_DEV_LISTEN_ADDRESS": f"127.0.0.1:{port}"}
process = subprocess.Popen([CHANCERY, "server", *given], env={"PATH": os.environ["PATH"], **variables}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
with open(pathlib.Path(os.environ["HOME"]) / "pids", "a") as pids:
    pids.write(f"{process.pid}\n")
server = Durable("dev")
server.address, server.process = f"http://127.0.0.1:{port}", process
server.wait(lambda status: status == 200)
tally.check("server-dev: the root token is the one in the notes", Api(server.address, "root").send("GET", "auth/token/lookup-self")[0] == 200)
# What `helm test` does there.
(command, given, _) = next(call for (name, what), call in calls.items() if name == "server-dev" and what.startswith("Pod"))
arguments = [f"-address={server.address}" if word.startswith("-address=") else word for word in given]
tally.check("server-dev: the test passes", run([*command, *arguments])[0] == 0)
process.terminate()
process.wait(timeout=20)
code, said = run([*command, *arguments])
tally.check("server-dev: and fails when nobody serves", code != 0, said)
tally.done()
