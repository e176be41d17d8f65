# Made-up numbers in the R types of MOSAIC's lists: doubles that need 17 digits, integer matrices with NA, vectors
# that are scalars with one location, infinite bounds, data frames with dates, settings that are NULL.

N_DAYS <- 40L

with_seed <- function(seed, code) {
  set.seed(seed)
  force(code)
}

get_location_config <- function(iso, config = NULL) with_seed(1, make_config(iso))

make_config <- function(iso) {
  n <- length(iso)
  scalars <- c("phi_1", "phi_2", "omega_1", "omega_2", "iota", "gamma_1", "gamma_2", "epsilon", "rho", "rho_deaths",
               "sigma", "chi_endemic", "chi_epidemic", "mobility_omega", "mobility_gamma", "alpha_2", "zeta_1",
               "zeta_2", "kappa", "decay_shape_1", "decay_shape_2", "zeta_ratio")
  locals <- c("epidemic_threshold", "longitude", "latitude", "tau_i", "beta_j0_hum", "beta_j0_env", "a_1_j", "a_2_j",
              "b_1_j", "b_2_j", "alpha_1", "theta_j", "psi_star_a", "psi_star_b", "psi_star_z", "beta_j0_tot",
              "p_beta", "prop_S_initial", "prop_E_initial", "prop_I_initial", "prop_R_initial", "prop_V1_initial",
              "prop_V2_initial", "mu_j_baseline", "mu_j_slope", "mu_j_epidemic_factor", "CFR_target")
  doubles <- c("b_jt", "d_jt", "nu_2_jt", "psi_jt", "mu_jt")
  cells <- n * N_DAYS
  config <- list(
    seed = 123L, date_start = as.Date("2023-02-01"), date_stop = as.character(as.Date("2023-02-01") + N_DAYS - 1),
    location_name = iso, p = 365L, nu_jt_sources = c("S", "E"), delta_reporting_cases = 0L,
    delta_reporting_deaths = 5, decay_days_short = 16 + runif(1), decay_days_long = 200 + runif(1),
    decay_days_spread = 184 + runif(1), N_j_initial = rep(1e5, n)
  )
  for (name in c("S", "E", "I", "R", "V1", "V2")) config[[paste0(name, "_j_initial")]] <- rep(1000L, n)
  for (name in scalars) config[[name]] <- runif(1)
  for (name in locals) config[[name]] <- runif(n)
  config$zeta_1 <- 1e11 * runif(1)
  config$psi_star_k <- rep(0, n)
  for (name in doubles) config[[name]] <- matrix(runif(cells), n)
  config$nu_1_jt <- matrix(seq_len(cells) * 100000L, n)
  for (name in c("reported_cases", "reported_deaths")) {
    config[[name]] <- matrix(ifelse(runif(cells) < 0.2, NA, rpois(cells, 20)), n)
    storage.mode(config[[name]]) <- "integer"
    config[[paste0(name, "_weight")]] <- matrix(runif(cells), n)
  }
  config$epidemic_peaks <- data.frame(
    iso_code = iso, peak_date = as.Date("2023-02-20"), reported_cases = rep(NA_integer_, n), stringsAsFactors = TRUE
  )
  config$metadata <- list(version = "stand-in", made = as.Date("2024-01-01"), note = "quotes \" and \u00e9")
  config
}

get_location_priors <- function(iso, priors = NULL) with_seed(2, make_priors(iso))

distribution <- function(kind, ...) list(description = kind, distribution = kind, parameters = list(...))

