"""Random variates from a stream of uniforms, operation by operation as R computes them.

Owns the algorithms; each function takes ``unit``, a callable that returns the next uniform in (0, 1). Knows
nothing of seeds. The order of the floating point operations decides the last bit and must not be rearranged.

Equality also needs the C library functions that R calls. The ``math`` module calls them one value at a time;
numpy's vectorised ``exp`` and ``log`` are code of their own on some processors and must not be used here.

References
----------
.. [W88] Wichura (1988), Algorithm AS 241, Applied Statistics 37(3), 477-484.
.. [AD72] Ahrens and Dieter (1972), Computer methods for sampling from the exponential and normal
   distributions, Comm. ACM 15(10), 873-882.
.. [AD74] Ahrens and Dieter (1974), Computer methods for sampling from gamma, beta, Poisson and binomial
   distributions, Computing 12, 223-246.
.. [AD82] Ahrens and Dieter (1982), Generating gamma variates by a modified rejection technique,
   Comm. ACM 25(1), 47-54.
.. [C78] Cheng (1978), Generating beta variates with nonintegral shape parameters, Comm. ACM 21(4), 317-322.
.. [G91] Geweke (1991), Efficient simulation from the multivariate normal and Student-t distributions subject
   to linear constraints, Computing Science and Statistics 23, 571-578.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

__all__ = [
    "Unit",
    "beta",
    "normal_quantile",
    "standard_exponential",
    "standard_gamma",
    "standard_normal",
    "standard_normal_between",
]

Unit: TypeAlias = Callable[[], float]

_INVERSION_STEPS = 134217728.0  # 2^27

# Coefficients of AS 241, highest power first: A, B in the centre, C, D in the tails, E, F far out.
_A = (
    2509.0809287301226727, 33430.575583588128105, 67265.770927008700853, 45921.953931549871457,
    13731.693765509461125, 1971.5909503065514427, 133.14166789178437745, 3.387132872796366608,
)  # fmt: skip
_B = (
    5226.495278852854561, 28729.085735721942674, 39307.89580009271061, 21213.794301586595867,
    5394.1960214247511077, 687.1870074920579083, 42.313330701600911252, 1.0,
)  # fmt: skip
_C = (
    7.7454501427834140764e-4, 0.0227238449892691845833, 0.24178072517745061177, 1.27045825245236838258,
    3.64784832476320460504, 5.7694972214606914055, 4.6303378461565452959, 1.42343711074968357734,
)  # fmt: skip
_D = (
    1.05075007164441684324e-9, 5.475938084995344946e-4, 0.0151986665636164571966, 0.14810397642748007459,
    0.68976733498510000455, 1.6763848301838038494, 2.05319162663775882187, 1.0,
)  # fmt: skip
_E = (
    2.01033439929228813265e-7, 2.71155556874348757815e-5, 0.0012426609473880784386, 0.026532189526576123093,
    0.29656057182850489123, 1.7848265399172913358, 5.4637849111641143699, 6.6579046435011037772,
)  # fmt: skip
_F = (
    2.04426310338993978564e-15, 1.4215117583164458887e-7, 1.8463183175100546818e-5, 7.868691311456132591e-4,
    0.0148753612908506148525, 0.13692988092273580531, 0.59983220655588793769, 1.0,
)  # fmt: skip

_LN2 = 0.6931471805599453
# Algorithm SA: sums of ln(2)^i / i! for i = 1..k, up to the first that rounds to 1.
_SA_Q = tuple(math.fsum(_LN2**i / math.factorial(i) for i in range(1, k + 1)) for k in range(1, 17))

_INVERSE_E = 0.36787944117144233
_SQRT_32 = 5.656854  # to the digits of [AD82], on which the stream depends
_GD_TAU = -0.71874483771719
_GD_Q = (2.424e-4, 2.4511e-4, -7.388e-5, 0.00144121, 0.00801191, 0.02083148, 0.04166669)
_GD_A = (0.1233795, -0.1367177, 0.1423657, -0.1662921, 0.2000062, -0.250003, 0.3333333)

_LOG_4 = 1.3862944  # to the digits of [C78], as is the next one
_ONE_PLUS_LOG_5 = 2.609438
_LARGEST_EXPONENT = 1024 * _LN2
_LARGEST_DOUBLE = 1.7976931348623157e308

_NORMAL_PEAK = 0.3989422804014327  # 1 / sqrt(2 pi)
_T1, _T2, _T3, _T4 = 0.150, 2.18, 0.725, 0.45  # thresholds of [G91], section 2


def _horner(x: float, coefficients: tuple[float, ...]) -> float:
    total = coefficients[0]
    for coefficient in coefficients[1:]:
        total = total * x + coefficient
    return total


def normal_quantile(probability: float) -> float:
    """Quantile of the standard normal distribution, PPND16 of [W88]_.

    Parameters
    ----------
    probability : float
        Strictly between 0 and 1.

    Returns
    -------
    float
        Accurate to about one part in 1e16.
    """
    q = probability - 0.5
    if abs(q) <= 0.425:
        r = 0.180625 - q * q
        return q * _horner(r, _A) / _horner(r, _B)
    r = math.sqrt(-math.log(probability if q < 0 else 1.0 - probability))
    tail = _horner(r - 1.6, _C) / _horner(r - 1.6, _D) if r <= 5.0 else _horner(r - 5.0, _E) / _horner(r - 5.0, _F)
    return -tail if q < 0 else tail


def standard_normal(unit: Unit) -> float:
    """Standard normal variate by inversion of two uniforms, which together have 53 random bits."""
    coarse = float(int(_INVERSION_STEPS * unit()))
    return normal_quantile((coarse + unit()) / _INVERSION_STEPS)


def standard_exponential(unit: Unit) -> float:
    """Exponential variate with mean 1, algorithm SA of [AD72]_."""
    a, u = 0.0, unit() * 2.0
    while u <= 1.0:
        a += _LN2
        u += u
    u -= 1.0
    if u <= _LN2:
        return a + u
    smallest = unit()
    for q in _SA_Q[1:]:
        smallest = min(smallest, unit())
        if u <= q:
            break
    return a + smallest * _LN2


def standard_gamma(unit: Unit, shape: float, scale: float) -> float:
    """Gamma variate with mean ``shape * scale``: GD [AD82]_ from shape 1 on, GS [AD74]_ below."""
    if shape < 1.0:
        return scale * _gamma_gs(unit, shape)
    return _gamma_gd(unit, shape, scale)


def _gamma_gs(unit: Unit, a: float) -> float:
    e = 1.0 + _INVERSE_E * a
    while True:
        p = e * unit()
        if p >= 1.0:
            x = -math.log((e - p) / a)
            if standard_exponential(unit) >= (1.0 - a) * math.log(x):
                return x
        else:
            x = math.exp(math.log(p) / a)
            if standard_exponential(unit) >= x:
                return x


def _gamma_gd(unit: Unit, a: float, scale: float) -> float:
    s2 = a - 0.5
    s = math.sqrt(s2)
    t = standard_normal(unit)
    x = s + 0.5 * t
    if t >= 0.0:
        return scale * (x * x)
    u = unit()
    if (_SQRT_32 - s * 12.0) * u <= t * t * t:
        return scale * (x * x)
    q0 = _horner(1.0 / a, _GD_Q) * (1.0 / a)
    if x > 0.0 and math.log(1.0 - u) <= _gd_log_quotient(t, s, s2, q0):
        return scale * (x * x)
    x = s + 0.5 * _gd_double_exponential(unit, a, s, s2, q0)
    # Unlike above, R multiplies from the left here.
    return scale * x * x


def _gd_double_exponential(unit: Unit, a: float, s: float, s2: float, q0: float) -> float:
    """Rejection from a double exponential (Laplace) hat, steps 8 to 12 of GD."""
    b, sigma, c = _gd_hat(a, s, s2)
    while True:
        e = standard_exponential(unit)
        u = unit()
        u = u + u - 1.0
        t = b - sigma * e if u < 0.0 else b + sigma * e
        if t < _GD_TAU:
            continue
        q = _gd_log_quotient(t, s, s2, q0)
        if q > 0.0 and c * abs(u) <= math.expm1(q) * math.exp(e - 0.5 * t * t):
            return t


def _gd_log_quotient(t: float, s: float, s2: float, q0: float) -> float:
    """Logarithm of gamma over normal density at ``t``, steps 6 and 10 of GD."""
    v = t / (s + s)
    if abs(v) <= 0.25:
        return q0 + 0.5 * t * t * (_horner(v, _GD_A) * v)
    return q0 - s * t + 0.25 * t * t + (s2 + s2) * math.log(1.0 + v)


def _gd_hat(a: float, s: float, s2: float) -> tuple[float, float, float]:
    """Location, scale and factor of the hat, step 4 of GD."""
    if a <= 3.686:
        return 0.463 + s + 0.178 * s2, 1.235, 0.195 / s - 0.079 + 0.16 * s
    if a <= 13.022:
        return 1.654 + 0.0076 * s2, 1.68 / s + 0.275, 0.062 / s + 0.024
    return 1.77, 0.75, 0.1515 / s


def beta(unit: Unit, shape1: float, shape2: float) -> float:
    """Beta variate [C78]_: BC if the smaller shape is at most 1, BB otherwise."""
    a, b = min(shape1, shape2), max(shape1, shape2)
    # For equal shapes the first counts as the smaller one.
    if a <= 1.0:
        w = _beta_bc(unit, a, b)
        return a / (a + w) if a == shape1 else w / (a + w)
    w = _beta_bb(unit, a, b)
    return w / (b + w) if a == shape1 else b / (b + w)


def _beta_bc(unit: Unit, a: float, b: float) -> float:
    alpha, slope, delta = a + b, 1.0 / a, 1.0 + b - a
    k1 = delta * (0.0138889 + 0.0416667 * a) / (b * slope - 0.777778)
    k2 = 0.25 + (0.5 + 0.25 / delta) * a
    while True:
        u1, u2 = unit(), unit()
        accepted = False
        if u1 < 0.5:
            z = u1 * (u1 * u2)
            if 0.25 * u2 + z - u1 * u2 >= k1:
                continue
        else:
            z = u1 * u1 * u2
            accepted = z <= 0.25
            if z >= k2 and not accepted:
                continue
        v = slope * math.log(u1 / (1.0 - u1))
        w = _times_exp(b, v)
        if accepted or alpha * (math.log(alpha / (a + w)) + v) - _LOG_4 >= math.log(z):
            return w


def _beta_bb(unit: Unit, a: float, b: float) -> float:
    alpha = a + b
    slope = math.sqrt((alpha - 2.0) / (2.0 * a * b - alpha))
    gamma = a + 1.0 / slope
    while True:
        u1, u2 = unit(), unit()
        v = slope * math.log(u1 / (1.0 - u1))
        w = _times_exp(a, v)
        z = u1 * u1 * u2
        r = gamma * v - _LOG_4
        s = a + r - w
        if s + _ONE_PLUS_LOG_5 >= 5.0 * z:
            return w
        t = math.log(z)
        if s > t or r + alpha * math.log(alpha / (b + w)) >= t:
            return w


def _times_exp(shape: float, v: float) -> float:
    """``shape * exp(v)``, at most the largest double."""
    if v > _LARGEST_EXPONENT:
        return _LARGEST_DOUBLE
    try:
        return min(shape * math.exp(v), _LARGEST_DOUBLE)
    except OverflowError:
        return _LARGEST_DOUBLE


def _normal_density(x: float) -> float:
    return _NORMAL_PEAK * math.exp(-0.5 * x * x)


def standard_normal_between(unit: Unit, a: float, b: float) -> float:
    """Standard normal variate in [a, b] by the mixed rejection of [G91]_, as in R's package truncnorm.

    Parameters
    ----------
    unit : callable
        Returns the next uniform.
    a, b : float
        Bounds, ``a < b``; either may be infinite.
    """
    # Below 0, and where only the upper bound is finite, the mirror image is drawn.
    if b < 0.0 or (a == -math.inf and b != math.inf):
        return -_normal_between(unit, -b, -a)
    return _normal_between(unit, a, b)


def _normal_between(unit: Unit, a: float, b: float) -> float:
    if b == math.inf:
        return _normal_within(unit, a, b) if a < _T4 else _exponential_within(unit, a, b)
    density_a, density_b = _normal_density(a), _normal_density(b)
    if a <= 0.0:
        if density_a <= _T1 or density_b <= _T1:
            return _normal_within(unit, a, b)
        # With the upper bound at 0 truncnorm takes density_a, though it is no bound of the density.
        return _uniform_within(unit, a, b, _NORMAL_PEAK if b > 0.0 else density_a)
    if density_b > 0.0 and density_a / density_b <= _T2:
        return _uniform_within(unit, a, b, density_a)
    return _half_normal_within(unit, a, b) if a < _T3 else _exponential_within(unit, a, b)


def _normal_within(unit: Unit, a: float, b: float) -> float:
    while not a <= (x := standard_normal(unit)) <= b:
        pass
    return x


def _half_normal_within(unit: Unit, a: float, b: float) -> float:
    while not a <= (x := abs(standard_normal(unit))) <= b:
        pass
    return x


def _uniform_within(unit: Unit, a: float, b: float, peak: float) -> float:
    while True:
        x = a + (b - a) * unit()
        if unit() * peak <= _normal_density(x):
            return x


def _exponential_within(unit: Unit, a: float, b: float) -> float:
    while True:
        x = 1.0 / a * standard_exponential(unit) + a
        # The uniform is spent on values above b, too.
        if unit() <= math.exp(-0.5 * (x - a) ** 2) and x <= b:
            return x
