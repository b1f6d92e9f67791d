"""FHIR intake: a first reading, a replay, and a day's addition, beside parsing the same bytes with orjson alone.

    python benchmarks/fhir_intake.py [--subjects 10 20 40] [--repeat 3]

Candidate and baseline take turns in one process; each figure is the median. Reading validates every resource against
the R4B models; the replay recognises the content; the addition changes one resource in a hundred.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trialops.intake.fhir_account import merge_delivery
from trialops.intake.fhir_delivery import read_documents
from trialops.intake.fhir_documents import Document, find_documents, in_memory
from trialops.intake.fhir_items import items
from trialops.intake.fhir_validation import validator_version
from trialops.intake.raw_zone import RawZone
from trialops.stores.master_key import GivenKey
from trialops.stores.objects import open_store
from trialops.stores.vault import Vault
from trialops.synthetic import generate


def timed(work: Callable[[], Any]) -> float:
    """Seconds that a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class Zone:
    """A raw zone in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        objects = open_store(str(folder))
        self._zone = RawZone(Vault(objects, GivenKey(bytes(32))), objects)

    def deliver(self, documents: list[Document]) -> None:
        """Read, merge, seal, commit."""
        held = self._zone.held()
        delivery = read_documents(documents, held=held, zone=self._zone)
        intake = merge_delivery(delivery, held, self._zone)
        self._zone.commit(held, intake.merged, rules=validator_version(), cursors={})


def addition(path: Path) -> Document:
    """One resource in a hundred in a further version."""
    changed = []
    lines = path.read_text().splitlines()
    for number, entry in enumerate(e for line in lines for e in json.loads(line)["entry"]):
        if number % 100 == 0:
            changed.append({**entry["resource"], "meta": {"versionId": "9", "lastUpdated": "2030-01-01T00:00:00Z"}})
    return in_memory("bundle-9999.ndjson", "\n".join(json.dumps(r) for r in changed).encode())


def measure(subjects: int, repeat: int) -> dict[str, float]:
    """Medians over `repeat` rounds, and the parser's peak memory."""
    import orjson

    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder) / "trial", subjects=subjects, sites=2, seed=1, formats=("fhir",))
        path = Path(folder) / "trial" / "fhir" / "bundle-0000.ndjson"
        documents = [d for d in find_documents(path.parent)[0] if d.path == path]
        times: dict[str, list[float]] = {"parse": [], "first": [], "replay": [], "addition": []}
        for _ in range(repeat):
            times["parse"].append(timed(lambda: [orjson.loads(line) for line in path.read_bytes().splitlines()]))
            zone = Zone(Path(tempfile.mkdtemp(dir=folder)))
            times["first"].append(timed(lambda zone=zone: zone.deliver(documents)))
            times["replay"].append(timed(lambda zone=zone: zone.deliver(documents)))
            times["addition"].append(timed(lambda zone=zone: zone.deliver([addition(path)])))
        tracemalloc.start()
        count = sum(1 for _ in items(documents[0]))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return {
            **{name: statistics.median(values) for name, values in times.items()},
            "resources": count,
            "megabytes": path.stat().st_size / 1e6,
            "peak": peak / 1e6,
        }


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    arguments.add_argument("--subjects", type=int, nargs="+", default=[10, 20, 40])
    arguments.add_argument("--repeat", type=int, default=3)
    given = arguments.parse_args()
    measure(2, 1)  # models are built when they are first used
    print(
        "| resources | MB | first, resources/s | first / parse | replay / first | addition / first | reader's peak MB |"
    )
    print("|---|---|---|---|---|---|---|")
    for subjects in given.subjects:
        m = measure(subjects, given.repeat)
        print(
            f"| {m['resources']:,.0f} | {m['megabytes']:.1f} | {m['resources'] / m['first']:,.0f} | "
            f"{m['first'] / m['parse']:.0f} | {m['replay'] / m['first']:.2f} | {m['addition'] / m['first']:.2f} | "
            f"{m['peak']:.1f} |"
        )


if __name__ == "__main__":
    main()
