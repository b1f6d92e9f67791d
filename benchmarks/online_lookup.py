"""Time online feature reads: ours, a hand-written HMGET with decoding, and Feast's SDK, side by side.

    python -m benchmarks.online_lookup --rounds 300

Starts a Redis server of its own and writes one view of some features for some subjects. Every round asks the three for
the same subjects, in turn, so that a slow moment of the machine hits all. Prints one JSON object: per number asked for
p50 and p99 in milliseconds and the ratio of the medians to the hand-written read.
The hand-written read is redis-py with hiredis: a pipeline of HMGETs on keys and fields made before, each value decoded
with struct into a list. It leaves out what ours does beside: keys from subjects, time to live, who was found.
"""

from __future__ import annotations

import argparse
import json
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tests.support.redis import redis_server
from trialops.features.online_config import feast_online_store
from trialops.features.training_set import write_views
from trialops.stores.features import open_store, service_name
from trialops.stores.online import FeatureServiceSpec, ViewSpec, open_reader
from trialops.stores.online.layout import redis_field, redis_keys, redis_time_field
from trialops.stores.online.writer import write_view


def frame(subjects: list[str], columns: tuple[str, ...]) -> pl.DataFrame:
    """One row per subject, all of one time, without gaps."""
    moment = datetime(2000, 3, 1, tzinfo=UTC)
    values = np.random.default_rng(1).normal(size=(len(subjects), len(columns)))
    stamp = pl.lit(moment).cast(pl.Datetime("us", "UTC"))
    data = pl.DataFrame({"subject_id": subjects, **{c: values[:, i] for i, c in enumerate(columns)}})
    return data.with_columns(event_timestamp=stamp, created=stamp)


def raw(url: str, spec: FeatureServiceSpec) -> Callable[[list[str]], list[list[float]]]:
    """What one would write by hand for this view: a pipeline of HMGETs, values decoded by struct."""
    import redis

    view = spec.views[0]
    client: Any = redis.Redis.from_url(url)
    fields = [redis_field(view.name, c) for c in view.columns] + [redis_time_field(view.name)]
    known: dict[str, bytes] = {}
    unpack = struct.Struct("<d").unpack_from

    def read(subjects: list[str]) -> list[list[float]]:
        keys = [known.get(s) or known.setdefault(s, redis_keys([s], spec.join_keys, spec.project)[0]) for s in subjects]
        if len(keys) == 1:
            answers = [client.hmget(keys[0], fields)]
        else:
            with client.pipeline(transaction=False) as pipe:
                for key in keys:
                    pipe.hmget(key, fields)
                answers = pipe.execute()
        return [[unpack(cell, 1)[0] for cell in answer[:-1]] for answer in answers]

    return read


def timed(call: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    started = time.perf_counter()
    call()
    return (time.perf_counter() - started) * 1000


def main() -> int:
    """Run the comparison.

    Returns:
        0 when the three gave the same values, else 1.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=10_000)
    parser.add_argument("--features", type=int, default=8)
    parser.add_argument("--asked", type=int, nargs="+", default=[1, 100])
    parser.add_argument("--rounds", type=int, default=300)
    arguments = parser.parse_args()
    columns = tuple(f"f{number}" for number in range(arguments.features))
    spec = FeatureServiceSpec(service_name("withdrawal"), "trialops", 1, (ViewSpec("labs", columns, 60),), {})
    subjects = [f"P{number:07d}" for number in range(arguments.subjects)]
    data = frame(subjects, columns)
    report: dict[str, object] = {"subjects": len(subjects), "features": len(columns), "rounds": arguments.rounds}
    same = True
    with redis_server() as (host, port), tempfile.TemporaryDirectory() as folder:
        url = f"redis://{host}:{port}/0"
        write_view(url, spec, "labs", data)
        store = open_store(
            Path(folder),
            write_views({"labs": data}, Path(folder)),
            columns={"labs": columns},
            online=feast_online_store(url),
        )
        service, by_hand = store.get_feature_service(spec.name), raw(url, spec)
        with open_reader(url, spec) as reader:
            rng = np.random.default_rng(2)
            for asked in arguments.asked:
                chosen = [rng.choice(subjects, asked).tolist() for _ in range(arguments.rounds + 20)]
                readers: dict[str, Callable[[list[str]], object]] = {
                    "raw": by_hand,
                    "ours": lambda some: reader.read(some, study_day=62),
                    "feast": lambda some: store.get_online_features(
                        features=service, entity_rows=[{"subject_id": s} for s in some]
                    ).to_dict(),
                }
                first = chosen[0]
                theirs = store.get_online_features(
                    features=service, entity_rows=[{"subject_id": s} for s in first]
                ).to_dict()
                ours = reader.read(first, study_day=62).values
                same &= bool(np.array_equal(ours, np.array([theirs[c] for c in columns]).T))
                same &= bool(np.array_equal(ours, np.array(by_hand(first))))
                times: dict[str, list[float]] = {name: [] for name in readers}
                for number, some in enumerate(chosen):
                    for name, read in readers.items():
                        ms = timed(lambda read=read, some=some: read(some))  # type: ignore[misc]
                        if number >= 20:  # connections and caches are warm then
                            times[name].append(ms)
                middle = {name: float(np.median(ms)) for name, ms in times.items()}
                report[f"k={asked}"] = {
                    **{
                        f"{name}_ms": {"p50": round(middle[name], 3), "p99": round(float(np.quantile(ms, 0.99)), 3)}
                        for name, ms in times.items()
                    },
                    "ours_to_raw": round(middle["ours"] / middle["raw"], 2),
                    "feast_to_raw": round(middle["feast"] / middle["raw"], 2),
                }
    print(json.dumps({**report, "same_values": same}, indent=1))
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
