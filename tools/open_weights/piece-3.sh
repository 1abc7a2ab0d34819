#!/usr/bin/env bash
# Piece 3 of 4, DATA STATE OUT as of train.sh: the second half of LIIF.
exec "$(dirname "$0")/train.sh" "${@:?DATA STATE OUT are wanted}" liif:7
