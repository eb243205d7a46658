# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""UniME: what training, mining, evaluation and release share, and the console script."""
