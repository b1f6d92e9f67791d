"""The words of a case and the ICH E2B(R3) and FDA codes they stand for.

A case holds words ("recovered", "suspect"); a message holds codes. The pairs are those of the FDA table of ICSR data
elements (ICH E2B(R3) with regional elements); a test compares codes with that table.
"""

from __future__ import annotations

from trialops.errors import TrialOpsError

NULL_REASONS = {
    "no information": "NI",
    "masked": "MSK",
    "unknown": "UNK",
    "not applicable": "NA",
    "asked but unknown": "ASKU",
    "not asked": "NASK",
    "negative infinity": "NINF",
    "positive infinity": "PINF",
    "other": "OTH",
}

# Name of the list -> the element it codes (for errors and for the comparison with the table) and its words.
TERMS: dict[str, tuple[str, dict[str, str]]] = {
    "report type": (
        "C.1.3",
        {"spontaneous": "1", "study": "2", "other": "3", "not available": "4"},
    ),
    "local criteria": (
        "FDA.C.1.7.1",
        {"15-day": "1", "non-expedited": "2", "5-day": "4", "30-day": "5", "7-day": "6"},
    ),
    "first sender": ("C.1.8.2", {"regulator": "1", "other": "2"}),
    "amendment": ("C.1.11.1", {"nullification": "1", "amendment": "2"}),
    "qualification": (
        "C.2.r.4",
        {"physician": "1", "pharmacist": "2", "other health professional": "3", "lawyer": "4", "consumer": "5"},
    ),
    "sender type": (
        "C.3.1",
        {
            "pharmaceutical company": "1",
            "regulatory authority": "2",
            "health professional": "3",
            "regional pharmacovigilance centre": "4",
            "WHO collaborating centre": "5",
            "other": "6",
            "patient or consumer": "7",
        },
    ),
    "study type": (
        "C.5.4",
        {"clinical trial": "1", "individual patient use": "2", "other study": "3"},
    ),
    "age group": (
        "D.2.3",
        {"foetus": "0", "neonate": "1", "infant": "2", "child": "3", "adolescent": "4", "adult": "5", "elderly": "6"},
    ),
    "sex": ("D.5", {"male": "1", "female": "2"}),
    "race": (
        "FDA.D.11.r.1",
        {
            "african american": "C16352",
            "american indian or alaska native": "C41259",
            "asian": "C41260",
            "native hawaiian or other pacific islander": "C41219",
            "white": "C41261",
        },
    ),
    "ethnicity": ("FDA.D.12", {"hispanic or latino": "C17459", "not hispanic or latino": "C41222"}),
    "highlighted": (
        "E.i.3.1",
        {
            "highlighted, not serious": "1",
            "not highlighted, not serious": "2",
            "highlighted, serious": "3",
            "not highlighted, serious": "4",
        },
    ),
    "outcome": (
        "E.i.7",
        {
            "unknown": "0",
            "recovered": "1",
            "recovering": "2",
            "not recovered": "3",
            "recovered with sequelae": "4",
            "fatal": "5",
        },
    ),
    "test result": ("F.r.3.1", {"positive": "1", "negative": "2", "borderline": "3", "inconclusive": "4"}),
    "drug role": ("G.k.1", {"suspect": "1", "concomitant": "2", "interacting": "3", "not administered": "4"}),
    "other role": ("FDA.G.k.1.a", {"similar device": "1"}),
    "action": (
        "G.k.8",
        {
            "unknown": "0",
            "withdrawn": "1",
            "dose reduced": "2",
            "dose increased": "3",
            "dose not changed": "4",
            "not applicable": "9",
        },
    ),
    "recurrence": (
        "G.k.9.i.4",
        {
            "rechallenged, recurred": "1",
            "rechallenged, did not recur": "2",
            "rechallenged, outcome unknown": "3",
            "not rechallenged": "4",
        },
    ),
    "drug information": (
        "G.k.10.r",
        {
            "counterfeit": "1",
            "overdose": "2",
            "taken by the father": "3",
            "beyond expiry date": "4",
            "lot tested, within specifications": "5",
            "lot tested, not within specifications": "6",
            "medication error": "7",
            "misuse": "8",
            "abuse": "9",
            "occupational exposure": "10",
            "off label use": "11",
        },
    ),
    "fda drug information": (
        "FDA.G.k.10a",
        {
            "test": "1",
            "reference": "2",
            "bulk ingredient": "3",
            "bulk ingredient for human prescription compounding": "4",
            "unapproved, for a private label distributor": "5",
        },
    ),
    "product category": (
        "FDA.G.k.10.1",
        {
            "convenience kit or co-package": "C102834",
            "prefilled drug delivery device": "C102835",
            "prefilled biologic delivery device": "C102836",
            "device combined with drug": "C102837",
            "device combined with biologic": "C102838",
            "drug and biologic": "C102839",
            "separate products, cross labeling": "C102840",
            "possible combination, cross labeling": "C102841",
            "other combination product": "C102842",
        },
    ),
    "device follow-up": (
        "FDA.G.k.12.r.2.r",
        {"correction": "1", "additional information": "2", "response to FDA request": "3", "device evaluation": "4"},
    ),
    "device usage": ("FDA.G.k.12.r.8", {"initial use": "1", "reuse": "2", "unknown": "3"}),
    "device operator": ("FDA.G.k.12.r.10", {"health professional": "1", "lay user or patient": "2", "other": "3"}),
    "remedial action": (
        "FDA.G.k.12.r.11.r",
        {
            "recall": "1",
            "repair": "2",
            "replacement": "3",
            "relabeling": "4",
            "notification": "5",
            "inspection": "6",
            "patient monitoring": "7",
            "modification or adjustment": "8",
            "other": "9",
        },
    ),
}

_WORDS = {name: {code: word for word, code in words.items()} for name, (_, words) in TERMS.items()}


def words(name: str) -> tuple[str, ...]:
    """The words a list of terms allows, in the order of their codes' list."""
    return tuple(TERMS[name][1])


def code_of(name: str, word: str) -> str:
    """The code of a word.

    Raises:
        TrialOpsError: If the list has no such word.
    """
    element, pairs = TERMS[name]
    try:
        return pairs[word]
    except KeyError:
        raise TrialOpsError(
            f"'{word}' is no {name}", where=f"element {element}", fix=f"use one of: {', '.join(pairs)}"
        ) from None


def word_of(name: str, code: str) -> str:
    """The word of a code.

    Raises:
        TrialOpsError: If the list has no such code.
    """
    try:
        return _WORDS[name][code]
    except KeyError:
        element, pairs = TERMS[name]
        raise TrialOpsError(
            f"a code of {name} that the list does not have",
            where=f"element {element}",
            fix=f"the codes are {', '.join(pairs.values())}",
        ) from None
