"""Time a prediction asked of the model server and of the router before it, in turn.

    python -m benchmarks.router                     # stable alone, 50 % to the candidate, mirrored

Serves a small logistic model twice and asks one request at a time over kept connections. Direct and routed requests
take turns in slices, so that a slow moment of the machine hits both. Prints one JSON object: median and 99th percentile
in milliseconds, what the router adds at the median (routed less direct, median over slices), and its memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from trialops.models.bundle import Bundle
from trialops.serving.client import HOST, InferenceClient
from trialops.serving.process import RouterProcess, ServerProcess
from trialops.serving.routing import Backend, Routing, write_routing

FEATURES = ("age", "weight_slope", "ae_count")


def model(intercept: float) -> Bundle:
    """A logistic model of three features."""
    return Bundle(
        name="withdrawal", kind="logistic", features=FEATURES, threshold=0.5, task={}, training={}, created_by="b",
        params={}, fill=dict.fromkeys(FEATURES, 0.0), centre=(0.0,) * 3, scale=(1.0,) * 3,
        coefficients=(0.8, -0.6, 0.3), intercept=intercept,
    )  # fmt: skip


def ask(client: InferenceClient, x: np.ndarray) -> list[float]:
    """Milliseconds of each request."""
    taken = []
    for row in x:
        answer = client.infer(row[None], FEATURES)
        assert answer.status == 200, answer
        taken.append(answer.seconds * 1000)
    return taken


def memory(pid: int) -> float:
    """Resident memory of a process in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=20, help="slices per form")
    parser.add_argument("--requests", type=int, default=100, help="requests per slice")
    args = parser.parse_args()
    x = np.random.default_rng(0).normal(size=(args.requests, 3))
    out: dict[str, object] = {"slices": args.slices, "requests": args.requests}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with (
            ServerProcess(model(0.0).save(folder / "a"), "withdrawal", "1", folder / "s1") as one,
            ServerProcess(model(0.1).save(folder / "b"), "withdrawal", "2", folder / "s2") as two,
        ):
            stable, candidate = Backend(HOST, one.port, "1"), Backend(HOST, two.port, "2")
            forms = {
                "stable": Routing("withdrawal", stable),
                "half": Routing("withdrawal", stable, candidate, percent=50),
                "mirrored": Routing("withdrawal", stable, candidate, percent=0, mirror=True),
            }
            file = folder / "routing.json"
            write_routing(file, forms["stable"])
            with (
                RouterProcess(file, "withdrawal", folder / "r") as router,
                one.client() as direct,
                router.client() as routed,
            ):
                ask(direct, x), ask(routed, x)
                for name, form in forms.items():
                    write_routing(file, form)
                    slices = []
                    for _ in range(args.slices):
                        slices.append((ask(direct, x), ask(routed, x)))
                        time.sleep(0.05)  # what is mirrored ends before the next direct slice
                    figures: dict[str, float] = {}
                    for k, side in enumerate(("direct", "routed")):
                        every = np.concatenate([pair[k] for pair in slices])
                        figures |= {
                            f"{side}_p50": float(np.median(every)),
                            f"{side}_p99": float(np.quantile(every, 0.99)),
                        }
                    added = [statistics.median(b) - statistics.median(a) for a, b in slices]
                    figures["added_p50"] = statistics.median(added)
                    out[name] = {key: round(value, 3) for key, value in figures.items()}
                out["router_mb"] = round(memory(router.pid), 1)
    print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
