"""Policies: what turns observations into outputs, and how it changes while it acts."""
