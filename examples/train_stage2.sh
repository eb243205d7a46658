#!/usr/bin/env bash
# Stage 2: contrastive instruction tuning with false-negative filtering and hard negatives.
#
#   examples/train_stage2.sh RECIPE.yaml [--option value ...]
#
# One process per GPU of this machine (one on a machine without), or as many as the recipe's expected_world_size says.
# Several machines: add --nnodes M --node_rank R --master_addr HOST on each. See python -m trainers.train_stage2 --help.
set -eu
exec python3 -m unime.launch train_stage2 "$@"
