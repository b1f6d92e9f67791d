"""Entities: a subject, a visit of a subject (asked for with both keys), a site."""

from trialops.stores.features import entity

subject = entity("subject_id")
visit = entity("visit")
site = entity("site_id")
