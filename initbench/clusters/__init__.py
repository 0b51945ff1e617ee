"""Jobs of a cluster that work on a study."""
