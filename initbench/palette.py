"""Colours of classes and inits, which pictures of runs and reports share."""

from __future__ import annotations

# Okabe and Ito: told apart with every common colour vision, and in grey by their order of lightness.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
