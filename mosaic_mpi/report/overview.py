"""The run in words: the headline, its key figures, what the weights say.

Owns sentences. Knows no figure and no HTML.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mosaic_mpi.report import weights as importance
from mosaic_mpi.report import wording as say
from mosaic_mpi.report.slot_time import Clock, Ledger, Span
from mosaic_mpi.report.snapshot import Snapshot

_FEW, _SOME, _MANY = 2.0, 50.0, 500.0
_STATE_WORDS = {
    "complete": "complete",
    "running": "running",
    "stopped": "stopped",
    "dead": "dead",
    "too many failures": "stopped: too many failures",
    "ended by an error": "ended by an error",
}
_GOOD, _BUSY, _BAD, _PAUSED = "good", "busy", "bad", "paused"


@dataclass(frozen=True)
class KeyFigure:
    """One number that everybody asks for."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Cost:
    """What the run took.

    Parameters
    ----------
    seconds : float
        Of running, pauses between starts left out.
    core_s : float
        Slots x time.
    n_slots : int
        Most slots at any one time.
    """

    seconds: float
    core_s: float
    n_slots: int


def cost_of(spans: list[Span], clock: Clock) -> Cost:
    """Add up the starts."""
    return Cost(clock.running_s, sum(span.seconds * span.n_slots for span in spans), clock.n_slots)


def state(snapshot: Snapshot) -> tuple[str, str]:
    """Return the run's state in words, and its kind: good, busy, bad or paused."""
    found = snapshot.summary.state
    words = _STATE_WORDS.get(found, found)
    if not snapshot.summary.starts:
        return "not started", _PAUSED
    if found == "complete":
        if snapshot.n_failed:
            return ("complete, all failed" if not snapshot.n_completed else "complete, some failed"), _BAD
        return words, _GOOD
    return words, {"running": _BUSY, "stopped": _PAUSED}.get(found, _BAD)


def headline(snapshot: Snapshot, cost: Cost, ledger: Ledger) -> list[str]:
    """Return what was run, where, whether it is complete, what it cost and what it found; a sentence or two each."""
    parts = [what(snapshot), _standing(snapshot)]
    if snapshot.summary.starts:
        parts.append(_price(snapshot, cost, ledger))
    if snapshot.n_completed:
        parts.append(_findings(snapshot))
    return parts


def what(snapshot: Snapshot) -> str:
    """Say what was run."""
    header, plan = snapshot.results.header, snapshot.summary.plan
    n = len(header.locations)
    where = say.some(header.locations) if n <= 7 else f"{n} locations"
    days = say.count(len(header.dates), "day")
    saved = f", saving {say.some(plan['save'])}" if plan["save"] else ""
    ids = snapshot.summary.sim_ids
    piece = "" if ids in ("1", f"1-{snapshot.n_simulations}") else f" (numbers {ids.replace('-', say.DASH)})"
    count = say.count(snapshot.n_simulations, "simulation") + piece
    return (
        f"{count} of {say.count(header.n_iterations, 'iteration')} each "
        f"for {where} over {days} ({_unbroken(header.dates[0])} to {_unbroken(header.dates[-1])}), "
        f"{source_words(plan['parameters'])}{saved}."
    )


def _unbroken(day: str) -> str:
    """A date that no line ends within."""
    return day.replace("-", "\u2011")


def source_words(source: str) -> str:
    """Say where parameters came from."""
    if source.startswith("default-prior"):
        return "parameters drawn from the built-in prior"
    if source.startswith("table"):
        return "parameters given as a table"
    return f"parameters drawn from {source.split(', sha256')[0]}"


