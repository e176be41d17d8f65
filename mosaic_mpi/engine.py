"""The only importer of laser.cholera: config in, channels out.

Owns what must hold around the engine: one thread, no log files, no plots. Runs in slots only; a rank never
imports it. Knows no parameters, no MPI and no file.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from laser.cholera import calc_model_likelihood as scoring
from laser.cholera.metapop import model as metapop
from laser.core import laserframe, propertyset
from laser.core import random as engine_random
from numpy.typing import NDArray
from tqdm import tqdm

from mosaic_mpi import prepared_scorer
from mosaic_mpi.likelihood import remembered_dispersion
from mosaic_mpi.plan import Channel
from mosaic_mpi.prepared_model import DERIVED_CHANNELS, PreparedModel, single_draws_agree

if TYPE_CHECKING:
    from mosaic_mpi.compiled.model import Advance

_TIME_CHANNELS = (
    *("S", "E", "Isym", "Iasym", "R", "V1", "V2"),
    *("new_symptomatic", "incidence", "incidence_env", "incidence_human"),
    *("Lambda", "N", "Psi", "spatial_hazard", "W"),
    *("births", "disease_deaths", "non_disease_deaths", "reported_cases", "reported_deaths"),
    *("dose_one_doses", "dose_two_doses", "beta_jt_env", "beta_jt_human", "delta_jt"),
)
_PAIR_CHANNELS = ("coupling", "pi_ij")
_FORCED = {"calc_likelihood": False, "visualize": False, "pdf": False, "quiet": True, "hdf5_output": False}
"""Outputs that are the business of the results file, whatever the config asks for."""

_FOR_SCORING_ALONE = "epidemic_peaks"
"""What no component reads, and the engine makes a pandas table of: a tenth of the set-up of one country."""

score = scoring.calc_model_likelihood
"""The engine's scorer; see `mosaic_mpi.likelihood`."""


def prepare_scorer(arguments: Mapping[str, Any]) -> Callable[..., float] | None:
    """See `mosaic_mpi.prepared_scorer`; for engines without `caution` alone."""
    return None if caution is not None else prepared_scorer.prepare_scorer(scoring, arguments)


def quieten() -> None:
    """Stop the engine from writing log files and from formatting what nobody reads.

    Importing laser.cholera attaches a file handler that writes ``<timestamp>.log`` into the working
    directory. And one component formats a debug message with a whole array on many ticks: with a few words in the
    array's place that costs next to nothing, and changes no number.
    """
    logger = logging.getLogger("laser.cholera")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    logger.setLevel(logging.ERROR)
    np.set_printoptions(threshold=0, edgeitems=1)
    with contextlib.suppress(TypeError):  # an older NumPy prints two numbers of the array
        np.set_printoptions(override_repr=lambda array: f"array of {array.dtype}, shape {array.shape}")
    # The engine's (disabled) progress bar would make a named semaphore that outlives a killed slot.
    tqdm.set_lock(threading.RLock())
    warnings.simplefilter("ignore", RuntimeWarning)


def sum_as_r_does() -> None:
    """Have the scorer take its dispersions from `mosaic_mpi.likelihood`, for agreement with MOSAIC."""
    scoring.nb_size_from_obs_weighted = remembered_dispersion


class Iterations(Protocol):
    """Runs one parameter set with one seed after another."""

    def run(self, seed: int) -> Any:
        """Run one iteration.

        Parameters
        ----------
        seed : int
            The engine's seed.

        Returns
        -------
        laser.cholera.metapop.model.RInterface
            Views of the channels, ``[location, time]`` each; good until the next call.
        """
        ...

    @property
    def was_compiled(self) -> bool:
        """Whether the compiled loop ran the latest iteration, and not the engine's own."""
        ...

    def close(self) -> None:
        """Free what is not needed any more."""
        ...


