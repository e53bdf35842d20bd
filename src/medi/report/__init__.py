"""Pages and figures from result tables. Imports `cohort` and `core`; neither models nor evaluation."""
