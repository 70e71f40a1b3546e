"""``bunflare r2``, through its entry point; as a process where it matters."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from bunflare.cli import main
from tests.cli.process import on_terminal
from tests.support import files

DATA = bytes(range(256)) * 2000


@dataclass
class Result:
    returncode: int
    stdout: str
    stderr: str


class Commands:
    """The command line in a project's directory."""

    def __init__(self, capfd: pytest.CaptureFixture[str], patch: pytest.MonkeyPatch) -> None:
        self._capfd = capfd
        self._patch = patch

    def run(self, *arguments: str) -> Result:
        self._patch.setattr(sys, "argv", ["bunflare", "r2", *arguments])
        self._capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        return Result(code, *self._capfd.readouterr())

    def __call__(self, *arguments: str) -> str:
        result = self.run(*arguments)
        assert result.returncode == 0, result.stderr
        return result.stdout


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "file.bin").write_bytes(DATA)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BUNFLARE_DIR", raising=False)
    return tmp_path


@pytest.fixture
def r2(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Commands:
    return Commands(capfd, monkeypatch)


def test_an_object_goes_in_and_comes_out(project: Path, r2: Commands) -> None:
    r2(
        *("object", "put", "bucket/dir/key.bin", "--file", "file.bin", "--content-type", "a/b"),
        *("--cache-control", "no-store", "--expires", "2030-01-02", "-s", "InfrequentAccess"),
    )
    assert (project / ".bunflare/r2/bucket/dir/key.bin").read_bytes() == DATA
    told = json.loads(r2("object", "head", "bucket/dir/key.bin"))
    assert (told["key"], told["size"], told["storage_class"]) == (
        "dir/key.bin",
        len(DATA),
        "InfrequentAccess",
    )
    assert told["http_metadata"] == {
        "content_type": "a/b",
        "cache_control": "no-store",
        "cache_expiry": "2030-01-02 00:00:00+00:00",
    }
    r2("object", "get", "bucket/dir/key.bin")
    assert (project / "key.bin").read_bytes() == DATA
    r2("object", "get", "bucket/dir/key.bin", "--file", "other.bin")
    assert (project / "other.bin").read_bytes() == DATA
    r2("object", "delete", "bucket/dir/key.bin")
    gone = r2.run("object", "get", "bucket/dir/key.bin")
    assert (gone.returncode, gone.stderr.count("\n")) == (1, 1)
    assert "does not exist" in gone.stderr


def test_pipes(project: Path) -> None:
    command = [str(Path(sys.executable).with_name("bunflare")), "r2", "object"]
    subprocess.run(
        [*command, "put", "bucket/key", "--pipe"], cwd=project, input=DATA, check=True, timeout=30
    )
    result = subprocess.run(
        [*command, "get", "bucket/key", "--pipe"],
        cwd=project,
        check=True,
        timeout=30,
        stdout=subprocess.PIPE,
    )
    assert result.stdout == DATA


def test_a_list_shows_prefixes_and_as_many_as_wanted(project: Path, r2: Commands) -> None:
    for key in ("a", "b/1", "b/2", "c"):
        r2("object", "put", f"bucket/{key}", "--file", "file.bin")
    assert [line.split()[-1] for line in r2("object", "list", "bucket").splitlines()] == [
        "a",
        "b/1",
        "b/2",
        "c",
    ]
    lines = r2("object", "list", "bucket", "--delimiter", "/", "--json").splitlines()
    assert [one.get("key", one.get("prefix")) for one in map(json.loads, lines)] == ["b/", "a", "c"]
    assert len(r2("object", "list", "bucket", "--limit", "2").splitlines()) == 2
    assert len(r2("object", "list", "bucket", "--prefix", "b/").splitlines()) == 2
    assert "no bucket 'nothing'" in r2.run("object", "list", "nothing").stderr


def test_folders_go_in_and_come_out(project: Path, r2: Commands) -> None:
    source = project / "site"
    (source / "img").mkdir(parents=True)
    (source / "index.html").write_text("<h1>")
    (source / "img" / "cat.png").write_bytes(DATA)
    r2("bulk", "put", "bucket", "site", "--prefix", "v1/")
    assert set(files(project / ".bunflare/r2/bucket")) == {"v1/index.html", "v1/img/cat.png"}
    r2("bulk", "get", "bucket", "copy", "--prefix", "v1/")
    assert files(project / "copy") == files(source)
    r2("object", "put", "bucket/v1/../../evil", "--file", "file.bin")
    result = r2.run("bulk", "get", "bucket", "again", "--prefix", "v1/")
    assert (result.returncode, files(project / "again")) == (1, files(source))
    assert "'v1/../../evil'" in result.stderr
    assert r2.run("bulk", "put", "bucket", "nowhere").returncode == 1


def test_what_cannot_be_written_is_told_on_one_line(project: Path, r2: Commands) -> None:
    r2("object", "put", "bucket/key", "--file", "file.bin")
    before = files(project)
    for target in ("nowhere/deep.bin", "file.bin/deep.bin"):
        result = r2.run("object", "get", "bucket/key", "--file", target)
        assert result.returncode == 1
        assert result.stderr.startswith(f"error: {target}: ")
        assert result.stderr.count("\n") == 1
    assert files(project) == before


def test_a_file_that_fails_does_not_keep_the_others_of_a_folder_back(
    project: Path, r2: Commands
) -> None:
    # No folder can have a file and a folder of one name.
    for key in ("a", "a/b", "c", "d"):
        r2("object", "put", f"bucket/{key}", "--file", "file.bin")
    (project / "copy" / "d").mkdir(parents=True)
    result = r2.run("bulk", "get", "bucket", "copy")
    assert result.returncode == 1
    told = result.stderr.splitlines()
    assert told[0] == "2 objects were written to copy"
    assert [line.split(": ")[0] for line in told[1:]] == ["error", "error"]
    got = files(project / "copy")
    assert got["c"] == DATA
    assert set(got) in ({"a", "c"}, {"a/b", "c"})


def test_a_bulk_put_tells_of_files_that_are_refused(project: Path, r2: Commands) -> None:
    (project / "site").mkdir()
    for name in ("good", "refused"):
        (project / "site" / name).write_bytes(DATA)
    # Only with the longer of the two names the key is longer than a key may be.
    result = r2.run("bulk", "put", "bucket", "site", "--prefix", "x" * 1020)
    assert result.returncode == 1
    told = result.stderr.splitlines()
    assert told[0] == "1 file was put into bucket"
    assert len(told) == 2
    assert "(10020)" in told[1]
    assert len(r2("object", "list", "bucket").splitlines()) == 1


def test_a_reader_that_has_had_enough_ends_a_pipe_quietly(project: Path) -> None:
    (project / "large.bin").write_bytes(DATA * 10)
    command = [str(Path(sys.executable).with_name("bunflare")), "r2", "object"]
    subprocess.run(
        [*command, "put", "bucket/key", "--file", "large.bin"], cwd=project, check=True, timeout=30
    )
    process = subprocess.Popen(
        [*command, "get", "bucket/key", "--pipe"],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.read(10) == DATA[:10]
    process.stdout.close()
    assert process.stderr is not None
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait(30) == 1


def test_a_bucket_is_checked_repaired_and_adopts(project: Path, r2: Commands) -> None:
    r2("object", "put", "bucket/key", "--file", "file.bin")
    assert r2("check", "bucket", "--digests") == f"1 object, {len(DATA)} bytes\n"
    directory = project / ".bunflare/r2/bucket"
    (directory / "key").write_text("edited")
    (directory / "dropped.txt").write_text("dropped")
    result = r2.run("check", "bucket")
    assert result.returncode == 1
    assert "changed: key: " in result.stdout
    assert "stranger: dropped.txt" in result.stdout
    assert "changed: key: " in r2("repair", "bucket")
    assert "dropped.txt" in r2("adopt", "bucket")
    assert r2("check", "bucket", "--digests") == "2 objects, 13 bytes\n"
    (directory / "key").unlink()
    assert r2.run("repair", "bucket").returncode == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("object", "put", "bucket/key"),
        ("object", "put", "bucket/key", "--file", "nowhere"),
        ("object", "put", "bucket/key", "--file", "file.bin", "--pipe"),
        ("object", "put", "bucket/key", "--file", "file.bin", "--expires", "soon"),
        ("object", "put", "bucket", "--file", "file.bin"),
        ("object", "get", "bucket/"),
        ("object", "get", "bucket//"),
        ("object", "get", "bucket/key", "--file", "a", "--pipe"),
        ("nonsense",),
    ],
)
def test_wrong_arguments_end_with_2(
    project: Path, r2: Commands, arguments: tuple[str, ...]
) -> None:
    r2("bucket", "create", "bucket")
    result = r2.run(*arguments)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr


