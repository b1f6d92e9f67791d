"""Report, patient, reactions, course and tests in the readable case form."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trialops.safety.case import Case, MedicalHistory, Parent, PastDrug, Reaction, Test
from trialops.safety.case_form_lines import WITHHELD, Block, Line, joined, lines, shown, span

CRITERIA = {
    "death": "death",
    "life_threatening": "life-threatening",
    "hospitalisation": "hospitalisation or its prolongation",
    "disability": "disability or incapacity",
    "congenital_anomaly": "congenital anomaly",
    "other_important": "other medically important condition",
    "required_intervention": "required intervention",
}


def report_lines(case: Case) -> tuple[Line, ...]:
    """Report and study (C.1, C.5)."""
    report, study = case.report, case.study
    made = lines(
        ("Report number", report.safety_report_id, "C.1.1", "G", "24b"),
        ("Worldwide number", report.worldwide_id, "C.1.8.1", "G", "24b"),
        ("Type of report", report.report_type, "C.1.3", "G", "24d"),
        ("Time limit", report.local_criteria, "FDA.C.1.7.1", "G", ""),
        ("Expedited", report.expedited, "C.1.7", "G", ""),
        ("First received", report.first_received, "C.1.4", "G", "24c"),
        ("Most recent information", report.most_recent, "C.1.5", "G", "24c"),
        ("Report made", report.created, "C.1.2", "B", ""),
        ("Nullification or amendment", report.amendment, "C.1.11.1", "G", "25a"),
        ("Its reason", report.amendment_reason, "C.1.11.2", "G", ""),
        ("Linked reports", joined(*report.linked_reports), "C.1.10.r", "", ""),
        ("Combination product", report.combination_product, "FDA.C.1.12", "G", ""),
        (
            "Other numbers of the case",
            joined(*(joined(each.source, each.identifier, by=" ") for each in report.other_identifiers), by="; "),
            "C.1.9.1.r",
            "G",
            "24b",
        ),
        ("Literature", joined(*(each.reference for each in case.literature), by="; "), "C.4.r.1", "G", "24d"),
        ("Documents", joined(*(each.title for each in report.documents), by="; "), "C.1.6.1.r.1", "", ""),
    )
    if study is None:
        return made
    return made + lines(
        ("Study", study.name, "C.5.2", "G", ""),
        ("Kind of study", study.study_type, "C.5.4", "G", "24d"),
        ("Sponsor's study number", study.sponsor_number, "C.5.3", "G", "24a"),
        (
            "Registrations",
            joined(*(joined(r.number, r.country, by=" ") for r in study.registrations)),
            "C.5.1.r",
            "",
            "",
        ),
        ("IND number", study.ind_number, "FDA.C.5.5a", "G", ""),
        ("Pre-ANDA number", study.pre_anda_number, "FDA.C.5.5b", "G", ""),
        ("Cross-reported INDs", joined(*study.cross_reported), "FDA.C.5.6.r", "G", ""),
    )


def source_blocks(case: Case) -> Iterator[Block]:
    """Reporters and sender (C.2, C.3)."""
    for number, who in enumerate(case.reporters, 1):
        name = joined(who.title, who.given_name, who.middle_name, who.family_name, by=" ")
        yield Block(
            f"Reporter {number}" + (" (primary source)" if who.primary else ""),
            lines(
                ("Name", name, "C.2.r.1", "E", "24d"),
                ("Organisation", joined(who.department, who.organisation), "C.2.r.2.1", "E", ""),
                ("Address", joined(who.street, who.city, who.state, who.postcode), "C.2.r.2", "E", ""),
                ("Telephone, mail", joined(who.telephone, who.email), "C.2.r.2.7", "E", ""),
                ("Country", who.country, "C.2.r.3", "E", "1a"),
                ("Qualification", who.qualification, "C.2.r.4", "E", "24d"),
            ),
        )
    who_sends = case.sender
    name = joined(who_sends.title, who_sends.given_name, who_sends.middle_name, who_sends.family_name, by=" ")
    place = joined(who_sends.street, who_sends.city, who_sends.state, who_sends.postcode, who_sends.country)
    yield Block(
        "Sender",
        lines(
            ("Organisation", joined(who_sends.organisation, who_sends.department), "C.3.2", "G", "24a"),
            ("Kind", who_sends.sender_type, "C.3.1", "G", ""),
            ("Person", name, "C.3.3", "G", "24a"),
            ("Address", place, "C.3.4", "G", "24a"),
            (
                "Telephone, fax, mail",
                joined(who_sends.telephone, who_sends.fax, who_sends.email),
                "C.3.4.6",
                "G",
                "24a",
            ),
        ),
    )


def patient_blocks(case: Case) -> tuple[Block, ...]:
    """The patient, history and parent (D)."""
    who = case.patient
    person = lines(
        ("Patient", who.name, "D.1", "A", "1"),
        ("Subject number", who.investigation_number, "D.1.1.4", "A", ""),
        (
            "Other record numbers",
            joined(who.gp_record, who.specialist_record, who.hospital_record),
            "D.1.1",
            "A",
            "",
        ),
        ("Date of birth", who.birth_date, "D.2.1", "A", "2"),
        ("Age at onset", who.age, "D.2.2", "A", "2a"),
        ("Age group", who.age_group, "D.2.3", "A", "2a"),
        ("Sex", who.sex, "D.5", "A", "3"),
        ("Weight", f"{who.weight_kg} kg" if who.weight_kg else None, "D.3", "A", ""),
        ("Height", f"{who.height_cm} cm" if who.height_cm else None, "D.4", "", ""),
        ("Race", joined(*who.races), "FDA.D.11.r", "A", ""),
        ("Ethnicity", who.ethnicity, "FDA.D.12", "A", ""),
        ("Last menstrual period", who.last_menstrual_period, "D.6", "B", "23"),
        ("Gestation", who.gestation, "D.2.2.1", "B", "23"),
        ("Date of death", who.death_date, "D.9.1", "B", "8-12"),
        (
            "Causes of death",
            joined(*(joined(c.text, c.term) for c in who.causes_of_death), by="; "),
            "D.9.2.r",
            "B",
            "",
        ),
        ("Autopsy", who.autopsy, "D.9.3", "B", ""),
        (
            "Found at autopsy",
            joined(*(joined(c.text, c.term) for c in who.autopsy_causes), by="; "),
            "D.9.4.r",
            "B",
            "",
        ),
    )
    parent = who.parent
    return (
        Block("Person", person),
        Block("History", _history(who.history_text, who.history, who.past_drugs, "D.7.2", "D.7.1.r", "D.8.r")),
        Block("Parent", () if parent is None else _parent(parent)),
    )


def _parent(parent: Parent) -> tuple[Line, ...]:
    about = lines(
        ("Parent", parent.identification, "D.10.1", "B", "23"),
        ("Date of birth", parent.birth_date, "D.10.2.1", "B", "23"),
        ("Age", parent.age, "D.10.2.2", "B", "23"),
        ("Sex", parent.sex, "D.10.6", "B", "23"),
        ("Last menstrual period", parent.last_menstrual_period, "D.10.3", "B", "23"),
        ("Weight", f"{parent.weight_kg} kg" if parent.weight_kg else None, "D.10.4", "B", ""),
        ("Height", f"{parent.height_cm} cm" if parent.height_cm else None, "D.10.5", "B", ""),
    )
    told = parent.history_text
    return about + _history(told, parent.history, parent.past_drugs, "D.10.7.2", "D.10.7.1.r", "D.10.8.r")


def _history(
    told: object, history: Sequence[MedicalHistory], drugs: Sequence[PastDrug], words: str, coded: str, taken: str
) -> tuple[Line, ...]:
    conditions = (
        (
            f"Condition {number}",
            joined(
                each.term,
                span(each.start, each.end),
                None if each.continuing is None else f"continuing: {shown(each.continuing)}",
                each.comments,
                "in the family" if each.family_history else None,
            ),
            coded,
            "B",
            "23",
        )
        for number, each in enumerate(history, 1)
    )
    earlier = (
        (
            f"Earlier drug {number}",
            joined(
                each.name,
                each.product or each.pharmaceutical_product,
                span(each.start, each.end),
                f"for {shown(each.indication)}" if each.indication else None,
                f"reaction {shown(each.reaction)}" if each.reaction else None,
            ),
            taken,
            "B",
            "23",
        )
        for number, each in enumerate(drugs, 1)
    )
    return lines(("History, in words", told, words, "B", "23"), *conditions, *earlier)


def reaction_block(case: Case, number: int, reaction: Reaction) -> Block:
    """A reaction (E.i)."""
    met = joined(*(words for name, words in CRITERIA.items() if getattr(reaction, name)))
    made = lines(
        ("As reported", joined(reaction.text, _native(reaction), by=" / "), "E.i.1", "B", "7"),
        ("MedDRA", reaction.term, "E.i.2.1", "G", "7"),
        ("Serious because of", met or "no criterion", "E.i.3.2", "B", "8-12"),
        ("Highlighted by the reporter", reaction.highlighted, "E.i.3.1", "", ""),
        ("Start", reaction.start, "E.i.4", "B", "4-6"),
        ("End", reaction.end, "E.i.5", "B", ""),
        ("Duration", reaction.duration, "E.i.6", "B", ""),
        ("Outcome", reaction.outcome, "E.i.7", "B", "8-12"),
        ("Confirmed by a health professional", reaction.medically_confirmed, "E.i.8", "", ""),
        ("Country", reaction.country, "E.i.9", "", "1a"),
    )
    return Block(f"Reaction {number} of {len(case.reactions)}", made)


def _native(reaction: Reaction) -> str:
    language = f"({reaction.native_language})" if reaction.native_language else None
    return joined(reaction.native_text, language, by=" ")


def narrative_lines(case: Case, hidden: bool) -> tuple[Line, ...]:
    """The course in words (H); withheld where it may tell the treatment."""
    told = case.narrative
    diagnoses = joined(*(each.term for each in told.diagnoses))
    native = tuple(
        (f"In the original language ({each.language})", each.text, "H.5.r", "B", "7, 13") for each in told.native
    )
    made = lines(
        ("Narrative", told.text, "H.1", "B", "7, 13"),
        ("Reporter's comments", told.reporter_comments, "H.2", "B", ""),
        ("Sender's diagnosis", diagnoses, "H.3.r", "G", ""),
        ("Sender's comments", told.sender_comments, "H.4", "G", ""),
        *native,
    )
    return tuple(Line(each.label, WITHHELD, each.element, each.section, each.box) for each in made) if hidden else made


def test_block(number: int, test: Test, hidden: bool) -> Block:
    """A test (F.r)."""
    result = joined(
        test.result, joined(test.comparator, test.value, test.unit, by=" ") if test.value else None, test.result_text
    )
    limits = joined(test.normal_low, test.normal_high, by=" to ")
    return Block(
        f"Test {number}",
        lines(
            ("Test", joined(test.name, test.term), "F.r.2", "B", "13"),
            ("Date", test.date, "F.r.1", "B", "13"),
            ("Result", result, "F.r.3", "B", "13"),
            ("Normal range", limits, "F.r.4", "B", "13"),
            # Free text: may name the treatment.
            ("Comments", WITHHELD if hidden and test.comments else test.comments, "F.r.6", "B", "13"),
        ),
    )
