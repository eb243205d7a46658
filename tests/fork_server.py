# Copyright 2026 The UniME developers. Licensed under the Apache License, Version 2.0.
"""Processes that tests start, without the six seconds in which each would import torch and its like.

`install` makes `subprocess.Popen` ask a server for every new process of this Python; the server has imported the big
libraries and forks. The process has arguments, environment, folder, search path and files of its own, as if started
anew, and imports everything else itself: the project, and Hugging Face's libraries, which read the environment then.
Started as a file, this is the server; its listening socket is file 0.
"""

import contextlib
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import types
from pathlib import Path

# What Hugging Face's libraries import, apart from each other.
LIBRARIES = """
torch._inductor.compile_fx torch.distributed.fsdp torch.distributed.tensor torch.distributed.checkpoint bitsandbytes
scipy.optimize scipy.stats pandas pyarrow.dataset pyarrow.parquet sklearn.metrics requests jinja2 rich.console
PIL.Image yaml
""".split()
READ_THE_ENVIRONMENT = {"huggingface_hub", "transformers", "datasets", "accelerate", "deepspeed"}
START = subprocess.Popen
SIZE = 1 << 20


class Server:
    """The socket of the server, which is started when it is first needed."""

    address: str = ""
    folder: tempfile.TemporaryDirectory | None = None
    process: subprocess.Popen | None = None

    @classmethod
    def connect(cls) -> socket.socket:
        if not cls.address:
            cls.folder = tempfile.TemporaryDirectory()
            cls.address = os.path.join(cls.folder.name, "socket")
            environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(cls.address)
                listener.listen()
                command = [sys.executable, "-P", __file__, cls.address, str(os.getpid())]
                cls.process = START(command, stdin=listener.fileno(), env=environment)
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(cls.address)
        return connection


def program_of(command: object) -> list[str] | None:
    """`-m MODULE ...`, `-c CODE ...` or `FILE ...` of a command that the server can run, otherwise nothing."""
    words = [os.fspath(word) for word in command] if isinstance(command, list | tuple) else []
    if not words or words[0] != sys.executable:
        return None
    del words[0]
    while words and words[0] in ("-u", "-P"):
        del words[0]
    known = words[:1] == ["-c"] or words[:1] == ["-m"] and words[1] not in ("pip", "pytest", "venv")
    return words if known or words and words[0].endswith(".py") else None


class Popen(subprocess.Popen):
    """`subprocess.Popen`, but that what the server can run comes from there."""

    def __new__(cls, args, *more, **options):
        supported = {"stdout", "stderr", "cwd", "env", "text", "encoding", "errors", "start_new_session"}
        program = program_of(args)
        if program is None or more or {name for name, value in options.items() if value} - supported:
            return START(args, *more, **options)
        return Forked(args, program, **options)


class Forked:
    """What `Popen` is for a process that the server forked."""

    def __init__(
        self, args, program, stdout=None, stderr=None, cwd=None, env=None, text=None, encoding=None, **options
    ):
        self.args, self.returncode = args, None
        self.stdin, self.stdout, self.stderr = None, None, None
        files, ours = [0], []
        text = {"encoding": encoding or "utf-8", "errors": options.get("errors")} if text or encoding else None
        for number, file in ((1, stdout), (2, stderr)):
            if file == subprocess.PIPE:
                reader, file = os.pipe()
                ours.append(file)
                stream = open(reader, "r" if text else "rb", **(text or {}))
                self.stdout, self.stderr = (stream, self.stderr) if number == 1 else (self.stdout, stream)
            elif file == subprocess.DEVNULL:
                file = os.open(os.devnull, os.O_WRONLY)
                ours.append(file)
            elif file == subprocess.STDOUT:
                file = files[1]
            files.append(number if file is None else file if isinstance(file, int) else file.fileno())
        place = os.path.abspath(cwd or os.curdir), bool(options.get("start_new_session"))
        request = json.dumps([program, dict(os.environ if env is None else env), *place]).encode()
        self._connection = Server.connect()
        socket.send_fds(self._connection, [len(request).to_bytes(8, "big")], files)
        self._connection.sendall(request)
        self.pid = self._read_number()
        for file in ours:
            os.close(file)

    def _read_number(self):
        number = self._connection.recv(8)
        if not number:
            raise ChildProcessError("the server of tests/fork_server.py ended; its errors are above")
        return int.from_bytes(number, "big", signed=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for stream in filter(None, (self.stdout, self.stderr)):
            stream.close()
        self.wait()

    def wait(self, timeout=None):
        if self.returncode is None:
            if not select.select([self._connection], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout)
            self.returncode = self._read_number()
            self._connection.close()
        return self.returncode

    def poll(self):
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def communicate(self, input=None, timeout=None):
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor() as pool:
            streams = [stream and pool.submit(stream.read) for stream in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
                raise
        return tuple(stream and stream.result() for stream in streams)


def install() -> None:
    """From now on `subprocess` starts this Python by the server."""
    subprocess.Popen = Popen


def serve(owner: int) -> list:
    """Wait for requests as long as the process that wants them lives; returns, in a new process, what it is to run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    listener = socket.socket(fileno=0)
    while os.getppid() == owner:
        ready = select.select([listener], [], [], 1)[0]
        with contextlib.suppress(ChildProcessError):  # there is none
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not ready:
            continue
        connection, _ = listener.accept()
        if os.fork():
            connection.close()
            continue
        # A process between server and program, which says how the program ends.
        length, files, *_ = socket.recv_fds(connection, 8, 3)
        request = b""
        while len(request) < int.from_bytes(length, "big"):
            request += connection.recv(SIZE)
        child = os.fork()
        if child:
            connection.sendall(child.to_bytes(8, "big"))
            for file in files:
                os.close(file)
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            connection.sendall(code.to_bytes(8, "big", signed=True))
            os._exit(0)
        connection.close()
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        return json.loads(request)
    os._exit(0)


def become(program: list[str], environment: dict[str, str], folder: str, new_session: bool) -> None:
    """Run a program in this process as `python` would."""
    if new_session:
        os.setsid()
    # A shell has what it starts in the background, this suite perhaps among it, ignore SIGINT, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number, name in ((1, "stdout"), (2, "stderr")):
        setattr(sys, name, open(number, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False))
    paths = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    kind, *rest = program
    sys.path[:0] = [str(Path(kind).parent) if kind not in ("-c", "-m") else folder, *paths]
    if kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        module = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), module.__dict__)
    elif kind == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = program
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    Server.address, owner = sys.argv[1], int(sys.argv[2])
    sys.modules["fork_server"] = sys.modules["__main__"]
    install()  # before anything takes the name
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):  # of an extra
            importlib.import_module(name)
    assert not READ_THE_ENVIRONMENT & sys.modules.keys()
    gc.freeze()  # nothing of this is ever garbage
    request = serve(owner)
    become(*request)
