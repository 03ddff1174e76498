"""Runs taken elsewhere: one file in the format of the program that is to read it."""