class StockIterations:
    """Iterations by the engine's `run_model`, for an engine that nothing is known of.

    Parameters
    ----------
    values : mapping
        A complete config as `mosaic_mpi.config.engine_values` types it.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values, self.was_compiled = {**values, **_FORCED}, False

        self.generator: np.random.Generator | None = None
        """The generator of the latest iteration, in the state in which it ended."""

    def run(self, seed: int) -> Any:
        """See `Iterations.run`."""
        model = metapop.run_model({**self._values, "seed": seed})
        self.generator = model.prng
        return model.results

    def close(self) -> None:
        """See `Iterations.close`."""


def prepare(values: Mapping[str, Any], channels: Collection[str], advance: Advance | None = None) -> Iterations:
    """Set up the iterations of one parameter set.

    Parameters
    ----------
    values : mapping
        A complete config as `mosaic_mpi.config.engine_values` types it.
    channels : collection of str
        Those that will be read, beside reported cases and deaths.
    advance : callable, optional
        The compiled loop over ticks (`mosaic_mpi.compiled_engine`), for engines without `caution` alone.

    Raises
    ------
    Exception
        Whatever the engine raises over a config that it refuses.
    """
    if caution is not None:
        return StockIterations(values)
    derived = not DERIVED_CHANNELS.isdisjoint(channels)
    read = {key: value for key, value in values.items() if key != _FOR_SCORING_ALONE}
    parts = (set_up(read), engine_random.seed, metapop.RInterface, derived)
    if advance is not None:
        from mosaic_mpi.compiled.inputs import UnsupportedError
        from mosaic_mpi.compiled.model import CompiledModel

        try:
            return CompiledModel(advance, *parts)
        except UnsupportedError:
            return PreparedModel(*parts)  # as any iteration that the loop gives back
    return PreparedModel(*parts)


def set_up(values: Mapping[str, Any]) -> Any:
    """Return a model with its components, as `run_model` has it before it runs."""
    model = metapop.Model(metapop.get_parameters({**values, **_FORCED, "seed": 1}))
    model.components = [getattr(metapop, name) for name in _COMPONENTS]
    return model


def channel(results: Any, name: str) -> NDArray[Any]:
    """Return one channel of a finished iteration, ``ndarray, shape (n_locations, n_ticks)`` mostly."""
    array: NDArray[Any] = getattr(results, name)
    return array


def describe(values: Mapping[str, Any]) -> dict[str, Channel]:
    """Set the model up without running it: the engine's own checks, and every channel it will have.

    Parameters
    ----------
    values : mapping
        A complete config as `mosaic_mpi.config.engine_values` types it.

    Returns
    -------
    dict
        By name.

    Raises
    ------
    Exception
        Whatever the engine raises over a config that it refuses.
    """
    results = metapop.RInterface(set_up(values))
    kinds: dict[str, Channel] = {}
    for names, axes in (
        (_TIME_CHANNELS, ("location", "time")),
        (_PAIR_CHANNELS, ("location", "to_location")),
    ):
        for name in names:
            if hasattr(results, name):
                array = getattr(results, name)
                kinds[name] = Channel(name, axes, tuple(array.shape), array.dtype.str)
    return kinds


_COMPONENTS = (
    *("Susceptible", "Exposed", "Recovered", "Infectious", "Vaccinated", "Census", "HumanToHuman"),
    *("EnvToHuman", "Environmental", "DerivedValues", "Analyzer", "Recorder", "Parameters"),
)
"""The components of `run_model`, in its order."""

_KNOWN = {
    "d24c594ea4c971096ce7c4285200e0725c48580f18900aef32052113d8494e6e": "laser-cholera 0.16.1, laser-core 1.0.5",
}
"""Digests of the engine's sources for which `PreparedModel` and `PreparedScorer` were made and compared."""


def sources() -> list[Path]:
    """The engine's files that decide how a model is set up, run and scored."""
    modules = (scoring, laserframe, propertyset, engine_random)
    return [*sorted(Path(metapop.__file__).parent.glob("*.py")), *(Path(str(module.__file__)) for module in modules)]


def digest(files: Iterable[Path]) -> str:
    """SHA-256 of files' names and contents."""
    total = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        total.update(f"{file.name} {len(content)}\n".encode() + content)
    return total.hexdigest()


def find_caution() -> str | None:
    """Why iterations run by the engine's own loop here, for a person; None where the prepared model is safe."""
    try:
        is_known = digest(sources()) in _KNOWN
    except OSError:
        is_known = False
    if not is_known:
        return f"the engine's sources are not those of {', '.join(_KNOWN.values())}: it runs unprepared, and slower"
    if not single_draws_agree():
        return "this NumPy draws otherwise from numbers than from arrays: the engine runs unprepared, and slower"
    return None


caution = find_caution()
"""Found once a rank, by the fork server."""
quieten()
sum_as_r_does()
