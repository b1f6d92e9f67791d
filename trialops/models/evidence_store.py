"""Evidence of a registered model version, kept where later pipelines find it by name and version.

``models/<name>/<version>/evidence/<document>.json`` holds the newest of each document, ``index.json`` beside them
who wrote which digest. A document that is replaced stays under ``evidence/history/`` by its digest: what a decision
was made from can be read back even after the model was judged again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    from trialops.stores.context import Step
    from trialops.stores.objects import ObjectStore

DOCUMENTS = ("training", "evaluation", "fairness", "comparison", "tripod")
INDEX = "index"


def evidence_key(name: str, version: str, document: str) -> str:
    """Object key of one document."""
    return f"models/{name}/{version}/evidence/{document}.json"


def put_evidence(run: Step, name: str, version: str, documents: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Store documents about a registered version; what was stored before under other names stays.

    Args:
        run: The step.
        name: Registered model.
        version: Its version.
        documents: Some of :data:`DOCUMENTS`, JSON values.

    Returns:
        Document to SHA-256 of what is stored now, all documents of the version.

    Raises:
        TrialOpsError: An unknown document, or one that says it is about another model than the registered one.
    """
    unknown = sorted(set(documents) - set(DOCUMENTS))
    if unknown:
        raise TrialOpsError(
            f"{unknown[0]} is no evidence of a model",
            where=f"model {name}, version {version}",
            fix=f"Store one of {', '.join(DOCUMENTS)}.",
        )
    registered = run.registry.version(name, str(version)).digest
    for document, content in documents.items():
        for stated in _models_in(document, content):
            if stated != registered:
                raise TrialOpsError(
                    f"The {document} is about another model: digest {stated[:12]}, registered {registered[:12]}",
                    where=f"model {name}, version {version}",
                    fix="Evaluate the registered version.",
                )
    index = _index(run.objects, name, version)
    for document, content in sorted(documents.items()):
        data = json.dumps(content, indent=1, sort_keys=True, allow_nan=False).encode()
        digest = hashlib.sha256(data).hexdigest()
        # History first: a crash in between leaves a copy too many, never one too few.
        run.objects.put(evidence_key(name, version, f"history/{document}-{digest}"), data)
        run.objects.put(evidence_key(name, version, document), data)
        index[document] = {"digest": digest, "run_id": run.run_id, "step": run.name, "model": registered}
    run.objects.put(evidence_key(name, version, INDEX), json.dumps(index, indent=1, sort_keys=True).encode())
    stored = {document: str(entry["digest"]) for document, entry in index.items()}
    run.audit("model.evidence", f"{name}/{version}", registered, documents={d: stored[d] for d in sorted(documents)})
    return stored


def get_evidence(run: Step, name: str, version: str) -> dict[str, dict[str, Any]]:
    """The newest documents about a registered version; only those that have been stored.

    Args:
        run: The step.
        name: Registered model.
        version: Its version.

    Returns:
        Document to its content; empty where nothing is stored.

    Raises:
        TrialOpsError: A document is absent though the index names it, or is not the one that was stored.
    """
    index = _index(run.objects, name, version)
    found = {}
    for document, entry in sorted(index.items()):
        key = evidence_key(name, version, document)
        try:
            data = run.objects.get(key)
        except KeyError:
            data = b""
        if hashlib.sha256(data).hexdigest() != entry["digest"]:
            try:  # a crash between document and index: the indexed one is still in the history
                data = run.objects.get(evidence_key(name, version, f"history/{document}-{entry['digest']}"))
            except KeyError:
                data = b""
        if hashlib.sha256(data).hexdigest() != entry["digest"]:
            raise TrialOpsError(
                f"The {document} is not what was stored: it is absent or was changed",
                where=key,
                fix="Evaluate the version again; find out who changed the object.",
            )
        found[document] = dict(json.loads(data))
        run.inputs.append({"artifact": f"evidence/{document}", "record": "", "digest": entry["digest"]})
    return found


def evidence_index(run: Step, name: str, version: str) -> dict[str, dict[str, str]]:
    """Which documents are stored: digest, run_id, step and model digest of each."""
    return _index(run.objects, name, version)


def put_bundle(run: Step, name: str, version: str, folder: Path) -> None:
    """Keep a version's bundle where a model server on a cluster is told to load it from."""
    _put_folder(run, f"models/{name}/{version}/bundle", folder)


def put_baseline(run: Step, name: str, version: str, folder: Path) -> None:
    """Keep the prespecified model beside the version it is the benchmark of."""
    _put_folder(run, f"models/{name}/{version}/baseline", folder)


def _put_folder(run: Step, prefix: str, folder: Path) -> None:
    for path in sorted(item for item in folder.iterdir() if item.is_file()):
        run.objects.put(f"{prefix}/{path.name}", path.read_bytes())


def get_baseline(run: Step, name: str, version: str, into: Path) -> Path:
    """The prespecified model that was trained beside a version.

    Raises:
        TrialOpsError: None was stored.
    """
    prefix = f"models/{name}/{version}/baseline"
    keys = list(run.objects.list(prefix))
    if not keys:
        raise TrialOpsError(
            "No prespecified model is stored for this version",
            where=f"model {name}, version {version}",
            fix="Train it again: trialops run model_training --set force=true",
        )
    into.mkdir(parents=True, exist_ok=True)
    for key in keys:
        (into / key.rpartition("/")[2]).write_bytes(run.objects.get(key))
    return into


def _index(objects: ObjectStore, name: str, version: str) -> dict[str, dict[str, str]]:
    try:
        return dict(json.loads(objects.get(evidence_key(name, version, INDEX))))
    except KeyError:
        return {}


def _models_in(document: str, content: Mapping[str, Any]) -> Iterator[str]:
    """Digests of the models a document says it is about."""
    places = {
        "training": content.get("digest"),
        "evaluation": content.get("model", {}).get("digest") if document == "evaluation" else None,
        "fairness": content.get("digest"),
        "comparison": content.get("decision", {}).get("model_digest"),
        "tripod": content.get("digest"),
    }
    stated = places[document]
    if stated:
        yield str(stated)