def test_a_terminal_sees_how_far_a_transfer_is(project: Path) -> None:
    (project / "large.bin").write_bytes(DATA * 20)
    shown = on_terminal(project, "r2", "object", "put", "bucket/key", "--file", "large.bin")
    assert "100%" in shown
    assert "MB/s" in shown


def test_buckets(project: Path, r2: Commands) -> None:
    (project / "wrangler.toml").write_text(
        'name = "w"\n[[r2_buckets]]\nbinding = "FILES"\nbucket_name = "files"\n'
    )
    r2("bucket", "create", "made")
    r2("object", "put", "FILES/a", "--file", "file.bin")
    r2("object", "put", "other/a", "--file", "file.bin")
    listed = json.loads(r2("bucket", "list", "--json"))
    assert [(one["name"], one["binding"]) for one in listed] == [
        ("files", "FILES"),
        ("made", None),
        ("other", None),
    ]
    assert "files " in r2("bucket", "list")
    told = json.loads(r2("bucket", "info", "FILES", "--json"))
    assert (told["object_count"], told["bucket_size"]) == (1, len(DATA))
    assert "object_count:" in r2("bucket", "info", "files")
    assert r2("bucket", "verify", "FILES", "--digests") == f"1 object, {len(DATA)} bytes\n"
    (project / ".bunflare/r2/files/b.txt").write_text("dropped")
    assert "b.txt" in r2("bucket", "adopt", "FILES")
    assert "2 objects" in r2("bucket", "repair", "FILES")
    assert "(10008)" in r2.run("bucket", "delete", "FILES").stderr
    assert "(10004)" in r2.run("bucket", "create", "made").stderr
    assert "(10005)" in r2.run("bucket", "create", "A_").stderr
    r2("bucket", "delete", "made")
    assert "Did you mean 'other'?" in r2.run("bucket", "info", "othr").stderr
    assert "Did you mean 'FILES'?" in r2.run("object", "list", "FILE").stderr
    r2("object", "delete", "other/a")
    assert "no bucket 'other'" in r2.run("bucket", "delete", "other").stderr


