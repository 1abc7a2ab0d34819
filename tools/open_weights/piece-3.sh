#!/usr/bin/env bash
# Piece 3 of 4, DATA STATE OUT as of train.sh: the second half of LIIF.
set -eu
exec "$(dirname "$0")/train.sh" "$1" "$2" "$3" liif:7
