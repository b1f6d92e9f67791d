"""Data standards: OMOP CDM, vocabularies, units, medical coding, FHIR in both directions."""
