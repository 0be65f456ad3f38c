# Sourced by the scripts that test in environments with an image's versions. $target names the make target in messages.
uv=.venv/bin/uv

# find VERSION: that Python, on PATH or in pyenv's directory.
find_python() {
    local candidate
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/"python$1"; do
        if "$candidate" -c 'import venv' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    echo "$target: Python $1 is needed, on PATH or in pyenv's directory, and was not found" >&2
    exit 1
}

# create FOLDER VERSION LOCK...: an environment with what the locks say, made again when they change.
create() {
    local folder=$1 python stamp locks=()
    python=$(find_python "$2")
    for lock in "${@:3}"; do locks+=(-r "$lock"); done
    stamp=$("$python" -V)-$(cat "${@:3}" | sha256sum | cut -c1-16)
    if [ "$(cat "$folder/.stamp" 2>/dev/null)" != "$stamp" ]; then
        echo "$target: making $folder" >&2
        rm -rf "$folder"
        "$uv" venv --quiet --seed --python "$python" "$folder"
        "$uv" pip install --quiet --python "$folder/bin/python" --require-hashes "${locks[@]}"
        echo "$stamp" >"$folder/.stamp"
    fi
}

# resolved FOLDER VERSION RESOLUTION: an environment with the lowest-direct or highest versions that pyproject.toml admits
# for the client and the serving code, and beside them what the tests need.
resolved() {
    local folder=$1 python pins=build/$1.txt
    python=$(find_python "$2")
    mkdir -p build
    "$uv" pip compile --quiet --no-header --no-annotate --resolution "$3" --python "$python" --extra serve pyproject.toml \
        -o "$pins"
    if ! cmp -s "$pins" "$folder/.pins"; then
        echo "$target: making $folder" >&2
        rm -rf "$folder"
        "$uv" venv --quiet --python "$python" "$folder"
        "$uv" pip install --quiet --python "$folder/bin/python" -c "$pins" -r "$pins" -r containers/tests.in
        cp "$pins" "$folder/.pins"
    fi
}
