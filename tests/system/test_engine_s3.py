"""Archives and exports in an object store, which speaks S3 over HTTP."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import s3fs
from moto.server import ThreadedMotoServer

from loopotel_prom.archive.lines import zstd
from loopotel_prom.archive.remote import new_object

FULL = json.loads(
    (Path(__file__).parents[2] / "specs/examples/full.good.json").read_bytes()
)
GOAL = ("--goal", "repair the code at hand")
TOKENS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}


def _document(number: int) -> bytes:
    trace_id = f"ltf-{number:08x}-0000-4000-8000-000000000000"
    return json.dumps(FULL | {"trace_id": trace_id}).encode() + b"\n"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """Run a store."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def store(endpoint: str) -> s3fs.S3FileSystem:
    """Reach it; with an empty bucket named `loops`."""
    store = s3fs.S3FileSystem(
        key=TOKENS["AWS_ACCESS_KEY_ID"],
        secret=TOKENS["AWS_SECRET_ACCESS_KEY"],
        endpoint_url=endpoint,
        skip_instance_cache=True,
        use_listings_cache=False,
    )
    if store.exists("loops"):
        store.rm("loops", recursive=True)
    store.mkdir("loops")
    return store


@pytest.fixture
def archive(tmp_path: Path, store: s3fs.S3FileSystem) -> Path:
    """Make an archive, in a folder and in the bucket."""
    folder = tmp_path / "traces"
    folder.mkdir()
    old = _document(1) + b"{bad\n" + _document(2)
    (folder / "traces-20260101T000000Z-aa.jsonl.zst").write_bytes(zstd.compress(old))
    lines = b"".join(_document(number) for number in range(3, 60))
    (folder / "traces-20260102T000000Z-aa.jsonl").write_bytes(lines)
    torn = _document(1) + b"\n[1]\n" + _document(60) + _document(61)[:-40]
    (folder / "traces.jsonl").write_bytes(torn)
    for path in folder.iterdir():
        store.pipe_file(f"loops/a/traces/{path.name}", path.read_bytes())
    store.pipe_file("loops/a/traces/notes.txt", b"none of ours")
    return folder


@pytest.fixture
def run(endpoint: str, command: Callable, tmp_path: Path) -> Callable[..., str]:
    """Run a command to its end; give what it told."""

    def do(*args: str, code: int = 0) -> str:
        env = {**TOKENS, "AWS_ENDPOINT_URL": endpoint}
        child = command(*args, env=env, cwd=tmp_path)
        assert child.wait(120) == code, child.tail()
        assert "Traceback" not in child.output()
        return child.output()

    return do


@pytest.fixture
def export(run: Callable[..., str]) -> Callable[..., str]:
    """Run `export loopnet`."""

    def do(*args: str, code: int = 0) -> str:
        return run("export", "loopnet", *args, *GOAL, code=code)

    return do


@pytest.mark.parametrize("options", (("--engine", "none"), ("--jobs", "2")))
def test_a_bucket_is_read_and_written_as_a_folder(
    archive: Path, store: s3fs.S3FileSystem, export: Callable, options: tuple
) -> None:
    """Records and rejects are the same bytes; but for the places in these."""
    files = ("--output", "r.jsonl", "--rejects", "bad.jsonl")
    here = export("traces", *files, *options)
    url = "s3://loops/a/traces"
    files = ("--output", "s3://loops/r.jsonl", "--rejects", "s3://loops/b/bad.jsonl")
    there = export(url, *files, "--shard-bytes", "9000", *options)
    folder = archive.parent
    assert store.cat_file("loops/r.jsonl") == (folder / "r.jsonl").read_bytes() != b""
    rejects = (
        (folder / "bad.jsonl").read_bytes().replace(b'"traces/', f'"{url}/'.encode())
    )
    assert store.cat_file("loops/b/bad.jsonl") == rejects != b""
    assert there == here
    assert len(rejects.splitlines()) == 3


