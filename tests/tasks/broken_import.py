"""A module that cannot be imported."""

raise RuntimeError("no part of it works")
