"""The named-entity model: a small spaCy network that tells for every token of a text what kind of identifier it is of.

It was trained from blank on synthesized sentences (`trialops.privacy.train_text_model`); its card lies beside it. The
weights count only when their SHA-256 is the one in the card.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trialops.errors import TrialOpsError
from trialops.privacy.spans import Span

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from spacy.language import Language
    from spacy.tokens import Doc
    from thinc.api import Model

FOLDER = Path(__file__).parent / "models"
CARD, WEIGHTS = "text_model.json", "text_model.bin.gz"
#: What a token can be of. Ages are left to the rules: only those over 89 are identifiers.
LABELS = ("O", "NAME", "LOCATION", "ORGANIZATION", "DATE", "PHONE", "EMAIL", "URL", "ID")
#: Widths of the network. The hash tables take most of the file.
ROWS = {"NORM": 4000, "PREFIX": 1500, "SUFFIX": 2500, "SHAPE": 1000}
WIDTH, DEPTH, WINDOW, PIECES = 80, 4, 1, 3
#: Tokens that may stand inside a name or an address without being told apart.
_INSIDE = frozenset({".", "-", "'", "\u2019", ",", "/", "&", "#", "\n", " ", "de", "of", "la", "der", "van", "von"})
#: Texts go through the network so many at a time, sorted by length.
BATCH = 128
#: Characters of a text that are looked at together.
LONGEST = 10_000


@dataclass(frozen=True)
class TextModel:
    """The loaded model.

    Attributes:
        nlp: Blank pipeline whose tokenizer cuts the texts.
        network: Gives the probability of each label for each token.
        threshold: Probability of being part of an identifier from which a token counts.
        card: What is known about it.
    """

    nlp: Language
    network: Model[list[Doc], list[npt.NDArray[np.float32]]]
    threshold: float
    card: dict[str, Any]


def blank() -> Language:
    """A blank English pipeline whose prefixes have three letters."""
    import spacy
    from spacy.attrs import PREFIX

    nlp = spacy.blank("en")
    vocab: Any = nlp.vocab  # the stubs do not know its attribute getters
    vocab.lex_attr_getters[PREFIX] = _prefix
    return nlp


def _prefix(text: str) -> str:
    return text[:3]


def network() -> Model[Any, Any]:
    """The untrained network: hashed words, beginnings, endings and shapes; convolutions over four tokens each side."""
    from spacy.ml.models import MaxoutWindowEncoder, MultiHashEmbed, build_tagger_model, build_Tok2Vec_model

    embed = MultiHashEmbed(WIDTH, attrs=list(ROWS), rows=list(ROWS.values()), include_static_vectors=False)
    encode = MaxoutWindowEncoder(WIDTH, WINDOW, PIECES, DEPTH)
    return build_tagger_model(build_Tok2Vec_model(embed, encode), nO=len(LABELS), normalize=True)


@cache
def load(folder: Path = FOLDER) -> TextModel:
    """Load the model and check its weights.

    Args:
        folder: Where card and weights are.

    Returns:
        The model, made once per folder.

    Raises:
        TrialOpsError: A file is missing, or the weights are not those of the card.
    """
    try:
        card = json.loads((folder / CARD).read_text(encoding="utf-8"))
        packed = (folder / WEIGHTS).read_bytes()
    except FileNotFoundError as missing:
        raise TrialOpsError(
            "The named-entity model is not there.",
            where=Path(str(missing.filename)).name,
            fix="Install the package again, or train it: python -m trialops.privacy.train_text_model",
        ) from None
    if sha256(packed).hexdigest() != card["sha256"]:
        raise TrialOpsError(
            "The named-entity model is not the one its card describes.",
            where=WEIGHTS,
            fix="Install the package again; weights from elsewhere are not loaded.",
        )
    nlp, net = blank(), network()
    net.initialize(X=[nlp.make_doc("a")])
    net.from_bytes(gzip.decompress(packed))
    return TextModel(nlp, net, float(card["threshold"]), card)


def find_model(texts: Sequence[str], model: TextModel | None = None) -> list[list[Span]]:
    """Identifiers that the model sees.

    Args:
        texts: Any texts.
        model: Another model than the one that comes with the package.

    Returns:
        Per text spans with source "model", in order.
    """
    if not texts:
        return []
    model = model or load()
    pieces = [(i, at, piece) for i, text in enumerate(texts) for at, piece in _pieces(text)]
    docs = [model.nlp.make_doc(piece) for _, _, piece in pieces]
    found: list[list[Span]] = [[] for _ in pieces]
    order = sorted((k for k, doc in enumerate(docs) if len(doc)), key=lambda k: len(docs[k]))
    for start in range(0, len(order), BATCH):
        chosen = order[start : start + BATCH]
        for k, scores in zip(chosen, model.network.predict([docs[k] for k in chosen]), strict=True):
            found[k] = _spans(docs[k], pieces[k][2], scores, model.threshold)
    result: list[list[Span]] = [[] for _ in texts]
    for (i, at, _), spans in zip(pieces, found, strict=True):
        result[i] += [Span(s.start + at, s.end + at, s.kind, s.source) for s in spans] if at else spans
    return result


def _pieces(text: str) -> list[tuple[int, str]]:
    """A long text in pieces that end at a space, so that memory does not grow with it."""
    pieces, at = [], 0
    while len(text) - at > LONGEST:
        cut = max(text.rfind(" ", at + LONGEST // 2, at + LONGEST), text.rfind("\n", at + LONGEST // 2, at + LONGEST))
        end = cut + 1 if cut >= 0 else at + LONGEST
        pieces.append((at, text[at:end]))
        at = end
    return [*pieces, (at, text[at:])]


def _spans(doc: Doc, text: str, scores: npt.NDArray[np.float32], threshold: float) -> list[Span]:
    """Runs of tokens that are more likely than the threshold part of an identifier."""
    hit = (1.0 - scores[:, 0]) >= threshold
    if not hit.any():
        return []
    kinds = scores[:, 1:].argmax(axis=1) + 1
    spans: list[Span] = []
    last = -2
    for i in hit.nonzero()[0].tolist():
        token = doc[i]
        if token.is_space or (token.is_punct and not 0 < i - last <= 1):
            continue
        kind, start, end = LABELS[kinds[i]], token.idx, token.idx + len(token)
        near = spans and spans[-1].kind == kind and (i - last == 1 or (i - last == 2 and doc[i - 1].text in _INSIDE))
        if near:
            spans[-1] = Span(spans[-1].start, end, kind, "model")
        else:
            spans.append(Span(start, end, kind, "model"))
        last = i
    return [s for s in spans if _possible(s.kind, text[s.start : s.end])]


def _possible(kind: str, text: str) -> bool:
    """Whether a text can be of a kind: numbers have digits, addresses on the net a dot or an "@"."""
    if kind in ("DATE", "PHONE", "ID"):
        return any(c.isdigit() for c in text)
    return any(c.isalnum() for c in text) and (kind not in ("EMAIL", "URL") or "." in text or "@" in text)
