# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Training data: text for stage 1 (`texts`), query-positive-negatives rows for stage 2 (`mmeb`, `pairs`)."""
