"""What a run is: settings, their checks, TOML files and shipped experiments."""
