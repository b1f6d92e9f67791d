"""Whether the documents of a release belong together: one model, one training set.

Each document is checked against its own digest when it is read; that does not show that the evaluation is this
model's, or that it was made on this data. A release is decided, registered and filed only on evidence that fits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError

if TYPE_CHECKING:
    import polars as pl

    from trialops.models.bundle import Bundle
    from trialops.stores.refs import Snapshot


def check_evidence(
    model: Bundle,
    training: Snapshot,
    *,
    evaluation: Mapping[str, Any],
    fairness: Mapping[str, Any],
    comparison: Mapping[str, Any] | None = None,
    search: Mapping[str, Any] | None = None,
) -> None:
    """Refuse documents that are not about this model and this training set.

    Args:
        model: The bundle.
        training: The training set with its split.
        evaluation: Document of the evaluation step.
        fairness: Document of the fairness step.
        comparison: Document of the deciding step, where it has been made.
        search: Document of the search step, where it is used.

    Raises:
        TrialOpsError: A document names another model or another training set, or does not name one.
    """
    stated = [
        ("evaluation", "model", evaluation["model"].get("digest")),
        ("evaluation", "training set", evaluation.get("training")),
        ("fairness audit", "model", fairness.get("digest")),
        ("fairness audit", "training set", fairness.get("training")),
        ("model", "training set", model.training.get("digest")),
    ]
    if comparison is not None:
        stated += [
            ("decision", "model", comparison["decision"].get("model_digest")),
            ("decision", "training set", comparison.get("training")),
        ]
    if search is not None:
        stated += _of_search(search)
    _refuse_others(model, training, stated)


def check_search(model: Bundle, training: Snapshot, search: Mapping[str, Any]) -> None:
    """Refuse a search that did not find this model, or found it on another training set.

    Args:
        model: The bundle.
        training: The training set with its split.
        search: Document of the search step.

    Raises:
        TrialOpsError: The search or the model names another one.
    """
    _refuse_others(model, training, [("model", "training set", model.training.get("digest")), *_of_search(search)])


def _of_search(search: Mapping[str, Any]) -> list[tuple[str, str, Any]]:
    return [
        ("search", "model", search.get("digest")),
        ("search", "training set", search["training"].get("digest")),
    ]


def _refuse_others(model: Bundle, training: Snapshot, stated: list[tuple[str, str, Any]]) -> None:
    present = {"model": model.digest, "training set": training.digest}
    for document, subject, digest in stated:
        if digest != present[subject]:
            raise TrialOpsError(
                f"The {document} belongs to another {subject}: digest {str(digest)[:12]}, not {present[subject][:12]}",
                where=f"model {model.name}, document {document}",
                fix="Start a new run with --no-cache; find out how the documents of two models came together.",
            )


def split_facts(rows: pl.DataFrame) -> dict[str, Any]:
    """Sites, subjects and events to learn from and to judge on, and the held-out share of subjects.

    Args:
        rows: Training set with its ``split`` column.
    """
    import polars as pl

    from trialops.models.split import HELD_OUT, TRAIN

    facts: dict[str, Any] = {}
    for key, part in (("train", TRAIN), ("held_out", HELD_OUT)):
        chosen = rows.filter(pl.col("split") == part)
        facts[key] = {
            "sites": chosen["site_id"].n_unique(),
            "subjects": chosen.height,
            "events": int(chosen["label"].sum()),
        }
    return {**facts, "share": facts["held_out"]["subjects"] / max(rows.height, 1)}
