"""What must hold of everything that the charts render."""

import re

from charts import describe, dumps, key, pod_of, values_of

CLUSTER_WIDE = {"ClusterRole", "ClusterRoleBinding", "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration",
                "CustomResourceDefinition"}
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


def matches(selector, labels):
    return bool(selector) and all(labels.get(name) == value for name, value in selector.items())


def nulls(value, path=""):
    if value is None:
        yield path
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from nulls(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from nulls(inner, f"{path}[{index}]")


def broken(case, rendered):
    """Each rule that does not hold, as a sentence."""
    _, _, settings, _, namespace = case
    objects = rendered.objects
    given = dumps(values_of(settings))
    by_key = {key(one): one for one in objects}
    workloads = [(one, *pod_of(one)) for one in objects if pod_of(one)]
    services = [one for one in objects if one["kind"] == "Service"]

    if len(by_key) != len(objects):
        yield "two objects have one name"
    for one in objects:
        name, metadata = describe(one), one["metadata"]
        if (one["kind"] in CLUSTER_WIDE) == ("namespace" in metadata):
            yield f"{name}: the namespace is missing, or should be"
        if not NAME.fullmatch(metadata["name"]) or len(metadata["name"]) > 63:
            yield f"{name}: no name for Kubernetes"
        if "extra" not in metadata["name"] and "app.kubernetes.io/instance" not in metadata.get("labels", {}):
            yield f"{name}: no labels"
        for path in nulls(one):
            yield f"{name}: null at {path}"

    for one, metadata, spec in workloads:
        yield from of_pod(describe(one), spec, one, by_key, given)
        if one["kind"] != "Pod":
            if not matches(one["spec"]["selector"]["matchLabels"], metadata["labels"]):
                yield f"{describe(one)}: its selector does not match its own pods"
            if one["kind"] == "StatefulSet" and ("Service", one["metadata"].get("namespace"), one["spec"]["serviceName"]) not in by_key:
                yield f"{describe(one)}: there is no Service {one['spec']['serviceName']}"

    def pods(selector, wanted):
        return [(one, spec) for one, metadata, spec in workloads
                if one["metadata"].get("namespace") == wanted and matches(selector, metadata.get("labels", {}))]

    for service in services:
        found = pods(service["spec"]["selector"], service["metadata"].get("namespace"))
        if len(found) != 1:
            yield f"{describe(service)}: its selector matches {len(found)} of {len(workloads)} workloads"
        for one, spec in found:
            open_ports = {port[which] for container in spec["containers"] for port in container.get("ports", []) for which in ("name", "containerPort")}
            for port in service["spec"]["ports"]:
                if port["targetPort"] not in open_ports:
                    yield f"{describe(service)}: {describe(one)} has no port {port['targetPort']}"
    for one in objects:
        if one["kind"] in ("PodDisruptionBudget", "NetworkPolicy"):
            selector = one["spec"]["selector" if one["kind"] == "PodDisruptionBudget" else "podSelector"]["matchLabels"]
            found = pods(selector, one["metadata"].get("namespace"))
            if len(found) != 1:
                yield f"{describe(one)}: its selector matches {len(found)} workloads"
            if one["kind"] == "NetworkPolicy":
                named = {port["name"] for _, spec in found for container in spec["containers"] for port in container["ports"]}
                for rule in one["spec"].get("ingress", []):
                    for port in rule.get("ports", []):
                        if isinstance(port["port"], str) and port["port"] not in named:
                            yield f"{describe(one)}: there is no port {port['port']}"
        if one["kind"] == "ServiceMonitor":
            found = [service for service in services if matches(one["spec"]["selector"]["matchLabels"], service["metadata"]["labels"])
                     and service["metadata"].get("namespace") in one["spec"]["namespaceSelector"]["matchNames"]]
            ports = {port["name"] for service in found for port in service["spec"]["ports"]}
            if len(found) != 1 or any(endpoint["port"] not in ports for endpoint in one["spec"]["endpoints"]):
                yield f"{describe(one)}: it matches {len(found)} Services with the ports {ports}"
        if one["kind"] == "Ingress":
            for rule in one["spec"]["rules"]:
                for path in rule["http"]["paths"]:
                    backend = path["backend"]["service"]
                    service = by_key.get(("Service", one["metadata"].get("namespace"), backend["name"]))
                    if not service or backend["port"]["name"] not in {port["name"] for port in service["spec"]["ports"]}:
                        yield f"{describe(one)}: its backend is not there"
        if one["kind"].endswith("WebhookConfiguration"):
            yield from of_webhooks(one, by_key)
        if one["kind"] == "Issuer":
            yield from of_issuer(one, by_key, given)
    yield from of_rights(objects, by_key, given)


def of_pod(name, spec, one, by_key, given):
    namespace = one["metadata"].get("namespace")
    if "automountServiceAccountToken" not in spec:
        yield f"{name}: it is not said whether it gets a token"
    for field in ("hostPID", "hostIPC", "shareProcessNamespace"):
        if spec.get(field):
            yield f"{name}: {field}"
    account = spec.get("serviceAccountName", "default")
    if account != "default" and ("ServiceAccount", namespace, account) not in by_key and not ('"create": false' in given and f'"name": "{account}"' in given):
        yield f"{name}: there is no ServiceAccount {account}"
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    volumes |= {claim["metadata"]["name"]: claim for claim in one["spec"].get("volumeClaimTemplates", [])}
    if len(volumes) != len(spec.get("volumes", [])) + len(one["spec"].get("volumeClaimTemplates", [])):
        yield f"{name}: two volumes have one name"
    mounted = set()
    for container in spec["containers"] + spec.get("initContainers", []):
        where = f"{name}, {container['name']}"
        context = spec.get("securityContext", {}) | container.get("securityContext", {})
        wanted = {"runAsNonRoot": True, "readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False,
                  "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"}}
        for field, value in wanted.items():
            if context.get(field) != value:
                yield f"{where}: {field} is {context.get(field)}"
        if context.get("privileged") or context.get("runAsUser") == 0:
            yield f"{where}: privileged"
        if "memory" not in container.get("resources", {}).get("limits", {}):
            yield f"{where}: no limit of memory"
        image = container["image"]
        if image.endswith(":latest") or not re.search(r"(:[^/]+|@sha256:[0-9a-f]{64})$", image):
            yield f"{where}: the image {image} may be anything"
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        if len(set(ports.values())) != len(container.get("ports", [])):
            yield f"{where}: a port is there twice"
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if probe in container and container[probe]["httpGet"]["port"] not in ports:
                yield f"{where}: the port of {probe} is not there"
        if one["kind"] != "Pod" and not {"livenessProbe", "readinessProbe"} <= set(container):
            yield f"{where}: probes are missing"
        paths = [mount["mountPath"] for mount in container.get("volumeMounts", [])]
        if len(paths) != len(set(paths)):
            yield f"{where}: two mounts at one path"
        for mount in container.get("volumeMounts", []):
            mounted.add(mount["name"])
            if mount["name"] not in volumes:
                yield f"{where}: there is no volume {mount['name']}"
        names = [variable["name"] for variable in container.get("env", [])]
        if len(names) != len(set(names)):
            yield f"{where}: a variable is there twice"
    if set(volumes) != mounted:
        yield f"{name}: volumes that nobody mounts: {set(volumes) - mounted}"
    for volume in volumes.values():
        if "hostPath" in volume:
            yield f"{name}: hostPath"
        if "configMap" in volume:
            config_map = volume["configMap"]["name"]
            if ("ConfigMap", namespace, config_map) not in by_key and f'"{config_map}"' not in given and config_map != "istio-root-ca":
                yield f"{name}: there is no ConfigMap {config_map}"


