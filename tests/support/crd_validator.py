"""Documents against the published CRDs, as strictly as an API server that refuses unknown fields.

What is checked: the OpenAPI schema, closed (a field it does not name is an error); the CEL rules, after defaulting, as
the API server evaluates them on creation; unique keys of lists that are maps or sets; names and labels. A rule about
the transition from an older object, or one that needs a function that is not there, is in `Definitions.skipped`.

A definition is parsed when a document first asks for it, and kept by the digest of its file: the largest ones take
seconds to read as YAML.
"""

from __future__ import annotations

import copy
import hashlib
import os
import pickle
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

CACHE_FORMAT = "2"
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
METADATA = {
    "name", "generateName", "namespace", "labels", "annotations", "finalizers", "ownerReferences", "uid",
    "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
    "managedFields", "selfLink",
}  # fmt: skip


class Loader(yaml.CSafeLoader):
    """Reads `=` as text; Prometheus' definitions hold one."""


Loader.add_constructor("tag:yaml.org,2002:value", lambda loader, node: loader.construct_scalar(node))


def load_all(text: str | bytes) -> list[dict[str, Any]]:
    """Every document of a YAML text that is not empty."""
    return [document for document in yaml.load_all(text, Loader) if document]  # noqa: S506  CSafeLoader


def closed(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A CRD's schema as a JSON schema that refuses what it does not name."""
    result = dict(schema)
    if result.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    if "properties" in schema:
        result["properties"] = {name: closed(value) for name, value in schema["properties"].items()}
        if result.get("x-kubernetes-embedded-resource"):
            for name in ("apiVersion", "kind", "metadata"):
                result["properties"].setdefault(name, {})
    if schema.get("type") == "object" and not schema.get("x-kubernetes-preserve-unknown-fields"):
        result.setdefault("additionalProperties", "properties" not in schema)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            result[key] = closed(schema[key])
    if result.get("nullable") and isinstance(result.get("type"), str):
        result["type"] = [result["type"], "null"]
    return result


class Definitions:
    """Published definitions.

    Args:
        places: CRD files, and folders that hold some at any depth.

    Attributes:
        skipped: Rules that were met and could not be evaluated, with the reason.
    """

    def __init__(self, *places: Path) -> None:
        self._files: dict[tuple[str, str], Path] = {}
        self._served: dict[tuple[str, str, str], dict[str, Any]] = {}
        self._loaded: set[Path] = set()
        self._validators: dict[tuple[str, str, str], Any] = {}
        self.skipped: dict[str, str] = {}
        for file in [
            file for place in places for file in ([place] if place.is_file() else sorted(place.rglob("*.yaml")))
        ]:
            text = file.read_text("utf-8")
            if "kind: CustomResourceDefinition" not in text[:2000]:
                continue
            group = re.search(r"^  group: (\S+)", text, re.MULTILINE)
            kind = re.search(r"^  names:\n(?:    .*\n|  - .*\n)*?    kind: (\S+)", text, re.MULTILINE)
            if group and kind:
                self._files[group[1].strip("'\""), kind[1].strip("'\"")] = file

    def knows(self, document: Mapping[str, Any]) -> bool:
        """Whether there is a definition for the document's kind, in any version."""
        return (_group(document), str(document.get("kind"))) in self._files

    def kinds(self) -> list[tuple[str, str]]:
        """Group and kind of every definition."""
        return sorted(self._files)

    def served(self) -> Iterator[dict[str, Any]]:
        """Every version of every definition: group, version, kind, plural, namespaced, status, schema."""
        for group, kind in self._files:
            self._load(group, kind)
        yield from self._served.values()

    def of(self, document: Mapping[str, Any]) -> dict[str, Any] | None:
        """What is known of the document's kind in its version; None where that is not served."""
        group, kind = _group(document), str(document.get("kind"))
        if (group, kind) not in self._files:
            return None
        self._load(group, kind)
        return self._served.get((group, str(document["apiVersion"]).rpartition("/")[2], kind))

    def problems(self, document: Mapping[str, Any], *, old: Mapping[str, Any] | None = None) -> list[str]:
        """What an API server would refuse, with the place.

        Args:
            document: The object.
            old: The object it replaces, for rules about the transition.
        """
        found = self.of(document)
        if found is None:
            return [f"{document.get('apiVersion')} {document.get('kind')}: there is no such definition"]
        key = (found["group"], found["version"], found["kind"])
        if key not in self._validators:
            schema = closed(found["schema"])
            schema["properties"] = {
                "apiVersion": {"type": "string"}, "kind": {"type": "string"}, **schema.get("properties", {}),
                "metadata": {"type": "object"},
            }  # fmt: skip
            self._validators[key] = jsonschema.Draft202012Validator(schema)
        problems = [
            f"{'.'.join(map(str, error.absolute_path)) or 'document'}: {error.message[:300]}"
            for error in self._validators[key].iter_errors(document)
        ]
        problems += metadata_problems(document, namespaced=found["namespaced"])
        if not problems:
            whole = defaulted(document, found["schema"])
            problems += duplicates(whole, found["schema"], "")
            problems += list(self._broken_rules(whole, found["schema"], "", old))
        return problems

    def _load(self, group: str, kind: str) -> None:
        file = self._files[group, kind]
        if file not in self._loaded:
            self._loaded.add(file)
            for version in _parsed(file):
                self._served[version["group"], version["version"], version["kind"]] = version

    def _broken_rules(self, value: Any, schema: Mapping[str, Any], place: str, old: Any) -> Iterator[str]:
        for rule in schema.get("x-kubernetes-validations", ()):
            if "oldSelf" in rule["rule"] and (old is None or rule.get("optionalOldSelf")):
                self.skipped.setdefault(rule["rule"], "about a transition")
                continue
            try:
                holds = evaluate(rule["rule"], value, old)
            except NotImplementedError as error:
                self.skipped.setdefault(rule["rule"], str(error))
                continue
            if not holds:
                yield f"{place.lstrip('.') or 'document'}: {rule.get('message') or rule['rule']}"
        if isinstance(value, Mapping):
            properties, rest = schema.get("properties", {}), schema.get("additionalProperties")
            for name, item in value.items():
                below = properties.get(name, rest if isinstance(rest, Mapping) else None)
                if below is not None:
                    before = old.get(name) if isinstance(old, Mapping) else None
                    yield from self._broken_rules(item, below, f"{place}.{name}", before)
        elif isinstance(value, list) and isinstance(schema.get("items"), Mapping):
            for number, item in enumerate(value):
                yield from self._broken_rules(item, schema["items"], f"{place}.{number}", None)


def _group(document: Mapping[str, Any]) -> str:
    return str(document.get("apiVersion", "")).rpartition("/")[0]


def _parsed(file: Path) -> list[dict[str, Any]]:
    data = file.read_bytes()
    digest = hashlib.sha256(data + CACHE_FORMAT.encode()).hexdigest()
    folder = Path(tempfile.gettempdir()) / f"trialops-crds-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    kept = folder / f"{digest}.pickle"
    if folder.stat().st_uid == os.getuid() and kept.exists():
        return list(pickle.loads(kept.read_bytes()))  # noqa: S301  written by this process's user, folder closed
    definition = yaml.load(data, Loader)["spec"]  # noqa: S506  CSafeLoader
    versions = [
        {
            "group": definition["group"],
            "version": version["name"],
            "kind": definition["names"]["kind"],
            "plural": definition["names"]["plural"],
            "namespaced": definition["scope"] == "Namespaced",
            "status": "status" in (version.get("subresources") or {}),
            "schema": version["schema"]["openAPIV3Schema"],
        }
        for version in definition["versions"]
        if version.get("served", True)
    ]
    part = kept.with_suffix(f".{os.getpid()}")
    part.write_bytes(pickle.dumps(versions))
    part.replace(kept)
    return versions


def metadata_problems(document: Mapping[str, Any], *, namespaced: bool) -> list[str]:
    """What is wrong with an object's metadata, whatever its kind."""
    metadata = document.get("metadata") or {}
    name, problems = metadata.get("name", ""), []
    if not name and not metadata.get("generateName"):
        problems.append("metadata: no name")
    if name and document.get("kind") not in ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding") and (
        not SUBDOMAIN.fullmatch(name) or len(name) > 253
    ):  # fmt: skip
        problems.append(f"metadata.name: {name!r} is no DNS subdomain")
    if metadata.get("namespace") and not namespaced:
        problems.append("metadata.namespace: the kind has no namespace")
    problems += [f"metadata.{key}: no such field" for key in sorted(set(metadata) - METADATA)]
    for key, value in (metadata.get("labels") or {}).items():
        if not isinstance(value, str) or len(value) > 63 or not LABEL_VALUE.fullmatch(value):
            problems.append(f"metadata.labels.{key}: {value!r} is no label value")
    for key, value in (metadata.get("annotations") or {}).items():
        if not isinstance(value, str):
            problems.append(f"metadata.annotations.{key}: not text")
    return problems


