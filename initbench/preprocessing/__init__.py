"""From a case to a cached volume, and the way back."""
