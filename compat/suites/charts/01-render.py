"""Each case: valid, by the rules, and as reviewed."""

import difflib, os, sys

sys.path.insert(0, os.environ["SUITE"])
from cases import CASES
import helm_python as helm
import yaml
from charts import CRDS, NAMES, SOURCE, SUITE, Loader, Rendered, Tally, describe, dumps
from rules import broken
from schemas import VERSIONS, definitions, invalid

tally = Tally()
update = bool(os.environ.get("UPDATE_SNAPSHOTS"))
snapshots = SUITE / "snapshots"
judged, unjudged, kinds = {}, [], set()

for case in CASES:
    name = case[0]
    rendered = Rendered(*case[1:])
    tally.check(f"{name}: notes", rendered.notes and len(rendered.notes) < 3000 and "<no value>" not in rendered.notes)
    tally.check(f"{name}: no value is missing", "<no value>" not in rendered.text)
    for one in rendered.objects:
        kinds.add(one["kind"])
        for version in VERSIONS:
            # The same object comes in several cases.
            if (place := (dumps(one), version)) not in judged:
                judged[place] = invalid(one, version)
            wrong = judged[place]
            if wrong == "unknown" and one["apiVersion"].startswith("cert-manager.io/") and not definitions():
                unjudged.append(f"{name}: {describe(one)}")
                break
            tally.check(f"{name}: {describe(one)} is valid for {version}", wrong is None, wrong)
    for sentence in broken(case, rendered):
        tally.check(f"{name}:", False, sentence)
    tally.check(f"{name}: the rules hold", True)

    text = f"# {case[1]}, release {case[3]} in {case[4]}\n{rendered.text}---\n# NOTES\n" + "".join(
        f"# {line}".rstrip() + "\n" for line in rendered.notes.splitlines())
    path = snapshots / f"{name}.yaml"
    if update:
        path.write_text(text)
    reviewed = path.read_text() if path.exists() else ""
    difference = "\n".join(difflib.unified_diff(reviewed.splitlines(), text.splitlines(), "reviewed", "rendered", lineterm="", n=2))
    tally.check(f"{name}: as reviewed (UPDATE_SNAPSHOTS=1 takes it over)", not difference, "\n" + difference[:6000])

# Each switch of each chart, turned over by itself, on top of the least that it needs.
NEEDS = {
    ("chancery", "server.seal.static.enabled"): {"server": {"seal": {"static": {"secretName": "seal", "currentKeyId": "1"}}}},
    ("chancery", "serverTelemetry.serviceMonitor.enabled"): {"server": {"standalone": {"unauthenticatedMetricsAccess": True}}},
    ("chancery", "global.serverTelemetry.prometheusOperator"): {"server": {"standalone": {"unauthenticatedMetricsAccess": True}}},
    ("chancery-mesh", "app.certmanager.issuer.enabled"): {"app": {"runtimeConfiguration": {"create": True}}},
    ("chancery-controller", "serviceAccount.create"): {"serviceAccount": {"name": "mine"}},
    ("chancery-mesh", "serviceAccount.create"): {"serviceAccount": {"name": "mine"}},
    ("chancery-istio", "chancery-mesh.enabled"): {"issuer": {"appRole": {"roleId": "1-2"}}},
    ("chancery-istio", "chancery.enabled"): {"issuer": {"server": "https://ca"}},
}
# Switches that are there to have a rule not hold, and which.
AGAINST = {"server.readinessProbe.enabled": "probes are missing", "server.livenessProbe.enabled": "probes are missing",
           "securityContext.allowPrivilegeEscalation": "allowPrivilegeEscalation", "securityContext.runAsNonRoot": "runAsNonRoot",
           "securityContext.readOnlyRootFilesystem": "readOnlyRootFilesystem"}


def switches(value, path=()):
    if isinstance(value, bool):
        yield path, not value
    elif isinstance(value, dict):
        for inner, one in value.items():
            yield from switches(one, (*path, inner))


turned = 0
for name in NAMES:
    for path, value in switches(yaml.load((SOURCE / name / "values.yaml").read_text(), Loader)):
        place = ".".join(path)
        for part in reversed(path):
            value = {part: value}
        settings = [NEEDS.get((name, place), {}), value]
        case = (place, name, settings, "demo", "ns")
        try:
            rendered = Rendered(*case[1:])
        except helm.HelmError as error:
            tally.check(f"{name}: {place} is turned over", False, error)
            continue
        turned += 1
        wrong = [sentence for sentence in broken(case, rendered)]
        for one in rendered.objects:
            if (where := (dumps(one), VERSIONS[-1])) not in judged:
                judged[where] = invalid(one, VERSIONS[-1])
            if judged[where] not in (None, "unknown"):
                wrong.append(judged[where])
        if place in AGAINST:
            wrong = [] if len(wrong) == 1 and AGAINST[place] in wrong[0] else [f"not seen: {AGAINST[place]}", *wrong]
        tally.check(f"{name}: {place} is turned over", not wrong, wrong)

stale = {path.stem for path in snapshots.glob("*.yaml")} - {case[0] for case in CASES}
tally.check("no snapshot without its case", not stale, stale)
if unjudged:
    tally.skip(f"{len(unjudged)} Issuers and Certificates are not held against our CRDs: there are none yet in {CRDS}")
print(f"{len(CASES)} cases, {turned} switches, {len({place for place, _ in judged})} different objects of {len(kinds)} kinds, Kubernetes {', '.join(VERSIONS)}")
tally.done()
