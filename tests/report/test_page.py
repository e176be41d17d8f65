"""The report in a real browser: every section in every state of a run, no request, no error, fit for a phone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import made_runs
import pytest

from mosaic_mpi.report.page import SECTIONS
from mosaic_mpi.report.writer import write

pytestmark = pytest.mark.xdist_group("report")  # one browser, and each report made once


@pytest.fixture(scope="session")
def page_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A function from a state's name to its report; each is made once."""
    made: dict[str, Path] = {}

    def make(state: str) -> Path:
        if state not in made:
            folder = tmp_path_factory.mktemp(state)
            write(made_runs.STATES[state](folder), str(folder / "report.html"))
            made[state] = folder / "report.html"
        return made[state]

    return make


class Visit:
    """A page opened at a width and in a colour scheme, and what the browser complained of."""

    def __init__(self, browser: Any, path: Path, width: int = 1280, scheme: str = "light") -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())

    def text(self, selector: str) -> str:
        """What a part of the page says, with plain spaces."""
        return " ".join(self.page.inner_text(selector).replace("\u202f", " ").split())

    def __enter__(self) -> Visit:
        return self

    def __exit__(self, *_: object) -> None:
        self.page.close()


@pytest.mark.parametrize("state", made_runs.STATES)
def test_every_section_is_there_without_errors_or_requests(browser: Any, page_of: Any, state: str) -> None:
    path = page_of(state)
    for width, scheme in ((1280, "light"), (390, "dark")):
        with Visit(browser, path, width, scheme) as visit:
            assert visit.complaints == []
            assert [url for url in visit.requests if not url.startswith(("file:", "data:"))] == []
            for identifier, _ in SECTIONS:
                assert len(visit.text(f"section#{identifier}")) > 20, identifier
            links = visit.page.eval_on_selector_all("nav a", "all => all.map(a => a.getAttribute('href'))")
            assert links == [f"#{identifier}" for identifier, _ in SECTIONS]
            scrolled, seen = visit.page.evaluate(
                "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
            )
            assert scrolled <= seen, f"scrolls sideways at {width} px"
            ids = visit.page.eval_on_selector_all("[id]", "all => all.map(one => one.id)")
            assert len(ids) == len(set(ids)), "two elements with one id"


def test_colours_follow_the_scheme_and_figures_the_width(browser: Any, page_of: Any) -> None:
    path = page_of("two_hosts")
    colours, shown = {}, {}
    script = "selector => getComputedStyle(document.querySelector(selector))"
    for width, scheme in ((1280, "light"), (1280, "dark"), (390, "light")):
        with Visit(browser, path, width, scheme) as visit:
            colours[scheme] = visit.page.evaluate(f"({script})('#progress svg text').fill")
            shown[width] = [
                visit.page.evaluate(f"({script})('#progress svg.{kind}').display") for kind in ("wide", "narrow")
            ]
            background = visit.page.evaluate(f"({script})('body').backgroundColor")
            assert (sum(map(int, background[4:-1].split(","))) < 200) == (scheme == "dark")
    assert colours["light"] != colours["dark"]
    assert shown == {1280: ["block", "none"], 390: ["none", "block"]}


def test_a_run_of_the_stand_in_engine_is_labelled(browser: Any, page_of: Any) -> None:
    with Visit(browser, page_of("stopped")) as visit:
        assert "These numbers are made up" in visit.text("header")


def test_what_the_headline_says_of_each_state(browser: Any, page_of: Any) -> None:
    expected = {
        "empty": ("not started", "It has not started yet: 8 simulations to do."),
        "without_result": ("stopped", "0 of 8 completed"),
        "failed": ("complete, all failed", "all of its 9 simulations failed"),
        "stopped": ("stopped", "25 of 40 completed, none failed, 15 to do. The same command resumes."),
        "dead": ("dead", "Rank 0 ended without a word"),
        "not_finite": ("complete", "No log-likelihood is finite"),
        "many_starts": ("complete", "in 300 starts"),
    }
    for state, (chip, sentence) in expected.items():
        with Visit(browser, page_of(state)) as visit:
            assert visit.text("header .chip") == chip, state
            assert sentence in visit.text("#overview"), state


def test_errors_are_shown_as_text(browser: Any, page_of: Any) -> None:
    with Visit(browser, page_of("failed")) as visit:
        assert "<script>alert('rho & co')</script>" in visit.text("#failures")
        assert "27 attempts, of which all failed" in visit.text("#failures")


def test_failed_simulations_are_no_throughput_and_their_time_no_waiting(browser: Any, page_of: Any) -> None:
    with Visit(browser, page_of("failed")) as visit:
        assert "Throughput 0 completed an hour" in visit.text("#overview .keys")
        assert "failed attempts ran: they are part of the other lines" in visit.text("#progress")
        assert visit.page.locator("#progress .meter").count() == 1, "no bar for nothing"
        assert "--retry-failed it runs what failed again" in visit.text("#provenance")


def test_work_that_the_timeline_cannot_show_is_told(browser: Any, page_of: Any) -> None:
    with Visit(browser, page_of("shared_out")) as visit:
        assert "8 slot-seconds of work in others are shown as idle here" in visit.text("#progress")
    with Visit(browser, page_of("two_hosts")) as visit:
        assert "shown as idle here" not in visit.text("#progress")


def test_long_names_end_a_line_at_an_underscore_and_tables_fit_a_phone(browser: Any, page_of: Any) -> None:
    with Visit(browser, page_of("two_hosts"), 390) as visit:
        assert visit.page.locator("#parameters h4 wbr").count() > 10
        assert not visit.page.locator("#progress td.bar").first.is_visible()
        use = visit.page.evaluate("document.querySelector('#progress .scroll').scrollWidth")
        assert use <= visit.page.evaluate("document.querySelector('#progress .scroll').clientWidth")


def test_slow_hosts_starts_and_efficiency(browser: Any, page_of: Any) -> None:
    with Visit(browser, page_of("two_hosts")) as visit:
        assert "node2 is slow" in visit.text("#times")
        assert "start 2" in visit.text("#progress")
        seconds = 2 * sum(15 * first + 0.1 * sum(turn // 2 for turn in range(15)) for first in (10.0, 30.0))
        share = seconds / ((5 + 4) * 260.0)
        assert f"{100 * share:.0f} % went into completed simulations" in visit.text("#overview")
        assert visit.page.locator("#progress svg.wide image").count() == 1


def test_weights_parameters_and_series_of_a_run(browser: Any, page_of: Any) -> None:
    with Visit(browser, page_of("two_hosts")) as visit:
        assert "Kish" in visit.text("#weights")
        assert "Cappé" in visit.text("#weights")
        assert visit.page.locator("#parameters .panels svg").count() == 24
        assert "All of these may be chance, which explains |r| up to 0." in visit.text("#parameters")
        assert visit.page.locator("#series .panels svg").count() == 3
        assert "python -m mosaic_mpi run" in visit.text("#provenance")
    with Visit(browser, page_of("no_series")) as visit:
        assert "--save reported_cases,reported_deaths" in visit.text("#series")
        assert visit.page.locator("#parameters .panels svg").count() > 0
    with Visit(browser, page_of("no_parameters")) as visit:
        assert "stores no parameters" in visit.text("#parameters")
