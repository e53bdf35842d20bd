"""Question a classifier of the user: its answers for the same patch at other levels of an attribute."""
