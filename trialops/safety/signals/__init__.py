"""Disproportionality in spontaneous reports: product-event pairs reported more often than the rest would suggest.

For reports from outside a trial (FAERS, CAERS, a company's safety database), where nobody knows how many people took a
product. What is measured is reporting, not risk: no figure here is a rate. Inside a trial exposure is known and other
methods apply.
"""
