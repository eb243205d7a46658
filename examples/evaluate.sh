#!/usr/bin/env bash
# Evaluate a model on MMEB-form, SugarCrepe and STS files.
#
#   examples/evaluate.sh --model DIR --data FILE_OR_FOLDER... --output DIR
#
# See python -m evaluation.run --help.
set -eu
exec python3 -m evaluation.run "$@"
