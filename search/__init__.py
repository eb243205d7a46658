# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Search of pictures, texts and PDF pages of folders."""

from unime.lazy_names import lazy_names

__getattr__, __all__ = lazy_names(__name__, {"Hit": "search.index", "UniMEIndex": "search.index"})
