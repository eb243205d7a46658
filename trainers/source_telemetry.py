# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What a mixture of sources looks like from inside the loss: means per source, distributions of the similarities."""

from collections import defaultdict
from collections.abc import Sequence

import torch


class SourceTelemetry:
    """Row statistics of the batches since the last log, by source.

    Args:
        names: of the sources; they are put before the names of the statistics, as "cifar10/train_i2t_class/loss".
    """

    def __init__(self, names: Sequence[str]):
        self.names = list(names)
        self._sums: dict[str, torch.Tensor] = {}
        self._counts: dict[str, torch.Tensor] = {}
        self._values: dict[str, list[torch.Tensor]] = defaultdict(list)

    def add(self, sources: torch.Tensor, rows: dict[str, torch.Tensor]) -> None:
        """Take in one batch.

        Args:
            sources: (N,) number of each row's source.
            rows: statistics by name, each (N,); a value that is not finite means that the row has none.
        """
        sources = sources.cpu()
        for name, values in rows.items():
            values = values.detach().double().cpu()  # (N,)
            finite = values.isfinite()
            sums = self._sums.setdefault(name, torch.zeros(len(self.names), dtype=torch.double))
            counts = self._counts.setdefault(name, torch.zeros(len(self.names), dtype=torch.double))
            sums.index_add_(0, sources[finite], values[finite])
            counts.index_add_(0, sources[finite], torch.ones(int(finite.sum()), dtype=torch.double))
            if name.endswith("similarity"):
                self._values[name].append(values[finite])

    def take(self) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
        """Means by "source/statistic" and all values of each similarity, since this was asked before."""
        means = {
            f"{source}/{name}": (self._sums[name][index] / self._counts[name][index]).item()
            for name in self._sums
            for index, source in enumerate(self.names)
            if self._counts[name][index]
        }
        values = {name: torch.cat(parts) for name, parts in self._values.items()}
        self._sums, self._counts, self._values = {}, {}, defaultdict(list)
        return means, values
