from tiny_model import cohort, schema  # noqa: F401
