"""``python tests/hostile/run.py --cases 1000 --seed 0``: hostile runs, what did not hold, and how to do it again."""

from __future__ import annotations

import argparse
import collections
import os
import shutil
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1] / "helpers")]

import hostile_cases as cases  # noqa: E402
import identity_model  # noqa: E402
import properties  # noqa: E402
import training_files  # noqa: E402
from forkserver import Client, Request  # noqa: E402


@dataclass
class Failure:
    """What did not hold in one case."""

    seed: int
    index: int
    case: cases.Case
    found: list[str]
    stderr: str

    def __str__(self) -> str:
        argv = " ".join(map(repr, self.case.argv))[:600]
        lines = [f"case {self.index} ({self.case.kind[:200]}): {'; '.join(self.found)[:1500]}", f"  liif-fast {argv}"]
        lines.append(f"  stderr: {self.stderr[-400:]!r}")
        lines.append(f"  again: make hostile SEED={self.seed} ONLY={self.index}")
        return "\n".join(lines)


class Runner:
    """Runs cases one after the other in a server of its own. ``keep``: leave the folder of a case that failed."""

    def __init__(self, common: Path, keep: bool = False) -> None:
        self.common, self.keep = common, keep
        empty = {"LIIF_FAST_CACHE": str(common / "cache"), "PIP_NO_INDEX": "1"}  # a name's weights are never fetched
        self.client = Client(empty)

    def run(self, seed: int, index: int) -> Failure | None:
        root = Path(tempfile.mkdtemp(prefix=f"case{index}-", dir=self.common))
        folder = root / "work"
        folder.mkdir()
        case = cases.make(seed, index, folder, self.common, root / "canary")
        found, stderr = self.judge(case, root)
        if not found:
            shutil.rmtree(root, ignore_errors=True)
            return None
        if self.keep:
            print(f"its files: {root}")
        else:
            shutil.rmtree(root, ignore_errors=True)
        return Failure(seed, index, case, found, stderr)

    def judge(self, case: cases.Case, root: Path, **options: object) -> tuple[list[str], str]:
        """What does not hold, and the text on standard error."""
        folder, canary = root / "work", root / "canary"
        stderr, found, argv, made = "", [], case.argv, case.made
        while argv is not None and not found:
            before = properties.digests(folder)
            out, err = (str(root / name) for name in ("stdout", "stderr"))
            for name in (out, err):
                Path(name).write_bytes(b"")
            request = Request(argv=argv, cwd=str(folder), stdout=out, stderr=err, encoding=case.encoding, **options)
            outcome = self.client.run(request)
            found = properties.of_outcome(outcome)
            facts = {"kind": case.kind, "code": outcome.code, "command": argv[0] if argv else "", "files": case.files}
            facts |= {
                "stdout": out,
                "stderr": err,
                "folder": str(folder),
                "digests": before,
                "made": made,
                "canary": str(canary),
            }
            facts["pairs"] = case.pairs
            if not outcome.killed:
                answer = self.client.call("properties:check", facts, root, cpu=20.0, resident=2 << 30)
                found += [answer] if isinstance(answer, str) else answer
            stderr = Path(err).read_bytes()[:100_000].decode("utf-8", "replace")
            again, argv = argv is case.then, case.then if outcome.code == 0 and argv is not case.then else None
            if again and outcome.code != 0 and not found:
                found.append("--dry-run said that it is in order")
            made = [*case.made, "run"]
        return found, stderr

    def close(self) -> None:
        self.client.close()


def prepare(common: Path) -> Path:
    """The files that all cases share."""
    identity_model.write_identity(common / cases.MODEL)
    training_files.make_images(common / cases.IMAGES)
    (common / "cache").mkdir()
    return common


def run(indices: list[int], seed: int, jobs: int = 2, keep: bool = False) -> list[Failure]:
    """Cases in so many servers; what failed, in order."""
    failures: list[Failure] = []
    broken: list[BaseException] = []
    left = collections.deque(indices)
    common = prepare(Path(tempfile.mkdtemp(prefix="hostile-")))

    def work() -> None:
        try:
            runner = Runner(common, keep)
            while True:
                try:
                    index = left.popleft()
                except IndexError:
                    break
                failure = runner.run(seed, index)
                if failure is not None:
                    print(failure, flush=True)
                    failures.append(failure)
            runner.close()
        except BaseException as error:
            broken.append(error)

    threads = [threading.Thread(target=work) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not keep:
        shutil.rmtree(common, ignore_errors=True)
    if broken:
        raise broken[0]
    return sorted(failures, key=lambda f: f.index)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="this case alone; its files are kept")
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1))
    args = parser.parse_args()
    start = time.monotonic()
    indices = list(range(args.cases)) if args.only is None else [args.only]
    failures = run(indices, args.seed, 1 if args.only is not None else args.jobs, keep=args.only is not None)
    print(
        f"{len(indices)} hostile cases in {time.monotonic() - start:.0f} s, {len(failures)} failed (seed {args.seed})"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
