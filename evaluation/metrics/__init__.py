# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Metrics as modules of `evaluate`, one in each folder: `evaluate.load("evaluation/metrics/precision_at_1")`."""
