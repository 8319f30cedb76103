"""Each rule and each schema sees the fault that it is for."""

import copy, os, sys

sys.path.insert(0, os.environ["SUITE"])
from cases import CASES
from charts import Rendered, Tally, pod_of
from rules import broken
from schemas import VERSIONS, invalid

tally = Tally()
cases = {case[0]: case for case in CASES}
clean = {name: Rendered(*cases[name][1:]) for name in (
    "server-all", "controller-default", "controller-all", "mesh-document", "mesh-direct-approle", "istio-second-step")}


def first(objects, kind):
    return next(one for one in objects if one["kind"] == kind)


def container(objects, kind):
    return pod_of(first(objects, kind))[1]["containers"][0]


def rules_about(objects, resource):
    return [rule for one in objects if one["kind"] in ("Role", "ClusterRole") for rule in one["rules"] if resource in rule["resources"]]


def client(objects, kind):
    return first(objects, kind)["webhooks"][0]["clientConfig"]["service"]


# A case, a fault, and a part of what must be said.
FAULTS = [
    ("server-all", "readOnlyRootFilesystem", lambda all: container(all, "StatefulSet")["securityContext"].pop("readOnlyRootFilesystem")),
    ("server-all", "capabilities", lambda all: container(all, "StatefulSet")["securityContext"].pop("capabilities")),
    ("server-all", "runAsNonRoot", lambda all: pod_of(first(all, "StatefulSet"))[1]["securityContext"].pop("runAsNonRoot")),
    ("server-all", "seccompProfile", lambda all: pod_of(first(all, "Pod"))[1]["securityContext"].pop("seccompProfile")),
    ("server-all", "privileged", lambda all: container(all, "StatefulSet")["securityContext"].update(privileged=True)),
    ("server-all", "no limit of memory", lambda all: container(all, "StatefulSet").pop("resources")),
    ("server-all", "may be anything", lambda all: container(all, "StatefulSet").update(image="registry:5000/chancery")),
    ("server-all", "the port of livenessProbe", lambda all: container(all, "StatefulSet")["livenessProbe"]["httpGet"].update(port="api")),
    ("server-all", "probes are missing", lambda all: container(all, "StatefulSet").pop("readinessProbe")),
    ("server-all", "hostPath", lambda all: pod_of(first(all, "StatefulSet"))[1]["volumes"][0].update(hostPath={"path": "/"})),
    ("server-all", "there is no volume extra", lambda all: pod_of(first(all, "StatefulSet"))[1]["volumes"].pop()),
    ("server-all", "nobody mounts", lambda all: container(all, "StatefulSet")["volumeMounts"].pop()),
    ("server-all", "there is no ConfigMap", lambda all: all.remove(first(all, "ConfigMap"))),
    ("server-all", "there is no ServiceAccount", lambda all: all.remove(first(all, "ServiceAccount"))),
    ("server-all", "there is no Service ", lambda all: first(all, "StatefulSet")["spec"].update(serviceName="other")),
    ("server-all", "matches 0 of 2 workloads", lambda all: first(all, "Service")["spec"]["selector"].update(other="one")),
    ("server-all", "has no port api", lambda all: first(all, "Service")["spec"]["ports"][0].update(targetPort="api")),
    ("server-all", "matches 0 workloads", lambda all: first(all, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"].update(other="one")),
    ("server-all", "matches 0 workloads", lambda all: first(all, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"].update(other="one")),
    ("server-all", "ServiceMonitor", lambda all: first(all, "ServiceMonitor")["spec"]["endpoints"][0].update(port="http")),
    ("server-all", "matches 2 Services", lambda all: first(all, "ServiceMonitor")["spec"]["selector"]["matchLabels"].pop("chancery-service")),
    ("server-all", "its backend", lambda all: first(all, "Ingress")["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]["port"].update(name="http")),
    ("server-all", "null at", lambda all: first(all, "Service")["spec"].update(nothing=None)),
    ("server-all", "the namespace is missing", lambda all: first(all, "Service")["metadata"].pop("namespace")),
    ("server-all", "one name", lambda all: all.append(copy.deepcopy(all[0]))),
    ("controller-default", "a wildcard", lambda all: first(all, "ClusterRole")["rules"][0].update(verbs=["*"])),
    ("controller-default", "a wildcard", lambda all: first(all, "ClusterRole")["rules"][0].update(resources=["*/status"])),
    ("controller-default", "bind", lambda all: first(all, "ClusterRole")["rules"][0].update(verbs=["bind"])),
    ("controller-default", "there is no ClusterRole", lambda all: first(all, "ClusterRoleBinding")["roleRef"].update(name="other")),
    ("controller-default", "there is no ServiceAccount", lambda all: first(all, "RoleBinding")["subjects"][0].update(name="other")),
    ("controller-default", "clients look for", lambda all: first(all, "MutatingWebhookConfiguration")["webhooks"][0].update(name="webhook.chancery")),
    ("controller-default", "clients look for", lambda all: client(all, "ValidatingWebhookConfiguration").update(path="/mutate")),
    ("controller-default", "its Service", lambda all: client(all, "ValidatingWebhookConfiguration").update(port=8443)),
    ("controller-all", "there is no port", lambda all: first(all, "NetworkPolicy")["spec"]["ingress"][0]["ports"][0].update(port="https")),
    ("mesh-direct-approle", "all Secrets", lambda all: rules_about(all, "secrets")[-1].pop("resourceNames")),
    ("mesh-direct-approle", "has no name yet", lambda all: rules_about(all, "leases")[0].update(resourceNames=["istio-csr"])),
    ("mesh-document", "its own pods", lambda all: pod_of(first(all, "Deployment"))[0]["labels"].pop("app.kubernetes.io/name")),
    ("istio-second-step", "is no Service", lambda all: first(all, "Issuer")["spec"]["vault"].update(server="http://other.cert-manager.svc:8200")),
    ("istio-second-step", "another key", lambda all: first(all, "Issuer")["spec"]["vault"]["auth"]["appRole"]["secretRef"].update(key="id")),
]
for name, part, fault in FAULTS:
    rendered = copy.copy(clean[name])
    rendered.objects = copy.deepcopy(rendered.objects)
    fault(rendered.objects)
    said = list(broken(cases[name], rendered))
    tally.check(f"{name}: '{part}' is noticed", any(part in sentence for sentence in said), said)

SCHEMAS = [
    ("StatefulSet", lambda one: one["spec"].update(replica=1)), ("Service", lambda one: one["spec"].update(type=3)),
    ("ServiceMonitor", lambda one: one["spec"].update(endpoint=[])), ("NetworkPolicy", lambda one: one["spec"].update(policyTypes="Ingress")),
    ("Ingress", lambda one: one["spec"]["rules"][0]["http"]["paths"][0].pop("pathType")), ("ConfigMap", lambda one: one["data"].update(a=1)),
]
for kind, fault in SCHEMAS:
    one = copy.deepcopy(first(clean["server-all"].objects, kind))
    fault(one)
    for version in VERSIONS:
        tally.check(f"a {kind} that is not valid is noticed for {version}", invalid(one, version) not in (None, "unknown"), invalid(one, version))
tally.done()
