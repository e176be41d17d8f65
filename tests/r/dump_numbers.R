# Rscript dump_numbers.R inputs.rds: every number of an R object as one line: path, then the double in hexadecimal.
show <- function(x, path) {
  if (is.data.frame(x)) x <- lapply(seq_len(nrow(x)), function(row) as.list(x[row, , drop = FALSE]))
  if (is.list(x)) {
    names <- if (is.null(names(x))) seq_along(x) - 1 else names(x)
    for (index in seq_along(x)) show(x[[index]], paste0(path, "/", names[index]))
  } else if (is.numeric(x)) {
    if (length(dim(x)) == 2) {
      for (row in seq_len(nrow(x))) show(x[row, ], paste0(path, "/", row - 1))
    } else {
      index <- if (length(x) == 1) "" else paste0("/", seq_along(x) - 1)
      cat(sprintf("%s%s\t%s\n", path, index, ifelse(is.finite(x), sprintf("%a", as.double(x)), x)), sep = "")
    }
  }
}
show(readRDS(commandArgs(trailingOnly = TRUE)[1]), "")