def _standing(snapshot: Snapshot) -> str:
    done, failed, left = snapshot.n_completed, snapshot.n_failed, snapshot.n_pending
    total = say.whole(snapshot.n_simulations)
    counts = f"{say.whole(done)} of {total} completed, {say.whole(failed) if failed else 'none'} failed"
    ago = say.span(max(snapshot.summary.last_commit_s, 0.0)) if snapshot.summary.starts else ""
    match snapshot.summary.state:
        case _ if not snapshot.summary.starts:
            return f"It has not started yet: {total} simulations to do."
        case "complete" if not done:
            return f"The run has ended, and all of its {total} simulations failed: see the errors below."
        case "complete":
            return f"The run is complete: {counts}."
        case "running":
            more = snapshot.summary.time_left_s
            eta = f", about {say.span(more)} to go" if more else ""
            return f"It is running: {counts}, {say.whole(left)} to do{eta}; its last sign of life is {ago} old."
        case "dead":
            return (
                f"Rank 0 ended without a word, {ago} ago (killed, or its node died): {counts}, {say.whole(left)} "
                "to do. What was stored is safe; the same command resumes."
            )
        case "too many failures":
            return f"It was stopped because too many simulations failed: {counts}, {say.whole(left)} to do."
        case "stopped":
            return f"It was stopped: {counts}, {say.whole(left)} to do. The same command resumes."
        case _:
            return f"Its latest start ended by an error: {counts}, {say.whole(left)} to do. Look at it, then resume."


def _price(snapshot: Snapshot, cost: Cost, ledger: Ledger) -> str:
    hosts = snapshot.summary.hosts or sorted({start["host"] for start in snapshot.summary.starts})
    where = f"one host ({hosts[0]})" if len(hosts) == 1 else f"{say.whole(len(hosts))} hosts"
    starts = f" in {say.count(snapshot.n_starts, 'start')}" if snapshot.n_starts > 1 else ""
    verb = "It has taken" if snapshot.is_running else "It took"
    used = f", of which {say.percent(ledger.efficiency)} went into completed simulations" if ledger.total else ""
    slots = ("up to " if snapshot.n_starts > 1 else "") + say.count(cost.n_slots, "slot")
    return f"{verb} {say.span(cost.seconds)}{starts} on {slots} of {where}: {say.hours(cost.core_s)}{used}."


def _findings(snapshot: Snapshot) -> str:
    likelihood = snapshot.completed.likelihood
    finite = np.isfinite(likelihood)
    if not finite.any():
        return "No log-likelihood is finite: every simulation contradicts the observations, or could not be scored."
    best = int(np.argmax(np.where(finite, likelihood, -np.inf)))
    size = importance.kish(importance.normalised(likelihood))
    lost = int((~finite).sum())
    also = f"; {say.count(lost, 'likelihood is', 'likelihoods are')} not finite" if lost else ""
    return (
        f"The best log-likelihood is {say.likelihood(float(likelihood[best]))} (simulation "
        f"{say.whole(int(snapshot.completed.sim_id[best]))}); the likelihood's weights are worth "
        f"{say.number(size)} equally weighted {'draw' if size < 1.05 else 'draws'}{also}."
    )


def completed_per_s(snapshot: Snapshot) -> float | None:
    """Completed simulations a second of the latest start, over the time that `status` counts; None: no result."""
    rate, latest = snapshot.summary.simulations_per_s, len(snapshot.summary.starts) - 1
    n_completed = int((snapshot.completed.start == latest).sum())
    n_ended = n_completed + int((snapshot.failed_start == latest).sum())
    return None if rate is None or not n_ended else rate * n_completed / n_ended


def key_figures(snapshot: Snapshot, cost: Cost, ledger: Ledger) -> list[KeyFigure]:
    """Return the numbers of the first screen."""
    completed = snapshot.completed
    finite = completed.likelihood[np.isfinite(completed.likelihood)]
    weights = importance.normalised(completed.likelihood)
    rate = completed_per_s(snapshot)
    median = float(np.median(completed.elapsed_s)) if len(completed) else math.nan
    return [
        KeyFigure("Completed", say.whole(len(completed)), f"of {say.count(snapshot.n_simulations, 'simulation')}"),
        KeyFigure(
            "Failed",
            say.whole(snapshot.n_failed),
            f"{say.whole(int(snapshot.failed_attempts.sum()))} failed attempts",
        ),
        KeyFigure("Cost", say.number(cost.core_s / 3600), f"core-hours (slots {say.TIMES} time)"),
        KeyFigure("Efficiency", say.percent(ledger.efficiency), "of slot time in completed ones"),
        KeyFigure("Simulation", say.span(median), "in a slot, median"),
        KeyFigure(
            "Throughput", "none" if rate is None else say.number(3600 * rate), "completed an hour, latest start"
        ),
        KeyFigure("Best fit", say.likelihood(float(finite.max())) if len(finite) else "none", "log-likelihood"),
        KeyFigure("Effective size", say.number(importance.kish(weights)) if len(finite) else "none", "draws, Kish"),
    ]


