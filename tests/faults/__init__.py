"""Programs that break runs on purpose, again and again, and count what becomes of them."""
