# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""A Gradio Space that searches the pictures in `pictures/` with the model that the variable MODEL names.

The index is made when the Space starts.
"""

import os

from search import UniMEIndex
from search.page import launch, make_page


def main() -> None:
    """Bring the index up to date and show the page."""
    index = UniMEIndex("index", os.environ.get("MODEL"), trust_remote_code=os.environ.get("TRUST_REMOTE_CODE") == "1")
    index.add("pictures")
    launch(make_page({os.environ.get("TITLE", "pictures"): index}), "0.0.0.0", int(os.environ.get("PORT", 7860)))


if __name__ == "__main__":
    main()