def of_webhooks(one, by_key):
    kind, name = one["kind"], describe(one)
    path = "/mutate" if kind.startswith("Mutating") else "/validate"
    for webhook in one["webhooks"]:
        client = webhook["clientConfig"]["service"]
        if webhook["name"] != "webhook.cert-manager.io" or client["path"] != path:
            yield f"{name}: clients look for webhook.cert-manager.io at {path}"
        service = by_key.get(("Service", client["namespace"], client["name"]))
        if not service or client["port"] not in {port["port"] for port in service["spec"]["ports"]}:
            yield f"{name}: its Service is not there"


def of_issuer(one, by_key, given):
    vault = one["spec"]["vault"]
    url = re.fullmatch(r"(https?)://([^:/]+)(?::(\d+))?", vault["server"])
    scheme, host, port = url.groups()
    if f'"{vault["server"]}"' not in given:
        name, namespace, _ = host.split(".")
        service = by_key.get(("Service", namespace, name))
        ports = {(port["name"], str(port["port"])) for port in service["spec"]["ports"]} if service else set()
        if (scheme, port) not in ports:
            yield f"{describe(one)}: {vault['server']} is no Service: {ports}"
    secret = by_key.get(("Secret", one["metadata"].get("namespace"), vault["auth"]["appRole"]["secretRef"]["name"]))
    if secret and vault["auth"]["appRole"]["secretRef"]["key"] not in secret["data"]:
        yield f"{describe(one)}: its Secret has another key"


def of_rights(objects, by_key, given):
    for one in objects:
        if one["kind"] in ("Role", "ClusterRole"):
            for rule in one["rules"]:
                everything = rule["verbs"] + rule["resources"] + rule["apiGroups"]
                if any("*" in word for word in everything):
                    yield f"{describe(one)}: a wildcard in {rule}"
                if {"escalate", "bind", "impersonate"} & set(rule["verbs"]) or "nonResourceURLs" in rule:
                    yield f"{describe(one)}: {rule}"
                # The controller writes Secrets of any name; nobody else has to see more than those that are named.
                is_controllers = "chancery-controller" in one["metadata"]["labels"]["app.kubernetes.io/name"]
                if "secrets" in rule["resources"] and not is_controllers and rule["verbs"] != ["create"] and not rule.get("resourceNames"):
                    yield f"{describe(one)}: all Secrets"
                if "create" in rule["verbs"] and rule.get("resourceNames") and rule["resources"] != ["serviceaccounts/token"]:
                    yield f"{describe(one)}: what is created has no name yet"
        if one["kind"] in ("RoleBinding", "ClusterRoleBinding"):
            reference = one["roleRef"]
            space = one["metadata"].get("namespace") if reference["kind"] == "Role" else ""
            if (reference["kind"], space, reference["name"]) not in by_key:
                yield f"{describe(one)}: there is no {reference['kind']} {reference['name']}"
            for subject in one["subjects"]:
                if (subject["kind"], subject["namespace"], subject["name"]) not in by_key and not (
                        '"create": false' in given and f'"name": "{subject["name"]}"' in given):
                    yield f"{describe(one)}: there is no {subject['kind']} {subject['name']}"
