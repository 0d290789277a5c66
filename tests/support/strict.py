"""Python in a process of its own, in which warnings are errors, as in the tests themselves."""

import sys

STRICT_PYTHON = [sys.executable, "-W", "error", "-W", "ignore:Setting the shape on a NumPy array:DeprecationWarning"]
"""but for what dm_control 1.0.50 does on NumPy 2.5"""
