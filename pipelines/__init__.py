"""The pipelines of the catalogue, and what compiles, runs, submits and schedules them."""
