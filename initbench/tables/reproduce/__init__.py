"""Published tables beside what was measured."""
