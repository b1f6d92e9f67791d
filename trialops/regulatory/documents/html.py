"""A document as one self-contained HTML file."""

from __future__ import annotations

from trialops.regulatory.documents.content import Document
from trialops.regulatory.documents.pdf import laid_out


def to_html(document: Document) -> bytes:
    """Render a document; the same bytes for the same content and stamp.

    Args:
        document: What it says. Every text in it is escaped.
    """
    from trialops.pages.page import template

    return template("document.html", document=laid_out(document)).encode()
