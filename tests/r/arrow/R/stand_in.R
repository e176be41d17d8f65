tables <- new.env()

# STAND_IN_TABLES is a JSON file: file name to columns, each a list of numbers, null for a missing one.
read_parquet <- function(file) {
  if (is.null(tables$known)) {
    tables$known <- jsonlite::fromJSON(Sys.getenv("STAND_IN_TABLES"), simplifyVector = FALSE)
  }
  columns <- tables$known[[basename(file)]]
  as_doubles <- function(column) vapply(column, function(x) if (is.null(x)) NA_real_ else as.numeric(x), numeric(1))
  as.data.frame(lapply(columns, as_doubles), check.names = FALSE)
}