def weight_words(snapshot: Snapshot, curve: importance.Curve) -> list[str]:
    """Say in plain words what the weights are worth."""
    likelihood = snapshot.completed.likelihood
    weights = importance.normalised(likelihood)
    size, n = importance.kish(weights), len(likelihood)
    heaviest = int(np.argmax(weights))
    name = say.whole(int(snapshot.completed.sim_id[heaviest]))
    share = say.percent(float(weights[heaviest]))
    if n == 1:
        return ["There is one simulation, so there is nothing to weigh it against."]
    draws = "unweighted draw" if size < 1.005 else "unweighted draws"
    worth = f"{say.whole(n)} weighted simulations say as much as {say.number(size)} {draws} of the posterior"
    if size < _FEW:
        verdict = (
            f"{worth}: simulation {name} alone holds {share} of all weight. That is a best fit, and not an "
            "estimate of uncertainty: intervals made with these weights would be far too narrow."
        )
    elif size < _SOME:
        verdict = (
            f"{worth}; the heaviest, simulation {name}, holds {share} of all weight. Enough to see where the "
            "likelihood points, too few for intervals."
        )
    elif size < _MANY:
        verdict = f"{worth}. Enough for medians and rough 90 % intervals; the tails rest on few simulations."
    else:
        verdict = f"{worth}. Enough for medians and 90 % intervals."
    return [verdict, _growth(curve)]


def _growth(curve: importance.Curve) -> str:
    half, whole = float(curve.kish[(len(curve.n) - 1) // 2]), float(curve.kish[-1])
    if len(curve.n) < 20 or half <= 0:
        return ""
    if max(half, whole) < _FEW:
        return "Each better simulation took all weight so far, so the number of simulations says nothing yet."
    change = whole / half
    was = f"(from {say.number(half)} at half of the simulations to {say.number(whole)})"
    if change < 0.8:
        return f"It fell in the second half {was}: better simulations keep turning up, the best may be still to come."
    if change > 1.5:
        return f"It still grows {was}: more simulations make the weighted draws better."
    return f"It changed little in the second half {was}: more simulations of the same prior will help slowly."


def flattening_words(flattened: importance.Flattened) -> str:
    """Say which weights the pictures of weighted draws use."""
    size = say.number(importance.kish(flattened.weights))
    if flattened.is_plain:
        return f"Weighted draws use the likelihood's own weights (effective sample size {size})."
    return (
        f"Because the likelihood's own weights rest on too few simulations for a picture, weighted draws here use "
        f"flattened weights, w^(1/T) with T = {say.number(flattened.temperature)}, whose effective sample size is "
        f"{size}. They show in which direction the likelihood pulls; their intervals are no posterior."
    )


def iteration_words(snapshot: Snapshot) -> str:
    """Compare the spread between iterations with that between simulations."""
    values = snapshot.completed.iteration_likelihood
    good = np.isfinite(values).all(axis=1)
    if values.shape[1] < 2:
        return "With one iteration a simulation there is no spread between iterations to see."
    if good.sum() < 2:
        return "Fewer than two simulations have finite log-likelihoods in all iterations."
    within = float(np.median(np.ptp(values[good], axis=1)))
    low, high = np.quantile(snapshot.completed.likelihood[good], [0.25, 0.75])
    between = float(high - low)
    text = (
        f"Between the iterations of a simulation, which differ by chance alone, log-likelihoods range over "
        f"{say.number(within)} (median); between simulations the middle half spans {say.number(between)}."
    )
    if between > 0 and within > 0.5 * between:
        return (
            text + " Chance is a large part of the difference: more iterations would tell simulations apart better."
        )
    return text + " The parameters, not chance, make most of the difference."
