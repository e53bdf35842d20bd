"""The command `medi`: one verb per function. Parses, calls, prints; computes nothing."""
