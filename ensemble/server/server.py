"""Start Triton on a model repository, wait until it answers, forward its log, stop it cleanly."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path

import tritonclient.grpc as grpc
from tritonclient.utils import InferenceServerException

from ensemble.client.channels import channel_options
from ensemble.client.tls import ClientTls, ServerTls
from ensemble.deploy.swap import check_machine, recover, threads_of
from ensemble.layouts import CONFIG, ONNX, answering_models, models_in
from ensemble.release.verify import check_repository, forget, trust
from ensemble.server.endpoints import Addresses, admin_key, server_arguments
from ensemble.server.permissions import writable_by_others
from ensemble.server.ports import check_free
from ensemble.server.processes import kill_group, launch, serving_environment
from ensemble.server.triton_log import printable, reasons
from ensemble.serving.index.milvus_index import URI, located
from ensemble.serving.search.delta import DELTA
from ensemble.serving.triton.backlog import ADDRESS as METRICS
from ensemble.supervision.model_processes import ended_children
from ensemble.triton.find import ServingPython, Triton, default_python, find_triton, inspect_python
from ensemble.triton.model_control import remove_key, write_key
from ensemble.triton.staging import Staging
from workflows.errors import ReleaseError, ServerError
from workflows.progress import Progress, silent

_POLL_SECONDS = 0.02
_ASK_SECONDS = 0.2
_GRACE_SECONDS = 5
_REPORT_SECONDS = 3
"""Which Triton has, when a model's process ended while it started, to say why."""
_REMEDY = "`chmod -R go-w` it, `chown` it to the user who serves, or keep it elsewhere (docs/security.md)"
_IDLE = "All models are stopped, unloading models"
"""What Triton logs when it has been told to end and has answered everything."""


class StartGivenUp(Exception):
    """The caller no longer wants the server that it was starting."""


def _never() -> bool:
    """Go on to the end."""
    return False


