"""Drug safety: grading, seriousness, expedited clocks, cases and their reports, signals."""
