#!/usr/bin/env sh
# kir on the command line: optimize a file, check that it means the same, run it.
set -eu
cd "$(dirname "$0")"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
kir optimize kernels/rows.kir -k softmax --target cpu --fast-math reassoc --size R=4096 --size C=4096 -o "$out/softmax.kir"
cat "$out/softmax.kir"
kir check kernels/rows.kir "$out/softmax.kir" -k softmax --fast-math reassoc --examples 30
kir run "$out/softmax.kir" --target cpu --fast-math reassoc --size R=512 --size C=512
