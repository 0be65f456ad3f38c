"""A server that verifies serves nothing but what the key signed, data and code alike."""

from __future__ import annotations

import compileall
import json
import shutil
import stat
import threading
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from ensemble.client import RetrievalClient
from ensemble.deploy.swap import deploy
from ensemble.release.sign import new_keys, open_signed, sign
from ensemble.release.verify import admits, check_repository, trust
from ensemble.server.ports import free_ports
from ensemble.server.server import TritonServer
from ensemble.serving.files.release import manifest_text, release_id
from ensemble.supervision.events import Event
from ensemble.supervision.health import canary
from ensemble.supervision.supervisor import Supervisor
from ensemble.triton.export import export_repository
from retrieval.cli import app
from tests.synthetic import make_release, make_run
from tests.waiting import until
from workflows.errors import ReleaseError, ServerError


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A private key, and its public one."""
    folder = tmp_path_factory.mktemp("keys")
    new_keys(folder / "key.pem", folder / "key.pub.pem")
    return folder / "key.pem", folder / "key.pub.pem"


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's directory with a release and its repository of both layouts, not signed. Do not write to it."""
    run = make_run(tmp_path_factory.mktemp("made") / "run")
    export_repository(make_release(run), run.path / "triton", "both")
    return run.path


@pytest.fixture
def signed(exported: Path, keys: tuple[Path, Path], tmp_path: Path) -> Path:
    """A copy of one's own, signed on the command line."""
    for part in ("release", "triton"):
        shutil.copytree(exported / part, tmp_path / "run" / part)
    done = CliRunner().invoke(app, ["sign", str(tmp_path / "run"), "--key", str(keys[0])])
    assert done.exit_code == 0, done.output
    return tmp_path / "run"


