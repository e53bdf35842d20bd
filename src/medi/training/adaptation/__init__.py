"""A new level of an attribute from a few patches: low-rank weights beside a trained model."""
