"""What bodies hold before anybody has looked at them."""

from typing import Any, TypeAlias

Json: TypeAlias = Any
"""Any JSON value. Not a closed type: whoever takes one looks at what it is."""
