"""The charts as Helm renders them."""

import functools, json, os, pathlib, shutil, sys

import helm_python as helm
import yaml

ROOT = pathlib.Path(os.environ["COMPAT"]).resolve().parent
SOURCE = ROOT / "deploy/helm"
SUITE = pathlib.Path(os.environ["SUITE"]).resolve()
NAMES = sorted(path.name for path in SOURCE.iterdir() if (path / "Chart.yaml").exists())
CRDS = SOURCE / "chancery-controller/files/crds"

# libyaml, where it is there, is ten times as fast.
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Tally:
    def __init__(self):
        self.passed, self.failures, self.skips = 0, [], []

    def check(self, what, condition, *more):
        if condition:
            self.passed += 1
        else:
            self.failures.append(" ".join([what, *map(str, more)]))

    def skip(self, sentence):
        self.skips.append(sentence)

    def done(self):
        for failure in self.failures:
            print("FAILED:", failure)
        for sentence in self.skips:
            print("SKIPPED:", sentence)
        print(f"{self.passed} passed, {len(self.failures)} failed, {len(self.skips)} skipped")
        sys.exit(1 if self.failures else 0)


@functools.cache
def folder():
    """A copy of the charts in which the one around them has them inside."""
    copy = pathlib.Path(os.environ["HOME"]) / "charts"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("charts", "Chart.lock"))
    for name in NAMES:
        if helm.dependency_list(copy / name):
            helm.dependency_update(copy / name)
    return copy


def chart(name):
    # Anew for each rendering: charts inside that are switched off are taken out of it for good.
    return helm.Chart.load(folder() / name)


def values_of(settings):
    """Settings as a map, or as texts after `--set`; a list of both is laid over one another."""
    if isinstance(settings, dict):
        return settings
    merged = {}
    for one in settings:
        merged = laid_over(merged, one if isinstance(one, dict) else helm.parse_set_string(one))
    return merged


def laid_over(below, above):
    if isinstance(below, dict) and isinstance(above, dict):
        return below | {key: laid_over(below.get(key), value) for key, value in above.items()}
    if isinstance(below, list) and isinstance(above, list):
        # As with --set: elements by their index; those that are not named come as null.
        longest = max(len(below), len(above))
        pairs = zip(below + [None] * (longest - len(below)), above + [None] * (longest - len(above)))
        return [one if two is None else laid_over(one, two) for one, two in pairs]
    return above


class Rendered:
    def __init__(self, name, settings, release, namespace):
        texts = chart(name).render(values_of(settings), name=release, namespace=namespace)
        self.release, self.namespace, self.notes = release, namespace, ""
        files = {}
        for path, text in sorted(texts.items()):
            if path == f"{name}/templates/NOTES.txt":
                self.notes = text.strip()
            elif text.strip() and path.endswith((".yaml", ".yml")):
                files[path] = text.strip()
        self.objects = [one for text in files.values() for one in yaml.load_all(text, Loader) if one]
        # To be reviewed; CustomResourceDefinitions are generated and reviewed elsewhere.
        self.text = "".join(f"---\n# Source: {path}\n{text.removeprefix('---').strip()}\n" for path, text in files.items()
                            if not path.endswith("/crds.yaml"))


def key(one):
    return one["kind"], one["metadata"].get("namespace", ""), one["metadata"]["name"]


def describe(one):
    return " ".join(part for part in key(one) if part)


def pod_of(one):
    """The pod's metadata and spec that an object is or makes, or None."""
    if one["kind"] == "Pod":
        return one["metadata"], one["spec"]
    if one["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job"):
        return one["spec"]["template"]["metadata"], one["spec"]["template"]["spec"]
    return None


def refusal(name, settings):
    """What Helm says when it refuses these settings, or None."""
    try:
        chart(name).render(values_of(settings), name="demo", namespace="ns")
        return None
    except helm.HelmError as error:
        return str(error)


def dumps(value):
    return json.dumps(value, sort_keys=True)
