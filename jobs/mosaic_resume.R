#!/usr/bin/env Rscript
# From a finished run of mosaic_mpi back into MOSAIC: checks the shards that
#   python -m mosaic_mpi export run.h5 --mosaic mosaic_output --control mosaic_inputs/control.json
# wrote, and lets run_MOSAIC() continue from them: weights, posterior, ensemble, figures.
#   Rscript jobs/mosaic_resume.R mosaic_inputs mosaic_output
# mosaic_inputs is the folder of jobs/mosaic_inputs.R. Without arguments, the two lines below count.

# ---- edit from here ----------------------------------------------------------------------------------
inputs <- "mosaic_inputs"
folder <- "mosaic_output"
# ---- to here -----------------------------------------------------------------------------------------

arguments <- commandArgs(trailingOnly = TRUE)
if (length(arguments) == 2) {
  inputs <- arguments[1]
  folder <- arguments[2]
} else if (length(arguments) != 0) {
  stop("usage: Rscript mosaic_resume.R INPUTS DIR", call. = FALSE)
}

LEADING <- c("sim", "iter", "seed_sim", "seed_iter", "likelihood")
LOOK_AT <- 1000  # opening every one of 100 000 shards takes R minutes, and MOSAIC does it again
NEEDED <- 50  # finite likelihoods, without which MOSAIC's effective sample sizes stop

fail <- function(...) stop(sprintf(...), call. = FALSE)

check_version <- function(version) {
  if (version >= "0.68") {
    fail(paste(
      "MOSAIC %s simulates with an engine of its own, not with laser-cholera: these simulations and its own do",
      "not belong together. Use MOSAIC 0.64 to 0.67."
    ), version)
  }
}

shard_files <- function(samples) {
  files <- list.files(samples, pattern = "^sim_.*\\.parquet$", full.names = TRUE)
  if (length(files) == 0) {
    fail("%s: no shards; run python -m mosaic_mpi export run.h5 --mosaic %s", samples, folder)
  }
  files
}

shard_id <- function(files) as.integer(sub("^sim_0*([0-9]+)\\.parquet$", "\\1", basename(files)))

# The populations are in every shard as the config has them.
check_config <- function(shard, config, file) {
  iso <- config$location_name
  columns <- if (length(iso) == 1) "N_j_initial" else paste0("N_j_initial_", iso)
  found <- vapply(columns, function(name) if (is.null(shard[[name]])) NA_real_ else shard[[name]], numeric(1))
  if (!isTRUE(all(found == as.numeric(config$N_j_initial)))) {
    fail("%s: is not of the locations in %s", file, inputs)
  }
}

# The likelihood of one shard, once everything about the shard is in order.
check_shard <- function(file, columns, config) {
  shard <- as.list(as.data.frame(arrow::read_parquet(file)))
  if (!identical(names(shard), columns)) {
    fail("%s: its columns are not those of the first shard, beginning with %s", file, paste(LEADING, collapse = ", "))
  }
  if (!all(vapply(shard, function(x) is.double(x) && length(x) == 1, logical(1)))) {
    fail("%s: expected one row of doubles", file)
  }
  if (shard$sim != shard_id(file) || shard$seed_sim != shard$sim) {
    fail("%s: is of simulation %s", file, format(shard$sim))
  }
  check_config(shard, config, file)
  shard$likelihood
}

check_shards <- function(files, config) {
  columns <- names(arrow::read_parquet(files[1]))
  if (!identical(head(columns, 5), LEADING)) {
    fail("%s: found the columns %s, ..., expected %s, ...", files[1], paste(head(columns, 5), collapse = ", "),
         paste(LEADING, collapse = ", "))
  }
  some <- files[unique(round(seq(1, length(files), length.out = min(LOOK_AT, length(files)))))]
  likelihoods <- vapply(some, check_shard, numeric(1), columns = columns, config = config)
  n_finite <- sum(is.finite(likelihoods))
  message(sprintf("%s: %d shards of %d columns; looked at %d, likelihood finite in %d", folder, length(files),
                  length(columns), length(some), n_finite))
  if (n_finite < min(NEEDED, length(some)) || length(some) < NEEDED) {
    fail("%s: MOSAIC needs at least %d simulations with a finite likelihood", folder, NEEDED)
  }
}

check_version(utils::packageVersion("MOSAIC"))
given <- readRDS(file.path(inputs, "inputs.rds"))
samples <- file.path(folder, "2_calibration", "samples")
files <- shard_files(samples)
check_shards(files, given$config)

ids <- shard_id(files)
control <- given$control
asked <- control$calibration$n_simulations
control$calibration$n_simulations <- max(ids, if (is.numeric(asked)) asked)
control$paths$clean_output <- FALSE
left <- control$calibration$n_simulations - sum(unique(ids) <= control$calibration$n_simulations)
if (left > 0) {
  message(sprintf("%d of %g simulations have no shard: MOSAIC runs them itself", left,
                  control$calibration$n_simulations))
}

result <- MOSAIC::run_MOSAIC(
  config = given$config,
  priors = given$priors,
  dir_output = folder,
  control = control,
  resume = TRUE
)
