"""Cohort management: who is in the cohorts, who came and went and why, and what their members are like.

1. Evaluate the definitions over the newest OMOP tables; keep members and definitions as OMOP tables, in versions.
2. Describe the members of each cohort beside another cohort or everybody else (Table 1).
"""

from kfp import dsl

from components.alerts import notify
from components.base import harden
from components.trial import describe_cohorts, evaluate_cohorts


@dsl.pipeline(name="cohort-management", display_name="Cohort management")
def cohort_management(definitions: str = "", vocabulary: str = "", study: str = "") -> None:
    """Manage the cohorts of a study.

    Args:
        definitions: Folder with cohort definitions, JSON of ATLAS or YAML; empty: what was imported, else what ships.
        vocabulary: Folder with an Athena vocabulary download; empty: no descendants, source values and concepts alone.
        study: Study file; it says whether outputs are blinded. The demonstration trial's by default.
    """
    closing = notify(pipeline="cohort_management").set_display_name("Notify")
    harden(closing, memory="1Gi").set_caching_options(False)
    with dsl.ExitHandler(closing, name="Run"):
        evaluated = evaluate_cohorts(definitions=definitions, vocabulary=vocabulary, study=study)
        # The newest load, the imported definitions and the run before are state outside the run.
        harden(evaluated.set_display_name("Evaluate cohorts"), memory="8Gi").set_caching_options(False)
        described = describe_cohorts(
            cdm=evaluated.outputs["cdm"],
            cohorts=evaluated.outputs["cohorts"],
            summary=evaluated.outputs["summary"],
            vocabulary=vocabulary,
        ).set_display_name("Describe cohorts")
        harden(described, memory="8Gi")