class TritonServer:
    """A Triton server for one model repository, as a context manager: inside the block it answers."""

    def __init__(
        self,
        repository: Path,
        *,
        model: str | None = None,
        triton: Path | None = None,
        python: Path | None = None,
        delta: Path | None = None,
        host: str = "127.0.0.1",
        grpc_port: int = 8001,
        http_port: int | None = None,
        metrics_port: int = 8002,
        metrics_host: str = "127.0.0.1",
        tls: ServerTls | None = None,
        verify: Path | None = None,
        at_least: str | None = None,
        on_log: Progress = silent,
        start_timeout_seconds: float = 120,
        stop_timeout_seconds: float = 15,
    ) -> None:
        """Set up a server; nothing is started yet.

        Parameters
        ----------
        repository
            Directory of the model repository, as `export_repository` writes it.
        model
            The model that must answer before the server counts as started; by default those of all layouts in the
            repository.
        triton
            A tritonserver or its install directory; by default from PATH, then from the nvidia-pytriton wheel.
        python
            The interpreter of the serving environment; by default the project's `.venv-serve`, else the running one.
        delta
            Directory of catalogue changes that the models follow.
        host
            Address that gRPC and HTTP are bound to.
        grpc_port, http_port, metrics_port
            Ports; without `http_port` there is no HTTP.
        metrics_host
            Address that the metrics are bound to.
        tls
            Certificates for gRPC; None: plain text.
        verify
            PEM file of public keys: only releases signed by one of them are served, now and after each deployment. This
            rules out `delta`, whose packages nobody signs.
        at_least
            Earliest `created` of a release that is served, ISO 8601 in UTC.
        on_log
            Called with every line of Triton's log, control characters escaped, from a thread of its own.
        start_timeout_seconds, stop_timeout_seconds
            How long to wait for the models to load, and for requests to finish.

        Raises
        ------
        ServerError
            A port or the admin key is not valid.
        """
        self.repository = repository.absolute()
        self._models = answering_models(self.repository) if model is None else [model]
        self.addresses = Addresses(host, grpc_port, http_port, metrics_port, metrics_host)
        self._triton, self._python = triton, python or default_python()
        changes = delta or os.environ.get(DELTA)
        self._delta = Path(changes).absolute() if changes else None
        self._on_log, self._tls, self._verify, self._at_least = on_log, tls, verify, at_least
        self._start_timeout, self._stop_timeout = start_timeout_seconds, stop_timeout_seconds
        self._process: subprocess.Popen[str] | None = None
        self._thread: threading.Thread | None = None
        self._staging: Staging | None = None
        self._log: deque[str] = deque(maxlen=400)
        self._key = admin_key()

    @property
    def process_id(self) -> int:
        """Return the process id of tritonserver, whose children are the models' Python stubs."""
        if self._process is None:
            raise ServerError("Triton is not running")
        return self._process.pid

    @property
    def client_tls(self) -> ClientTls:
        """Return the TLS options for clients in this process."""
        return ClientTls(off=True) if self._tls is None else self._tls.own_client()

    def start(self, given_up: Callable[[], bool] = _never) -> None:
        """Start Triton and wait until the model answers; give up, with StartGivenUp, when `given_up`, which is polled,
        is true.

        Raises
        ------
        ServerError
            No repository, no Triton, an unfit Python, a taken port; Triton or a model's process ended, or was not ready
            in time (with the reasons from its log).
        ReleaseError
            A release is not signed by the keys to `verify` with, code is not what this installation exports, or others
            may write to it.
        """
        if not self._models and ONNX in models_in(self.repository):
            raise ServerError(
                f"{self.repository}: the layout onnx needs Triton's onnxruntime backend, which is not started here: "
                "copy it to a Triton that has it, or `retrieval release RUN --layout fused` and serve that"
            )
        if not self._models or not all((self.repository / model / CONFIG).is_file() for model in self._models):
            raise ServerError(f"{self.repository}: no model repository; expected what `retrieval release` wrote")
        recover(self.repository)
        check_machine(self.repository)
        self.verify()
        python = inspect_python(self._python)
        triton = find_triton(self._triton, python)
        place = self.addresses
        for host in {place.host_of(purpose) for purpose in place.ports}:
            check_free(host, place.ports)
        write_key(self.repository, place.grpc_port, self._key)
        try:
            self._process = self._launched(triton, python)
            self._wait_until_ready(self._process, given_up)
        except BaseException:
            self.stop()
            raise

    def _launched(self, triton: Triton, python: ServingPython) -> subprocess.Popen[str]:
        """Start the thread that Triton belongs to, and Triton in it."""
        self._log.clear()  # of a run before this one
        staging = self._staging = Staging(self.repository, triton, python, self._delta)
        started: Future[subprocess.Popen[str]] = Future()
        arguments = self._command(triton.server, staging), python, staging, started
        self._thread = threading.Thread(target=self._run, args=arguments, daemon=True)
        self._thread.start()
        return started.result()

    def verify(self) -> None:
        """Verify the repository if keys were given; otherwise warn of files that others may write to.

        Raise ReleaseError if a release is not signed by the keys, code is not what this installation exports, or others
        may write to it; ServerError if the server follows a delta directory, whose packages nobody signs.
        """
        if self._verify is None:
            served = [self.repository, *([self._delta] if self._delta and self._delta.is_dir() else [])]
            for place in served:
                if why := next(writable_by_others(place), None):
                    self._on_log(f"warning: {place}: others may change what is served: {why}; {_REMEDY}")
            return
        if self._delta:
            raise ServerError("changes of the catalogue are not signed: give --verify, or --delta, or `items compact`")
        for place in (self.repository, self._verify):
            if why := next(writable_by_others(place), None):
                raise ReleaseError(f"{place}: others may change what is verified: {why}; {_REMEDY}")
        for release in check_repository(self.repository, self._verify, self._at_least):
            self._on_log(f"release {release.manifest['release']}: signed by a key in {self._verify}")
        trust(self.repository, self.addresses.grpc_port, self._verify, self._at_least)

    def wait(self, given_up: Callable[[], bool] = _never) -> int | None:
        """Wait for Triton to end and return its exit status; None once `given_up`, which is polled, returns True."""
        status = None
        while status is None and not given_up():
            status = self.ended()
        return status

    def ended(self) -> int | None:
        """Return Triton's exit status; None if it runs for another fifth of a second."""
        if self._process is None:
            raise ServerError("Triton is not running")
        try:
            return self._process.wait(_ASK_SECONDS)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, at_once: bool = False) -> None:
        """Let running requests finish and end Triton; kill it after the stop time-out.

        `at_once`: kill it now, so that requests in flight fail at once.
        """
        process, self._process = self._process, None
        if process is not None:
            if not at_once:
                process.terminate()
                self._wait_for_end(process)
            kill_group(process.pid)
            process.wait()
        if self._thread is not None:
            self._thread.join()
        if self._staging is not None:
            self._staging.remove()
            self._staging = None
        remove_key(self.repository, self.addresses.grpc_port)
        forget(self.repository, self.addresses.grpc_port)

    def _wait_for_end(self, process: subprocess.Popen[str]) -> None:
        """Wait until Triton has ended, or must be killed: after the time-out, or if it goes on without any request
        left.

        A model with a dead process never unloads, and an idle HTTP connection holds Triton as well.
        """
        deadline, idle = time.monotonic() + self._stop_timeout + _GRACE_SECONDS, False
        while process.poll() is None:
            if not idle and any(_IDLE in line for line in list(self._log)):
                idle, deadline = True, min(deadline, time.monotonic() + _GRACE_SECONDS)
            if time.monotonic() > deadline:
                self._on_log(f"Triton did not stop{' although it was idle' if idle else ' in time'}: killing it")
                return
            time.sleep(_POLL_SECONDS)

    def __enter__(self) -> TritonServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _command(self, server: Path, staging: Staging) -> list[str]:
        arguments = server_arguments(staging.models, self.addresses, self._key, self._tls, int(self._stop_timeout))
        backends = [] if staging.backends is None else [f"--backend-directory={staging.backends}"]
        return [str(server), *arguments, *backends, f"--backend-config=python,shm-region-prefix-name={staging.regions}"]

    def _told(self, staging: Staging) -> dict[str, str]:
        """Return the environment variables for the models."""
        place, variables = self.addresses, {}
        if staging.delta is not None:
            variables[DELTA] = str(staging.delta)
        if milvus := os.environ.get(URI):
            variables[URI] = located(milvus)
        host = place.host_of("metrics").replace("0.0.0.0", "127.0.0.1")
        return {METRICS: f"{host}:{place.metrics_port}", **variables}

    def _run(
        self, command: list[str], python: ServingPython, staging: Staging, started: Future[subprocess.Popen[str]]
    ) -> None:
        """Start Triton and forward its log until it ends; in one thread, since Triton ends with the thread that started
        it.
        """
        try:
            threads = _threads(self.repository)
            environment = serving_environment(staging.python, staging.library, threads) | self._told(staging)
            process = launch(command, python, staging.work, environment)
        except BaseException as error:
            started.set_exception(error)
            return
        started.set_result(process)
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                self._log.append(staging.real(printable(line.rstrip("\n"))))
                self._forward(self._log[-1])

    def _forward(self, line: str) -> None:
        """Pass a line to `on_log`; after an exception no more, since Triton would end with this thread."""
        try:
            self._on_log(line)
        except Exception as error:
            self._log.append(f"the log is not forwarded any more: {error!r}")
            self._on_log = silent

    def _wait_until_ready(self, process: subprocess.Popen[str], given_up: Callable[[], bool]) -> None:
        deadline, ended_at = time.monotonic() + self._start_timeout, float("inf")
        while not _is_ready(self.addresses, self._models, self._tls is not None):
            if process.poll() is not None:
                assert self._thread is not None
                kill_group(process.pid)  # a model process that it left behind would keep its log open, and us waiting
                self._thread.join()
                raise ServerError(f"Triton ended with status {process.returncode}: {reasons(self._log)}")
            if given_up():
                raise StartGivenUp
            if ended := ended_children(process.pid):
                ended_at = min(ended_at, time.monotonic())
                if time.monotonic() > ended_at + _REPORT_SECONDS:  # Triton itself would wait for it for minutes
                    listed = ", ".join(map(str, ended))
                    raise ServerError(f"process {listed} of a model ended while it started: {reasons(self._log)}")
            if time.monotonic() > deadline:
                raise ServerError(f"Triton was not ready after {self._start_timeout:.0f} s: {reasons(self._log)}")
            time.sleep(_POLL_SECONDS)


def _threads(repository: Path) -> int:
    """Return the most threads that any release in the repository asks for; each model sets its own."""
    releases = (place for model in models_in(repository) for place in (repository / model).glob("*/release"))
    return max([1, *map(threads_of, releases)])


def _is_ready(place: Addresses, models: Sequence[str], encrypted: bool) -> bool:
    try:
        # gRPC waits for seconds after a refused connection, so it is asked only once there is someone to answer; and
        # Triton opens its ports one after the other.
        for purpose, port in place.ports.items():
            socket.create_connection((place.host_of(purpose), port), timeout=1).close()
        if encrypted:
            # Who may ask, and by which name, the clients know. Triton opens its ports when its models are loaded.
            return True
        with grpc.InferenceServerClient(place.grpc, **channel_options(place.grpc, ClientTls(off=True))) as client:
            return all(client.is_model_ready(model, client_timeout=2) for model in models)
    except (OSError, InferenceServerException):
        return False
