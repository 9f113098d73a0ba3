"""Reads an LMDB database from end to end, as a script of its own process: python -I lmdb_probe.py FILE

The lmdb library maps the file and trusts it: a cut or damaged file kills the process (SIGBUS, SIGSEGV) instead of
raising. What this process survives is safe to read elsewhere. Imports nothing of vlx, so that it starts at once.
"""

import resource
import sys

import lmdb


def main(path: str) -> str | None:
    """What is wrong with the database; None: nothing."""
    previous = b""
    count = 0
    with lmdb.open(path, subdir=False, readonly=True, lock=False) as database, database.begin(buffers=True) as reader:
        expected = database.stat()["entries"]
        for key, value in reader.cursor():
            name = bytes(key)
            bytes(value[:1])
            bytes(value[-1:])  # both ends of the value are in the file
            if name <= previous or reader.get(name) is None:
                return f"key {name!a} is out of order"
            previous = name
            count += 1
    return None if count == expected else f"found {count:,} entries, expected {expected:,}"


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash leaves no core file
    sys.exit(main(sys.argv[1]))
