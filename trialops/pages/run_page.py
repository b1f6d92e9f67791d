"""The page of a run: what it decided, how each step went, what each step shows, where everything came from."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trialops.pages.page import number, template
from trialops.stores.objects import ObjectStore

TONES = {
    "better than chance": "good",
    "not shown to be better than chance": "warn",
    "worse than chance": "bad",
    "succeeded": "good",
    "pass": "good",
    "promote": "good",
    "promoted": "good",
    "unchanged": "plain",
    "hold": "warn",
    "held": "warn",
    "fallback": "warn",
    "healthy": "good",
    "degraded": "warn",
    "unknown": "warn",
    "broken": "bad",
    "insufficient evidence": "warn",
    "interrupted": "warn",
    "failed": "bad",
    "fail": "bad",
    "reject": "bad",
    "rejected": "bad",
    "rollback": "bad",
    "rolled back": "bad",
}
AUDIT_ROWS = 400
_DIGEST = re.compile(r"[0-9a-f]{40,}")
_VERDICT = re.compile(r'<div class="verdict (good|warn|bad|plain)">')


def build(home: Path, run_id: str) -> Path:
    """Write ``index.html`` of a run from its record, its steps' records and the audit trail.

    Args:
        home: Folder of the embedded stores.
        run_id: Run; its ``run.json`` must exist.

    Returns:
        Path of the page.
    """
    from trialops.settings import settings
    from trialops.stores.objects import open_store

    folder = home / "runs" / run_id
    run = json.loads((folder / "run.json").read_text())
    objects = open_store(settings().objects if settings().objects_url else str(home))
    steps = [_step(row, run_id, objects, folder) for row in run["steps"]]
    longest = max((step["seconds"] for step in steps), default=0.0) or 1.0
    records = [step["record"] for step in steps if step["record"]]
    html = template(
        "run.html",
        title=f"{run['title']}: {run['state']}",
        run=run,
        tone=TONES.get(run["state"], "plain"),
        headline=_headline(run),
        decisions=[_decision(step) for step in steps if step["record"] and step["record"].get("decision")],
        steps=steps,
        longest=longest,
        lineage=_lineage(records),
        audit=_audit(run_id),
        files=[
            name for name in ("pipeline.yaml", "run.json", "log.txt", "notification.json") if (folder / name).exists()
        ],
        dossier=_dossier(steps),
    )
    page = folder / "index.html"
    staged = folder / ".index.html.partial"
    staged.write_text(html, "utf-8")
    staged.replace(page)
    return page


def _headline(run: Mapping[str, Any]) -> str:
    counts = run.get("counts", {})
    if run["state"] == "succeeded" and not counts.get("ran"):
        return "Nothing new: every step was reused."
    parts = [
        f"{counts[name]} {name}"
        for name in ("ran", "reused", "skipped", "failed", "interrupted", "not run")
        if counts.get(name)
    ]
    seconds, outside = run.get("seconds", 0), run.get("overhead_seconds", 0)
    return f"{', '.join(parts)} · {seconds:.1f} s, of which {outside:.1f} s outside the steps"


def _step(row: Mapping[str, Any], run_id: str, objects: ObjectStore, folder: Path) -> dict[str, Any]:
    """A task's row with its record and page, taken from the run it was reused from where it was."""
    origin = row.get("from_run") or run_id
    record: dict[str, Any] | None = None
    fragment = ""
    if row.get("step"):
        prefix = f"runs/{origin}/steps/{row['step']}"
        try:
            record = json.loads(objects.get(f"{prefix}/record.json"))
            fragment = objects.get(f"{prefix}/page.html").decode()
        except KeyError:
            pass
    return {
        "name": row["path"].replace("/", "-").replace("@", "-"),
        "title": row["title"],
        "state": row["state"],
        "seconds": float(row.get("seconds") or 0.0),
        "from_run": row.get("from_run", ""),
        "error": row.get("error"),
        "record": record,
        "fragment": fragment,
        "artifacts": _artifacts(record, folder),
    }


def _artifacts(record: Mapping[str, Any] | None, folder: Path) -> list[dict[str, str]]:
    """Links to what a step wrote, relative to the page."""
    found = []
    for item in (record or {}).get("outputs", []):
        path = Path(item.get("path", ""))
        link = os.path.relpath(path, folder) if item.get("path") and path.exists() else ""
        tables = ", ".join(f"{t['table']}@{t['version']}" for t in item.get("tables", {}).values() if "table" in t)
        found.append({"name": item["artifact"], "link": link, "digest": item.get("digest", "")[:16], "tables": tables})
    return found


def _decision(step: Mapping[str, Any]) -> dict[str, Any]:
    decision = step["record"]["decision"]
    shown = [
        f"{name.replace('_', ' ')} {number(value)}"
        for name, value in decision["numbers"].items()
        if isinstance(value, int | float | str) and value != "" and not _DIGEST.fullmatch(str(value))
    ]
    return {
        "title": step["title"],
        "anchor": step["name"],
        "label": decision["decision"],
        "tone": _tone(decision["decision"], step["fragment"]),
        "text": "; ".join(shown[:6]),
    }


def _tone(decision: str, fragment: str) -> str:
    """How a decision is shown: as known everywhere, else as the step's own page shows its verdict."""
    said = _VERDICT.search(fragment)
    return TONES.get(decision) or (said[1] if said else "plain")


def _lineage(records: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    from trialops.governance.lineage import edges

    return edges(records)


def _dossier(steps: Sequence[Mapping[str, Any]]) -> str:
    for step in steps:
        for artifact in step["artifacts"]:
            if artifact["name"] == "dossier" and artifact["link"]:
                return str(artifact["link"])
    return ""


def _audit(run_id: str) -> list[dict[str, Any]] | None:
    """The run's audit events; None where the database cannot be reached, which the page of a failure must survive."""
    from trialops.errors import TrialOpsError
    from trialops.governance.audit import AuditTrail
    from trialops.settings import settings
    from trialops.stores.database import connect, schema_version

    if not settings().audit_log_enabled:
        return []
    url = settings().database
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        return []  # the run ended before its first event; opening the file would create it
    try:
        engine = connect(url)
        if not schema_version(engine):
            return []
    except TrialOpsError:
        return None
    events = AuditTrail(engine).events(run_id=run_id, limit=AUDIT_ROWS)
    return [
        {
            "seq": e.seq,
            "at": e.at,
            "actor": e.actor,
            "action": e.action,
            "object": e.object,
            "version": e.version[:24],
            "reason": e.reason,
            "digest": e.digest[:16],
        }
        for e in events
    ]
