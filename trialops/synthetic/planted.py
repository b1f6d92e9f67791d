"""Effects put into a generated trial on purpose, of known size: how much can be foreseen, of whom less, what shifts.

A method that claims to find bias or drift is shown a trial that has some, and one that has none. Three things can be
planted:

* **signal**: the factor on every effect on the hazard of withdrawal. 0: who leaves is independent of all that is
  observed, and only chance and an unobserved frailty decide; the share who leave stays as it is.
* **bias**: for a share of one group, drawn at random, the signal is 0. Their withdrawals cannot be foreseen by anybody,
  so every model finds fewer of the group's events at the same threshold.
* **drift**: from a point of the recruitment period on, analytes, vital signs or age are shifted by a number of standard
  deviations (covariate shift), or an effect on the hazard is multiplied by a factor (concept drift).

The size of a planted bias. Let a model flag a share T of the events (true-positive rate) and F of the others
(false-positive rate) of subjects with signal, and let pi be the prevalence. A subject without signal has an outcome
independent of being flagged, so both rates of theirs are S = pi T + (1 - pi) F. With a share q of them the group's
true-positive rate is (1 - q) T + q S, lower by q (1 - pi) (T - F), and its false-positive rate higher by
q pi (T - F). A gap is planted with q = gap / ((1 - pi) (T - F)), T - F and pi being those of `REFERENCE`, a logistic
model of what is known at day 28.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.synthetic.analytes import ANALYTES, VITALS
from trialops.synthetic.protocol import ACCRUAL, ACTIVATION_SPREAD, FIRST_ACTIVATION, day_number

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from trialops.synthetic.draws import Draws

    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]
    Flags = npt.NDArray[np.bool_]

#: Effects on the hazard of withdrawal that can be observed.
EFFECTS = ("age", "irritation", "other", "alt", "light", "arm", "site")
#: What can be shifted, in standard deviations: of a test between and within persons, of age at entry.
SHIFTS = (*(a.code for a in ANALYTES), *(v.code for v in VITALS if v.code != "HEIGHT"), "AGE")
#: Prevalence of withdrawal after day 28, and true- minus false-positive rate at Youden's threshold, of a logistic model
#: of age, sex, weight, adverse events and ALT change known by then.
REFERENCE = {"prevalence": 0.36, "youden": 0.34}
#: The fall when nothing foretells the outcome of anybody in the group.
LARGEST_GAP = (1 - REFERENCE["prevalence"]) * REFERENCE["youden"]
#: What the effects add to the log hazard of a subject without signal, so that as many leave.
REPLACED = 1.5


@dataclass(frozen=True)
class Bias:
    """One group whose outcome can be foreseen less.

    Attributes:
        attribute: "sex", "age_band" or "race".
        level: The group: "F", ">80", "ASIAN".
        gap: Wanted fall of the group's true-positive rate.
    """

    attribute: str
    level: str
    gap: float

    @property
    def share(self) -> float:
        """Share of the group without signal."""
        return self.gap / LARGEST_GAP


@dataclass(frozen=True)
class Drift:
    """A change at a point of the recruitment period.

    Attributes:
        after: Fraction of the recruitment period; subjects who consent later are changed.
        shifts: Name of `SHIFTS` -> shift in standard deviations.
        effects: Name of `EFFECTS` -> factor on the effect; 0 removes it, -1 turns it round.
    """

    after: float
    shifts: Mapping[str, float] = field(default_factory=dict)
    effects: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Planted:
    """What is planted; the default is nothing and leaves every byte of a trial as it is.

    Attributes:
        signal: Factor on all effects on the outcome; 0 for none.
        bias: A group whose outcome can be foreseen less.
        drift: A change during recruitment.

    Raises:
        TrialOpsError: A size cannot be planted, or a name is not known.
    """

    signal: float = 1.0
    bias: Bias | None = None
    drift: Drift | None = None

    def __post_init__(self) -> None:
        import numpy as np

        if not 0 <= self.signal <= 3:
            raise _refused(f"a signal of {self.signal:g}", "use a factor from 0 (nothing can be foreseen) to 3")
        if self.bias is not None:
            if not 0 < self.bias.share <= 1:
                raise _refused(f"a gap of {self.bias.gap:g}", f"use more than 0 and at most {LARGEST_GAP:.2f}")
            _members(self.bias, *(np.zeros(0, dtype=kind) for kind in (bool, int, int)))
        if self.drift is not None:
            unknown = [n for n in self.drift.shifts if n not in SHIFTS]
            unknown += [n for n in self.drift.effects if n not in EFFECTS]
            if unknown:
                raise _refused(
                    f"drift of {unknown[0]}",
                    f"shift any of {', '.join(SHIFTS)}, or change effect.NAME with NAME of {', '.join(EFFECTS)}",
                )
            if not 0 <= self.drift.after < 1 or not (self.drift.shifts or self.drift.effects):
                raise _refused("this drift", "name at least one change, and a fraction from 0 up to 1")

    def __bool__(self) -> bool:
        return self != Planted()

    def as_dict(self) -> dict[str, Any]:
        """What was planted as JSON values, the share of the group without signal included."""
        content = asdict(self)
        if self.bias is not None:
            content["bias"]["share_without_signal"] = self.bias.share
        return content

    def later(self, consent: Ints) -> Flags:
        """Who comes after the change, from the date of consent in days since 1970; shape (n,)."""
        import numpy as np

        if self.drift is None:
            return np.zeros(len(consent), dtype=bool)
        begins = day_number(FIRST_ACTIVATION)
        return consent >= begins + self.drift.after * (ACTIVATION_SPREAD + ACCRUAL)

    def shift(self, name: str, later: Flags) -> Floats:
        """Shift of a quantity in standard deviations, shape (n,)."""
        import numpy as np

        shifts = self.drift.shifts if self.drift is not None else {}
        return np.asarray(later * float(shifts.get(name, 0.0)), dtype=np.float64)

    def without_signal(self, draws: Draws, female: Flags, age: Ints, race: Ints) -> Flags:
        """Members of the biased group whose outcome nothing foretells; shape (n,)."""
        import numpy as np

        if self.bias is None:
            return np.zeros(len(age), dtype=bool)
        chosen = draws.uniform("planted/bias") < self.bias.share
        return np.asarray(chosen & _members(self.bias, female, age, race))

    def strengths(self, no_signal: Flags, later: Flags) -> dict[str, Floats]:
        """Factor on each effect, shape (n,); 1.0 everywhere when nothing is planted."""
        import numpy as np

        signal = np.where(no_signal, 0.0, self.signal)
        changed = self.drift.effects if self.drift is not None else {}
        return {name: signal * np.where(later, changed.get(name, 1.0), 1.0) for name in EFFECTS}

    def replaced(self, no_signal: Flags) -> Floats:
        """What stands for the effects that were taken away, on the log hazard; shape (n,)."""
        import numpy as np

        return REPLACED * (1.0 - np.where(no_signal, 0.0, self.signal))


def _members(bias: Bias, female: Flags, age: Ints, race: Ints) -> Flags:
    """Who belongs to the group."""
    import polars as pl

    from trialops.features.labels import age_band
    from trialops.synthetic.population import RACES

    if bias.attribute == "sex" and bias.level in ("F", "M"):
        return female if bias.level == "F" else ~female
    if bias.attribute == "race" and bias.level in RACES:
        return race == RACES.index(bias.level)
    if bias.attribute == "age_band":
        inside = pl.DataFrame({"AGE": age}).select(age_band(pl.col("AGE"), [bias.level]).is_not_null())
        return inside.to_series().to_numpy()
    raise _refused(
        f"bias against {bias.attribute} {bias.level}", "use sex F or M, an age_band such as >80, or a race of the trial"
    )


def _refused(what: str, fix: str) -> TrialOpsError:
    return TrialOpsError(f"{what} cannot be planted", where="plant", fix=fix)


def parse(texts: Sequence[str]) -> Planted:
    """Read what a command line asks for.

    Args:
        texts: "signal=0", "bias=sex:F:0.15", "drift=ALT:0.5,effect.irritation:-1@0.5" (changes, then after which
            fraction of the recruitment period); each kind at most once.

    Returns:
        What is planted.

    Raises:
        TrialOpsError: A text cannot be read.
    """
    found: dict[str, Any] = {}
    for text in texts:
        kind, _, value = (part.strip() for part in text.partition("="))
        read = {"signal": _number, "bias": _bias, "drift": _drift}.get(kind)
        if read is None or kind in found:
            raise _refused(text, "give signal=, bias= and drift=, each at most once")
        found[kind] = read(value)
    return Planted(**found)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _refused(f"'{text}'", "give a number") from None


def _bias(text: str) -> Bias:
    match = re.fullmatch(r"([^:]+):([^:]+):([^:]+)", text)
    if not match:
        raise _refused(f"bias={text}", "write ATTRIBUTE:LEVEL:GAP, as in bias=sex:F:0.15")
    return Bias(match[1].strip(), match[2].strip(), _number(match[3]))


def _drift(text: str) -> Drift:
    changes, _, after = text.rpartition("@")
    shifts: dict[str, float] = {}
    effects: dict[str, float] = {}
    for change in filter(None, changes.split(",")):
        name, _, size = (part.strip() for part in change.partition(":"))
        kept, key = (effects, name[7:]) if name.startswith("effect.") else (shifts, name.upper())
        kept[key] = _number(size)
    return Drift(_number(after), shifts, effects)
