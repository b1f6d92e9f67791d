"""The measures in Prometheus' text format, for a scrape or for the textfile collector."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from trialops.alerts.measures import Sample
from trialops.alerts.thresholds import Thresholds


def exposition(samples: Sequence[Sample], thresholds: Thresholds) -> str:
    """Text format 0.0.4: every metric that has a value, with its help; sorted, so equal values give equal bytes."""
    lines: list[str] = []
    last = ""
    for sample in sorted(samples, key=lambda s: s.key):
        if sample.metric != last:
            last = sample.metric
            text = thresholds.metric(last).help.replace("\\", "\\\\").replace("\n", "\\n")
            lines += [f"# HELP {last} {text}", f"# TYPE {last} gauge"]
        labels = ",".join(f'{name}="{_escaped(value)}"' for name, value in sorted(sample.labels.items()))
        lines.append(f"{last}{'{' + labels + '}' if labels else ''} {sample.value!r}")
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def write_textfile(path: Path, text: str) -> None:
    """Write for node_exporter's textfile collector: whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_text(text)
    partial.replace(path)
