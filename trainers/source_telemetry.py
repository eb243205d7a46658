# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""What a mixture of sources looks like from inside the loss: means per source, distributions of the similarities."""

from collections import defaultdict
from collections.abc import Sequence

import torch


class SourceTelemetry:
    """Row statistics of the batches since they were last taken, by source."""

    def __init__(self):
        self._sums: dict[tuple[str, str], float] = defaultdict(float)  # by statistic and source
        self._counts: dict[tuple[str, str], int] = defaultdict(int)
        self._values: dict[str, list[torch.Tensor]] = defaultdict(list)

    def add(self, sources: Sequence[str], rows: dict[str, torch.Tensor]) -> None:
        """Take in one batch.

        Args:
            sources: name of the source of each of N rows; put before the statistics' names, as "cifar10/train/loss".
            rows: statistics by name, each (N,); a value that is not finite means that the row has none.
        """
        numbers = {name: number for number, name in enumerate(dict.fromkeys(sources))}
        index = torch.tensor([numbers[name] for name in sources])  # (N,)
        for statistic, values in rows.items():
            values = values.detach().double().cpu()  # (N,)
            finite = values.isfinite()
            sums = torch.zeros(len(numbers), dtype=torch.double).index_add_(0, index[finite], values[finite])
            counts = torch.bincount(index[finite], minlength=len(numbers))
            for name, number in numbers.items():
                self._sums[statistic, name] += sums[number].item()
                self._counts[statistic, name] += int(counts[number])
            if statistic.endswith("similarity"):
                self._values[statistic].append(values[finite])

    def take(self) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
        """Means by "source/statistic" and all values of each similarity, since this was asked before."""
        means = {
            f"{source}/{statistic}": self._sums[statistic, source] / count
            for (statistic, source), count in self._counts.items()
            if count
        }
        values = {name: torch.cat(parts) for name, parts in self._values.items()}
        self.__init__()
        return means, values
