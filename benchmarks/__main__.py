"""``python -m benchmarks [group …]``: prints one Markdown table."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from . import cache, growth, kv, peers, serving, startup
from .measure import Result

GROUPS = {
    "kv": kv.run,
    "cache": cache.run,
    "http": serving.run,
    "startup": startup.run,
    "growth": growth.run,
}


def main(chosen: list[str]) -> int:
    unknown = set(chosen) - GROUPS.keys() - {"peers"}
    if unknown:
        print(f"no group {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}, peers")
        return 2
    missed = 0
    print("| work | floor | ours | ratio | must reach | |\n|---|---:|---:|---:|---:|---|")
    for name, run in GROUPS.items():
        if not chosen or name in chosen:
            for result in _results(run()):
                missed += not result.met
    if not chosen or "peers" in chosen:
        print("\n| peer | work | a second |\n|---|---|---:|")
        for peer, work, found in peers.run():
            print(f"| {peer} | {work} | {'' if found is None else f'{found:,.0f}'} |")
    return 1 if missed else 0


def _results(results: Iterator[Result]) -> Iterator[Result]:
    for result in results:
        small = result.is_cost
        floor, ours = (
            f"{value:,.3g}{result.unit}" if small else f"{value:,.0f}{result.unit}"
            for value in (result.floor, result.ours)
        )
        bar = f"≤ {result.bar:g}" if small else f"{result.bar:g}"
        verdict = "met" if result.met else "**missed**"
        print(f"| {result.work} | {floor} | {ours} | {result.ratio:.2f} | {bar} | {verdict} |")
        sys.stdout.flush()
        yield result


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
