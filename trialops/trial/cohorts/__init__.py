"""Cohorts: definitions as data, who is in them and why, how they change, what their members are like.

A definition is an OHDSI cohort expression (as ATLAS exports it) or our small YAML form; both become one internal
expression, compiled to SQL for DuckDB over OMOP CDM 5.4 tables. Pages hold counts that pass `suppression`.
"""
