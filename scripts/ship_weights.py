"""Puts the network of a workdir among those that come with linlatent.

    python scripts/ship_weights.py WORKDIR NAME

It writes ``linlatent/weights/NAME/params.npz`` and ``config.json``; what the network was trained on
and where it fails, ``linlatent/weights/README.md`` has to say.
"""

import sys

import linlatent
from linlatent import config as configuration
from linlatent import shipped
from linlatent.data import SOURCES


def main(workdir: str, name: str) -> None:
    """Copies the best checkpoint of a workdir."""
    params, config, step = linlatent.load(workdir)
    config.init_from = None  # A folder of this machine; the README says where it came from.
    for source in SOURCES:
        for field in ("data_dir", "manual_dir", "path"):
            if field in config.data[source]:
                config.data[source][field] = None
    shipped.write(name, params, step)
    configuration.write(config, shipped.folder(name))
    print(shipped.folder(name))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python scripts/ship_weights.py WORKDIR NAME")
    main(*sys.argv[1:])
