"""Names of MOSAIC's parameters, by kind.

Owns the vocabulary that flags, sampler and columns share; the order of the draws comes from the priors
file and the order of the columns from the base config.
"""

from __future__ import annotations

__all__ = ["BY_LOCATION", "COMPARTMENTS", "COUNTS", "GLOBALS", "PROPORTIONS", "PSI_STAR", "WHOLE_GLOBALS"]

# In the order in which the shares of the population are rounded.
COMPARTMENTS = ("S", "V1", "V2", "E", "I", "R")
COUNTS = tuple(f"{name}_j_initial" for name in COMPARTMENTS)
PROPORTIONS = tuple(f"prop_{name}_initial" for name in COMPARTMENTS)

PSI_STAR = ("psi_star_a", "psi_star_b", "psi_star_z", "psi_star_k")
WHOLE_GLOBALS = ("delta_reporting_cases", "delta_reporting_deaths")

GLOBALS = frozenset(
    [
        *("phi_1", "phi_2", "omega_1", "omega_2", "iota", "gamma_1", "gamma_2", "epsilon", "rho"),
        *("rho_deaths", "sigma", "chi_endemic", "chi_epidemic", "mobility_omega", "mobility_gamma", "kappa"),
        *("zeta_1", "zeta_2", "zeta_ratio", "decay_days_short", "decay_days_spread"),
        *("decay_days_long", "decay_shape_1", "decay_shape_2", "alpha_2", *WHOLE_GLOBALS),
    ]
)

BY_LOCATION = frozenset(
    [
        *("alpha_1", "beta_j0_tot", "beta_j0_hum", "beta_j0_env", "p_beta", "tau_i", "theta_j"),
        *("a_1_j", "a_2_j", "b_1_j", "b_2_j", "epidemic_threshold"),
        *("CFR_target", "mu_j_baseline", "mu_j_slope", "mu_j_epidemic_factor"),
        *PSI_STAR,
        *PROPORTIONS,
    ]
)
