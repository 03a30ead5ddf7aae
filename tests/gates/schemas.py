"""JSON schemas for kubeconform out of Kubernetes' own OpenAPI: schemas.py SWAGGER_JSON DIRECTORY.

kubeconform fetches such schemas from the network; these are made of the API description in Kubernetes' Go module.
One self-contained file a kind, strict: unknown fields, and types that the API server would refuse, are errors.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Types that are written as text or number; the API description calls them text.
TEXT_OR_NUMBER = frozenset({"io.k8s.apimachinery.pkg.api.resource.Quantity"})


def strict(schema: Any) -> Any:
    """A schema of the API description as a strict JSON schema; descriptions and extensions are left out."""
    if not isinstance(schema, Mapping):
        return schema
    if schema.get("format") == "int-or-string":
        return {"type": ["string", "integer"]}
    kept = {key: value for key, value in schema.items() if key in {"type", "enum", "required", "$ref", "allOf"}}
    if "properties" in schema:
        kept["properties"] = {name: strict(each) for name, each in schema["properties"].items()}
        kept["additionalProperties"] = False
    if "items" in schema:
        kept["items"] = strict(schema["items"])
    if isinstance(schema.get("additionalProperties"), Mapping):
        kept["additionalProperties"] = strict(schema["additionalProperties"])
    return kept


def definition(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The strict form of a definition."""
    if name in TEXT_OR_NUMBER:
        return {"type": ["string", "number"]}
    return dict(strict(schema))


def reached(schema: Any, definitions: Mapping[str, Any], found: dict[str, Any]) -> None:
    """Add all definitions that `schema` refers to, and those that these refer to, to `found`."""
    for name in re.findall(r'"#/definitions/([^"]+)"', json.dumps(schema)):
        if name not in found:
            found[name] = definitions[name]
            reached(definitions[name], definitions, found)


def file_name(group: str, version: str, kind: str) -> str:
    """The name that kubeconform looks for: the kind, its group up to the first dot, and the version."""
    parts = [kind, group.split(".", maxsplit=1)[0], version] if group else [kind, version]
    return "-".join(parts).lower() + ".json"


def convert(swagger: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """All kinds' schemas by file name."""
    definitions = {name: definition(name, schema) for name, schema in swagger["definitions"].items()}
    result = {}
    for name, schema in swagger["definitions"].items():
        for identity in schema.get("x-kubernetes-group-version-kind", []):
            group, version, kind = identity["group"], identity["version"], identity["kind"]
            found: dict[str, Any] = {}
            reached(definitions[name], definitions, found)
            own = json.loads(json.dumps(definitions[name]))
            if {"apiVersion", "kind"} <= own.get("properties", {}).keys():
                own["properties"]["apiVersion"]["enum"] = [f"{group}/{version}" if group else version]
                own["properties"]["kind"]["enum"] = [kind]
                own["required"] = sorted({"apiVersion", "kind", *own.get("required", [])})
                result[file_name(group, version, kind)] = own | {"definitions": found}
    return result


def main(swagger: str, directory: str) -> int:
    """Write the files."""
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    for name, schema in convert(json.loads(Path(swagger).read_text())).items():
        (target / name).write_text(json.dumps(schema))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