def defaulted(value: Any, schema: Mapping[str, Any]) -> Any:
    """A copy with the schema's defaults, as the API server fills them in before it evaluates rules."""
    if isinstance(value, Mapping):
        properties, rest = schema.get("properties", {}), schema.get("additionalProperties")
        result = {}
        for name, item in value.items():
            below = properties.get(name, rest if isinstance(rest, Mapping) else {})
            result[name] = defaulted(item, below)
        for name, below in properties.items():
            if name not in result and "default" in below:
                result[name] = defaulted(copy.deepcopy(below["default"]), below)
        return result
    if isinstance(value, list):
        return [defaulted(item, schema.get("items") or {}) for item in value]
    return value


def duplicates(value: Any, schema: Mapping[str, Any], place: str) -> list[str]:
    """Entries of a list that is a map or a set and holds one key twice."""
    if isinstance(value, Mapping):
        properties, rest = schema.get("properties", {}), schema.get("additionalProperties")
        found: list[str] = []
        for name, item in value.items():
            below = properties.get(name, rest if isinstance(rest, Mapping) else {})
            found += duplicates(item, below, f"{place}.{name}")
        return found
    if not isinstance(value, list):
        return []
    keys, kind = schema.get("x-kubernetes-list-map-keys", ()), schema.get("x-kubernetes-list-type")
    seen = [repr([item.get(key) for key in keys]) if kind == "map" else repr(item) for item in value]
    twice = kind in ("map", "set") and len(set(seen)) < len(seen)
    found = [f"{place.lstrip('.')}: an entry is there twice"] if twice else []
    for number, item in enumerate(value):
        found += duplicates(item, schema.get("items") or {}, f"{place}.{number}")
    return found


