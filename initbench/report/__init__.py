"""A study as one HTML file: tables to sort, pictures to look at; no torch, no network."""
