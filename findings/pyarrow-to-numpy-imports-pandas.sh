#!/usr/bin/env bash
# pyarrow 15.0.2: `to_numpy()` of an array, which is NumPy's business alone, imports pandas where that is installed, and so do
# `pa.array` of a list, `import pyarrow.dataset` and with it `pyarrow.parquet.read_table`. A command that only reads numbers waits
# for pandas, some .4 s. `import pyarrow.parquet`, `ParquetFile(...).read()` and `to_pylist()` do not import it.
# Remedy where start-up counts: ParquetFile, and `np.frombuffer` over `array.buffers()[1]` for arrays without nulls.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pyarrow==15.0.2 pandas==1.5.3 numpy==1.24.4
"$folder/env/bin/python" -c "
import pyarrow as pa, pyarrow.parquet as pq
pq.write_table(pa.table({'n': [1, 2]}), '$folder/n.parquet')"
found=""
for line in "column.to_numpy()" "pa.array([1])" "import pyarrow.dataset" "pq.read_table('n.parquet')" "column.to_pylist()"; do
    imported=$(cd "$folder" && "$folder/env/bin/python" -c "
import sys
import pyarrow as pa
import pyarrow.parquet as pq
column = pq.ParquetFile('n.parquet').read().column(0).combine_chunks()
assert 'pandas' not in sys.modules
$line
print('pandas' in sys.modules)")
    echo "pyarrow 15.0.2, pandas imported by $line: $imported"
    found+="$imported "
done
[ "$found" = "True True True True False " ] || { echo "the behaviour has changed"; exit 1; }
