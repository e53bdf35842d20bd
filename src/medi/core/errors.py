"""The one exception for a user's mistake: its message is shown as it is, without a traceback."""


class MediError(Exception):
    """What was found, what was expected, which file or row, and what to do; the CLI exits with code 2."""
