"""Each case: valid, by the rules, and as reviewed."""

import difflib, os, sys

sys.path.insert(0, os.environ["SUITE"])
from cases import CASES
from charts import CRDS, SUITE, Rendered, Tally, describe, dumps
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

stale = {path.stem for path in snapshots.glob("*.yaml")} - {case[0] for case in CASES}
tally.check("no snapshot without its case", not stale, stale)
if unjudged:
    tally.skip(f"{len(unjudged)} Issuers and Certificates are not held against our CRDs: there are none yet in {CRDS}")
print(f"{len(CASES)} cases, {len({place for place, _ in judged})} different objects of {len(kinds)} kinds, Kubernetes {', '.join(VERSIONS)}")
tally.done()
