"""Numbers from patches: encoders, distances, classifiers, intervals.

Imports `cohort` and `core`; never models, training or sampling.
"""
