"""Downloads of weights: resumed, checked, and never half a file under the final name."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import msgspec
import pytest

from hwnas.errors import HwnasError, InvalidFile
from hwnas.pretrained.download import fetch
from hwnas.pretrained.sources import Source, find_source, hub_folder

CONTENT = bytes(range(256)) * 40
BREAKS_AT = 4_000


class Server(ThreadingHTTPServer):
    """Serves `CONTENT`; ``breaks`` ends a connection early, ``ranges`` answers partial requests."""

    breaks, ranges = False, True
    starts: list[int]
    """The first byte of each request."""


class Handler(BaseHTTPRequestHandler):
    server: Server  # type: ignore[assignment]

    def do_GET(self) -> None:
        start = int(self.headers.get("Range", "bytes=0-")[6:-1]) if self.server.ranges else 0
        self.server.starts.append(start)
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        self.wfile.write(CONTENT[start : BREAKS_AT if self.server.breaks else None])

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Server(("127.0.0.1", 0), Handler)
    server.starts = []
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def source_at(server: Server, digest: str = sha256(CONTENT).hexdigest()) -> Source:
    return msgspec.structs.replace(
        find_source("mobilenet_v2"),
        url=f"http://127.0.0.1:{server.server_port}/weights.pth",
        file="weights.pth",
        sha256=digest[:8],
    )


def test_a_file_is_fetched_once(server: Server) -> None:
    progress: list[tuple[float, float]] = []
    source = source_at(server)
    file = fetch(source, lambda done, total: progress.append((done, total)))
    assert file == hub_folder() / "weights.pth" and file.read_bytes() == CONTENT
    assert progress[-1] == (len(CONTENT) / 1e6, len(CONTENT) / 1e6)
    assert fetch(source) == file and server.starts == [0]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on_or_begins_anew(server: Server, ranges: bool) -> None:
    server.breaks, server.ranges = True, ranges
    with pytest.raises(HwnasError, match=r"mobilenet_v2: the download failed \(.*4,000 of 10,240"):
        fetch(source_at(server))
    assert not (hub_folder() / "weights.pth").exists()
    server.breaks = False
    assert fetch(source_at(server)).read_bytes() == CONTENT
    assert server.starts == [0, BREAKS_AT if ranges else 0]


def test_a_whole_part_that_a_kill_left_is_used(server: Server) -> None:
    hub_folder().mkdir(parents=True)
    (hub_folder() / "weights.pth.part").write_bytes(CONTENT)
    assert fetch(source_at(server)).read_bytes() == CONTENT


def test_a_wrong_hash_leaves_no_file(server: Server) -> None:
    with pytest.raises(InvalidFile, match="has the SHA-256"):
        fetch(source_at(server, "01234567"))
    assert not [file for file in hub_folder().iterdir() if file.name.startswith("weights")]


def test_offline_one_line_says_what_to_put_where(server: Server) -> None:
    source = msgspec.structs.replace(source_at(server), url="http://127.0.0.1:9/weights.pth")
    with pytest.raises(HwnasError) as error:
        fetch(source)
    assert "\n" not in str(error.value)
    assert f"put {source.url} into {hub_folder()}" in str(error.value)
