#!/usr/bin/env bash
# Piece 1 of 4, DATA STATE OUT as of train.sh: speed against the reference implementation, batch size and learning rate, SRCNN.
exec "$(dirname "$0")/train.sh" "${@:?DATA STATE OUT are wanted}" throughput sweep srcnn:1