def test_a_single_object_is_an_archive_of_its_own(
    archive: Path, export: Callable
) -> None:
    """Compressed or not."""
    name = "traces-20260101T000000Z-aa.jsonl.zst"
    told = export(f"s3://loops/a/traces/{name}", "--output", "r.jsonl")
    assert "2 records" in told
    assert "line 2 (byte " in told


def test_records_that_take_many_requests_arrive(
    tmp_path: Path, store: s3fs.S3FileSystem, export: Callable
) -> None:
    """More than one part of an upload, and of a download."""
    lines = b"".join(_document(number) for number in range(9000))
    (tmp_path / "t.jsonl").write_bytes(lines)
    store.pipe_file("loops/t.jsonl", lines)
    export("s3://loops/t.jsonl", "--output", "s3://loops/out.jsonl")
    export("t.jsonl", "--output", "out.jsonl")
    assert len(lines) > 20e6
    assert store.cat_file("loops/out.jsonl") == (tmp_path / "out.jsonl").read_bytes()


def test_an_export_that_fails_leaves_no_object(
    archive: Path, store: s3fs.S3FileSystem, export: Callable
) -> None:
    """The earlier one stays as it was, and no upload is left open."""
    store.pipe_file("loops/r.jsonl", b"earlier")
    places = ("s3://loops/a/traces", "missing")
    told = export(*places, "--output", "s3://loops/r.jsonl", code=1)
    assert "missing: " in told
    assert store.cat_file("loops/r.jsonl") == b"earlier"
    assert store.list_multipart_uploads("loops") == []


def test_an_archive_in_a_bucket_is_not_written_into(
    archive: Path, store: s3fs.S3FileSystem, export: Callable
) -> None:
    """Least of all over what is being read."""
    url = "s3://loops/a/traces/"
    export(url, "--output", f"{url}traces.jsonl", code=2)
    assert store.cat_file("loops/a/traces/traces.jsonl").count(b"\n") == 4


@pytest.mark.parametrize(
    "url", ("s3://loops/none", "s3://nobody/traces", "s3://loops/none/t.jsonl")
)
def test_nothing_there_is_one_line(
    store: s3fs.S3FileSystem, export: Callable, url: str
) -> None:
    """Which names the URL."""
    told = export(url, "--output", "r.jsonl", code=1)
    assert told == f"loopotel-prom: {url}: there is nothing; check the URL\n"


def test_a_store_that_refuses_is_one_line(archive: Path, export: Callable) -> None:
    """Here for want of the bucket; behind the rejects."""
    args = ("--output", "s3://nobody/r.jsonl", "--rejects", "bad.jsonl")
    told = export(*args, code=1)
    assert told.startswith("loopotel-prom: s3://nobody/r.jsonl: ")
    assert told.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    (("archive", "ls"), ("archive", "ls", "--limit", "3"), ("archive", "stats")),
)
def test_an_archive_in_a_bucket_is_looked_into(
    archive: Path, run: Callable, words: tuple[str, ...]
) -> None:
    """As one in a folder; damage is told by its URL, and counted."""
    here = run(*words, "traces", code=1).replace("traces/", "s3://loops/a/traces/")
    there = run(*words, "s3://loops/a/traces", code=1)
    assert there == here.replace(": see loopotel-prom archive verify traces", "")


def test_an_object_is_judged(archive: Path, run: Callable) -> None:
    """Line by line, by its URL."""
    name = "traces-20260101T000000Z-aa.jsonl.zst"
    here = run("validate", f"traces/{name}", code=1)
    there = run("validate", f"s3://loops/a/traces/{name}", code=1)
    assert there.replace("s3://loops/a/", "") == here
    assert here.count("\n") == 3


def test_half_an_upload_is_taken_back(
    store: s3fs.S3FileSystem, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After parts of it have been sent."""
    for name, value in {**TOKENS, "AWS_ENDPOINT_URL": endpoint}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(KeyError), new_object("s3://loops/half.jsonl") as file:
        file.write(b"x" * 60_000_000)
        assert len(store.list_multipart_uploads("loops")) == 1
        raise KeyError
    assert store.list_multipart_uploads("loops") == []
    assert not store.exists("loops/half.jsonl")
