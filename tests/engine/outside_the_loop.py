"""The engine's files that the compiled loop does not replace."""

OUTSIDE_THE_LOOP = frozenset(
    {
        *("__init__.py", "logsetup.py", "params.py", "scenario.py", "utils.py"),
        *("laserframe.py", "propertyset.py", "random.py", "calc_model_likelihood.py"),
    }
)
"""Set-up is the engine's own beside either loop, so that no comparison of the two can tell. Nor do the loops score,
and each slot compares its scorer with the engine's (test_prepared_scorer.py)."""
