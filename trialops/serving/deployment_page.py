"""Pages and dossier of a deployment: who signed for what, how the rollout went, what is in production now."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.pages import Facts, Page, Section, Table, Text, Tone, Verdict, render

if TYPE_CHECKING:
    from trialops.stores.context import Step

GATE_TONES: dict[str, Tone] = {
    "approved": "good",
    "waits": "warn",
    "rejected": "bad",
    "unfit": "bad",
    "unchanged": "plain",
}
TONES: dict[str, Tone] = {"promoted": "good", "rolled back": "bad", "waits for a signature": "warn", "rejected": "bad"}


def gate_page(gate: Mapping[str, Any]) -> Page:
    """What a person signs for, and who has."""
    signed = [
        (one["printed_name"], one["at"], one["meaning"], one["reason"])
        for one in [*gate["approvals"], *gate["objections"]]
    ]
    figures = {
        name.replace("_", " "): ", ".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in value)
        if isinstance(value, list)
        else value
        for name, value in gate["figures"].items()
    }
    return Page(
        "Approval before production",
        [
            Section("Why", [Text(reason) for reason in gate["reasons"]]),
            Section("What it is", [Facts({"version": gate["version"], "in use now": gate["champion"], **figures})]),
            Section(
                "Signatures", [Table(("name", "at", "meaning", "reason"), signed) if signed else Text("None yet.")]
            ),
            Section(
                "Evidence",
                [
                    Table(("document", "SHA-256"), sorted(gate["documents"].items())),
                    Text(f"to sign {gate['to_sign']}", quiet=True),
                ],
            ),
        ],
        Verdict(str(gate["state"]).capitalize(), GATE_TONES[str(gate["state"])], f"version {gate['version']}"),
    )


def write_dossier(
    run: Step,
    gate: Mapping[str, Any],
    release: Mapping[str, Any],
    rollout: list[dict[str, Any]],
    manifests: Mapping[str, str],
) -> tuple[Path, Page]:
    """Write the folder that answers why this version is, or is not, in production.

    Args:
        run: The step.
        gate: The gate's document.
        release: What is in service now.
        rollout: Rows of the rollout's journal; empty where there was none.
        manifests: Kubernetes documents of each step by file name.

    Returns:
        The folder, with contents.json (file to SHA-256) and index.html, and its page.
    """
    folder = run.workdir / "dossier"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "kserve").mkdir(parents=True)
    documents = {"approval.json": gate, "release.json": release, "rollout.json": {"events": rollout}}
    for name, content in documents.items():
        (folder / name).write_text(json.dumps(content, indent=1, sort_keys=True))
    for name, text in manifests.items():
        (folder / "kserve" / name).write_text(text)
    page = deployment_page(gate, release, rollout)
    (folder / "index.html").write_text(render(page))
    contents = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    (folder / "contents.json").write_text(json.dumps(contents, indent=1, sort_keys=True))
    return folder, page


def deployment_page(gate: Mapping[str, Any], release: Mapping[str, Any], rollout: list[dict[str, Any]]) -> Page:
    """What became of a version, and every decision on the way."""
    told = []
    for event in rollout:
        record = event["detail"].get("record", {})
        failed = [c["name"] for c in event["detail"].get("checks", ()) if c["passed"] is False]
        if event["event"] in ("judged", "decided", "aborted"):
            verdict = ", ".join(failed) if failed else event["detail"].get("decision", "passed")
            told.append(
                (
                    event["at"][:19],
                    event["event"],
                    event["percent"],
                    record.get("requests"),
                    record.get("candidate_served"),
                    record.get("candidate_errors"),
                    record.get("candidate_p50_ms"),
                    record.get("stable_p50_ms"),
                    verdict,
                )
            )
    columns = ("at", "event", "percent", "requests", "served", "errors", "p50 ms", "stable p50 ms", "verdict")
    reasons = [reason for event in rollout if event["event"] == "decided" for reason in event["detail"]["reasons"]]
    return Page(
        "Deployment",
        [
            Section("What happened", [Text(str(release["reason"])), *(Text(reason) for reason in reasons)]),
            Section(
                "In production",
                [Facts({"model": release["model"], "version judged": release["version"], "now": release["champion"]})],
            ),
            Section("Rollout", [Table(columns, told) if told else Text("There was none.")]),
            Section(
                "Approval",
                [Text("; ".join(gate["reasons"])), Text(f"evidence {gate['to_sign']}", quiet=True)],
            ),
        ],
        Verdict(str(release["state"]).capitalize(), TONES.get(str(release["state"]), "plain"), str(release["reason"])),
    )
