"""What laboratories said up to now: sealed like everything identifiable, found again by a pointer in the lake."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.stores.sealed import seal, unseal

if TYPE_CHECKING:
    import polars as pl

    from trialops.intake.hl7_intake import LabIntake
    from trialops.intake.subjects import Subjects
    from trialops.stores.context import Artifact, Step

POINTER = "labs/history"
QUEUE = "labs/unmatched"
NAME = "STATEMENTS"


def earlier(run: Step) -> tuple[pl.DataFrame | None, str]:
    """All statements of earlier intakes and their digest; None and an empty text before the first."""
    pointer = run.read_latest(POINTER)
    if pointer is None or pointer.is_empty():
        return None, ""
    document = json.loads(pointer["document"][0])
    return unseal(document, vault=run.vault, objects=run.objects)[NAME], str(document["digest"])


def keep(run: Step, statements: pl.DataFrame) -> str:
    """Make these the statements the next intake starts from; returns their digest."""
    import polars as pl

    document: dict[str, Any] = seal({NAME: statements}, vault=run.vault, objects=run.objects)
    text = json.dumps(document, sort_keys=True)
    run.write_named(POINTER, pl.DataFrame({"document": [text]}))
    return str(document["digest"])


def made_from(subjects: Subjects, delivery: str, history: str, inbox: list[str], *more: Path) -> str:
    """Digest of everything an intake of laboratory messages depends on."""
    total = hashlib.sha256(f"{delivery}\n{history}\n".encode())
    total.update(json.dumps([subjects.fingerprint(), sorted(inbox)]).encode())
    for path in more:
        total.update(path.read_bytes() if path.is_file() else b"")
    return total.hexdigest()


def release(run: Step, intake: LabIntake, outputs: dict[str, Artifact], files: list[Path]) -> None:
    """Seal results and evidence; write quarantine and queue, which hold no identifier."""
    import polars as pl

    results = intake.results
    run.seal(outputs["raw"], {"LB": results.rows, "UNMATCHED": results.unmatched}, files=files)
    run.write_table(outputs["quarantine"], intake.quarantine, table="quarantine/labs")
    queue = results.unmatched.select("QUEUE", "REASON", "RESULTS", "MESSAGES").sort("QUEUE", "REASON", "RESULTS")
    run.write_table(outputs["unmatched"], queue, table=QUEUE)
    run.metrics |= {
        "records_read": int(intake.dispositions["read"].sum()),
        "results": results.rows.height,
        "quarantined": intake.quarantine.height,
        "unmatched": int(results.unmatched.select(pl.col("RESULTS").sum()).item() or 0),
    }
