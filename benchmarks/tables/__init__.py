"""The tables of pages in docs, made from kept results; one file per kind of measurement."""
