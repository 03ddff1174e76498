"""The page of ``esd report``: one HTML file with figures, tables and videos of runs, which needs no network."""
