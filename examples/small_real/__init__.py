# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
