"""What a step already made from the same things: for steps that must look at the world each time they run.

An orchestrator's cache cannot see into a folder or a registry, so such steps run always; having looked, they may
find that nothing is new and give out again what they made before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.version import code_version

if TYPE_CHECKING:
    from trialops.stores.context import Artifact, Step


def _key(run: Step, made_from: str) -> str:
    facts = [run.name, made_from, code_version(), run.settings.study, run.settings.hipaa_compliance_mode]
    # Another vault gives other pseudonyms, and what a destroyed key encrypted has to be made again.
    facts += [run.vault.id, *run.vault.destroyed()]
    return f"memo/{run.name}/{hashlib.sha256(json.dumps(facts).encode()).hexdigest()}.json"


def remember(run: Step, made_from: str, outputs: Mapping[str, Artifact]) -> None:
    """Keep what the step wrote, under a digest of what it was made from.

    Args:
        run: The step, after its last output.
        made_from: Digest of everything the outputs depend on, but code and settings, which are added.
        outputs: Outputs whose content is a reference, a document or a page.
    """
    kept = {
        name: {"content": Path(artifact.path).read_text("utf-8"), "metadata": dict(artifact.metadata)}
        for name, artifact in outputs.items()
    }
    page = run.objects.get(f"{run.key}/page.html").decode() if run.pages else ""
    body = {"run_id": run.run_id, "outputs": kept, "made": run.outputs, "metrics": dict(run.metrics), "page": page}
    run.objects.put(_key(run, made_from), json.dumps(body, default=str).encode())


def recall(run: Step, made_from: str, outputs: Mapping[str, Artifact]) -> str:
    """Give the outputs out again; returns the run that made them, or an empty string where there is none."""
    try:
        body: dict[str, Any] = json.loads(run.objects.get(_key(run, made_from)))
    except KeyError:
        return ""
    for name, artifact in outputs.items():
        path = Path(artifact.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body["outputs"][name]["content"], "utf-8")
        artifact.metadata.update(body["outputs"][name]["metadata"])
    own = {Path(artifact.path).name: artifact.path for artifact in outputs.values()}
    run.outputs.extend({**item, "path": own.get(item["artifact"], "")} for item in body["made"])
    run.metrics.update({"nothing_new_since": body["run_id"], **body["metrics"]})
    if body["page"]:
        run.objects.put(f"{run.key}/page.html", body["page"].encode())
        run.pages.append(f"{run.key}/page.html")
    run.progress(f"nothing new since run {body['run_id']}")
    return str(body["run_id"])
