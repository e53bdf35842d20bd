from tiny_model import cohort, tiny  # noqa: F401
