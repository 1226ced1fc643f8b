"""The live view: follows a run, writes nothing, serves nothing and no one else."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from patchscale.errors import InputError
from patchscale.report.live import LiveServer, is_loopback, server

HOLDER = """
import fcntl, sys, time
file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(600)
"""  # what a worker does to the trial it trains, without its imports


def get(live: LiveServer, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    """A request with its path sent as written, dots and all."""
    connection = http.client.HTTPConnection("127.0.0.1", live.server_address[1], timeout=60)
    connection.putrequest(method, path, skip_host="Host" in headers)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    content = answer.status, answer.read()
    connection.close()
    return content


def data(live: LiveServer) -> dict:
    return json.loads(get(live, "/data.json")[1])


@pytest.fixture
def folder(make_run, tmp_path: Path) -> Path:
    """A run with one trial open, beside a file that is none of the server's business."""
    made = make_run(seeds=2, patches=(24, 12), inverted=None, forms=(), unfinished=1)
    (tmp_path / "secret.json").write_text('"secret"')
    return Path(shutil.move(made, tmp_path / "run"))


@pytest.fixture
def live(folder: Path) -> Iterator[LiveServer]:
    with server(folder) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_page_and_data_come_and_unchanged_data_do_not(live):
    status, page = get(live, "/")
    assert status == 200
    assert b"connect-src 'self'" in page
    first = data(live)
    assert first["live"] is True
    assert get(live, "/data.json", If_None_Match=f'"{first["version"]}"') == (304, b"")


def test_a_trial_is_followed_from_running_to_killed_to_done(live, folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    trial = data(live)["unfinished"][0]["trial"]
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder / "trials" / trial / "lock")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert data(live)["unfinished"][0]["state"] == "running"
    finally:
        holder.kill()
        holder.communicate()
    assert data(live)["unfinished"][0]["state"] == "interrupted"
    other = json.loads(next(folder.glob("trials/*/result.json")).read_text())
    place = {"trial": trial, "model": "adventurer_pico_patch16", "patch_size": 12, "tokens": 16, "random_seed": 1}
    (folder / "trials" / trial / "result.json").write_text(json.dumps({**other, **place}))
    after = data(live)
    assert after["unfinished"] == []
    assert len(after["rows"]) == 8
    assert sum(entry["pairs"] for entry in after["differences"]) == 4
    changed = {path for path, time in before.items() if path.stat().st_mtime_ns != time}
    assert not changed, "the view wrote into the run directory"


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.json",
        "/trials/../../secret.json",
        "/%2e%2e/secret.json",
        "//etc/passwd",
        "/..%2fsecret.json",
        "/%00",
    ],
)
def test_paths_outside_the_run_directory_are_refused(live, path):
    status, content = get(live, path)
    assert status in (403, 404)
    assert b'secret"' not in content
    assert b"root:" not in content


def test_a_link_out_of_the_run_directory_is_refused(live, folder):
    (folder / "link.json").symlink_to(folder.parent / "secret.json")
    assert get(live, "/link.json")[0] == 403


def test_files_inside_are_read_and_checkpoints_are_not(live, folder):
    trial = next((folder / "trials").iterdir())
    assert get(live, f"/trials/{trial.name}/config.json") == (200, (trial / "config.json").read_bytes())
    (trial / "state.pt").write_bytes(b"weights")
    assert get(live, f"/trials/{trial.name}/state.pt")[0] == 404
    assert get(live, f"/trials/{trial.name}")[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_only_reading_is_possible(live, method):
    assert get(live, "/", method)[0] == 501


def test_foreign_host_names_are_refused(live):
    assert get(live, "/data.json", Host="evil.example:80")[0] == 403
    assert get(live, "/data.json", Host="localhost:80")[0] == 200
    assert get(live, "/data.json", Host="[::1]:80")[0] == 200


def test_other_hosts_than_loopback_need_permission(folder):
    for host in ("0.0.0.0", "192.0.2.1", "example.org"):
        with pytest.raises(InputError, match="is not loopback"):
            server(folder, host=host)
    with server(folder, host="0.0.0.0", allow_remote=True) as open_to_all:
        assert open_to_all.server_address[0] == "0.0.0.0"
    assert [is_loopback(name) for name in ("127.0.0.1", "127.9.9.9", "::1", "localhost", "")] == [True] * 4 + [False]


def test_bad_directory_and_taken_port_are_told(live, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        server(tmp_path / "missing")
    with pytest.raises(InputError, match="choose another port"):
        server(live.run_dir, port=live.server_address[1])
