"""Volumes on the device, and the patches cut from them."""
