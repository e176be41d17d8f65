"""What MOSAIC, the R package, does: its random numbers, priors, draws and derivations, bit for bit."""
