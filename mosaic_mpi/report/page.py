"""The page: every section's numbers, words and figures, put into the template.

Owns which sections there are; the template says what each shows, and what when there is nothing to show.
"""

from __future__ import annotations

from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup, escape

from mosaic_mpi._version import __version__
from mosaic_mpi.report import failures, finding_sections, overview, run_sections
from mosaic_mpi.report import weights as importance
from mosaic_mpi.report import wording as say
from mosaic_mpi.report.provenance import provenance
from mosaic_mpi.report.series_section import series
from mosaic_mpi.report.slot_time import SlotTime, spans_of, within_their_starts
from mosaic_mpi.report.snapshot import Snapshot

SECTIONS = (
    ("overview", "Overview"),
    ("progress", "Progress"),
    ("times", "Times"),
    ("failures", "Failures"),
    ("likelihood", "Likelihood"),
    ("weights", "Weights"),
    ("parameters", "Parameters"),
    ("series", "Time series"),
    ("provenance", "Provenance"),
)
"""Identifiers and titles, in order."""

GENERATOR = "mosaic_mpi report"
"""By which a report is recognised before it is replaced."""


def _breakable(name: str) -> Markup:
    """A name that may end a line at its underscores only."""
    return escape(name).replace("_", Markup("_<wbr>"))


def render(snapshot: Snapshot, refresh_s: float | None = None) -> str:
    """Return the report as one HTML document.

    Parameters
    ----------
    snapshot : Snapshot
        The run as it is.
    refresh_s : float, optional
        Have the browser load the page again after so many seconds.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("mosaic_mpi.report", "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals.update(say=say)
    environment.filters["breakable"] = _breakable
    spans = spans_of(snapshot.summary.starts, snapshot.completed)
    timed = within_their_starts(snapshot.completed, spans) if spans else np.zeros(0, bool)
    slots = SlotTime(snapshot.completed.chosen(timed), spans)
    cost = overview.cost_of(spans, slots.clock)
    state, kind = overview.state(snapshot)
    flattened = importance.flatten(snapshot.completed.likelihood)
    style = Path(__file__).with_name("templates").joinpath("page.css").read_text()
    text: str = environment.get_template("page.html").render(
        title=f"{Path(snapshot.results.path).name}: {state}",
        name=Path(snapshot.results.path).name,
        style=Markup(style),
        generator=GENERATOR,
        version=__version__,
        sections=SECTIONS,
        snapshot=snapshot,
        refresh_s=refresh_s,
        state=state,
        state_kind=kind,
        headline=overview.headline(snapshot, cost, slots.ledger),
        figures=overview.key_figures(snapshot, cost, slots.ledger),
        progress=run_sections.progress(snapshot, slots),
        times=run_sections.times(snapshot),
        failures=failures.gather(snapshot),
        likelihood=finding_sections.likelihood(snapshot),
        weights=finding_sections.weights(snapshot),
        parameters=finding_sections.parameters(snapshot, flattened),
        series=series(snapshot, flattened),
        is_plain=flattened.is_plain,
        flattening=overview.flattening_words(flattened) if flattened.weights.any() else "",
        provenance=provenance(snapshot),
    )
    return text
