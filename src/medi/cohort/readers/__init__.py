"""Readers: one module per source, all giving the same Cohort."""
