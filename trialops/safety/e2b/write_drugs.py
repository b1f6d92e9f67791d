"""Drugs, their devices and what is thought of them in a message (G)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from trialops.safety.case import Device, Dosage, Drug, Indication, Null, Substance
from trialops.safety.e2b import oids
from trialops.safety.e2b.nodes import (
    OBS,
    TYPE,
    address,
    chain,
    coded,
    dictionary,
    flag,
    interval,
    meddra,
    observation_code,
    observed,
    quantity,
    sub,
    text,
    truth,
    words,
)
from trialops.safety.e2b.write_patient import organizer
from trialops.safety.terms import code_of

_ACT = {"classCode": "SBADM", "moodCode": "EVN"}
_KIND = {"classCode": "MMAT", "determinerCode": "KIND"}


def write_drugs(role: Any, drugs: Sequence[Drug], ids: Sequence[str], reactions: Sequence[str], *, fda: bool) -> None:
    """The drugs (G.k) without roles and opinions, which stand outside the patient."""
    if not drugs:
        return
    group = organizer(role, "4")
    for drug, identity in zip(drugs, ids, strict=True):
        act = chain(group, ("component", {"typeCode": "COMP"}), ("substanceAdministration", _ACT))
        sub(act, "id", {"root": identity})
        _write_product(act, drug, fda=fda)
        for relation in drug.relations:
            for kind, span in (("SAS", relation.from_start), ("SAE", relation.from_last_dose)):
                if span is not None:
                    outer = sub(act, "outboundRelationship1", {"typeCode": kind})
                    quantity(outer, span, "pauseQuantity", "")
                    sub(sub(outer, "actReference", OBS), "id", {"root": reactions[relation.reaction - 1]})
        for dosage in drug.dosages:
            _write_dosage(act, dosage)
        if drug.blinded:
            flag(observed(act, "outboundRelationship2", "PERT", "6"), True)
        if drug.cumulative_dose is not None:
            quantity(observed(act, "outboundRelationship2", "SUMM", "14"), drug.cumulative_dose)
        if drug.gestation_at_exposure is not None:
            quantity(observed(act, "outboundRelationship2", "PERT", "16"), drug.gestation_at_exposure)
        for relation in drug.relations:
            if relation.recurrence is not None:
                again = observed(act, "outboundRelationship2", "PERT", "31")
                coded(again, "value", code_of("recurrence", relation.recurrence), oids.RECURRENCE, "CE")
                place = chain(again, ("outboundRelationship1", {"typeCode": "REFR"}), ("actReference", OBS))
                sub(place, "id", {"root": reactions[relation.reaction - 1]})
        _write_information(act, drug, fda=fda)
        for indication in drug.indications:
            _write_indication(act, indication)
        if drug.action is not None:
            done = chain(
                act, ("inboundRelationship", {"typeCode": "CAUS"}), ("act", {"classCode": "ACT", "moodCode": "EVN"})
            )
            coded(done, "code", code_of("action", drug.action), oids.ACTION)


def write_assessments(
    assessment: Any, drugs: Sequence[Drug], ids: Sequence[str], reactions: Sequence[str], *, fda: bool
) -> None:
    """The role of every drug (G.k.1), then every opinion on a drug and a reaction (G.k.9.i.2.r)."""
    for drug, identity in zip(drugs, ids, strict=True):
        roles = [(code_of("drug role", drug.role), oids.DRUG_ROLE)]
        if fda and drug.other_role is not None:
            roles.append((code_of("other role", drug.other_role), oids.FDA_ROLE))
        for code, system in roles:
            inner = chain(assessment, ("component", {"typeCode": "COMP"}), ("causalityAssessment", OBS))
            observation_code(inner, "20")
            coded(inner, "value", code, system, "CE")
            _refer(inner, "subject2", "productUseReference", _ACT, identity)
    for drug, identity in zip(drugs, ids, strict=True):
        for relation in drug.relations:
            for opinion in relation.assessments:
                inner = chain(assessment, ("component", {"typeCode": "COMP"}), ("causalityAssessment", OBS))
                observation_code(inner, "39")
                words(inner, opinion.result, "ST")
                if opinion.method is not None:
                    text(sub(inner, "methodCode"), "originalText", opinion.method)
                if opinion.source is not None:
                    entity = chain(
                        inner, ("author", {"typeCode": "AUT"}), ("assignedEntity", {"classCode": "ASSIGNED"})
                    )
                    text(sub(entity, "code"), "originalText", opinion.source)
                _refer(inner, "subject1", "adverseEffectReference", OBS, reactions[relation.reaction - 1])
                _refer(inner, "subject2", "productUseReference", _ACT, identity)


def _refer(parent: Any, relation: str, tag: str, attributes: dict[str, str], identity: str) -> None:
    sub(chain(parent, (relation, {"typeCode": "SUBJ"}), (tag, attributes)), "id", {"root": identity})


def _write_product(act: Any, drug: Drug, *, fda: bool) -> None:
    instance = chain(act, ("consumable", {"typeCode": "CSM"}), ("instanceOfKind", {"classCode": "INST"}))
    kind = sub(instance, "kindOfProduct", _KIND)
    if drug.product is not None:
        dictionary(kind, "code", drug.product, oids.NDC)
    if drug.pharmaceutical_product is not None:
        dictionary(kind, "code", drug.pharmaceutical_product, oids.PHPID)
    text(kind, "name", drug.name)
    category = drug.product_category if fda else None
    approved = (drug.authorisation_number, drug.holder, drug.authorisation_country)
    if category is not None or any(each is not None for each in approved):
        made = sub(kind, "asManufacturedProduct", {"classCode": "MANU"})
        if any(each is not None for each in approved):
            _write_approval(made, drug)
        if category is not None:
            _characteristic(
                made, "C94031", "FDA Specialized Product Category", code_of("product category", category), oids.NCI
            )
    for substance in drug.substances:
        _write_substance(kind, substance)
    if fda:
        for device in drug.devices:
            _write_device(kind, device)
    if drug.country_obtained is not None:
        event = chain(
            instance, ("subjectOf", {"typeCode": "SBJ"}), ("productEvent", {"classCode": "ACT", "moodCode": "EVN"})
        )
        sub(event, "code", {"code": "1", "codeSystem": oids.SUPPLY, "displayName": "retailSupply"})
        supplier = chain(
            event,
            ("performer", {"typeCode": "PRF"}),
            ("assignedEntity", {"classCode": "ASSIGNED"}),
            ("representedOrganization", {"classCode": "ORG", "determinerCode": "INSTANCE"}),
        )
        address(supplier, None, None, None, None, drug.country_obtained)


def _write_approval(made: Any, drug: Drug) -> None:
    approval = chain(made, ("subjectOf", {"typeCode": "SBJ"}), ("approval", {"classCode": "CNTRCT", "moodCode": "EVN"}))
    if drug.authorisation_number is not None:
        sub(approval, "id", {"extension": drug.authorisation_number, "root": oids.APPLICATION})
    if drug.holder is not None:
        holder = chain(
            approval,
            ("holder", {"typeCode": "HLD"}),
            ("role", {"classCode": "HLD"}),
            ("playingOrganization", {"classCode": "ORG", "determinerCode": "INSTANCE"}),
        )
        text(holder, "name", drug.holder)
    if drug.authorisation_country is not None:
        territory = chain(
            approval,
            ("author", {"typeCode": "AUT"}),
            ("territorialAuthority", {"classCode": "TERR"}),
            ("territory", {"classCode": "NAT", "determinerCode": "INSTANCE"}),
        )
        coded(territory, "code", drug.authorisation_country, oids.COUNTRY)


def _write_substance(kind: Any, substance: Substance) -> None:
    ingredient = sub(kind, "ingredient", {"classCode": "ACTI"})
    if substance.strength is not None:
        amount = sub(ingredient, "quantity")
        sub(amount, "numerator", {"value": substance.strength.value, "unit": substance.strength.unit})
        sub(amount, "denominator", {"value": "1", "unit": "1"})
    inner = sub(ingredient, "ingredientSubstance", _KIND)
    if substance.term is not None:
        dictionary(inner, "code", substance.term, oids.UNII)
    text(inner, "name", substance.name)


def _write_dosage(act: Any, dosage: Dosage) -> None:
    inner = chain(act, ("outboundRelationship2", {"typeCode": "COMP"}), ("substanceAdministration", _ACT))
    text(inner, "text", dosage.text)
    period = {
        name: value
        for name, value in (("value", dosage.interval_count), ("unit", dosage.interval_unit))
        if value is not None
    }
    interval(inner, dosage.start, dosage.last, dosage.duration, period or None)
    _write_term(inner, "routeCode", dosage.route, dosage.route_term, oids.EDQM_ROUTE)
    quantity(inner, dosage.dose, "doseQuantity", "")
    has_form = dosage.form is not None or dosage.form_term is not None
    if dosage.lot is not None or has_form:
        instance = chain(inner, ("consumable", {"typeCode": "CSM"}), ("instanceOfKind", {"classCode": "INST"}))
        if dosage.lot is not None:
            lot = sub(instance, "productInstanceInstance", {"classCode": "MMAT", "determinerCode": "INSTANCE"})
            text(lot, "lotNumberText", dosage.lot)
        if has_form:
            _write_term(
                sub(instance, "kindOfProduct", _KIND), "formCode", dosage.form, dosage.form_term, oids.EDQM_FORM
            )
    if dosage.parent_route is not None or dosage.parent_route_term is not None:
        parent = observed(inner, "inboundRelationship", "REFR", "28")
        _write_term(parent, "value", dosage.parent_route, dosage.parent_route_term, oids.EDQM_ROUTE, "CE")


def _write_term(parent: Any, tag: str, told: Any, term: Any, edqm: str, typed: str = "") -> None:
    """A dose form or route: EDQM's code, or an NCI code as in FDA's structured labels (C and digits)."""
    if told is None and term is None:
        return
    system = oids.NCI if term is not None and re.fullmatch(r"C\d{4,7}", term.code) else edqm
    text(dictionary(parent, tag, term, system, typed), "originalText", told)


def _write_information(act: Any, drug: Drug, *, fda: bool) -> None:
    for word in drug.information:
        inner = observed(act, "outboundRelationship2", "REFR", "9")
        coded(inner, "value", code_of("drug information", word), oids.DRUG_INFORMATION, "CE")
    if drug.information_text is not None:
        words(observed(act, "outboundRelationship2", "REFR", "2"), drug.information_text, "ST")
    if fda and drug.fda_information is not None:
        told = drug.fda_information
        code = told if isinstance(told, Null) else code_of("fda drug information", told)
        coded(observed(act, "outboundRelationship2", "REFR", "9"), "value", code, oids.FDA_DRUG_INFORMATION, "CE")


def _write_indication(act: Any, indication: Indication) -> None:
    inner = observed(act, "inboundRelationship", "RSON", "19")
    text(meddra(inner, "value", indication.term), "originalText", indication.text)
    entity = chain(inner, ("performer", {"typeCode": "PRF"}), ("assignedEntity", {"classCode": "ASSIGNED"}))
    sub(entity, "code", {"code": "3", "codeSystem": oids.ACTOR, "displayName": oids.ACTORS["3"]})


def _characteristic(made: Any, code: str, name: str, value: str | None, system: str) -> Any:
    inner = chain(made, ("subjectOf", {"typeCode": "SBJ"}), ("characteristic", {"classCode": "OBS", "moodCode": "EVN"}))
    sub(inner, "code", {"code": code, "codeSystem": oids.NCI, "displayName": name})
    if value is not None:
        coded(inner, "value", value, system, "CE")
    return inner


def _write_device(kind: Any, device: Device) -> None:
    part = chain(kind, ("part", {"classCode": "PART"}), ("partProduct", {"classCode": "DEV", "determinerCode": "KIND"}))
    if device.product_code is not None:
        sub(part, "code", {"code": device.product_code, "codeSystem": oids.NCI})
    if device.brand_name is not None or device.common_name is not None:
        if device.brand_name is None:
            sub(part, "name")
        text(part, "name", device.brand_name)
        text(part, "name", device.common_name)
    made = sub(part, "asManufacturedProduct", {"classCode": "MANU"})
    place = (
        device.manufacturer_street,
        device.manufacturer_city,
        device.manufacturer_state,
        device.manufacturer_country,
    )
    if device.manufacturer is not None or any(each is not None for each in place):
        maker = sub(made, "manufacturerOrganization", {"classCode": "ORG", "determinerCode": "INSTANCE"})
        text(maker, "name", device.manufacturer)
        address(maker, place[0], place[1], place[2], None, place[3])
    if device.malfunction is not None:
        inner = _characteristic(made, "C54026", "Malfunction", None, "")
        sub(inner, "value", {TYPE: "BL", "value": truth(device.malfunction)})
    for problem in device.problem_codes:
        _characteristic(made, "C54451", "Device Problem Code", problem, oids.NCI)
    if device.usage is not None:
        _characteristic(made, "C54595", "Device Usage", code_of("device usage", device.usage), oids.FDA_DEVICE_USAGE)
    for action in device.remedial_actions:
        _characteristic(
            made, "C54594", "Remedial Action Initiated", code_of("remedial action", action), oids.FDA_REMEDIAL_ACTION
        )
    for kind_of in device.follow_up_types:
        _characteristic(
            made, "C54592", "Type of Follow Up Report", code_of("device follow-up", kind_of), oids.FDA_FOLLOW_UP
        )
    if device.operator is not None:
        inner = chain(
            made, ("subjectOf", {"typeCode": "SBJ"}), ("characteristic", {"classCode": "OBS", "moodCode": "EVN"})
        )
        coded(inner, "code", code_of("device operator", device.operator), oids.FDA_OPERATOR)
    if device.lot is not None:
        instance = chain(
            part,
            ("instanceOfKind", {"classCode": "INST"}),
            ("productInstanceInstance", {"classCode": "MMAT", "determinerCode": "INSTANCE"}),
        )
        text(instance, "lotNumberText", device.lot)
