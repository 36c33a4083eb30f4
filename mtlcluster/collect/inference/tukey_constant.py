"""The constant of Tukey's test: a quantile of the studentized range."""

from functools import lru_cache


@lru_cache(maxsize=1024)
def tukey_constant(methods: int, df: int, level: float = 0.95) -> float:
    """The q for which the range of M independent means, over their estimated standard error, is at most q (Tukey 1949).

    Args:
        methods: M, at least 2.
        df: The degrees of freedom of the standard error.
        level: The probability to stay below q.
    """
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(level, methods, df))
