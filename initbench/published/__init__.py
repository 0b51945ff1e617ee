"""Published results as data: a TOML file per paper, and what reads it. No torch."""
