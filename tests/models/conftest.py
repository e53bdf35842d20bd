from tiny_model import cohort, denoiser, schema, tiny  # noqa: F401
