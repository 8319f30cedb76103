"""The charts as they are: Helm's linter, and values against schemas and templates."""

import os, re, sys

sys.path.insert(0, os.environ["SUITE"])
import json
import helm_python as helm
import yaml
from charts import NAMES, SOURCE, SUITE, Loader, Rendered, Tally, chart, folder, refusal
from cases import CASES, REFUSED

tally = Tally()


def leaves(value, path=()):
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    else:
        yield path


def settings_of(schema, path=()):
    if "properties" in schema and schema["properties"]:
        for key, inner in schema["properties"].items():
            yield from settings_of(inner, (*path, key))
    else:
        yield path


def closed(schema, path=()):
    """The maps that take unknown keys though they have known ones."""
    if "properties" in schema:
        if schema.get("additionalProperties") is not False:
            yield ".".join(path)
        for key, inner in schema["properties"].items():
            yield from closed(inner, (*path, key))


versions = {}
for name in NAMES:
    report = helm.lint(folder() / name, strict=True, with_subcharts=True)
    bad = [one for one in report["messages"] if one["severity"] > 1 or one["error"] != "icon is recommended"]
    tally.check(f"{name}: the linter", not bad and not report["errors"], bad, report["errors"])

    about = yaml.load((SOURCE / name / "Chart.yaml").read_text(), Loader)
    versions[name] = (about["version"], about["appVersion"])
    for one in about.get("dependencies", []):
        inside = yaml.load((SOURCE / one["name"] / "Chart.yaml").read_text(), Loader)
        tally.check(f"{name}: the version of {one['name']}", one["version"] == inside["version"], one["version"], inside["version"])

    values = yaml.load((SOURCE / name / "values.yaml").read_text(), Loader)
    schema = json.loads((SOURCE / name / "values.schema.json").read_text())
    inside = {one["name"] for one in about.get("dependencies", [])}
    known, offered = set(settings_of(schema)), {path for path in leaves(values) if path[0] not in inside}
    # A map may be one setting in one of them, and several in the other.
    def meets(path, others):
        return any(one[:len(path)] == path or path[:len(one)] == one for one in others)

    strange = {path for path in offered if not meets(path, known)}
    tally.check(f"{name}: settings without a schema", not strange, strange)
    missing = {path for path in known if path[0] not in inside and path != ("enabled",) and not meets(path, offered)}
    tally.check(f"{name}: settings without a default", not missing, missing)
    tally.check(f"{name}: maps that take anything", set(closed(schema)) <= {"global", *inside}, set(closed(schema)))

    templates = "".join(path.read_text() for path in (SOURCE / name / "templates").rglob("*") if path.is_file())
    words = set(re.findall(r"\.([A-Za-z_]\w*)", templates))
    # "global" is for the charts inside, "enabled" for the chart around; this one map is handed on whole.
    elsewhere = inside | ({"global"} if inside else {"enabled"})
    unused = {path for path in known if path[0] not in elsewhere and path[-1] not in words
              and "persistentVolumeClaimRetentionPolicy" not in path}
    tally.check(f"{name}: settings that do nothing", not unused, unused)
tally.check("one version for all", len(set(versions.values())) == 1, versions)
cargo = (SOURCE.parent.parent / "Cargo.toml").read_text()
tally.check("the charts' appVersion is the binary's", {f'version = "{app}"' for _, app in versions.values()} <= set(cargo.splitlines()), versions)

for name, settings, sentence in REFUSED:
    said = refusal(name, settings)
    tally.check(f"{name} refuses {settings}", said is not None and sentence in said, said)
# Helm would install a folder crds/ by itself, and never bring it up to date.
tally.check("CustomResourceDefinitions are in files/crds, not in crds", not any(chart(name).crds for name in NAMES))
# What becomes of CustomResourceDefinitions.
place = folder() / "chancery-controller/files/crds"
here = sorted(path.name for path in place.glob("*.yaml"))
(place / "fixture.yaml").write_bytes((SUITE / "crd.yaml").read_bytes())
fixture = yaml.load((SUITE / "crd.yaml").read_text(), Loader)
for settings, kept in ({}, {"helm.sh/resource-policy": "keep"}), ({"crds": {"keep": False}}, {}), ({"crds": {"enabled": False}}, None):
    made = {one["metadata"]["name"]: one for one in Rendered("chancery-controller", settings, "c", "ns").objects if one["kind"] == "CustomResourceDefinition"}
    tally.check(f"with {settings}, each file is rendered, or none", len(made) == (len(here) + 1 if kept is not None else 0), list(made))
    if kept is not None:
        one = made["fixtures.example.com"]
        tally.check(f"with {settings}, its spec is that of the file", one["spec"] == fixture["spec"], one["spec"])
        tally.check(f"with {settings}, its annotations are", one["metadata"]["annotations"] == {"example.com/kept": "yes"} | kept, one["metadata"])
(place / "fixture.yaml").unlink()

tally.check("every chart is rendered in some case", {case[1] for case in CASES} == set(NAMES))
tally.done()
