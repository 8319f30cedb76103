"""Whether a manifest is valid: Kubernetes' own kinds by its schemas, ours by our CRDs, and ServiceMonitors by what we use of them."""

import functools

import jsonschema
import kubernetes_validate
import kubernetes_validate.utils
import yaml

from charts import CRDS, Loader

# The oldest that the charts take, the one that our types are of, and the newest.
VERSIONS = ["1.30", "1.33", "1.37"]

# It reads the same large files for each manifest.
kubernetes_validate.utils.schema_contents = functools.cache(kubernetes_validate.utils.schema_contents)

TEXT, MAP = {"type": "string"}, {"type": "object"}
SERVICE_MONITOR = {
    "type": "object", "required": ["apiVersion", "kind", "metadata", "spec"], "properties": {"spec": {
        "type": "object", "required": ["selector", "endpoints"], "additionalProperties": False, "properties": {
            "jobLabel": TEXT,
            "selector": {"type": "object", "required": ["matchLabels"], "additionalProperties": False, "properties": {
                "matchLabels": {"type": "object", "additionalProperties": TEXT}}},
            "namespaceSelector": {"type": "object", "additionalProperties": False, "properties": {
                "matchNames": {"type": "array", "items": TEXT}}},
            "endpoints": {"type": "array", "minItems": 1, "items": {"type": "object", "additionalProperties": False, "properties": {
                "port": TEXT, "path": TEXT, "scheme": {"enum": ["http", "https"]}, "interval": TEXT, "scrapeTimeout": TEXT,
                "honorLabels": {"type": "boolean"}, "params": {"type": "object", "additionalProperties": {"type": "array", "items": TEXT}},
                "tlsConfig": MAP, "authorization": MAP}}}}}}}


def strict(schema):
    """The schema, with unknown fields refused where Kubernetes would drop them."""
    if not isinstance(schema, dict):
        return schema
    made = {name: strict(inner) if name in ("items", "additionalProperties") else inner for name, inner in schema.items()}
    if "properties" in schema:
        made["properties"] = {name: strict(inner) for name, inner in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields") and "additionalProperties" not in schema:
            made["additionalProperties"] = False
    if schema.get("nullable"):
        made["type"] = [schema["type"], "null"]
    return made


@functools.cache
def definitions():
    """Our CRDs' schemas by apiVersion and kind."""
    found = {}
    for path in sorted(CRDS.glob("*.yaml")):
        definition = yaml.load(path.read_text(), Loader)["spec"]
        for version in definition["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = MAP
            found[f"{definition['group']}/{version['name']}", definition["names"]["kind"]] = schema
    return found


def invalid(one, version):
    """What is wrong with a manifest, for a version of Kubernetes; None if nothing is; "unknown" if nobody knows its kind."""
    try:
        if one["apiVersion"].startswith("monitoring.coreos.com/"):
            jsonschema.validate(one, SERVICE_MONITOR)
        elif one["apiVersion"].startswith("cert-manager.io/"):
            schema = definitions().get((one["apiVersion"], one["kind"]))
            if schema is None:
                return "unknown"
            jsonschema.Draft202012Validator(schema).validate(one)
        else:
            kubernetes_validate.validate(one, version, strict=True)
        return None
    except jsonschema.ValidationError as error:
        return f"{'.'.join(map(str, error.path))}: {error.message[:300]}"
    except kubernetes_validate.SchemaNotFoundError:
        return "unknown"