@lru_cache(maxsize=4096)
def _program(rule: str) -> Any:
    import celpy

    environment = celpy.Environment()
    try:
        return environment.program(environment.compile(rule))
    except celpy.CELParseError as error:
        raise NotImplementedError(f"cannot be compiled: {error}") from None


def evaluate(rule: str, value: Any, old: Any = None) -> bool:
    """Whether a CEL rule holds for a value.

    Raises:
        NotImplementedError: The rule uses what the evaluator lacks, such as Kubernetes' own functions.
    """
    import celpy
    from celpy.adapter import json_to_cel

    given = {"self": json_to_cel(value)}
    if old is not None:
        given["oldSelf"] = json_to_cel(old)
    try:
        return bool(_program(rule).evaluate(given))
    except celpy.CELEvalError as error:
        if "undeclared" in str(error) or "unbound" in str(error) or "no such overload" in str(error):
            raise NotImplementedError(str(error)[:120]) from None
        return False


def all_problems(definitions: Definitions, documents: Sequence[Mapping[str, Any]]) -> list[str]:
    """Problems of every document that a definition is known for, with its kind and name."""
    return [
        f"{document['kind']}/{document.get('metadata', {}).get('name', '')}: {problem}"
        for document in documents
        if definitions.knows(document)
        for problem in definitions.problems(document)
    ]
