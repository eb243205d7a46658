# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Speed and memory, side by side with what people would use instead; each program writes a result file."""
