"""Time the de-identification of notes beside Presidio's analyzer on the same notes, in turns.

    python benchmarks/deidentify_text.py --sizes 250 500 1000 --repeats 3

The analyzer is Presidio's engine with all its English recognisers and a blank spaCy pipeline: nothing is downloaded,
and it finds no names. Ours finds the subject's own identifiers, dates, names and places too (`full`), or all but what
the model finds (`rules`). Prints one JSON object: notes and characters per second by size (medians), ratios, peak
memory, and how time grows with the number of notes (1.0 is linear).
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from trialops.privacy.spans import Known
from trialops.privacy.text import TextDeidentifier
from trialops.synthetic.text_subject import subject_notes


def analyzer() -> Any:
    """Presidio's engine without a language model and without the network."""
    import spacy
    import tldextract
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import SpacyNlpEngine

    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)

    class Blank(SpacyNlpEngine):
        """A pipeline that only cuts texts into words."""

        def load(self) -> None:
            self.nlp = {"en": spacy.blank("en")}

    engine = Blank()
    engine.load()
    registry = RecognizerRegistry(supported_languages=["en"])
    registry.load_predefined_recognizers(languages=["en"], nlp_engine=engine)
    return AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"])


def notes(count: int) -> tuple[list[str], list[Known | None]]:
    """Synthesized notes and the records of their subjects."""
    texts: list[str] = []
    known: list[Known | None] = []
    for who, note, _ in subject_notes(count, 99):
        texts.append(note.text)
        address = f"{who.street}, {who.city}, {who.state} {who.postal}"
        known.append(Known((f"{who.first} {who.last}",), (address,), (who.phone,), (who.email,), (who.mrn,), who.dates))
    return texts, known


def main() -> int:
    """Run the comparison.

    Returns:
        0 when every note was looked at by all, else 1.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[250, 500, 1000])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    texts, known = notes(max(arguments.sizes))
    engine, full, rules = analyzer(), TextDeidentifier("strict"), TextDeidentifier("strict", model=False)

    def presidio(n: int) -> int:
        return len([engine.analyze(text, "en") for text in texts[:n]])

    def ours(deidentifier: TextDeidentifier) -> Callable[[int], int]:
        return lambda n: len(deidentifier.scrub(texts[:n], known[:n]))

    candidates = {"presidio": presidio, "full": ours(full), "rules": ours(rules)}
    whole = all(run(20) == 20 for run in candidates.values())  # warm-up: models are loaded, patterns compiled
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds: dict[str, dict[int, list[float]]] = {name: {n: [] for n in arguments.sizes} for name in candidates}
    for _ in range(arguments.repeats):
        for n in arguments.sizes:
            for name, run in candidates.items():
                begun = time.perf_counter()
                whole &= run(n) == n
                seconds[name][n].append(time.perf_counter() - begun)
    medians = {name: {n: statistics.median(values) for n, values in by.items()} for name, by in seconds.items()}
    small, large = min(arguments.sizes), max(arguments.sizes)
    characters = {n: sum(map(len, texts[:n])) for n in arguments.sizes}
    result = {
        "notes": arguments.sizes,
        "characters": characters,
        "notes_per_second": {name: {n: round(n / s, 1) for n, s in by.items()} for name, by in medians.items()},
        "characters_per_second": {
            name: {n: round(characters[n] / s) for n, s in by.items()} for name, by in medians.items()
        },
        "speed_beside_presidio": {
            name: {n: round(medians["presidio"][n] / medians[name][n], 2) for n in arguments.sizes}
            for name in ("full", "rules")
        },
        "growth_exponent": {
            name: round(math.log(by[large] / by[small]) / math.log(characters[large] / characters[small]), 2)
            for name, by in medians.items()
        },
        "peak_mb_after_loading": round(before / 1024),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(result, indent=1))
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
