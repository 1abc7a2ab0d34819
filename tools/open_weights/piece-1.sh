#!/usr/bin/env bash
# Piece 1 of 4, DATA STATE OUT as of train.sh: speed against the reference implementation, batch size and learning rate, SRCNN.
set -eu
exec "$(dirname "$0")/train.sh" "$1" "$2" "$3" throughput sweep srcnn:1
