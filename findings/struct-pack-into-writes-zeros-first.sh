#!/usr/bin/env bash
# CPython (seen in 3.8 to 3.13): `struct.pack_into(format, buffer, offset, ...)` fills its part of the buffer with zeros before it
# writes the values. So a state in shared memory (mmap, multiprocessing.shared_memory) that is written with it over and over
# is all zeros for a moment each time, and another process reads a state that nobody wrote; one that loses its core right then
# leaves it for milliseconds. A call that raises (a value out of range) has already destroyed what was there.
# Remedy: one word, stored by `memoryview(buffer).cast("q")[0] = value`, which writes no zeros first.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/write.py" <<'PYTHON'
import mmap
import struct
import sys

with open(sys.argv[1], "r+b") as file:
    memory = mmap.mmap(file.fileno(), 16)
words = memoryview(memory).cast("q")
words[0] = words[1] = 1
print(flush=True)
while True:
    if sys.argv[2] == "pack_into":
        struct.pack_into("=qq", memory, 0, 1, 1)
    else:
        words[0] = 1
        words[1] = 1
PYTHON
cat >"$folder/show.py" <<'PYTHON'
import mmap
import struct
import subprocess
import sys

folder, read = sys.argv[1], {}
for how in ("pack_into", "memoryview"):
    with open(f"{folder}/state", "w+b") as file:
        file.write(bytes(16))
        file.flush()
        memory = mmap.mmap(file.fileno(), 16)
    writer = subprocess.Popen([sys.executable, f"{folder}/write.py", f"{folder}/state", how], stdout=subprocess.PIPE)
    try:
        writer.stdout.readline()
        read[how] = {memory[:] == struct.pack("=qq", 1, 1) for _ in range(1_000_000)}
    finally:
        writer.kill()
        writer.communicate()
kept = bytearray(b"\xff" * 16)
try:
    struct.pack_into("=qq", kept, 0, 1, 2**70)
except struct.error as error:
    print(f"a value out of range: {error}; what was ff..ff is {kept.hex()}")
print(f"Python {sys.version.split()[0]}: only 1, 1 was ever written; was that all that was read? {read}")
right = read == {"pack_into": {True, False}, "memoryview": {True}} and kept == struct.pack("=qq", 1, 0)
sys.exit(0 if right else "the behaviour has changed")
PYTHON
python3.11 "$folder/show.py" "$folder"
