#!/usr/bin/env bash
# Find hard negatives for the rows of stage 2 among all positives.
#
#   examples/mine_negatives.sh --model DIR --data FILE_OR_FOLDER... --output DIR [--judge DIR] [--option value ...]
#
# One process per GPU of this machine (one on a machine without); --nproc_per_node N says otherwise. See
# python -m trainers.mine_negatives --help.
set -eu
exec python3 -m unime.launch mine_negatives "$@"
