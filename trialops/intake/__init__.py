"""Data as it arrives from sites and laboratories: SDTM XPORT, FHIR R4, HL7 v2, images and variants."""
