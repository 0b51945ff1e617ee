"""Readers, preprocessing, cache, and batches cut on the device."""