def invoke(*arguments: object) -> tuple[int, str]:
    """Run a command; return its exit code and what it said beside the result."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.output


def test_a_signed_release_is_verified_with_its_key_and_with_no_other(
    signed: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    release = signed / "release"
    assert open_signed(release, keys[1]).manifest["counts"]["items"] == 300
    assert invoke("keys", tmp_path / "other")[0] == 0
    assert stat.S_IMODE((tmp_path / "other.pem").stat().st_mode) == 0o600
    other_key = tmp_path / "other.pub.pem"
    with pytest.raises(ReleaseError, match=r"manifest\.sig: is no signature"):
        open_signed(release, other_key)
    both_keys = tmp_path / "both.pem"  # while keys are exchanged
    both_keys.write_bytes(other_key.read_bytes() + keys[1].read_bytes())
    assert open_signed(release, both_keys)
    assert invoke("keys", tmp_path / "other")[0] == 2  # a key is not written over


def test_a_release_whose_manifest_was_made_right_again_is_refused(signed: Path, keys: tuple[Path, Path]) -> None:
    """Who can write the manifest can make every hash right, but not the signature."""
    place = signed / "release/manifest.json"
    manifest = json.loads(place.read_text())
    manifest["serving"]["top_k"] = 11
    manifest["release"] = release_id(manifest)
    place.write_text(manifest_text(manifest))
    with pytest.raises(ReleaseError, match=r"manifest\.sig"):
        open_signed(signed / "release", keys[1])


@pytest.mark.parametrize("what", ["cut", "longer", "missing", "linked"])
def test_a_signature_that_is_none_is_refused(signed: Path, keys: tuple[Path, Path], what: str) -> None:
    place = signed / "release/manifest.sig"
    content = place.read_bytes()
    place.unlink()
    if what == "linked":
        place.symlink_to(signed / "triton/retrieval/1/release/manifest.sig")
    elif what != "missing":
        place.write_bytes(content[:-1] if what == "cut" else content + b"\0")
    with pytest.raises(ReleaseError, match=r"manifest\.sig"):
        open_signed(signed / "release", keys[1])


def test_keys_that_are_none_are_refused_with_the_remedy(signed: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    ec_key = generate_private_key(SECP256R1())
    private, public = tmp_path / "ec.pem", tmp_path / "ec.pub.pem"
    private.write_bytes(ec_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(ec_key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    for key, message in ((public, "Ed25519"), (keys[0], "is a private key"), (tmp_path / "none.pem", "no key there")):
        with pytest.raises(ReleaseError, match=message):
            open_signed(signed / "release", key)
    for key, message in ((private, "Ed25519"), (keys[1], "not a private key")):
        with pytest.raises(ReleaseError, match=message):
            sign(signed / "release", key)


def test_a_damaged_release_is_not_signed(exported: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    release = Path(shutil.copytree(exported / "release", tmp_path / "release"))
    (release / "items/ids.npy").write_bytes(b"")
    with pytest.raises(ReleaseError, match=r"items/ids\.npy"):
        sign(release, keys[0])
    assert not (release / "manifest.sig").exists()


def test_a_repository_as_it_was_exported_and_signed_is_taken(signed: Path, keys: tuple[Path, Path]) -> None:
    (release,) = check_repository(signed / "triton", keys[1])
    assert release.manifest == open_signed(signed / "release", keys[1]).manifest


def test_an_older_signed_release_is_refused_where_a_time_is_given(signed: Path, keys: tuple[Path, Path]) -> None:
    """It is signed as well, and anyone who can exchange files could bring it back."""
    created = str(open_signed(signed / "release", keys[1]).manifest["created"])
    year = int(created[:4])
    later, earlier = created.replace(str(year), str(year + 1)), created.replace(str(year), str(year - 1))
    for least, expected in ((earlier, 0), (created, 0), (later, 2)):
        code, text = invoke("verify", signed, "--key", keys[1], "--at-least", least)
        assert (code, "before" in text) == (expected, expected == 2), text
    assert invoke("verify", signed, "--key", keys[1], "--at-least", "yesterday")[0] == 2
    with pytest.raises(ReleaseError, match="--at-least"):
        TritonServer(signed / "triton", verify=keys[1], at_least=later).start()
    check_repository(signed / "triton", keys[1], created)
    trust(signed / "triton", 8001, keys[1], later)
    with pytest.raises(ReleaseError, match="to go back on purpose"):  # what `promote` and `rollback` ask
        deploy(signed / "release", signed / "triton", None)
    trust(signed / "triton", 8001, keys[1])  # the server, started again without it
    assert deploy(signed / "release", signed / "triton", None) == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("retrieval/1/serving/release.py", "print('hostile')\n"),
        ("retrieval/1/model.py", "print('hostile')\n"),
        ("retrieval_search/1/serving/more.py", ""),
        ("retrieval/config.pbtxt", None),
        ("retrieval_tower/1/config.pbtxt", None),
        ("more/config.pbtxt", 'name: "more"\n'),
        ("retrieval/2/model.py", "print('hostile')\n"),
        ("retrieval_search/1/release/manifest.json", None),
    ],
)
def test_a_repository_with_anything_else_in_it_is_refused(
    signed: Path, keys: tuple[Path, Path], name: str, content: str | None
) -> None:
    """Triton runs the code that it finds beside the release, in the environment that the configuration names."""
    place = signed / "triton" / name
    environment = 'parameters { key: "EXECUTION_ENV_PATH" value { string_value: "/tmp/hostile.tar.gz" } }\n'
    place.parent.mkdir(parents=True, exist_ok=True)
    text = place.read_text("latin-1") + environment if content is None else content
    place.unlink(missing_ok=True)  # the models of a repository share their files
    place.write_text(text, "latin-1")
    if name == "retrieval/2/model.py":  # lies there, and is not loaded
        config = signed / "triton/retrieval/config.pbtxt"
        config.write_text(config.read_text().replace("versions: [ 1 ]", "versions: [ 2 ]"))
    with pytest.raises(ReleaseError, match=name.split("/")[0]):
        check_repository(signed / "triton", keys[1])


def test_compiled_code_that_python_would_run_in_place_of_ours_goes(signed: Path, keys: tuple[Path, Path]) -> None:
    for folder in ("", "serving"):
        cache = signed / "triton/retrieval/1" / folder / "__pycache__"
        cache.mkdir()
        (cache / "model.cpython-311.pyc").write_bytes(b"hostile")
    check_repository(signed / "triton", keys[1])
    assert not list((signed / "triton").rglob("__pycache__"))


def test_what_a_killed_deployment_was_writing_keeps_no_server_from_starting(
    signed: Path, keys: tuple[Path, Path]
) -> None:
    (signed / "triton/retrieval/.config.pbtxt.x1y2").write_text("ha")
    check_repository(signed / "triton", keys[1])


def test_what_others_may_write_to_is_not_served_as_verified(signed: Path, keys: tuple[Path, Path]) -> None:
    (signed / "triton/retrieval/1/serving").chmod(0o777)
    with pytest.raises(ReleaseError, match=r"others may change what is verified: .*serving has mode 777; `chmod"):
        TritonServer(signed / "triton", verify=keys[1]).start()


@pytest.mark.server
def test_a_verifying_server_comes_back_whenever_it_dies_and_tells_what_it_refuses(
    exported: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    """Also where the repository was served before without verifying, or its code was compiled by another Python."""
    release = Path(shutil.copytree(exported / "release", tmp_path / "release"))
    sign(release, keys[0])
    repository = export_repository(release, tmp_path / "triton", "fused")
    compileall.compile_dir(repository, quiet=2)
    assert list(repository.rglob("*.pyc"))
    grpc_port, metrics_port = free_ports("127.0.0.1", 2)
    events: list[Event] = []
    ended = threading.Event()

    def until_told(name: str, times: int = 1) -> None:
        until(lambda: sum(event["event"] == name for event in events) >= times, (name, events))

    with TritonServer(repository, grpc_port=grpc_port, metrics_port=metrics_port, verify=keys[1]) as server:
        thread = threading.Thread(target=Supervisor(server, events.append).run, args=(ended.is_set,))
        thread.start()
        try:
            for times in (1, 2):
                psutil.Process(server.process_id).kill()
                until_told("recovered", times)
            next(child for child in psutil.Process(server.process_id).children() if "stub" in child.name()).kill()
            until_told("recovered", 3)
            assert canary(server.addresses.grpc).healthy
            assert not list(repository.rglob("__pycache__"))
            more = repository / "retrieval/1/serving/more.py"
            more.write_text("")
            psutil.Process(server.process_id).kill()
            until_told("verification_failed")
            more.unlink()
            until_told("restarted", 3)
            assert canary(server.addresses.grpc).healthy
        finally:
            ended.set()
            thread.join()


def test_a_server_that_verifies_does_not_start_on_what_is_not_signed(exported: Path, keys: tuple[Path, Path]) -> None:
    with pytest.raises(ReleaseError, match="is not signed"):
        TritonServer(exported / "triton", verify=keys[1]).start()


def test_a_server_that_verifies_follows_no_changes(
    signed: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ServerError, match="not signed"):
        TritonServer(signed / "triton", verify=keys[1], delta=signed).start()
    monkeypatch.setenv("RETRIEVAL_DELTA", str(signed))
    with pytest.raises(ServerError, match="not signed"):
        TritonServer(signed / "triton", verify=keys[1]).start()


@pytest.mark.server
def test_a_verifying_server_answers_and_its_models_refuse_a_release_that_was_exchanged(
    exported: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    """What is signed is served; what the launcher did not export is not loaded, though all its hashes are right."""
    release = Path(shutil.copytree(exported / "release", tmp_path / "release"))
    sign(release, keys[0])
    repository = export_repository(release, tmp_path / "triton", "fused")
    grpc_port, metrics_port = free_ports("127.0.0.1", 2)
    ports = {"grpc_port": grpc_port, "metrics_port": metrics_port}
    with TritonServer(repository, verify=keys[1], **ports) as server:
        with RetrievalClient(server.addresses.grpc) as client:
            assert len(client.recommend([-1], top_k=3)) == 1
        with pytest.raises(ReleaseError, match="is not signed"):
            admits(repository, exported / "release", 2)
    assert admits(repository, exported / "release", 2)  # once it has stopped
    other_release = make_release(make_run(tmp_path / "other", seed=3))
    shutil.rmtree(repository / "retrieval/1/release")
    shutil.copytree(other_release, repository / "retrieval/1/release")
    with pytest.raises(ServerError, match=r"config\.pbtxt is of another"):
        TritonServer(repository, **ports).start()


def test_a_deployment_into_what_a_verifying_server_serves_takes_signed_releases_only(
    exported: Path, signed: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    repository = signed / "triton"
    trust(repository, 8001, keys[1])
    with pytest.raises(ReleaseError, match="is not signed"):
        deploy(exported / "release", repository, None)
    assert sorted(path.name for path in (repository / "retrieval").iterdir()) == ["1", "config.pbtxt"]
    assert deploy(signed / "release", repository, None) == 2
    check_repository(repository, keys[1])
    assert admits(repository, signed / "release", 2)
    (repository / "retrieval/2/serving/release.py").write_text("print('hostile')\n")
    assert not admits(repository, signed / "release", 2)


def test_a_derived_release_is_signed_where_it_is_asked_for_and_else_says_that_it_is_not(
    signed: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    item = str(json.loads((signed / "release/selftest.json").read_text())["items"][0][0])
    ids = open_signed(signed / "release", keys[1]).array("items/ids.npy", int)  # type: ignore[arg-type]
    code, text = invoke("items", "remove", signed, ids[int(item)], "--out", tmp_path / "plain")
    assert code == 0, text
    assert "not signed" in text
    with pytest.raises(ReleaseError, match="is not signed"):
        open_signed(tmp_path / "plain/release", keys[1])
    code, text = invoke("items", "remove", signed, ids[int(item)], "--out", tmp_path / "own", "--sign", keys[0])
    assert code == 0, text
    check_repository(tmp_path / "own/triton", keys[1])
    assert invoke("verify", tmp_path / "own", "--key", keys[1])[0] == 0
    code, text = invoke("items", "remove", signed, ids[int(item)], "--delta", tmp_path, "--sign", keys[0])
    assert (code, "not signed" in text) == (2, True)
