#!/usr/bin/env bash
# Piece 4 of 4, DATA STATE OUT as of train.sh: SRResNet, SRGAN from it, and what may be left of LIIF.
set -eu
exec "$(dirname "$0")/train.sh" "$1" "$2" "$3" srresnet:3.5 srgan:1.5 liif:1
