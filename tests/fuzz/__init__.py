"""What inputs that nobody thought of do to the wire, found by a fuzzer that follows the coverage.

- `targets`: what is done with an input, and what has to hold
- `virtual`: an event loop and sockets without a system below them
- `corpus`: inputs to begin with, and those that once failed; `test_corpus` replays them
- `seeds`: how the first of them were made
- `worker`: one target in one process
"""
