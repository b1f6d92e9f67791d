"""The order of elements in an E2B(R3) message, learnt from samples, and the orders that those do not show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lxml import etree

Order = tuple[str, str, str]
"""Parent, child, child that comes later."""

_REFERENCE = "as in samples of the ICH reference instance; XPaths of the element table agree with it"

ADDITIONAL: Mapping[str, tuple[str, str]] = {
    "addr": ("streetAddressLine city state postalCode country", "HL7 AD: address parts from small to large"),
    "asIdentifiedEntity": ("id code", _REFERENCE + " (D.1.1)"),
    "asManufacturedProduct": ("manufacturerOrganization subjectOf", _REFERENCE + " (FDA.G.k.12.r.7)"),
    "associatedPerson": ("name administrativeGenderCode birthTime", "the order of player1 (D.10.1, D.10.2.1, D.10.6)"),
    "characteristic": ("code value", "the order of observation (FDA.G.k.10.1, FDA.G.k.12.r)"),
    "comp": ("low high width", "HL7 IVL: low, high, width (G.k.4.r.4, G.k.4.r.5)"),
    "document": ("code title text bibliographicDesignationText", "the order of C.1.6.1.r with C.4.r.1 behind it"),
    "effectiveTime": ("comp low high width", "HL7 IVL: low, high, width (E.i.4, E.i.5, E.i.6)"),
    "ingredient": ("quantity ingredientSubstance", _REFERENCE + " (G.k.2.3.r.3)"),
    "ingredientSubstance": ("code name", "the order of kindOfProduct (G.k.2.3.r.2)"),
    "kindOfProduct": ("code name asManufacturedProduct formCode ingredient part", _REFERENCE + " (FDA.G.k.12.r)"),
    "manufacturerOrganization": ("name addr", _REFERENCE + " (FDA.G.k.12.r.7)"),
    "observation": (
        "id code effectiveTime value interpretationCode location performer referenceRange outboundRelationship1 "
        "outboundRelationship2 inboundRelationship",
        _REFERENCE + " (D.7.1.r, F.r, G.k.9.i.4)",
    ),
    "observationRange": ("value interpretationCode", _REFERENCE + " (F.r.4)"),
    "outboundRelationship1": ("pauseQuantity actReference", _REFERENCE + " (G.k.9.i.3)"),
    "partProduct": ("code name asManufacturedProduct instanceOfKind", _REFERENCE + " (FDA.G.k.12.r)"),
    "player1": (
        "name administrativeGenderCode birthTime deceasedTime asIdentifiedEntity role",
        "the order of the XPaths' person; not seen in an official sample (D.1.1, D.9.1, D.10)",
    ),
    "quantity": ("numerator denominator", "HL7 RTO: numerator, denominator (G.k.2.3.r.3)"),
    "role": ("code associatedPerson subjectOf2", "not seen in an official sample (D.10)"),
    "substanceAdministration": (
        "id text effectiveTime routeCode doseQuantity consumable performer outboundRelationship1 "
        "outboundRelationship2 inboundRelationship",
        _REFERENCE + " (G.k.4.r, G.k.9.i.3)",
    ),
    "value": ("low center high", "HL7 IVL: low, center, high (F.r.3.2)"),
}


def orders(tree: Any) -> set[Order]:
    """Every pair of different children of an element, in the order they have."""
    found = set()
    for element in tree.iter(etree.Element):
        parent = etree.QName(element).localname
        names = [etree.QName(child).localname for child in element.iterchildren(etree.Element)]
        found |= {
            (parent, first, later)
            for place, first in enumerate(names)
            for later in names[place + 1 :]
            if first != later
        }
    return found


def listed() -> set[Order]:
    """The orders that `ADDITIONAL` allows."""
    return {
        (parent, first, later)
        for parent, (sequence, _) in ADDITIONAL.items()
        for place, first in enumerate(sequence.split())
        for later in sequence.split()[place + 1 :]
    }


def turned(order: Order) -> Order:
    """The same two children the other way round."""
    return order[0], order[2], order[1]
