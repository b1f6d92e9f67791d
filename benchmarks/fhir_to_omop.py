"""FHIR to OMOP beside parsing the same bytes, and one day's delta beside a full load.

    python benchmarks/fhir_to_omop.py --subjects 500 1500 3000 --repeats 3

Synthesizes trials of three sizes and runs, interleaved and on one core: orjson parsing every resource; mapping them
to OMOP CDM 5.4 tables; and, from the load of all days but one, the incremental load of that day. Incremental and full
tables must have the same checksums. Prints one JSON object: medians, ratios, resources per second, and the peak
memory of a process that does nothing but the mapping.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["POLARS_MAX_THREADS"] = "1"  # one core, as orjson; read when polars is imported

import orjson  # noqa: E402
import polars as pl  # noqa: E402

from trialops.intake.fhir_tables import to_tables  # noqa: E402
from trialops.standards import omop_delta, vocabulary  # noqa: E402
from trialops.standards.fhir_source import read_fhir  # noqa: E402
from trialops.standards.omop import build  # noqa: E402
from trialops.standards.omop_cdm import Cdm  # noqa: E402
from trialops.stores.digest import table_digest  # noqa: E402
from trialops.synthetic import generate  # noqa: E402


def resource_tables(folder: Path, subjects: int) -> dict[str, pl.DataFrame]:
    """Resource tables of a synthesized trial, as intake leaves them."""
    generate(folder, subjects=subjects, sites=max(4, subjects // 50), seed=1, formats=("fhir",))

    def resources() -> Iterator[dict[str, Any]]:
        for path in (folder / "fhir" / "study.ndjson", *sorted((folder / "fhir").glob("bundle-*.ndjson"))):
            for line in path.read_bytes().splitlines():
                for entry in orjson.loads(line)["entry"]:
                    yield entry["resource"]

    return to_tables(resources())


def without_one_day(tables: dict[str, pl.DataFrame]) -> tuple[dict[str, pl.DataFrame], str]:
    """The trial as it was before the visits of one day; the day is the busiest of the last tenth."""
    visits = tables["Encounter"].select(day=pl.col("json").str.extract(r'"start":"(\d{4}-\d{2}-\d{2})'))["day"].sort()
    late = visits[int(visits.len() * 0.9) :]
    day = str(late.mode().sort()[0])
    dated = ("Encounter", "Observation", "AdverseEvent", "MedicationAdministration")
    return {
        kind: frame.filter(~pl.col("json").str.contains(day, literal=True)) if kind in dated else frame
        for kind, frame in tables.items()
    }, day


def mapped(tables: dict[str, pl.DataFrame]) -> Cdm:
    """A full load."""
    return build(read_fhir(tables), vocabulary.none())


def checksums(made: Cdm) -> dict[str, str]:
    """Checksum of every table."""
    return {name: table_digest(frame.to_arrow()) for name, frame in made.tables.items()}


def peak_mb(parquet: Path) -> float:
    """Peak resident memory in MB of a process that reads the resources and maps them, less one that only reads."""
    found = []
    for work in ("None", "build(read_fhir(tables), vocabulary.none())"):
        script = (
            "import polars as pl\nfrom pathlib import Path\n"
            "from trialops.standards import vocabulary\nfrom trialops.standards.fhir_source import read_fhir\n"
            "from trialops.standards.omop import build\n"
            f"tables = {{p.stem: pl.read_parquet(p) for p in Path({str(parquet)!r}).glob('*.parquet')}}\n"
            f"made = {work}\n"
            # Not getrusage: its peak is inherited from the process that started this one.
            "status = Path('/proc/self/status').read_text()\nprint(int(status.split('VmHWM:')[1].split()[0]) / 1024)"
        )
        done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
        found.append(float(done.stdout))
    return round(found[1] - found[0], 1)


def clocked(call: Any) -> tuple[float, Any]:
    """CPU seconds of a call, all threads, and what it returned: what others do on the machine does not count."""
    started = time.process_time()
    result = call()
    return time.process_time() - started, result


def parse(texts: list[bytes]) -> None:
    """Parse and let go: keeping the objects would cost more than the parsing."""
    for text in texts:
        orjson.loads(text)


def measure(tables: dict[str, pl.DataFrame], repeats: int, folder: Path) -> dict[str, Any]:
    """One size."""
    texts = [text.encode() for frame in tables.values() for text in frame["json"]]
    before, day = without_one_day(tables)
    previous, index = mapped(before), omop_delta.index(before)
    seconds: dict[str, list[float]] = {"orjson": [], "omop": [], "delta": []}
    mapped(tables)  # what is imported and read once is not part of the comparison
    for _ in range(repeats):  # interleaved: a slow moment of the machine hits all three
        seconds["orjson"].append(clocked(lambda: parse(texts))[0])
        took, full = clocked(lambda: mapped(tables))
        seconds["omop"].append(took)
        took, updated = clocked(lambda: omop_delta.update(previous, index, tables, vocabulary.none()))
        seconds["delta"].append(took)
    for kind, frame in tables.items():
        frame.write_parquet(folder / f"{kind}.parquet")
    median = {name: statistics.median(runs) for name, runs in seconds.items()}
    changed = omop_delta.changes(index, tables)
    return {
        "resources": len(texts),
        "megabytes": round(sum(map(len, texts)) / 1e6, 1),
        "cpu_seconds": {name: round(value, 4) for name, value in median.items()},
        "resources_per_cpu_second": round(len(texts) / median["omop"]),
        "microseconds_per_resource": round(1e6 * median["omop"] / len(texts), 2),
        "omop_to_parse_only": round(median["omop"] / median["orjson"], 2),
        "delta": {"day": day, "resources": changed.resources, "subjects": changed.subjects.len()},
        "full_to_delta": round(median["omop"] / median["delta"], 1),
        "delta_equals_full": checksums(full) == checksums(updated),
        "peak_mb_of_mapping": peak_mb(folder),
    }


def main() -> int:
    """Run the comparison.

    Returns:
        0 when incremental and full loads were the same, else 1.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, nargs="+", default=[500, 1500, 3000])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    results = []
    for subjects in arguments.subjects:
        with tempfile.TemporaryDirectory() as folder:
            tables = resource_tables(Path(folder) / "trial", subjects)
            found = measure(tables, arguments.repeats, Path(folder))
            results.append({"subjects": subjects, **found})
    print(json.dumps(results, indent=1))
    return 0 if all(result["delta_equals_full"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
