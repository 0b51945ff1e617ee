"""Tools that use runs or networks, and make none of the tables."""
