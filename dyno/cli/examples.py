"""What `dyno COMMAND --help` shows at its end: lines to copy.

Every line is a command line that is right as it stands, up to the names and addresses in it; none is wider
than a narrow terminal.
"""

from __future__ import annotations

from typing import Final

EXAMPLES: Final[dict[str, tuple[str, ...]]] = {
    "node": (
        "dyno node --name n1 --listen 127.0.0.1:7101 --data ./n1",
        "dyno node --name n2 --listen 127.0.0.1:7102 --data ./n2 \\",
        "    --join 127.0.0.1:7101",
        "dyno node --config n3.toml --log-level debug",
    ),
    "cluster": (
        "dyno cluster",
        "dyno cluster --nodes 5 --base-port 8101 --data /tmp/five",
    ),
    "put": (
        "dyno put fruit apple red",
        "dyno put fruit apple green --overwrite",
        "dyno put scores alice -5 -w all",
        "dyno put photos cat.jpg - < cat.jpg",
    ),
    "get": (
        "dyno get fruit apple",
        "dyno get fruit apple -r all --json",
        "dyno get photos cat.jpg > cat.jpg",
    ),
    "delete": (
        "dyno delete fruit apple",
        "dyno delete fruit apple --context TOKEN",
    ),
    "keys": (
        "dyno keys fruit",
        "dyno keys fruit --json | head",
    ),
    "status": (
        "dyno status",
        "dyno status --json --node 127.0.0.1:7102",
        "dyno status --wait-drained",
    ),
    "explain": (
        "dyno explain fruit apple",
        "dyno explain fruit apple --json",
    ),
    "repair": (
        "dyno repair",
        "dyno repair ledger --json",
        "dyno repair --quarantine",
    ),
    "bucket create": (
        "dyno bucket create sessions -n 2 -r one -w one",
        "dyno bucket create ledger -n 5 -w all",
    ),
    "bucket list": ("dyno bucket list",),
    "bench": (
        "dyno bench",
        "dyno bench --workload b --clients 256 --seconds 30",
    ),
    "simulate": (
        "dyno simulate",
        "dyno simulate --seed 7 --story plain/k0",
        "dyno simulate --seeds 100 --hours 0.02 --nodes 3",
    ),
}
