"""Weights from the Hugging Face hub: a server on the loopback stands for it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

import adaptgen
from adaptgen.domains.speech.codecs import load_codec
from adaptgen.errors import DownloadError

REPOSITORY = "facebook/encodec_24khz"
FILES = {"config.json": b'{"model_type": "encodec"}', "model.safetensors": bytes(2000), "pytorch_model.bin": b"\x80"}
REVISION = "a" * 40
# The hub's address is read when its client is imported.
PROGRAM = """
import sys
from adaptgen.domains.speech.hub import fetch
from adaptgen.errors import DownloadError
print(fetch(sys.argv[1]))
try:
    fetch("nobody/nothing")
except DownloadError as error:
    print(error)
"""


class Hub(BaseHTTPRequestHandler):
    """One repository, as far as its client asks for it."""

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path == f"/api/models/{REPOSITORY}/revision/main":
            siblings = [{"rfilename": name} for name in FILES]
            self._answer(json.dumps({"id": REPOSITORY, "sha": REVISION, "siblings": siblings}).encode())
        elif path == f"/api/models/{REPOSITORY}/tree/{REVISION}":
            found = [
                {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for name, content in FILES.items()
            ]
            self._answer(json.dumps(found).encode())
        elif path.startswith(f"/{REPOSITORY}/resolve/{REVISION}/"):
            content = FILES[path.rpartition("/")[2]]
            self._answer(content, ETag=f'"{hashlib.sha1(content).hexdigest()}"', **{"X-Repo-Commit": REVISION})
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self, content: bytes, **headers: str) -> None:
        self.send_response(200)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_weights_are_fetched_by_the_hubs_own_client(address: str, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(adaptgen.__file__).parents[1]),
        "HF_ENDPOINT": address,
        "HF_HOME": str(tmp_path),
        "no_proxy": "127.0.0.1",
    }
    environment.pop("HF_HUB_OFFLINE", None)
    command = [sys.executable, "-c", PROGRAM, REPOSITORY]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    folder, message = result.stdout.splitlines()
    assert {path.name: path.read_bytes() for path in Path(folder).iterdir()} == {
        name: FILES[name] for name in ("config.json", "model.safetensors")
    }, "and no pickle"
    assert message.startswith("nobody/nothing cannot be fetched from the Hugging Face hub: ")
    assert "name a folder that holds it, as `hf download nobody/nothing --local-dir FOLDER` makes one" in message


@pytest.mark.parametrize("name", ["encodec_24khz", "mimi", "dac_44khz"])
def test_without_a_network_it_is_one_sentence(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DownloadError, match=r"cannot be fetched from the Hugging Face hub: [^\n]*\. Check the network"):
        load_codec(name)
