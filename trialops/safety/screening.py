"""The step that looks for signals inside the trial while it is blinded: watched events against their boundaries.

Which events are watched, and the risk that is accepted, is the protocol's: ``safety.monitoring_boundaries`` of the
study file. Arms are together; comparing them is the monitoring board's, in an unblinded report.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from trialops.pages import Page
from trialops.safety.monitoring_boundaries import Watch, watch, watch_page, watched_events

if TYPE_CHECKING:
    from trialops.trial.study_file import StudyFile
    from trialops.trial.tables import TrialTables

REACHED, NOT_REACHED, NOTHING = "boundary reached", "no boundary reached", "nothing is watched"


@dataclass(frozen=True)
class Screened:
    """How the watched events stand; counts alone, fit for a page.

    Attributes:
        watches: One per watched event.
        decision: "boundary reached", "no boundary reached" or "nothing is watched".
        page: The page.
    """

    watches: tuple[Watch, ...]
    decision: str
    page: Page

    @property
    def numbers(self) -> dict[str, Any]:
        """What the decision was made from: by event, where it stands against its boundary; no small counts."""
        return {
            one.watched.name: {
                "treated": one.subjects,
                "boundary": one.limit,
                "certainty": round(one.rule.certainty, 6),
                "reached": one.reached,
            }
            for one in self.watches
        }


def screen(trial: TrialTables, study: StudyFile, *, day: date | None = None) -> Screened:
    """Judge the events under watch among the subjects treated so far.

    Args:
        trial: The delivery; it is blinded before anything is counted.
        study: The study file: what is watched, how many subjects are planned.
        day: Last day that counts; everything delivered by default.
    """
    import polars as pl

    from trialops.safety.blinding import blind
    from trialops.safety.events import safety_events
    from trialops.safety.safety_policy import safety_policy
    from trialops.trial.populations import populations
    from trialops.trial.tables import cut_at

    shown = blind(cut_at(trial, day) if day else trial)
    events = safety_events(shown, safety_policy(study)).events.filter(pl.col("TEAE").fill_null(True))
    treated = populations(shown).filter("treated")["USUBJID"]
    stated = watched_events(study.safety.get("monitoring_boundaries") or ())
    found = watch(events, treated, stated, planned=int(study.protocol["planned_enrolment"]))
    decision = REACHED if any(one.reached for one in found) else NOT_REACHED if found else NOTHING
    return Screened(found, decision, watch_page(found))
