"""Numbers of a plan in words that stay short: an IPv6 network has more spans than a line has room for."""

from __future__ import annotations

FEW = 10_000_000


def count_words(number: int) -> str:
    """`1,792` below ten million; above, `2^65`, or `~2^65` where it is no power of two."""
    if number < FEW:
        return f"{number:,}"
    power = _nearest_power(number)
    return f"2^{power}" if number == 1 << power else f"~2^{power}"


def _nearest_power(number: int) -> int:
    """The exponent of the power of two that is nearest, as factors go."""
    power = number.bit_length() - 1
    return power + (number * number > 1 << (2 * power + 1))


def percent_words(part: float) -> str:
    """A share in percent: `12 %`, `0.3 %`, `< 0.1 %`, `0 %`."""
    percent = 100 * part
    if 0 < percent < 0.1:
        return "< 0.1 %"
    return f"{percent:.1f} %" if 0 < percent < 9.95 else f"{percent:.0f} %"
