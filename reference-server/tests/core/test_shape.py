"""The compiler of schemas: what it does not know it refuses to compile."""

from __future__ import annotations

import pytest

from fractal_lba_server.core.shape import compile_schema


def test_a_keyword_that_is_not_compiled_is_refused() -> None:
    with pytest.raises(ValueError, match="uniqueItems"):
        compile_schema({"type": "array", "uniqueItems": True})
