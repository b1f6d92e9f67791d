"""Write the generated manifests: python -m pipelines.argo [FOLDER]; --check says whether they are up to date."""

from __future__ import annotations

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "manifests" / "argo"


def main(arguments: list[str]) -> int:
    """Write, or compare; 1 where a file differs."""
    from pipelines.argo.workflow import documents, render

    check = "--check" in arguments
    names = [argument for argument in arguments if argument != "--check"]
    folder = Path(names[0]) if names else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    stale = 0
    for name, document in documents().items():
        text, path = render(document), folder / name
        if check:
            same = path.exists() and path.read_text() == text
            stale += not same
            print(f"{'same' if same else 'stale'} {path}")
        else:
            path.write_text(text)
            print(path)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
