"""What every report is made of: the trial at its cut, who is in which group and for how long, the judged events."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from trialops.errors import TrialOpsError
from trialops.regulatory.documents.content import Audience, Population
from trialops.safety.blinding import blind
from trialops.safety.events import safety_events
from trialops.safety.safety_policy import SafetyPolicy, safety_policy
from trialops.trial.participation import participation
from trialops.trial.populations import populations
from trialops.trial.tables import TrialTables, cut_at

if TYPE_CHECKING:
    import polars as pl

    from trialops.safety.judged import Words
    from trialops.trial.study_file import StudyFile

POOLED = "All treatments"
"""The one group of a blinded report."""

ATTRIBUTES = ("SITEID", "AGE", "SEX", "RACE", "ETHNIC", "COUNTRY")


@dataclass(frozen=True)
class Basis:
    """A trial at a data cut, as reports read it. Identifiable; unblinded where the audience is.

    Attributes:
        trial: The tables at the cut, without anything that tells the treatment for a blinded audience.
        study: The study file.
        policy: Safety policy of the study.
        audience: Who reads it.
        cut: Data cut.
        since: First day of the reporting period.
        subjects: One row per subject of DM: USUBJID, SITEID, AGE (Float64), SEX, RACE, ETHNIC, COUNTRY (null where not
            delivered), ``randomised``, ``treated``, ``screen_failure`` (bool), ``first_dose``, ``last_dose`` (Date),
            ``days`` (exposure in days, to the cut; null when not treated), ``group`` (as treated), ``planned`` (as
            randomised).
        events: The safety event table, with ``DAY`` (day of onset from the first dose, which is 1; the earliest day the
            onset can mean) and ``group``.
        groups: Groups as treated, control first.
        control: Group of the control arm; empty for a blinded audience, or where no arm is one.
    """

    trial: TrialTables
    study: StudyFile
    policy: SafetyPolicy
    audience: Audience
    cut: date
    since: date
    subjects: pl.DataFrame
    events: pl.DataFrame
    groups: tuple[str, ...]
    control: str

    @property
    def safety(self) -> pl.DataFrame:
        """Treated subjects."""
        return self.subjects.filter("treated")

    @property
    def randomised(self) -> pl.DataFrame:
        """Randomised subjects; ``group`` is as randomised."""
        import polars as pl

        return self.subjects.filter("randomised").with_columns(group=pl.col("planned"))

    @property
    def emergent(self) -> pl.DataFrame:
        """Treatment-emergent events of treated subjects; where it cannot be told, the event counts."""
        import polars as pl

        return self.in_safety.filter(pl.col("TEAE").fill_null(True))

    @property
    def in_safety(self) -> pl.DataFrame:
        """All events of treated subjects."""
        return self.events.join(self.safety.select("USUBJID"), on="USUBJID", how="semi", maintain_order="left")

    def population(self, label: str, frame: pl.DataFrame) -> Population:
        """A population by name, with its size."""
        return Population(label, frame.height)

    @property
    def safety_population(self) -> Population:
        """Treated subjects, as a table names them."""
        return self.population("Safety population: all treated subjects", self.safety)


def make_basis(
    trial: TrialTables,
    study: StudyFile,
    *,
    cut: date,
    since: date,
    audience: Audience,
    said: Words | None = None,
) -> Basis:
    """Cut the trial, take the treatment away where the audience is blinded, and judge its events.

    Args:
        trial: The delivery.
        study: The study file.
        cut: Last day that counts.
        since: First day of the reporting period.
        audience: "blinded" or "unblinded".
        said: What sponsor and sites have said about events; nobody has by default.

    Raises:
        TrialOpsError: Nobody had been screened at the cut, or the period begins after it.
    """
    import polars as pl

    if since > cut:
        raise TrialOpsError(
            f"The period begins on {since}, after the data cut {cut}", where="since", fix="Give an earlier day."
        )
    at = cut_at(trial, cut)
    if at.table("DM").is_empty():
        raise TrialOpsError(f"Nobody had been screened on {cut}", where=trial.study, fix="Choose a later data cut.")
    shown = blind(at) if audience == "blinded" else at
    policy = safety_policy(study)
    subjects = _subjects(shown, cut, audience)
    judged = safety_events(
        shown, policy, sponsor=said.sponsor if said else None, confirmed=said.confirmed if said else None
    ).events
    first = subjects.select("USUBJID", "first_dose", "group")
    since_dose = (pl.col("ONSET_EARLIEST") - pl.col("first_dose")).dt.total_days()
    events = judged.join(first, on="USUBJID", how="left", maintain_order="left").with_columns(
        DAY=pl.when(since_dose >= 0).then(since_dose + 1).otherwise(since_dose)
    )
    groups = subjects.filter("treated")["group"].drop_nulls().unique().sort().to_list()
    control = _control(study, groups) if audience == "unblinded" else ""
    ordered = tuple(sorted(groups, key=lambda name: (name != control, name)))
    return Basis(shown, study, policy, audience, cut, since, subjects, events.drop("first_dose"), ordered, control)


def _subjects(trial: TrialTables, cut: date, audience: Audience) -> pl.DataFrame:
    import polars as pl

    dm = trial.table("DM")
    nothing = pl.lit(None, pl.String)
    attributes = [
        (pl.col(c).cast(pl.Float64, strict=False) if c == "AGE" else pl.col(c).replace("", None))
        if c in dm.columns
        else nothing.alias(c)
        for c in ATTRIBUTES
    ]
    arms = {"group": "ACTARM" if "ACTARM" in dm.columns else "ARM", "planned": "ARM"}
    named = {
        name: pl.lit(POOLED) if audience == "blinded" else pl.col(column).fill_null("(not stated)")
        for name, column in arms.items()
    }
    told = dm.select("USUBJID", *attributes, **named).unique("USUBJID", keep="last")
    left = participation(trial, cut).select("USUBJID", left="end")
    joined = populations(trial).join(told, on="USUBJID", how="left").join(left, on="USUBJID", how="left")
    # An interval of exposure without an end goes on until the subject leaves, at the latest.
    end = pl.coalesce("last_dose", "left", pl.lit(cut))
    days = (end - pl.col("first_dose")).dt.total_days() + 1
    return joined.with_columns(days=pl.when("treated").then(days.clip(1))).drop("left").sort("USUBJID")


def _control(study: StudyFile, groups: list[str]) -> str:
    """The arm the study file calls comparator, by its name, code or treatment; else the one that is called placebo."""
    stated = [arm for arm in study.protocol.get("arms") or () if arm.get("comparator")]
    names = {str(arm.get(k, "")).upper() for arm in stated for k in ("name", "code", "treatment")} - {""}
    for group in groups:
        if group.upper() in names:
            return group
    return next((group for group in groups if "PLACEBO" in group.upper()), "")
