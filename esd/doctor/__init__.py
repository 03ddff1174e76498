"""Examines machines and environments, and measures them."""
