"""Compare servers before one upstream, each alone on one core; the harness has the other.

    python -m bench.peers                       us and the Rust server: three runs, medians
    python -m bench.peers --quick               one short run, under a minute
    python -m bench.peers --peers trialogue     only us
    python -m bench.peers --json figures.json   the figures, too
    python -m bench.peers --only kept           the scenarios whose names have the word

Peers are installed from PyPI, each in an environment of its own, when they are first needed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import uvloop

from bench.peers.scenarios import SCENARIOS, Figures, Scenario
from bench.peers.servers import HARNESS, PEERS, Peer, running, upstream

Table = dict[str, dict[str, Figures]]


async def measure(
    peers: Sequence[Peer], scenarios: Sequence[Scenario], seconds: float, apis: Sequence[str]
) -> Table:
    """Return the figures of one run: by server, by scenario."""
    found: Table = {}
    async with upstream() as url:
        found["upstream"] = {
            one.name: await one.alone(url, seconds) for one in scenarios if not one.kept
        }
        for peer in peers:
            with tempfile.TemporaryDirectory() as folder:
                async with running(peer, url, Path(folder)) as server:
                    own: dict[str, Figures] = {
                        "at rest": {"MiB": server.memory / (1 << 20), "start s": server.started}
                    }
                    found[peer.name] = own
                    for one in scenarios:
                        if one.kept and peer.kept is None:
                            continue
                        print(f"{peer.name}: {one.name}", file=sys.stderr, flush=True)
                        own[one.name] = await one.run(server, peer.kept, seconds)
                        for api in apis if one.kept and peer.kept == "ask" else ():
                            found.setdefault(f"{peer.name} /v1/{api}", {})[
                                one.name
                            ] = await one.run(server, api, seconds)
    return found


def medians(tables: Sequence[Table]) -> Table:
    """Return the median of each figure."""
    first = tables[0]
    return {
        server: {
            scenario: {
                figure: statistics.median(one[server][scenario][figure] for one in tables)
                for figure in figures
            }
            for scenario, figures in scenarios.items()
        }
        for server, scenarios in first.items()
    }


def show(table: Table) -> None:
    """Print a table a scenario: a row a server, and what we are to the Rust server."""
    names = dict.fromkeys(name for scenarios in table.values() for name in scenarios)
    for name in names:
        rows = {server: found[name] for server, found in table.items() if name in found}
        figures = list(dict.fromkeys(key for row in rows.values() for key in row))
        print(f"\n{name}\n  {'':24}" + "".join(f"{figure:>14}" for figure in figures))
        for server, row in rows.items():
            print(f"  {server:24}" + _cells(row, figures))
        if "trialogue" in rows and "agentic" in rows:
            ratios = _ratios(rows["trialogue"], rows["agentic"])
            print(f"  {'trialogue / agentic':24}" + _cells(ratios, figures))


def _ratios(ours: Figures, theirs: Figures) -> Figures:
    return {key: ours[key] / theirs[key] for key in ours if theirs.get(key)}


def _cells(row: Mapping[str, float], figures: Sequence[str]) -> str:
    return "".join(f"{row[one]:14,.3g}" if one in row else " " * 14 for one in figures)


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.peers",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=["trialogue", "agentic"])
    parser.add_argument("--only", default="", help="scenarios whose names have this word")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each scenario")
    parser.add_argument("--quick", action="store_true", help="one run of two seconds each")
    parser.add_argument("--responses", action="store_true", help="our turns by /v1/responses, too")
    parser.add_argument("--json", type=Path, help="where the figures of all runs are written")
    said = parser.parse_args()
    runs, seconds = (1, 2.0) if said.quick else (said.runs, said.seconds)
    chosen = [one for one in SCENARIOS if said.only in one.name]
    apis = ["responses"] if said.responses else []
    os.sched_setaffinity(0, {HARNESS})
    peers = [PEERS[name] for name in said.peers]
    tables = [uvloop.run(measure(peers, chosen, seconds, apis)) for _ in range(runs)]
    show(medians(tables))
    if said.json:
        said.json.write_text(json.dumps(tables, indent=1))


if __name__ == "__main__":
    main()