def test_an_object_is_copied_within_a_bucket_and_to_another(project: Path, r2: Commands) -> None:
    r2("object", "put", "bucket/a", "--file", "file.bin", "--content-type", "a/b")
    r2("object", "copy", "bucket/a", "bucket/b")
    r2("object", "copy", "bucket/a", "other/c/d")
    for copy in ("bucket/b", "other/c/d"):
        told = json.loads(r2("object", "head", copy))
        assert (told["size"], told["http_metadata"]) == (len(DATA), {"content_type": "a/b"})
    assert "does not exist" in r2.run("object", "copy", "bucket/x", "bucket/y").stderr
    assert "does not exist" in r2.run("object", "copy", "bucket/x", "other/y").stderr


def test_only_what_changed_is_synced(project: Path, r2: Commands) -> None:
    site = project / "site"
    (site / "img").mkdir(parents=True)
    for name in ("index.html", "img/a.png", "old.txt"):
        (site / name).write_text(name)
    first = r2.run("object", "sync", "site", "r2:bucket/v1")
    assert sorted(first.stdout.splitlines()) == ["put img/a.png", "put index.html", "put old.txt"]
    assert json.loads(r2("object", "head", "bucket/v1/index.html"))["http_metadata"] == {
        "content_type": "text/html"
    }
    again = r2.run("object", "sync", "site", "r2:bucket/v1/")
    assert (again.stdout, again.stderr) == ("", "0 transferred, 3 unchanged, 0 deleted\n")
    (site / "index.html").write_text("INDEX.HTML")  # as long as before
    (site / "old.txt").unlink()
    planned = r2("object", "sync", "site", "r2:bucket/v1", "--delete", "--dry-run")
    assert planned == "put index.html\ndelete old.txt\n"
    assert len(r2("object", "list", "bucket").splitlines()) == 3
    assert r2("object", "sync", "site", "r2:bucket/v1", "--delete") == planned
    assert len(r2("object", "list", "bucket").splitlines()) == 2

    copy = project / "copy"
    assert len(r2("object", "sync", "r2:bucket/v1", "copy").splitlines()) == 2
    assert files(copy) == files(site)
    (copy / "index.html").write_text("changed")
    (copy / "mine").write_text("mine")
    assert r2("object", "sync", "r2:bucket/v1", "copy") == "get index.html\n"
    assert set(files(copy)) == {*files(site), "mine"}
    r2("object", "sync", "r2:bucket/v1", "copy", "--delete")
    assert files(copy) == files(site)
    assert r2.run("object", "sync", "site", "copy").returncode == 2
    assert r2.run("object", "sync", "r2:bucket", "r2:other").returncode == 2
    assert r2.run("object", "sync", "nowhere", "r2:bucket").returncode == 1
    assert r2.run("object", "sync", "r2:buckt", "copy").returncode == 1


async def test_an_object_of_many_parts_is_compared_by_its_bytes(project: Path) -> None:
    import bunflare
    from tests.cli.process import run

    data = bytes(6 * 2**20)
    async with bunflare.open(project / ".bunflare") as state:
        upload = await state.r2("bucket").create_multipart_upload("big")
        parts = [await upload.upload_part(1, data), await upload.upload_part(2, b"end")]
        await upload.complete(parts)
    (project / "site").mkdir()
    (project / "site/big").write_bytes(data + b"end")
    assert run(project, "r2", "object", "sync", "site", "r2:bucket")[0] == ""
    (project / "site/big").write_bytes(data + b"END")
    assert run(project, "r2", "object", "sync", "site", "r2:bucket")[0] == "put big\n"


def test_a_bulk_put_takes_wranglers_list(project: Path, r2: Commands) -> None:
    (project / "list.json").write_text(json.dumps([{"key": "x/y", "file": "file.bin"}]))
    r2("bulk", "put", "bucket", "--filename", "list.json", "--prefix", "p/")
    assert (project / ".bunflare/r2/bucket/p/x/y").read_bytes() == DATA
    for text in ("{}", "[1]", "["):
        (project / "list.json").write_text(text)
        assert r2.run("bulk", "put", "bucket", "-f", "list.json").returncode == 1
    assert r2.run("bulk", "put", "bucket").returncode == 2
    (project / "list.json").write_text(json.dumps([{"key": "z", "file": "nowhere"}]))
    result = r2.run("bulk", "put", "bucket", "-f", "list.json")
    assert (result.returncode, "nowhere: No such file" in result.stderr) == (1, True)
