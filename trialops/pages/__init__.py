"""Pages people read: every step and every run shows its result as one static HTML file."""

from trialops.pages import plots
from trialops.pages.page import Facts, Figure, Page, Section, Table, Text, Tone, Verdict, fragment, render, suppressed

__all__ = [
    "Facts",
    "Figure",
    "Page",
    "Section",
    "Table",
    "Text",
    "Tone",
    "Verdict",
    "fragment",
    "plots",
    "render",
    "suppressed",
]
