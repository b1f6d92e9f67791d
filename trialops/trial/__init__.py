"""The conduct of the trial: enrolment, eligibility, cohorts, milestones, site risk, retention."""
