"""Generate one coherent trial, block by block: SDTM files, FHIR bundles, HL7 laboratory messages."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.synthetic import background, domains, fhir, fhir_people, hl7
from trialops.synthetic.adverse_events import event_rows, observe
from trialops.synthetic.defects import Defects
from trialops.synthetic.laboratory import lab_readings, vital_readings
from trialops.synthetic.planted import Planted
from trialops.synthetic.population import COMPLETED, FAILED, REASONS, Population, simulate
from trialops.synthetic.protocol import (
    ARMS,
    COUNTRY,
    FOLLOW_UP,
    PLANNED_DAYS,
    RECEIPT_DELAY,
    SCREEN_FAILURE,
    STUDY,
    TITLE,
    TREATMENT,
    VISITS,
    Sites,
    plan_sites,
)
from trialops.synthetic.sdtm_files import SdtmFiles
from trialops.version import code_version

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import polars as pl

FORMATS = ("sdtm", "fhir", "hl7")
BLOCK = 500
OWN = ("sdtm", "fhir", "hl7", "truth", "trial.json", "sites.csv")


@dataclass(frozen=True)
class Summary:
    """What was generated.

    Attributes:
        counts: Rows per SDTM domain (corrections as "LB corrections" and "AE corrections"); with the other
            formats also "FHIR resources" and "HL7 messages".
        arms: Subjects per ARMCD, screen failures included.
        screened, screen_failures, completed, discontinued: Subjects.
        reasons: Subjects per disposition code.
        files: Files written.
        bytes: Their total size.
        seconds: Time taken.
        seed: Seed of the trial.
    """

    counts: dict[str, int]
    arms: dict[str, int]
    screened: int
    screen_failures: int
    completed: int
    discontinued: int
    reasons: dict[str, int]
    files: int
    bytes: int
    seconds: float
    seed: int


def generate(
    out: Path | str,
    *,
    subjects: int = 1000,
    sites: int = 20,
    seed: int = 1,
    formats: Sequence[str] = FORMATS,
    defects: Sequence[str] = (),
    planted: Planted | None = None,
    progress: Callable[[str, float], None] | None = None,
    block: int = BLOCK,
) -> Summary:
    """Generate a trial.

    Everything about subject k follows from the seed, k and its site; the files do not depend on `block`,
    except that FHIR and HL7 files are cut there. Equal arguments give equal bytes.

    Args:
        out: Folder to write: sdtm/, fhir/, hl7/, truth/, trial.json, sites.csv. An earlier trial in it
            is replaced.
        subjects: Screened subjects; about 15 % fail screening.
        sites: Recruiting sites.
        seed: Seed.
        formats: Any of "sdtm", "fhir", "hl7".
        defects: Faults to inject, see `trialops.synthetic.defects.KINDS`; recorded in truth/defects.json.
        planted: Effects of known size, recorded in truth/planted.json; nothing by default.
        progress: Called with a message and the fraction done.
        block: Subjects held in memory at a time.

    Returns:
        The summary, also the content of trial.json apart from the time.

    Raises:
        TrialOpsError: Arguments that cannot be met, or `out` holds something that is not a generated trial.
    """
    import numpy as np

    began = time.perf_counter()
    out = Path(out)
    unknown = sorted(set(formats) - set(FORMATS))
    if unknown or not formats or block < 1:
        raise TrialOpsError(
            f"cannot write format {', '.join(unknown) or 'none'}",
            where="formats",
            fix=f"choose from {', '.join(FORMATS)}",
        )
    faults = Defects.of(defects, formats)
    layout = plan_sites(seed, subjects, sites, faults.kinds)
    _clear(out)
    faults.layout(layout)
    tally = _Tally()
    sdtm = SdtmFiles(out / "sdtm", faults) if "sdtm" in formats else None
    if "fhir" in formats:
        fhir_people.write_study(out / "fhir", layout, seed)
    if "hl7" in formats:
        (out / "hl7").mkdir()
    randomised = np.zeros(len(layout.ids), dtype=np.int64)

    def one_block(number: int, keys: npt.NDArray[np.int64]) -> None:
        """Make and write a block; its tables are freed before the next one begins."""
        nonlocal randomised
        p = simulate(seed, layout, keys, nobody_leaves="one_class_label" in faults.kinds, planted=planted)
        frames, corrections = _tables(p, layout)
        tally.add(p)
        randomised = randomised + np.bincount(p.site[~p.failed], minlength=len(layout.ids))
        if "fhir" in formats:
            made = fhir.write_block(out / "fhir", number, p, layout, seed, frames, corrections)
            tally.counts["FHIR resources"] += made
        if "hl7" in formats:
            labs, changed = frames["LB"], corrections["LB"]
            tally.counts["HL7 messages"] += hl7.write_block(out / "hl7", number, p, layout, seed, labs, changed)
        if sdtm:
            sdtm.write(frames, corrections)

    for number, start in enumerate(range(0, subjects, block)):
        one_block(number, layout.order[start : start + block])
        if progress:
            done = min(start + block, subjects)
            progress(f"{done} of {subjects} subjects", done / subjects)
    if sdtm:
        tally.counts.update(sdtm.close())
    _write_sites(out / "sites.csv", layout, randomised)
    truth: dict[str, object] = {"defects": faults.as_list()} if faults.kinds else {}
    if planted:
        truth["planted"] = planted.as_dict()
    for name, content in truth.items():
        (out / "truth").mkdir(exist_ok=True)
        (out / "truth" / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    summary = tally.summary(seed)
    _write_protocol(out / "trial.json", summary, subjects, sites, formats, faults, planted)
    written = [f for f in out.rglob("*") if f.is_file()]
    return replace(
        summary,
        files=len(written),
        bytes=sum(f.stat().st_size for f in written),
        seconds=time.perf_counter() - began,
    )


def _clear(out: Path) -> None:
    """Make the folder ready; only an earlier generated trial may be replaced."""
    out.mkdir(parents=True, exist_ok=True)
    present = sorted(f.name for f in out.iterdir())
    if present and not (set(present) <= set(OWN)):
        raise TrialOpsError("the folder holds other files", where=str(out), fix="choose an empty folder")
    for name in present:
        path = out / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _tables(p: Population, layout: Sites) -> tuple[dict[str, pl.DataFrame], dict[str, pl.DataFrame]]:
    """SDTM frames of a block, and the corrected LB and AE rows with their receipt date."""
    import polars as pl

    ids = domains.subject_ids(p, layout)
    labs, seen = lab_readings(p), observe(p, layout)
    frames = {
        "DM": domains.demographics(p, layout, ids),
        "SUPPDM": domains.populations(p, ids),
        "DS": domains.disposition(p, ids),
        "EX": domains.exposure(p, ids),
        "SV": domains.visits(p, ids),
        "MH": background.history(p, ids),
        "CM": background.medications(p, ids, seen),
        "AE": event_rows(p, ids, seen, seen.severity),
        "VS": domains.vital_signs(p, ids, vital_readings(p)),
        "LB": domains.laboratory(p, ids, labs, labs.reported),
    }
    fixed = labs.take(labs.corrected)
    changed = seen.corrected
    corrections = {
        "LB": domains.laboratory(p, ids, fixed, fixed.settled).with_columns(
            RECEIVED=_receipt(p.visit_date[fixed.subject, fixed.visit])
        ),
        "AE": event_rows(p, ids, seen, seen.settled)[changed].with_columns(RECEIVED=_receipt(seen.collected[changed])),
    }
    return frames, {name: frame.with_columns(pl.col("RECEIVED").cast(pl.String)) for name, frame in corrections.items()}


def _receipt(days: npt.NDArray[np.int64]) -> pl.Series:
    """Corrections arrive on the first of a month, at least five days after the row was collected."""
    import numpy as np
    import polars as pl

    earliest = (days + RECEIPT_DELAY).astype("datetime64[D]")
    month = earliest.astype("datetime64[M]")
    month = np.where(month.astype("datetime64[D]") < earliest, month + 1, month)
    return (
        pl.Series(month.astype("datetime64[D]").astype(np.int64)).cast(pl.Int32).cast(pl.Date).dt.to_string("%Y-%m-%d")
    )


@dataclass
class _Tally:
    """Running counts."""

    counts: Counter[str] = field(default_factory=Counter)
    arms: Counter[str] = field(default_factory=Counter)
    reasons: Counter[int] = field(default_factory=Counter)

    def add(self, p: Population) -> None:
        codes = [*(a[0] for a in ARMS), SCREEN_FAILURE[0]]
        self.arms.update(codes[i] for i in p.arm)
        self.reasons.update(int(r) for r in p.reason)

    def summary(self, seed: int) -> Summary:
        total, failed, done = self.reasons.total(), self.reasons[FAILED], self.reasons[COMPLETED]
        return Summary(
            counts=dict(sorted(self.counts.items())),
            arms=dict(sorted(self.arms.items())),
            screened=total,
            screen_failures=failed,
            completed=done,
            discontinued=total - failed - done,
            reasons={name: self.reasons[i] for i, name in enumerate(REASONS)},
            files=0,
            bytes=0,
            seconds=0.0,
            seed=seed,
        )


def _write_sites(path: Path, layout: Sites, randomised: npt.NDArray[np.int64]) -> None:
    """sites.csv: identifier, country, activation, relative recruitment, subjects screened and randomised."""
    counts = layout.counts()
    lines = ["SITEID,COUNTRY,ACTIVATED,WEIGHT,SCREENED,RANDOMISED"]
    for i, site in enumerate(layout.ids):
        activated = date.fromordinal(date(1970, 1, 1).toordinal() + int(layout.activation[i]))
        lines.append(f"{site},{COUNTRY},{activated},{layout.weights[i]:.4f},{counts[i]},{randomised[i]}")
    path.write_text("\n".join(lines) + "\n")


def _write_protocol(
    path: Path,
    summary: Summary,
    subjects: int,
    sites: int,
    formats: Sequence[str],
    faults: Defects,
    planted: Planted | None,
) -> None:
    """trial.json: protocol facts, arguments and counts."""
    content = {
        "study": STUDY,
        "title": TITLE,
        "synthetic": True,
        "treatment": TREATMENT,
        "blinded": True,
        "code_version": code_version(),
        "arguments": {
            "subjects": subjects,
            "sites": sites,
            "seed": summary.seed,
            "formats": list(formats),
            "defects": sorted(faults.kinds),
            **({"planted": planted.as_dict()} if planted else {}),
        },
        "arms": [{"ARMCD": code, "ARM": name, "doses_mg": list(doses)} for code, name, doses in ARMS],
        "visits": [{"VISITNUM": number, "VISIT": name, "VISITDY": day} for number, name, day in VISITS],
        "treatment_days": PLANNED_DAYS,
        "follow_up_days": FOLLOW_UP,
        "counts": summary.counts,
        "subjects_per_arm": summary.arms,
        "screened": summary.screened,
        "screen_failures": summary.screen_failures,
        "completed": summary.completed,
        "discontinued": summary.discontinued,
        "reasons": summary.reasons,
    }
    path.write_text(json.dumps(content, indent=1) + "\n")
