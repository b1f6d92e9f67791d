"""ISO 8601 dates of a case and HL7 points in time of a message, with the same precision in both."""

from __future__ import annotations

import re

from trialops.errors import TrialOpsError

_HL7 = re.compile(r"(\d{4})(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(?:(\d\d)(\.\d{1,4})?)?)?([+-]\d{4})?)?)?)?")


def hl7_time(iso: str) -> str:
    """2022-06-15T10:00:00-05:00 as 20220615100000-0500."""
    day, _, clock = iso.partition("T")
    offset = re.search(r"[+-]\d\d:\d\d$", clock)
    zone = offset.group(0) if offset else ""
    return day.replace("-", "") + clock.removesuffix(zone).replace(":", "") + zone.replace(":", "")


def iso_time(hl7: str, where: str = "") -> str:
    """20220615100000-0500 as 2022-06-15T10:00:00-05:00.

    Raises:
        TrialOpsError: If it is no HL7 point in time. The message does not repeat it.
    """
    match = _HL7.fullmatch(hl7)
    if match is None:
        raise TrialOpsError(
            "a date of the message is not an HL7 point in time", where=where, fix="CCYY[MM[DD[hh[mm[ss]]]][+/-ZZzz]]"
        )
    year, month, day, hour, minute, second, fraction, zone = match.groups()
    iso = "-".join(part for part in (year, month, day) if part)
    if hour:
        iso += "T" + ":".join(part for part in (hour, minute, second) if part) + (fraction or "")
        if zone:
            iso += f"{zone[:3]}:{zone[3:]}"
    return iso
