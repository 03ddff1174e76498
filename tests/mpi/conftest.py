"""Box2D's wrapper warns while it is imported, and dies if the warning is an error."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    import Box2D  # noqa: F401
