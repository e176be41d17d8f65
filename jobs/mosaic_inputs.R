#!/usr/bin/env Rscript
# From MOSAIC in R to the files that mosaic_mpi reads. Edit the lines below, then:
#   Rscript jobs/mosaic_inputs.R
# It writes, into a new or existing folder,
#   config.json.gz, priors.json, control.json   what mosaic_mpi reads, every number to the last bit
#   inputs.rds                                  the same three as R has them, for jobs/mosaic_resume.R
# and prints the command that runs them.

# ---- edit from here ----------------------------------------------------------------------------------
iso <- c("ETH")
folder <- "mosaic_inputs"
config <- MOSAIC::get_location_config(iso = iso)
priors <- MOSAIC::get_location_priors(iso = iso)
control <- MOSAIC::mosaic_control_defaults(
  calibration = list(n_simulations = 1000, n_iterations = 3)
)
# ---- to here -----------------------------------------------------------------------------------------

# jsonlite writes at most 15 digits (digits = NA, its maximum), and one double in three needs more. So numbers are
# written here, with the 17 digits that bring every double back, and jsonlite writes all the rest.
number_text <- function(x) {
  text <- sprintf(if (is.double(x)) "%.17g" else "%d", x)
  text[is.nan(x)] <- "\"NaN\""
  text[is.infinite(x)] <- ifelse(x[is.infinite(x)] > 0, "\"Inf\"", "\"-Inf\"")
  text[is.na(x) & !is.nan(x)] <- "\"NA\""
  text
}

json_array <- function(texts) paste0("[", paste(texts, collapse = ","), "]")

verbatim <- function(text) structure(text, class = "json")

# A value with its numbers replaced by their text; a matrix stays one, row by row, also with a single row.
with_exact_numbers <- function(x) {
  if (is.data.frame(x)) {
    return(lapply(seq_len(nrow(x)), function(row) with_exact_numbers(as.list(x[row, , drop = FALSE]))))
  }
  if (is.list(x)) {
    return(lapply(x, with_exact_numbers))
  }
  if (!is.numeric(x)) {  # text, logical, dates, factors
    return(x)
  }
  if (length(dim(x)) == 2) {
    rows <- apply(matrix(number_text(x), nrow(x)), 1, json_array, simplify = FALSE)
    return(verbatim(json_array(unlist(rows))))
  }
  alone <- length(x) == 1 && !inherits(x, "AsIs")
  verbatim(if (alone) number_text(x) else json_array(number_text(x)))
}

json_text <- function(x) {
  jsonlite::toJSON(with_exact_numbers(x), auto_unbox = TRUE, null = "null", na = "string", json_verbatim = TRUE)
}

write_text <- function(text, connection) {
  on.exit(close(connection))
  writeLines(enc2utf8(as.character(text)), connection, useBytes = TRUE)
}

# A control list that leaves settings out gets MOSAIC's. Settings that are NULL have to stay in the list: run_MOSAIC
# takes what it is not given from its defaults, NULL included, and compares the two kinds as different.
control <- utils::modifyList(MOSAIC::mosaic_control_defaults(), control, keep.null = TRUE)

dir.create(folder, recursive = TRUE, showWarnings = FALSE)
write_text(json_text(config), gzfile(file.path(folder, "config.json.gz"), "wb"))
write_text(json_text(priors), file(file.path(folder, "priors.json"), "wb"))
write_text(json_text(control), file(file.path(folder, "control.json"), "wb"))
saveRDS(list(config = config, priors = priors, control = control), file.path(folder, "inputs.rds"))

option <- function(name, file) sprintf("--%s %s", name, shQuote(file.path(folder, file)))
n_simulations <- control$calibration$n_simulations
cat(
  "python -m mosaic_mpi run", option("config", "config.json.gz"), option("priors", "priors.json"),
  option("control", "control.json"),
  if (!is.numeric(n_simulations)) "--n-simulations 1000", "--output run.h5\n"
)
cat("python -m mosaic_mpi export run.h5 --mosaic mosaic_output", option("control", "control.json"), "\n")
cat("Rscript jobs/mosaic_resume.R", shQuote(folder), "mosaic_output\n")
