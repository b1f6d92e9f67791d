"""Reactions and tests in a message (E, F)."""

from __future__ import annotations

from typing import Any

from trialops.errors import TrialOpsError
from trialops.safety.case import Null, Reaction, Test
from trialops.safety.e2b import oids
from trialops.safety.e2b.nodes import (
    OBS,
    TYPE,
    chain,
    coded,
    flag,
    interval,
    meddra,
    observation_code,
    observed,
    sub,
    text,
    time,
    words,
)
from trialops.safety.e2b.write_patient import organizer
from trialops.safety.terms import code_of

_CRITERIA = (
    ("34", "death"),
    ("21", "life_threatening"),
    ("33", "hospitalisation"),
    ("35", "disability"),
    ("12", "congenital_anomaly"),
    ("26", "other_important"),
)
_NOT_SAID = Null("no information")


def write_reaction(role: Any, reaction: Reaction, identity: str, *, fda: bool) -> None:
    """A reaction (E.i): what it was, when, where, why serious, how it ended.

    Raises:
        TrialOpsError: If the reaction has not been coded.
    """
    if reaction.term is None:
        raise TrialOpsError(
            "a reaction has no MedDRA code", where="Reaction.term (element E.i.2.1)", fix="code the event, then write"
        )
    inner = chain(role, ("subjectOf2", {"typeCode": "SBJ"}), ("observation", OBS))
    sub(inner, "id", {"root": identity})
    observation_code(inner, "29")
    if isinstance(reaction.start, Null) and reaction.end is None and reaction.duration is None:
        time(sub(inner, "effectiveTime", {TYPE: "IVL_TS"}), "low", reaction.start)
    else:
        interval(inner, reaction.start, reaction.end, reaction.duration)
    value = meddra(inner, "value", reaction.term)
    if reaction.native_text is not None:
        told = text(value, "originalText", reaction.native_text)
        if reaction.native_language is not None:
            told.set("language", reaction.native_language)
    if reaction.country is not None:
        place = chain(
            inner,
            ("location", {"typeCode": "LOC"}),
            ("locatedEntity", {"classCode": "LOCE"}),
            ("locatedPlace", {"classCode": "COUNTRY", "determinerCode": "INSTANCE"}),
        )
        coded(place, "code", reaction.country, oids.COUNTRY)
    if reaction.text is not None:
        words(_about(inner, "30"), reaction.text)
    if reaction.highlighted is not None:
        coded(_about(inner, "37"), "value", code_of("highlighted", reaction.highlighted), oids.HIGHLIGHTED, "CE")
    for code, name in _CRITERIA:
        flag(_about(inner, code), True if getattr(reaction, name) else _NOT_SAID)
    if fda:
        intervention = chain(inner, ("outboundRelationship2", {"typeCode": "PERT"}), ("observation", OBS))
        shown = {"code": "7", "codeSystem": oids.FDA_OBSERVATION, "displayName": "requiredIntervention"}
        sub(intervention, "code", shown)
        flag(intervention, True if reaction.required_intervention else _NOT_SAID)
    if reaction.medically_confirmed is not None:
        flag(_about(inner, "24"), reaction.medically_confirmed)
    coded(_about(inner, "27"), "value", code_of("outcome", reaction.outcome), oids.OUTCOME, "CE")


def _about(parent: Any, code: str) -> Any:
    return observed(parent, "outboundRelationship2", "PERT", code)


def write_tests(role: Any, tests: tuple[Test, ...]) -> None:
    """Tests and procedures with their results (F.r)."""
    if not tests:
        return
    group = organizer(role, "3")
    for test in tests:
        inner = chain(group, ("component", {"typeCode": "COMP"}), ("observation", OBS))
        text(meddra(inner, "code", test.term, typed=False), "originalText", test.name)
        time(inner, "effectiveTime", test.date)
        if test.value is not None:
            _write_value(sub(inner, "value", {TYPE: "IVL_PQ"}), test)
        else:
            words(inner, test.result_text)
        if test.result is not None:
            coded(inner, "interpretationCode", code_of("test result", test.result), oids.TEST_RESULT)
        for limit, code in ((test.normal_low, "L"), (test.normal_high, "H")):
            if limit is not None:
                span = chain(
                    inner,
                    ("referenceRange", {"typeCode": "REFV"}),
                    ("observationRange", {"classCode": "OBS", "moodCode": "EVN.CRT"}),
                )
                sub(span, "value", {TYPE: "PQ", "value": limit, **({"unit": test.unit} if test.unit else {})})
                sub(span, "interpretationCode", {"code": code, "codeSystem": oids.INTERPRETATION})
        if test.comments is not None:
            words(_about(inner, "10"), test.comments)
        if test.more_information is not None:
            flag(observed(inner, "outboundRelationship2", "REFR", "25"), test.more_information)


def _write_value(value: Any, test: Test) -> None:
    """An exact value is the centre of the interval; a bound leaves the other end infinite."""
    measured = {"value": str(test.value), **({"unit": test.unit} if test.unit else {})}
    if test.comparator is None:
        sub(value, "center", measured)
        return
    bound = {**measured, "inclusive": "true" if test.comparator.endswith("=") else "false"}
    if test.comparator.startswith("<"):
        sub(value, "low", {"nullFlavor": "NINF"})
        sub(value, "high", bound)
    else:
        sub(value, "low", bound)
        sub(value, "high", {"nullFlavor": "PINF"})
