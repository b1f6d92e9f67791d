"""A case from SDTM rows: what is in it, what is not; and the register under concurrent writers on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

from tests.support.safety_trial import study, subject, trial
from trialops.errors import TrialOpsError
from trialops.safety.blinding import blind
from trialops.safety.case import Case
from trialops.safety.case_builder import Identity, build_case, country_of
from trialops.safety.case_content import content_digest, differences
from trialops.safety.case_rows import SubjectRows, case_events
from trialops.safety.classification import classify
from trialops.safety.events import safety_events
from trialops.safety.register import CaseRegister
from trialops.safety.register_records import Version
from trialops.safety.safety_policy import safety_policy

if TYPE_CHECKING:
    from sqlalchemy import Engine

IDENTITY = Identity("US-X-1", "2023-03-05", "2023-03-06", "15-day", True)
SERIOUS = {"subject": 3, "AEDECOD": "SYNCOPE", "AETERM": "Fainting", "AESER": "Y", "AESHOSP": "Y", "AEREL": "POSSIBLE",
           "AESTDTC": "2023-03-01", "AELLTCD": 10042772.0}  # fmt: skip


def built(*events: dict[str, Any], stated: Any = None, **tables: pl.DataFrame) -> Case:
    stated = stated or study()
    policy = safety_policy(stated)
    made = blind(trial(list(events) or [SERIOUS], **tables))
    found = case_events(safety_events(made, policy).events, policy)
    event = next(iter(found.values()))
    return build_case(SubjectRows(made, [event.subject]), event, stated, IDENTITY)


def test_who_what_when_and_where() -> None:
    case = built()
    assert (case.patient.investigation_number, case.patient.sex) == (subject(3), "female")
    assert case.patient.age is not None and (case.patient.age.value, case.patient.age.unit) == ("43", "a")
    assert case.patient.history_text == "Hypertension" and case.patient.races == ("white",)
    (reaction,) = case.reactions
    assert reaction.term is not None and (reaction.term.code, reaction.term.version) == ("10042772", "27.0")
    assert (reaction.text, reaction.start, reaction.outcome, reaction.country) == (
        "Fainting", "2023-03-01", "recovered", "US",
    )  # fmt: skip
    assert reaction.hospitalisation and not reaction.death and not reaction.other_important
    assert (case.reporters[0].country, case.reporters[0].qualification) == ("US", "physician")
    assert case.study is not None and case.study.ind_number == "123456"
    assert [(r.number, r.country) for r in case.study.registrations] == [("2023-500000-00-00", "EU")]
    suspect, other = case.drugs
    assert suspect.blinded and suspect.action == "dose not changed"
    assert [(d.start, d.last) for d in suspect.dosages] == [("2023-02-01", "2023-04-30")]
    interval = suspect.relations[0].from_start
    assert interval is not None and (interval.value, interval.unit) == ("28", "d")
    assert (other.name, other.role, other.dosages[0].text, other.indications[0].text) == (
        "Acetylsalicylic acid", "concomitant", "100 mg", "Pain",
    )  # fmt: skip
    assert [(t.name, t.value, t.unit, t.normal_high) for t in case.tests] == [
        ("Alanine Aminotransferase", "90", "U/L", "40")
    ], "the level of the product is no test of a blinded case"
    assert Case.from_dict(case.to_dict()) == case


def test_an_event_that_is_not_coded_has_its_words_and_no_code() -> None:
    assert built(SERIOUS | {"AELLTCD": None}).reactions[0].term is None
    assert built(stated=study(meddra_version=None)).reactions[0].term is None, "a code of no known version is none"


def test_what_was_over_or_had_not_begun_is_not_beside_the_event() -> None:
    rows = [
        ("BEFORE", "2022-01", "2023-02-28"),
        ("INTO", "2022-01", "2023-03-01"),
        ("LATER", "2023-03-02", None),
        ("UNKNOWN", None, None),
        ("PARTLY", "2023", None),
    ]
    cm = pl.DataFrame(
        [
            {"STUDYID": "SAF01", "USUBJID": subject(3), "CMSEQ": float(n), "CMTRT": name, "CMSTDTC": s, "CMENDTC": e}
            for n, (name, s, e) in enumerate(rows)
        ],
        schema_overrides={"CMSTDTC": pl.String, "CMENDTC": pl.String},
    )
    names = {drug.name for drug in built(CM=cm).drugs if drug.role == "concomitant"}
    assert names == {"Into", "Unknown", "Partly"}


def test_tests_far_from_the_onset_and_normal_ones_are_left_out() -> None:
    days = {
        "2023-01-29": "HIGH",
        "2023-01-30": "HIGH",
        "2023-03-31": "LOW",
        "2023-04-01": "HIGH",
        "2023-03-02": "NORMAL",
    }
    lb = pl.DataFrame(
        [
            {"STUDYID": "SAF01", "USUBJID": subject(3), "LBSEQ": float(n), "LBTESTCD": "K", "LBTEST": "Potassium",
             "LBSTRESN": 6.25, "LBSTRESU": "mmol/L", "LBSTNRLO": 3.5, "LBSTNRHI": 5.1, "LBNRIND": flag, "LBDTC": day}
            for n, (day, flag) in enumerate(days.items())
        ]
    )  # fmt: skip
    assert [t.date for t in built(LB=lb).tests] == ["2023-01-30", "2023-03-31"]


def test_the_narrative_is_made_of_the_facts_and_says_so() -> None:
    text = built().narrative.text
    for sentence in (
        "concerns a female patient aged 43 years",
        "The first dose of the blinded study product was given on 2023-02-01.",
        "On 2023-03-01 the patient experienced fainting (preferred term: syncope) of moderate severity.",
        "The event is serious: the patient was hospitalised or a stay was prolonged.",
        "Medical history includes hypertension.",
        "The investigator assessed the relationship to the study product as possible. The sponsor has not assessed it.",
        "[Generated from the trial's data; not yet reviewed by a physician.]",
    ):
        assert sentence in text
    others = [subject(n) for n in range(1, 31) if n != 3]
    assert not any(other in text for other in others)
    doubt = built(SERIOUS | {"AESER": "N", "AEREL": None}).narrative.text
    assert "it is treated as serious until confirmed" in doubt and "has not stated the relationship" in doubt
    dead = built(SERIOUS | {"AEOUT": "FATAL"}).narrative.text
    assert "The patient died on 2023-03-04." in dead


def test_the_gravest_row_and_the_newest_words_of_an_event_count() -> None:
    policy = safety_policy(study())
    rows = [
        SERIOUS | {"AESPID": "E1", "AEDTC": "2023-03-09", "AEREL": "NOT RELATED", "AEOUT": "RECOVERED/RESOLVED"},
        SERIOUS | {"AESPID": "E1", "AEDTC": "2023-03-02", "AESLIFE": "Y", "AEOUT": "UNKNOWN"},
        SERIOUS | {"AESPID": "E1", "AEDTC": "2023-02-20", "AESER": "N", "AESHOSP": "N", "AEREL": None},
    ]
    (event,) = case_events(safety_events(trial(rows), policy).events, policy).values()
    assert (event.rows, event.serious, event.life_threatening) == (3, "serious", True)
    assert (event.investigator, event.expected, event.criteria) == (
        True, False, ("life-threatening", "hospitalisation"),
    )  # fmt: skip
    assert str(event.aware) == "2023-03-02", "the row that was not serious started nothing"
    assert event.row["AEOUT"] == "RECOVERED/RESOLVED" and str(event.latest) == "2023-03-09"
    assert classify(event.facts(), "FDA").rule == "SUSAR 7-day"


def test_countries() -> None:
    assert (country_of("DEU"), country_of("us"), country_of("", "GB")) == ("DE", "US", "GB")
    with pytest.raises(TrialOpsError, match="country"):
        country_of("XXX")


def test_a_difference_is_names_and_a_derived_part_is_none() -> None:
    before = {"case": built().to_dict(), "facts": {"grave": False}, "edited": ""}
    after = {"case": built(SERIOUS | {"AEOUT": "FATAL"}).to_dict(), "facts": {"grave": True}, "edited": "x"}
    names = differences(before, after)
    assert {"facts.grave", "reactions.1.outcome", "reactions.1.death", "narrative"} <= set(names)
    other = dict(before["case"], report={"created": "2099"}, narrative={"text": "other"})
    assert content_digest(other, before["facts"]) == content_digest(before["case"], before["facts"])
    assert differences(before, before) == ()


# -- the register ------------------------------------------------------------------------------------------------------


def version(case: str, digest: str, kind: str = "initial") -> Version:
    return Version(
        case, 0, kind, digest, "s", "2023-03-05T05:00:00.000000Z", "AEDTC", (), {"grave": False}, {}, "p", "d"
    )


def test_writers_at_once_open_one_case_and_enter_one_version(engine: Engine) -> None:
    register = CaseRegister(engine, "SAF01")

    def work(number: int) -> tuple[str, bool]:
        case = register.open_case(f"{number % 3:064d}", country="US", sender="S", subject="p", actor="a")
        return case, register.add(version(case, "d" * 64), actor="a") is not None

    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(work, range(24)))
    assert {case for case, _ in done} == set(register.cases()) and len(register.cases()) == 3
    assert sum(entered for _, entered in done) == 3
    assert sorted(register.cases()) == [f"US-S-SAF01_{n:06d}" for n in (1, 2, 3)]


def test_versions_are_counted_and_known_to_their_study_alone(engine: Engine) -> None:
    register, other = CaseRegister(engine, "SAF01"), CaseRegister(engine, "SAF02")
    case = register.open_case("e" * 64, country="US", sender="S", subject="p", actor="a")
    first = register.add(version(case, "1" * 64), actor="a")
    assert first is not None and register.add(version(case, "1" * 64), actor="a") is None
    second = register.add(version(case, "2" * 64, "follow-up"), actor="a")
    assert second is not None and second.version == 2
    gone = register.add(version(case, "2" * 64, "nullification"), actor="a")
    assert gone is not None and register.add(version(case, "2" * 64, "nullification"), actor="a") is None
    assert [v.version for v in register.versions(case)[case]] == [1, 2, 3]
    kept = replace(first, at="", actor="")
    assert asdict(kept) == asdict(replace(version(case, "1" * 64), version=1))
    assert other.cases() == {} and other.versions() == {}
    for wrong in (lambda: other.versions(case), lambda: other.act(case, "reviewed", reason="r", actor="a")):
        with pytest.raises(TrialOpsError, match="no case"):
            wrong()
    with pytest.raises(TrialOpsError, match="no version 9"):
        register.act(case, "released", version=9, reason="r", actor="a")
    with pytest.raises(TrialOpsError, match="reason"):
        register.assess(case, related=True, reason=" ", actor="a", role="safety physician")
    with pytest.raises(TrialOpsError, match="not an action"):
        register.act(case, "forgotten", reason="r", actor="a")
