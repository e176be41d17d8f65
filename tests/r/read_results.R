# Rscript read_results.R rhdf5|hdf5r FILE [CHANNEL]: prints what R reads of a results file, doubles in hexadecimal.
arguments <- commandArgs(trailingOnly = TRUE)
file <- arguments[2]
read <- switch(
  arguments[1],
  rhdf5 = function(name) rhdf5::h5read(file, name),
  hdf5r = function(name) {
    opened <- hdf5r::H5File$new(file, mode = "r")
    on.exit(opened$close_all())
    opened[[name]]$read()
  }
)
say <- function(name, x) {
  text <- if (is.double(x)) ifelse(is.finite(x), sprintf("%a", x), "NaN") else as.character(x)
  cat(name, length(dim(x)), text, sep = "\t")
  cat("\n")
}
done <- which(read("simulations/status") == 1)
say("completed", done)
say("likelihood", read("simulations/likelihood")[done])
say("names", as.vector(read("parameters/name")))
values <- read("parameters/values")  # R has the axes the other way round: parameter, simulation
say("values", as.vector(values[, done]))
if (length(arguments) == 3) say("channel", as.vector(read(paste0("channels/", arguments[3]))))
