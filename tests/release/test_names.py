"""Names that the served models have for themselves: refused in recipes, by the writer, by the loader and for Triton."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ensemble.layouts import MODELS
from ensemble.serving.errors import InvalidRelease
from ensemble.serving.files.release import Release
from ensemble.serving.names import RESERVED
from ensemble.serving.triton.steps import Step, Steps, steps_of
from ensemble.triton.model_config import model_configs
from retrieval.recipes.recipe import load_recipe
from tests.hostile import made_right
from tests.synthetic import Run, make_release, make_run
from workflows.errors import RecipeError, ReleaseError

TABLES = 'interactions = {{ path = "clicks.csv" }}\nusers = {{ path = "users.csv" }}'
RECIPE = f"""
name = "names"
[data]
source = "tables"
{TABLES}
[query.features]
user_id = {{{{ kind = "categorical" }}}}
{{query}}
[item.features]
item_id = {{{{ kind = "categorical" }}}}
{{item}}
"""
UNFIT = (
    "größe",
    "a/b",
    "../x",
    "a.b",
    "step:vector",
    "tab\tor",
    " age",
    "",
    "x" * 129,
    "list__values",
    "list__offsets",
)
"""What no input of a served model may be called: Triton, files or Merlin cannot have it."""
FINE = ("age", "Age", "AGE", "1st", "_vector", "Identity", "top-k", "vectors", "age in years", "timestamp", "rating")


def load(tmp_path: Path, query: str = "", item: str = "") -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(query=query, item=item), encoding="utf-8")
    load_recipe(path)


@pytest.mark.parametrize("name", [*sorted(RESERVED), *UNFIT])
def test_a_recipe_with_such_a_query_column_or_feature_is_refused_when_it_is_read(name: str, tmp_path: Path) -> None:
    key = json.dumps(name)
    columns = {
        f'{key} = {{ kind = "continuous" }}': "rename it: data.users.columns",
        f'{key} = [{{ kind = "continuous", name = "a" }}, {{ kind = "bucketized", name = "b" }}]': "rename it",
        f'pair = {{ kind = "cross", of = ["gender", {key}] }}': "rename it",
        f'born = {{ kind = "age", until = {key} }}': "rename it",
    }
    if name in RESERVED:
        columns[f'age = {{ kind = "continuous", name = {key} }}'] = 'name = "..."'
        columns[f'{key} = {{ kind = "cross", of = ["age", "gender"] }}'] = 'name = "..."'
    for line, remedy in columns.items():
        with pytest.raises(RecipeError) as refused:
            load(tmp_path, line)
        assert "recipe.toml: [query.features]" in str(refused.value)
        assert remedy in str(refused.value)


def test_other_names_are_the_users_to_give(tmp_path: Path) -> None:
    """The items' columns are no inputs: of them only the towers' own output is taken."""
    names = [name for name in (*sorted(RESERVED), *FINE) if name not in ("vector", "item_id", "age in years")]
    for name in FINE:
        load(tmp_path, f'"{name}" = {{ kind = "bucketized", name = "feature" }}')
    for name in names:
        load(tmp_path, item=f'{name} = {{ kind = "continuous" }}')
    with pytest.raises(RecipeError, match=r"\[item.features\] vector: .*'vector'.*the next"):
        load(tmp_path, item='vector = { kind = "embedding" }')


@pytest.fixture(scope="module")
def ranked(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = make_run(tmp_path_factory.mktemp("names"), last=5)
    make_release(run, ranks=True)
    return run


def models_of(steps: Steps) -> Iterator[Step]:
    assert steps.rank is not None
    yield from (steps.transform, steps.tower, steps.search, steps.rank)
    yield Step(steps.request, [])


@pytest.mark.parametrize("platform", ["python", "onnxruntime"])
def test_the_list_has_every_name_that_is_ours(platform: str, ranked: Run) -> None:
    release = Release.open(ranked.path / "release")
    release.manifest["serving"]["tower_platform"] = platform  # type: ignore[index]
    stated = release.json("query/transform.json")
    theirs = {column["name"] for column in (*stated["inputs"], *stated["outputs"])}
    names = {tensor.name for step in models_of(steps_of(release)) for tensor in (*step.inputs, *step.outputs)}
    assert names - theirs <= RESERVED
    assert names >= {"features" if platform == "python" else "occupation", "vector", "candidates", "top_k"}


@pytest.mark.parametrize("kind", ["inputs", "outputs"])
@pytest.mark.parametrize("name", ["top_k", "filter", "vector", "user_row", "score", "item_id", "größe", "user_id"])
def test_the_writer_the_loader_and_tritons_configuration_refuse_them(
    name: str, kind: str, ranked: Run, tmp_path: Path
) -> None:
    """`user_id` is doubled where `age` is called so."""
    shutil.copytree(ranked.path, tmp_path, dirs_exist_ok=True)
    for place in ("features/query_transform/transform.json", "release/query/transform.json"):
        stated = json.loads((tmp_path / place).read_text())
        renamed = {"inputs": "input", "outputs": "output"}[kind]
        for entry in (*stated[kind], *stated["steps"]):
            key = "name" if "name" in entry else renamed
            entry[key] = name if entry[key] == "age" else entry[key]
        (tmp_path / place).write_text(json.dumps(stated))
    made_right(tmp_path / "release")
    with pytest.raises(InvalidRelease, match=r"transform\.json"):
        Release.open(tmp_path / "release")
    broken = Release(tmp_path / "release", Release.open(ranked.path / "release").manifest)
    for layout in ("fused", "chained"):
        with pytest.raises(InvalidRelease, match=r"transform\.json"):
            model_configs(broken, MODELS[layout], 1)
    shutil.rmtree(tmp_path / "release")
    with pytest.raises(ReleaseError):
        make_release(replace(ranked, path=tmp_path), ranks=True)
    assert not (tmp_path / "release").exists()
