"""From a request to a recorded run."""
