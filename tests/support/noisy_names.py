"""Names of tests as laboratories misspell them: seeded typing errors, word order, case, words added or left out."""

from __future__ import annotations

import random

_ADDED = ("level", "test", "result", "measured", "conc.")


def noisy(name: str, rng: random.Random) -> str:
    """A name with one to three changes."""
    words = name.replace("[", " ").replace("]", " ").split()
    for _ in range(rng.randint(1, 3)):
        change = rng.choice(("swap", "drop", "double", "order", "case", "add"))
        place = rng.randrange(len(words))
        word = words[place]
        if change in ("swap", "drop", "double") and len(word) > 4 and word.isalpha():
            i = rng.randrange(1, len(word) - 1)
            words[place] = {
                "swap": word[:i] + word[i + 1] + word[i] + word[i + 2 :],
                "drop": word[:i] + word[i + 1 :],
                "double": word[:i] + word[i] + word[i:],
            }[change]
        elif change == "order" and len(words) == 2:
            words.reverse()
        elif change == "case":
            words = [w.upper() for w in words]
        elif change == "add":
            words.append(rng.choice(_ADDED))
    return " ".join(words)
