"""The cases of the race: what `wsload` is told, and which of them are shown where."""

GROWTH = (10, 30, 100, 300, 1_000, 3_000, 10_000)


def publishers(clients, window):
    return f"{clients:,} clients, 10 publishers, {window} in flight"


TABLE = {
    publishers(1_000, 10): {"n": 1_000, "p": 10, "w": 10},
    publishers(1_000, 60): {"n": 1_000, "p": 10, "w": 60},
    "100 clients, all publish, 100 in flight": {"n": 0, "p": 100, "w": 100},
    "1,000 clients, all publish, 1,000 in flight": {"n": 0, "p": 1_000, "w": 1_000},
    "100 clients, 10 publishers, 20 of 16 KiB in flight": {"n": 100, "p": 10, "w": 20, "s": 16_384},
    "1,000 clients, one message at a time, 20 a second": {"n": 1_000, "p": 10, "r": 20},
}
PLOT = {publishers(clients, 60): {"n": clients, "p": 10, "w": 60} for clients in GROWTH}
CASES = TABLE | PLOT

BRIEFLY = [
    publishers(1_000, 60),
    "100 clients, all publish, 100 in flight",
    "100 clients, 10 publishers, 20 of 16 KiB in flight",
    "1,000 clients, one message at a time, 20 a second",
]
