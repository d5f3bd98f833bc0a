"""How fast linlatent is beside PyTorch and beside plain linen, on one machine in one run.

    make bench                                    # the full network, into benchmarks/results.*
    .venv-bench/bin/python -m benchmarks --quick  # a narrow one in minutes, into build/bench-quick

`plan` says what is measured. Every competitor runs in a process of its own (`worker`), so that its
peak memory is its own; `measure` lets them take turns, one repeat each, so that whatever else the
machine does hits all alike. `report` makes ratios, a table and a plot of it. The competitors are
`ours`, `torch_model` and `linen_model`. Linux only: memory is read from /proc.
"""
