"""Drugs in the readable case form, and what of them a blinded reader may see."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from trialops.safety.case import Case, Device, Dosage, Drug
from trialops.safety.case_form_lines import WITHHELD, Block, Line, joined, lines, shown, span, unit


def tells_treatment(drug: Drug) -> bool:
    """Whether a drug may be the study product and the case says which one it is."""
    return drug.role in {"suspect", "interacting"} and not drug.blinded


def drug_blocks(case: Case, unblinded: bool) -> Iterator[Block]:
    """The drugs with dosages and what is thought of them (G.k); of the study product only what a reader may know."""
    for number, drug in enumerate(case.drugs, 1):
        hidden = not unblinded and tells_treatment(drug)
        yield Block(f"Drug {number}: {drug.role}", _drug(drug, hidden))
        for place, dosage in enumerate(drug.dosages, 1):
            yield Block(f"Drug {number}, dosage {place}", _dosage(dosage, hidden, drug.role == "concomitant"))
        for place, device in enumerate(drug.devices, 1):
            yield Block(f"Drug {number}, device {place}", () if hidden else _device(device))
        yield Block(f"Drug {number} and the reactions", tuple(_relations(case, drug)))


def _drug(drug: Drug, hidden: bool) -> tuple[Line, ...]:
    suspect = drug.role != "concomitant"
    box = "14" if suspect else "22"
    strengths = joined(*(joined(s.name, s.strength, s.term, by=" ") for s in drug.substances), by="; ")
    identity: Sequence[tuple[str, object, str, str, str]] = (
        ("Name", drug.name, "G.k.2.2", "C", box),
        ("Substances", strengths, "G.k.2.3.r", "C", box),
        ("Product identifier", drug.product or drug.pharmaceutical_product, "G.k.2.1", "C", ""),
        ("Authorisation", joined(drug.authorisation_number, drug.authorisation_country), "G.k.3.1", "G", ""),
        ("Holder", drug.holder, "G.k.3.3", "C", "24a"),
        ("Cumulative dose to the first reaction", drug.cumulative_dose, "G.k.5", "C", ""),
        ("Further information", joined(*drug.information, drug.information_text), "G.k.10.r", "C", ""),
        ("FDA's information", drug.fda_information, "FDA.G.k.10a", "C", ""),
        ("Product category", drug.product_category, "FDA.G.k.10.1", "C", ""),
    )
    if hidden:
        identity = [(label, WITHHELD if shown(value) else None, *rest) for label, value, *rest in identity]  # type: ignore[misc]
    reasons = joined(*(joined(i.text, i.term) for i in drug.indications), by="; ")
    return lines(
        ("Role", joined(drug.role, drug.other_role), "G.k.1", "C", box),
        ("Blinded", True if drug.blinded else None, "G.k.2.5", "C", ""),
        *identity,
        ("Used for", reasons, "G.k.7.r", "C", "17"),
        ("Gestation at exposure", drug.gestation_at_exposure, "G.k.6", "B", "23"),
        ("Action taken", drug.action, "G.k.8", "C", "20"),
    )


def _dosage(dosage: Dosage, hidden: bool, concomitant: bool) -> tuple[Line, ...]:
    every = joined(dosage.interval_count, unit(dosage.interval_unit or ""), by=" ")
    often = f"every {every}" if every else None
    amount = (
        ("Dose", joined(dosage.dose, often), "G.k.4.r.1", "C", "15"),
        ("Dosage, in words", dosage.text, "G.k.4.r.8", "C", "15"),
        ("Form", joined(dosage.form, dosage.form_term), "G.k.4.r.9", "C", ""),
        ("Route", joined(dosage.route, dosage.route_term), "G.k.4.r.10", "C", "16"),
        ("Parent's route", joined(dosage.parent_route, dosage.parent_route_term), "G.k.4.r.11", "C", ""),
        ("Lot", dosage.lot, "G.k.4.r.7", "C", "14"),
    )
    told = tuple(
        (a, WITHHELD if hidden and shown(b) else b, c, d, "22" if concomitant and e else e) for a, b, c, d, e in amount
    )
    return lines(
        *told,
        ("Given", span(dosage.start, dosage.last), "G.k.4.r.4", "C", "22" if concomitant else "18"),
        ("For", dosage.duration, "G.k.4.r.6", "C", "22" if concomitant else "19"),
    )


def _device(device: Device) -> tuple[Line, ...]:
    place = (
        device.manufacturer_street,
        device.manufacturer_city,
        device.manufacturer_state,
        device.manufacturer_country,
    )
    return lines(
        ("Device", joined(device.brand_name, device.common_name, by=" / "), "FDA.G.k.12.r.4", "D", ""),
        ("Product code", device.product_code, "FDA.G.k.12.r.6", "D", ""),
        ("Manufacturer", joined(device.manufacturer, *place), "FDA.G.k.12.r.7", "D", ""),
        ("Lot", device.lot, "FDA.G.k.12.r.9", "D", ""),
        ("Malfunction", device.malfunction, "FDA.G.k.12.r.1", "D", ""),
        ("Problem codes", joined(*device.problem_codes), "FDA.G.k.12.r.3.r", "D", ""),
        ("Usage", device.usage, "FDA.G.k.12.r.8", "D", ""),
        ("Operator", device.operator, "FDA.G.k.12.r.10", "D", ""),
        ("Remedial action", joined(*device.remedial_actions), "FDA.G.k.12.r.11.r", "H", ""),
        ("Kind of follow-up", joined(*device.follow_up_types), "FDA.G.k.12.r.2.r", "H", ""),
    )


def _relations(case: Case, drug: Drug) -> Iterator[Line]:
    for relation in drug.relations:
        what = case.reactions[relation.reaction - 1]
        name = f"Reaction {relation.reaction}" + (f": {what.text}" if what.text else "")
        for opinion in relation.assessments:
            said = joined(opinion.source, f"by {opinion.method}" if opinion.method else None, opinion.result)
            yield Line(name, said, "G.k.9.i.2.r", "G", "")
        yield from lines(
            (f"{name}, after the first dose", relation.from_start, "G.k.9.i.3.1", "C", ""),
            (f"{name}, after the last dose", relation.from_last_dose, "G.k.9.i.3.2", "C", ""),
            (f"{name}, rechallenge", relation.recurrence, "G.k.9.i.4", "C", "21"),
        )
