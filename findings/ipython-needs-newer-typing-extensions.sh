#!/usr/bin/env bash
# IPython 8.23.0 on Python 3.11: its metadata admits any typing_extensions, and it imports TypeAliasType from it below Python 3.12,
# which came with typing_extensions 4.6.0. Beside a package that holds typing_extensions back (TensorFlow 2.12 wants < 4.6) a
# resolver picks the pair, `pip check` finds nothing wrong, and `import IPython` raises. 8.21.0 imports with the same version.
# Remedy: `ipython<8.22` beside TensorFlow 2.12.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
pip=("$folder/env/bin/pip" --disable-pip-version-check)
for version in 8.21.0 8.23.0; do
    "${pip[@]}" install --quiet "ipython==$version" "typing_extensions==4.5.0"
    "${pip[@]}" check
    found=$("$folder/env/bin/python" -c "import IPython" 2>&1 | tail -1) || true
    echo "IPython $version, typing_extensions 4.5.0, import IPython: ${found:-works}"
    case "$version $found" in
    "8.21.0 ") ;;
    8.23.0*"cannot import name 'TypeAliasType'"*) ;;
    *) echo "the behaviour has changed"; exit 1 ;;
    esac
done
