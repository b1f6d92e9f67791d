"""Train the named-entity model from blank on synthesized sentences, judge it on those kept back, write it and its card.

    python -m trialops.privacy.train_text_model --sentences 60000 --out trialops/privacy/models

Every sentence is new: the network sees none twice. Same arguments, same machine: same weights.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.privacy import text_model
from trialops.privacy.text_model import LABELS, TextModel
from trialops.synthetic.clinical_text import Labelled, Writer

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from spacy.tokens import Doc

SEED, BATCH, JUDGED = 20260, 48, 3000
THRESHOLD = 0.35
RATE, DROPOUT = 0.002, 0.15


def labels_of(doc: Doc, note: Labelled) -> npt.NDArray[np.int64]:
    """The label of each token: that of the span it overlaps."""
    import numpy as np

    label = np.zeros(len(doc), dtype=np.int64)
    starts = np.array([t.idx for t in doc])
    ends = np.array([t.idx + len(t) for t in doc])
    for start, end, kind in note.spans:
        label[(starts < end) & (ends > start)] = LABELS.index(kind)
    return label


def train(sentences: int, seed: int, *, log: bool = True) -> TextModel:
    """Train a model.

    Args:
        sentences: How many texts to learn from.
        seed: Of the texts and of the network.
        log: Print how it goes.

    Returns:
        The trained model with an empty card.
    """
    import numpy as np
    from thinc.api import Adam, fix_random_seed, set_dropout_rate, warmup_linear

    fix_random_seed(seed)
    nlp, net = text_model.blank(), text_model.network()
    writer = Writer(seed, "training")
    sample = [nlp.make_doc(writer.document().text) for _ in range(50)]
    net.initialize(X=sample, Y=[np.zeros((len(d), len(LABELS)), dtype="f") for d in sample])
    steps = sentences // BATCH
    rate: Any = warmup_linear(RATE, steps // 20 + 1, steps + steps // 10)
    optimizer = Adam(rate, L2=0.0, grad_clip=1.0)
    loss, tokens, begun = 0.0, 0, time.perf_counter()
    for step in range(steps):
        notes = [n for n in writer.documents(BATCH) if n.text.strip()]
        docs = [nlp.make_doc(n.text) for n in notes]
        set_dropout_rate(net, DROPOUT)
        scores, back = net.begin_update(docs)
        slopes = []
        for doc, note, given in zip(docs, notes, scores, strict=True):
            slope = given.copy()
            slope[np.arange(len(doc)), labels_of(doc, note)] -= 1.0
            loss += float(np.abs(slope).sum())
            tokens += len(doc)
            slopes.append(slope)
        back(slopes)
        net.finish_update(optimizer)
        optimizer.step_schedules()
        if log and step % 100 == 99:
            speed = tokens / (time.perf_counter() - begun)
            print(f"step {step + 1}/{steps} loss {loss / tokens:.4f} tokens/s {speed:.0f}", flush=True)
            loss, tokens, begun = 0.0, 0, time.perf_counter()
    set_dropout_rate(net, 0.0)
    return TextModel(nlp, net, THRESHOLD, {})


def judge(model: TextModel, notes: Sequence[Labelled]) -> dict[str, dict[str, float]]:
    """Recall and precision by kind, over characters that are no space, whatever kind the model gave.

    Args:
        model: The model.
        notes: Labelled texts.

    Returns:
        Per kind and "all": spans; recall (share of its spans of which at least half the characters were found), exact
        (share of spans found whole); for "all" also precision (share of found characters that are in a span).
    """
    found = text_model.find_model([n.text for n in notes], model)
    total, half, whole = Counter[str](), Counter[str](), Counter[str]()
    right = given = 0
    for note, spans in zip(notes, found, strict=True):
        marked = {p for s in spans for p in range(s.start, s.end)}
        true: set[int] = set()
        for start, end, kind in note.spans:
            inside = [p for p in range(start, end) if not note.text[p].isspace()]
            hits = sum(p in marked for p in inside)
            total[kind] += 1
            half[kind] += 2 * hits >= len(inside)
            whole[kind] += hits == len(inside)
            true |= set(range(start, end))
        solid = [p for p in marked if not note.text[p].isspace()]
        given += len(solid)
        right += sum(p in true for p in solid)
    result = {
        kind: {"spans": n, "recall": round(half[kind] / n, 4), "exact": round(whole[kind] / n, 4)}
        for kind, n in sorted(total.items())
    }
    everything = sum(total.values())
    result["all"] = {
        "spans": everything,
        "recall": round(sum(half.values()) / everything, 4),
        "exact": round(sum(whole.values()) / everything, 4),
        "precision": round(right / max(given, 1), 4),
    }
    return result


def write(model: TextModel, folder: Path, facts: dict[str, Any]) -> str:
    """Write weights and card.

    Args:
        model: The model.
        folder: Where to.
        facts: What the card says besides digest, labels and threshold.

    Returns:
        SHA-256 of the weights file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    packed = gzip.compress(model.network.to_bytes(), 9, mtime=0)
    digest = sha256(packed).hexdigest()
    (folder / text_model.WEIGHTS).write_bytes(packed)
    card = {"sha256": digest, "bytes": len(packed), "labels": list(LABELS), "threshold": model.threshold, **facts}
    (folder / text_model.CARD).write_text(json.dumps(card, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return digest


def describe(model: TextModel, sentences: int, seed: int) -> dict[str, Any]:
    """What the card says about a model: data, architecture, use, limits, and how it did on texts it has not seen."""
    return {
        "trained_on": f"{sentences} synthesized texts of trialops.synthetic.clinical_text, part training, each once",
        "command": f"python -m trialops.privacy.train_text_model --sentences {sentences} --seed {seed}",
        "architecture": f"spaCy blank English tokenizer; hash embedding of {', '.join(text_model.ROWS)}; "
        f"{text_model.DEPTH} convolutions of width {text_model.WIDTH}; softmax per token",
        "intended_use": "One of several layers of trialops.privacy.text, for English notes; never alone.",
        "limits": "It knows synthesized sentences only; real notes are harder. Often missed: names in lower case "
        "without context, firms that are plain words, other languages. Taken for names: plain words it never met.",
        "kept_back": judge(model, list(Writer(seed, "judging").documents(JUDGED))),
        "same_grammar": judge(model, list(Writer(seed + 1, "training").documents(JUDGED))),
    }


def main() -> int:
    """Train, judge and write.

    Returns:
        0.
    """
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=60_000)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--out", type=Path, default=text_model.FOLDER)
    arguments = parser.parse_args()
    model = train(arguments.sentences, arguments.seed)
    facts = describe(model, arguments.sentences, arguments.seed)
    print(json.dumps(facts, indent=1))
    print(write(model, arguments.out, facts))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
