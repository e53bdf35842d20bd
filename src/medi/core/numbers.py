"""Numbers as a person reads them."""


def digits(value: float) -> str:
    """Three significant digits; thousands are apart, and no large one is written as a power of ten.

    >>> digits(0.04567), digits(12.34), digits(999.7), digits(6_103.2)
    ('0.0457', '12.3', '1,000', '6,103')
    """
    return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"
