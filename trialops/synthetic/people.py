"""Direct identifiers of invented people: names, addresses, telephone, medical record number, investigator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trialops.synthetic.draws import Draws
from trialops.synthetic.wordlists import (
    CITIES,
    CLINICIANS,
    FIRST_MEN,
    FIRST_WOMEN,
    LAST,
    STREET_KINDS,
    STREETS,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from trialops.synthetic.population import Population


@dataclass(frozen=True)
class Person:
    """One invented person. `area` and `local` are the parts of the telephone number."""

    first: str
    last: str
    street: str
    city: str
    state: str
    postal: str
    area: str
    local: str
    mrn: str
    clinician: str

    @property
    def phone(self) -> str:
        """Telephone number as people write it."""
        return f"({self.area}) {self.local}"


def people(p: Population, seed: int) -> list[Person]:
    """Invent the people of a block; a site has one city and one investigator."""
    d = p.draws

    def pick(name: str, size: int) -> npt.NDArray[np.int64]:
        return d.integers(f"person/{name}", 0, size - 1)

    women, men, last = pick("first", len(FIRST_WOMEN)), pick("first", len(FIRST_MEN)), pick("last", len(LAST))
    house, street, kind = pick("house", 9800), pick("street", len(STREETS)), pick("kind", len(STREET_KINDS))
    zone, line, record = pick("zip", 100), pick("phone", 100), pick("mrn", 90_000_000)
    names = clinicians(p.site, seed)
    result = []
    for i in range(len(p.keys)):
        city, state, prefix, area = CITIES[int(p.site[i]) % len(CITIES)]
        result.append(
            Person(
                first=FIRST_WOMEN[women[i]] if p.female[i] else FIRST_MEN[men[i]],
                last=LAST[last[i]],
                street=f"{100 + int(house[i])} {STREETS[street[i]]} {STREET_KINDS[kind[i]]}",
                city=city,
                state=state,
                postal=f"{prefix}{int(zone[i]):02d}",
                area=area,
                local=f"555-01{int(line[i]):02d}",
                mrn=str(10_000_000 + int(record[i])),
                clinician=names[i],
            )
        )
    return result


def clinicians(site: npt.NDArray[np.int64], seed: int) -> list[str]:
    """Investigator of each given site."""
    chosen = Draws(seed, site).integers("site/clinician", 0, len(CLINICIANS) - 1)
    return [CLINICIANS[i] for i in chosen]


def site_city(index: int) -> tuple[str, str, str, str]:
    """City, state, postal prefix and area code of a site."""
    return CITIES[index % len(CITIES)]


def consent_state(p: Population) -> list[str]:
    """Consent to research use beyond the trial: "permit", "limited", "withdrawn" or "refused"."""
    kinds = ("permit", "limited", "withdrawn", "refused")
    return [kinds[i] for i in p.draws.choice("consent/state", [0.94, 0.025, 0.02, 0.015])]
