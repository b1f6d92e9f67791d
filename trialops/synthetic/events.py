"""Adverse events that would be observed if nobody left the trial, by subject and slot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from trialops.synthetic.draws import Draws

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]

SLOTS = 24
SEVERITY = ("MILD", "MODERATE", "SEVERE")
SKIN = "SKIN AND SUBCUTANEOUS TISSUE DISORDERS"
SITE = "GENERAL DISORDERS AND ADMINISTRATION SITE CONDITIONS"
GUT = "GASTROINTESTINAL DISORDERS"
NERVOUS = "NERVOUS SYSTEM DISORDERS"
HEART = "CARDIAC DISORDERS"
INFECTION = "INFECTIONS AND INFESTATIONS"
CHEST = "RESPIRATORY, THORACIC AND MEDIASTINAL DISORDERS"
MIND = "PSYCHIATRIC DISORDERS"
MUSCLE = "MUSCULOSKELETAL AND CONNECTIVE TISSUE DISORDERS"
INJURY = "INJURY, POISONING AND PROCEDURAL COMPLICATIONS"
VESSEL = "VASCULAR DISORDERS"


class Term(NamedTuple):
    """A kind of adverse event: preferred term, body system, frequency under placebo and drug."""

    decod: str
    bodsys: str
    placebo: float
    active: float
    verbatim: str = ""
    treatment: str = ""


# fmt: off
TERMS = (
    Term("APPLICATION SITE PRURITUS", SITE, 2.0, 8.0, "ITCHING AT PATCH SITE", "HYDROCORTISONE, TOPICAL"),
    Term("APPLICATION SITE ERYTHEMA", SITE, 1.2, 5.5, "REDNESS AT PATCH SITE", "HYDROCORTISONE, TOPICAL"),
    Term("APPLICATION SITE DERMATITIS", SITE, 1.6, 3.4, "", "HYDROCORTISONE, TOPICAL"),
    Term("APPLICATION SITE IRRITATION", SITE, 1.2, 4.2),
    Term("APPLICATION SITE VESICLES", SITE, 0.3, 1.6),
    Term("PRURITUS", SKIN, 3.0, 7.5, "ITCHING", "DIPHENHYDRAMINE"),
    Term("ERYTHEMA", SKIN, 3.0, 5.0, "SKIN REDNESS"),
    Term("RASH", SKIN, 2.2, 4.2, "", "HYDROCORTISONE, TOPICAL"),
    Term("SKIN IRRITATION", SKIN, 1.2, 2.2),
    Term("HYPERHIDROSIS", SKIN, 0.6, 2.0),
    Term("BLISTER", SKIN, 0.2, 1.0),
    Term("NAUSEA", GUT, 1.4, 2.8, "FEELING SICK", "METOCLOPRAMIDE"),
    Term("VOMITING", GUT, 1.0, 2.2),
    Term("DIARRHOEA", GUT, 2.4, 1.8, "LOOSE STOOLS", "LOPERAMIDE"),
    Term("ABDOMINAL PAIN", GUT, 0.8, 1.0),
    Term("DYSPEPSIA", GUT, 0.6, 0.8, "", "OMEPRAZOLE"),
    Term("CONSTIPATION", GUT, 0.6, 0.5),
    Term("SALIVARY HYPERSECRETION", GUT, 0.1, 0.9),
    Term("DIZZINESS", NERVOUS, 1.2, 3.0, "LIGHT HEADEDNESS"),
    Term("HEADACHE", NERVOUS, 2.0, 1.8, "", "PARACETAMOL"),
    Term("SYNCOPE", NERVOUS, 0.3, 1.0, "FAINTING"),
    Term("SOMNOLENCE", NERVOUS, 0.6, 0.8),
    Term("TRANSIENT ISCHAEMIC ATTACK", NERVOUS, 0.1, 0.2, "TIA"),
    Term("SINUS BRADYCARDIA", HEART, 0.6, 1.8),
    Term("ATRIAL FIBRILLATION", HEART, 0.4, 0.6),
    Term("MYOCARDIAL INFARCTION", HEART, 0.4, 0.5, "HEART ATTACK"),
    Term("ATRIOVENTRICULAR BLOCK FIRST DEGREE", HEART, 0.5, 0.7),
    Term("NASOPHARYNGITIS", INFECTION, 1.3, 1.3, "COMMON COLD"),
    Term("UPPER RESPIRATORY TRACT INFECTION", INFECTION, 1.6, 1.2, "", "AMOXICILLIN"),
    Term("URINARY TRACT INFECTION", INFECTION, 1.1, 0.8, "", "CIPROFLOXACIN"),
    Term("PNEUMONIA", INFECTION, 0.3, 0.3, "", "AMOXICILLIN"),
    Term("COUGH", CHEST, 1.0, 1.0),
    Term("NASAL CONGESTION", CHEST, 0.6, 0.7),
    Term("FATIGUE", SITE, 1.2, 1.4, "TIREDNESS"),
    Term("OEDEMA PERIPHERAL", SITE, 0.8, 0.8, "SWOLLEN ANKLES", "FUROSEMIDE"),
    Term("AGITATION", MIND, 0.9, 0.6),
    Term("INSOMNIA", MIND, 0.8, 0.8),
    Term("CONFUSIONAL STATE", MIND, 0.6, 0.7),
    Term("ARTHRALGIA", MUSCLE, 0.8, 0.8, "", "PARACETAMOL"),
    Term("BACK PAIN", MUSCLE, 0.9, 0.8, "", "PARACETAMOL"),
    Term("FALL", INJURY, 0.9, 1.1),
    Term("CONTUSION", INJURY, 0.7, 0.6, "BRUISE"),
    Term("HIP FRACTURE", INJURY, 0.1, 0.1),
    Term("HYPERTENSION", VESSEL, 0.4, 0.5, "", "AMLODIPINE"),
    Term("HYPOTENSION", VESSEL, 0.3, 0.6),
)
# fmt: on
FATAL = tuple(i for i, t in enumerate(TERMS) if t.decod in {"MYOCARDIAL INFARCTION", "PNEUMONIA"})
GRAVE = tuple(
    t.decod in {"MYOCARDIAL INFARCTION", "PNEUMONIA", "HIP FRACTURE", "TRANSIENT ISCHAEMIC ATTACK"} for t in TERMS
)
IRRITATION = tuple(t.bodsys in (SKIN, GUT) or t.decod.startswith("APPLICATION SITE") for t in TERMS)


@dataclass(frozen=True)
class Events:
    """Latent adverse events, arrays of shape (n, slots); slots with `there` false are unused.

    Attributes:
        there: The slot holds an event.
        term: Index into TERMS.
        onset: Study day of onset (no day 0).
        severity: 0 mild, 1 moderate, 2 severe.
        duration: Days from onset to resolution.
    """

    there: npt.NDArray[np.bool_]
    term: Ints
    onset: Ints
    severity: Ints
    duration: Ints

    def burden(self, days: Floats, *, irritation: bool) -> Floats:
        """Severity points (mild 1, moderate 2, severe 3) of events begun by each day.

        Args:
            days: Study days, shape (d,).
            irritation: Count skin, application site and gastrointestinal events; else all the others.

        Returns:
            Points, shape (n, d).
        """
        import numpy as np

        kind = np.asarray(IRRITATION)[self.term] == irritation
        points = np.where(self.there & kind & (self.onset > 0), self.severity + 1.0, 0.0)
        return np.stack([(points * (self.onset <= day)).sum(axis=1) for day in days], axis=1)


def simulate_events(draws: Draws, arm: Ints, age: Ints, frailty: Floats) -> Events:
    """Draw adverse events up to day 212.

    Args:
        draws: Random numbers of the subjects.
        arm: 0 placebo, 1 low, 2 high; -1 screen failure (no events).
        age: Years.
        frailty: Gamma multiplier of the event rate, mean 1.

    Returns:
        Events of shape (n, SLOTS).
    """
    import numpy as np

    drug = np.maximum(arm, 0)
    mean = np.array([3.6, 6.2, 6.8])[drug] * frailty * np.exp(0.01 * (age - 75))
    count = np.where(arm >= 0, draws.poisson("ae/count", mean, SLOTS), 0)
    u = draws.uniform("ae/term", SLOTS)
    term = np.zeros(u.shape, dtype=np.int64)
    for active in (False, True):
        weights = np.cumsum([t.active if active else t.placebo for t in TERMS])
        found = np.searchsorted(weights / weights[-1], u, side="right")
        term = np.where(((drug > 0) == active)[:, None], np.minimum(found, len(TERMS) - 1), term)
    irritation = np.asarray(IRRITATION)[term]
    # Irritation starts early, other events at any time; one event in forty precedes the first dose.
    early = 1 + np.floor(30 * draws.exponential("ae/early", SLOTS))
    late = 1 + np.floor(211 * draws.uniform("ae/late", SLOTS))
    onset = np.where(irritation & (draws.uniform("ae/kind", SLOTS) < 0.75), np.minimum(early, 211), late)
    before = -draws.integers("ae/before", 1, 6, SLOTS)
    onset = np.where(draws.uniform("ae/pre", SLOTS) < 0.025, before, onset).astype(np.int64)
    score = (
        draws.normal("ae/severity", SLOTS)
        + 0.35 * np.log(frailty + 0.05)[:, None]
        + np.where(irritation, 0.12 * drug[:, None], 0.0)
    )
    severity = (score > 0.45).astype(np.int64) + (score > 1.75)
    duration = np.floor(draws.exponential("ae/duration", SLOTS) * (8 + 12 * severity + 14 * irritation))
    return Events(np.arange(SLOTS) < count[:, None], term, onset, severity, duration.astype(np.int64))