make_priors <- function(iso) {
  by_location <- function(make) list(description = "by location", location = sapply(iso, make, simplify = FALSE))
  proportions <- paste0("prop_", c("S", "V1", "V2", "E", "I", "R"), "_initial")
  list(
    metadata = list(version = "stand-in", date = as.Date("2024-01-01")),
    parameters_global = list(
      phi_1 = distribution("beta", shape1 = 1 + runif(1), shape2 = 1 + runif(1)),
      gamma_1 = distribution("lognormal", meanlog = -runif(1), sdlog = runif(1)),
      epsilon = distribution("lognormal", mean = 3e-4 * runif(1), sd = 1e-4),
      decay_days_short = distribution("truncnorm", mean = 16, sd = 7 / 3, a = 0.01, b = Inf),
      decay_days_spread = distribution("truncnorm", mean = 180, sd = 95, a = 1, b = 365L),
      sigma = distribution("uniform", min = 0.1, max = 0.1 + runif(1)),
      rho = list(distribution = "failed", parameters = list(shape1 = NA_real_, shape2 = NaN)),
      kappa = distribution("fixed", value = 1e6 / 3)
    ),
    parameters_location = c(
      list(
        beta_j0_tot = by_location(function(x) distribution("lognormal", meanlog = -10 * runif(1), sdlog = runif(1))),
        p_beta = by_location(function(x) distribution("beta", shape1 = 2 + runif(1), shape2 = 2)),
        psi_star_a = by_location(function(x) distribution("truncnorm", mean = 1, sd = 1, a = -Inf, b = "Inf"))
      ),
      sapply(proportions, simplify = FALSE, function(name) {
        by_location(function(x) distribution("beta", shape1 = 2 + runif(1), shape2 = 500 + runif(1)))
      })
    )
  )
}

FLAGS <- c("iota", "epsilon", "gamma_1", "gamma_2", "rho", "mobility_gamma", "mobility_omega", "alpha_1", "alpha_2",
           "omega_1", "omega_2", "phi_1", "phi_2", "sigma", "kappa", "chi_endemic", "chi_epidemic", "rho_deaths",
           "delta_reporting_cases", "delta_reporting_deaths", "decay_days_short", "decay_days_spread",
           "decay_shape_1", "decay_shape_2", "zeta_1", "zeta_ratio", "beta_j0_tot", "p_beta", "tau_i", "theta_j",
           "mu_j_baseline", "mu_j_slope", "mu_j_epidemic_factor", "epidemic_threshold", "a_1_j", "a_2_j", "b_1_j",
           "b_2_j", "psi_star_a", "psi_star_b", "psi_star_z", "psi_star_k", "initial_conditions")

mosaic_control_defaults <- function(...) {
  flags <- c(as.list(FLAGS != "alpha_2"), FALSE)
  defaults <- list(
    calibration = list(n_simulations = NULL, n_iterations = 3L, max_simulations_total = 100000L),
    sampling = stats::setNames(flags, c(paste0("sample_", FLAGS), "ic_moment_match")),
    likelihood = list(
      weight_cases = 1, weight_deaths = 1, weight_peak_timing = 0, weight_peak_magnitude = 0,
      weight_cumulative_total = 0, weight_wis = 0, sigma_peak_time = 1, sigma_peak_log = 0.5, weights_time = NULL,
      weights_location = NULL, nb_k_min_cases = 3, nb_k_min_deaths = 3, burn_in_days = 30L,
      deaths_score_start = NULL, score_start_cases = NULL
    ),
    paths = list(clean_output = FALSE, plots = TRUE)
  )
  utils::modifyList(defaults, list(...), keep.null = TRUE)
}

# What run_MOSAIC does with a control list: a setting that is given as NULL vanishes.
merged_control <- function(control) {
  found <- mosaic_control_defaults()
  for (section in names(control)) {
    for (name in names(control[[section]])) found[[section]][[name]] <- control[[section]][[name]]
  }
  found
}

as_text <- function(x) as.character(jsonlite::toJSON(x, auto_unbox = TRUE, digits = NA))

# The checks of resuming, after their description, and a record of the call.
run_MOSAIC <- function(config, priors, dir_output, control = NULL, resume = FALSE) {
  control <- merged_control(control)
  inputs <- file.path(dir_output, "1_inputs")
  file <- file.path(inputs, "control.json")
  if (file.exists(file)) {
    there <- jsonlite::fromJSON(file)$control
    for (section in c("likelihood", "sampling")) {
      if (as_text(control[[section]]) != as_text(there[[section]])) stop("resume: control$", section, " differs")
    }
    if (control$calibration$n_iterations != there$calibration$n_iterations) stop("resume: n_iterations differs")
    if (!is.numeric(there$calibration$n_simulations)) stop("resume: the mode differs")
  }
  there <- jsonlite::fromJSON(file.path(inputs, "environment.json"))$likelihood_provenance
  if (as_text(there) != as_text(list(engine = "R", impl_version = "R/v0.22.21"))) stop("resume: provenance differs")
  stopifnot(resume, !control$paths$clean_output)
  called <- list(config = config, priors = priors, dir_output = dir_output, control = control)
  saveRDS(called, Sys.getenv("STAND_IN_CALL"))
}
