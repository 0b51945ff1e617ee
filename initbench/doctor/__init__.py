"""Whether this machine and installation are fit for benchmark runs."""
