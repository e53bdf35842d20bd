"""How training sets are named that are made of others: stain-normalised, filtered, alone, without the additive gap."""

FILTERED, ONLY = "_filtered", "_only"  # end the names of a set that is cut to what a head agrees with, and of one alone
GAP = "_gap"  # ends the name of a set whose additive gap to real rows is taken away
NORMALISATIONS = ("macenko", "reinhard")  # of stain: each is a set of real patches by itself


def normalised_name(name: str, by: str) -> str:
    """The set in which real and added patches are all stain-normalised.

    >>> normalised_name("medi", "macenko")
    'medi_macenko'
    """
    return f"{name}_{by}"


def filtered_name(name: str) -> str:
    """The set without the images that a head does not agree with.

    >>> filtered_name("medi"), filtered_name("medi_macenko")
    ('medi_filtered', 'medi_filtered_macenko')
    """
    first, by = parts_of(name)
    return normalised_name(f"{first}{FILTERED}", by) if by else f"{name}{FILTERED}"


def parts_of(name: str) -> tuple[str, str]:
    """The set and its stain normalisation, "" where there is none; with or without the gap.

    >>> parts_of("medi_macenko"), parts_of("medi_macenko_gap"), parts_of("macenko"), parts_of("medi_gap")
    (('medi', 'macenko'), ('medi', 'macenko'), ('macenko', ''), ('medi_gap', ''))
    """
    whole = name.removesuffix(GAP)
    for by in NORMALISATIONS:
        first = whole.removesuffix(f"_{by}")
        if first not in ("", whole):
            return first, by
    return name, ""
