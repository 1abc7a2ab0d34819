"""The linker of released wheels, in the place of g++: objects that g++ compiled become a library that runs
with glibc 2.28 and the libstdc++ of GCC 8 (manylinux_2_28).

    LIIF_FAST_RELEASE=1 LIIF_FAST_BUILD=cpu python setup.py bdist_wheel

Zig (the package ziglang) brings what glibc 2.28 exports, so that no later symbol version can come in; of libstdc++ the
machine's own is named and ``old_symbols.cpp`` has what is too new of it. An undefined symbol ends the link;
``auditwheel`` looks at the versions of all that is left (check.py).
"""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

GLIBC = "2.28"


def main(arguments: list[str]) -> None:
    compiler = shlex.split(os.environ.get("CXX", "g++"))
    libraries = [found(compiler, name) for name in ("libstdc++.so", "libgcc_s.so.1")]
    with tempfile.TemporaryDirectory() as folder:
        shim = str(Path(folder, "old_symbols.o"))
        source = str(Path(__file__).with_name("old_symbols.cpp"))
        subprocess.run([*compiler, "-O2", "-fPIC", "-fvisibility=hidden", "-c", source, "-o", shim], check=True)
        target = f"{platform.machine()}-linux-gnu.{GLIBC}"
        zig = [sys.executable, "-m", "ziglang", "cc", "-target", target, "-s", "-Wl,-z,defs"]
        # libraries after what needs them
        done = subprocess.run([*zig, *arguments, shim, *libraries])
    raise SystemExit(done.returncode)


def found(compiler: list[str], name: str) -> str:
    """Where the compiler has a library. By name (-lstdc++) zig would link its own libc++."""
    path = subprocess.run([*compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    if not os.path.isabs(path.stdout.strip()):
        raise SystemExit(f"link: {shlex.join(compiler)} has no {name}: g++ with its libraries is wanted (CXX)")
    return os.path.realpath(path.stdout.strip())


if __name__ == "__main__":
    main(sys.argv[1:])
