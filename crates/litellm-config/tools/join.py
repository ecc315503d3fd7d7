"""Writes data/known/ from the installed version sets: run the tests once (they install them), then

    python3 crates/litellm-config/tools/join.py target/litellm

A line is a name that all sets know, or a name, a tab and the one set that knows it.
"""

import json
import pathlib
import subprocess
import sys

SETS = ["langfuse-2", "langfuse-3"]
HERE = pathlib.Path(__file__).parent


def harvest(root, name):
    python = pathlib.Path(root, name, "bin", "python")
    return json.loads(subprocess.run([python, HERE / "harvest.py"], check=True, capture_output=True).stdout)


found = {name: harvest(sys.argv[1], name) for name in SETS}
target = HERE.parent / "data" / "known"
target.mkdir(parents=True, exist_ok=True)
for block in found[SETS[0]]:
    knowing = {}
    for name in SETS:
        for word in found[name].get(block, []):
            knowing.setdefault(word, []).append(name)
    lines = [w if len(sets) == len(SETS) else f"{w}\t{sets[0]}" for w, sets in sorted(knowing.items())]
    (target / f"{block}.txt").write_text("".join(f"{line}\n" for line in lines))
