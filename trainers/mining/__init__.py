# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Offline mining of hard negatives: what is searched (`pool`), how (`search`), what is kept (`selection`, `judge`)."""
