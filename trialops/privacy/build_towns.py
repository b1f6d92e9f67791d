"""Write the towns that the gazetteer knows.

    python -m trialops.privacy.build_towns

The names are those of telephone areas in the phonenumbers package. Left out are names that are also words: of the
ICD-10-CM descriptions (Lyme, Lassa), of the terms the model must leave alone, and of the English in
Python's own sources.
"""

from __future__ import annotations

import argparse
import gzip
import re
import sysconfig
from pathlib import Path

from trialops.privacy.gazetteer import CITIES, COUNTRIES, STATES, TOWNS
from trialops.privacy.known import fold
from trialops.privacy.name_forms import COMMON_WORDS
from trialops.synthetic import clinical_text
from trialops.synthetic.clinical_text import diagnoses, grammar
from trialops.synthetic.text_names import PARTS

_WORD = re.compile(r"[^\W\d_]+")
#: Shortest name of one word; shorter ones are too often abbreviations.
SHORTEST = 5


def plain_words() -> set[str]:
    """Words in lower case that are not only names."""
    words = {*COMMON_WORDS, *clinical_text.plain_words("judging")}
    for part in PARTS:
        for text in (*diagnoses(part), *(line for lines in grammar(part).values() for line in lines)):
            words |= {w.lower() for w in _WORD.findall(text)}
    for source in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        words |= set(re.findall(r"(?<![\w'])[a-z]{3,}(?![\w'])", source.read_text(encoding="utf-8", errors="ignore")))
    return words


def areas() -> set[str]:
    """English names of the areas of telephone numbers, without their states and provinces."""
    from phonenumbers.geodata import GEOCODE_DATA

    found = set()
    for entry in GEOCODE_DATA.values():
        text = entry.get("en", "")
        town = text.split(",")[0].split(" - ")[0].split("/")[0].split("(")[0].strip()
        if 3 <= len(town) <= 24 and town[0].isupper() and town.count(" ") < 3 and not any(c.isdigit() for c in town):
            found.add(town)
    return found


def names() -> list[str]:
    """The towns, in order."""
    plain = plain_words()
    listed = {*COUNTRIES, *STATES, *CITIES}
    found = set()
    for town in areas():
        words = town.split()
        if town in listed or not all(w[0].isupper() or w in ("de", "la", "am", "le", "of", "del") for w in words):
            continue
        bare = [fold(p) for w in words for p in re.split(r"[-'\u2019.]", w) if p]
        if len(words) == 1 and (len(town) < SHORTEST or all(b in plain for b in bare)):
            continue
        if (
            len(words) > 1
            and sum(b in plain for b in bare) == len(bare)
            and words[0] not in ("New", "San", "Los", "Las", "Saint", "Fort", "Port", "Santa", "Cape")
        ):
            continue
        found.add(town)
    return sorted(found)


def main() -> int:
    """Write the file.

    Returns:
        0.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=TOWNS)
    arguments = parser.parse_args()
    towns_ = names()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_bytes(gzip.compress("\n".join(towns_).encode(), 9, mtime=0))
    print(len(towns_), arguments.out.stat().st_size)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
