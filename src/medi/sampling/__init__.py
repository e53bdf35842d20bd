"""From weights to patches: solvers, schedules, guidance, synthetic cohorts, transfers.

Imports `models`; a sibling of `training`.
"""
