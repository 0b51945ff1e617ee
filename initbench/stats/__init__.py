"""Statistics of result tables: pure numpy and scipy, no torch."""
