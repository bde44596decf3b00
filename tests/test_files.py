"""What is written appears whole or not at all, and never in the place of something else unasked."""

import ctypes
import errno
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from sasrec.errors import OutputError
from sasrec.files import beside, check_free, durable_file, sha256, sweep, write_folder
from sasrec.locking import check_apart, check_kept, held


def writer(text):
    return lambda path: path.write_text(text)


def broken(error):
    def write(path):
        path.write_text("half")
        raise error

    return write


def tree(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


@contextmanager
def as_nobody():
    """Without the rights of root, who may enter and write every folder."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(before)


@pytest.fixture
def unreadable():
    """A folder that may be written and entered and not read."""
    with tempfile.TemporaryDirectory() as folder:  # that of `tmp_path` may be entered by its owner alone
        os.chmod(folder, 0o711)
        inner = Path(folder) / "inner"
        inner.mkdir()
        if os.geteuid() == 0:
            os.chown(inner, 65534, -1)
        inner.chmod(0o300)
        yield inner
        inner.chmod(0o700)


@pytest.fixture
def no_exchange(monkeypatch):
    """A system that cannot swap two folders in one step."""

    class Bare:
        def __init__(self, *_, **__):
            pass

    monkeypatch.setattr(ctypes, "CDLL", Bare)


def test_the_checksum_is_sha256():
    assert sha256(b"abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256(b"\0" * 1_000) == hashlib.sha256(b"\0" * 1_000).hexdigest()


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "a.txt"

    with durable_file(path, replace=False) as draft:
        draft.write_text("whole")
        seen_before = path.exists()

    assert not seen_before
    assert tree(tmp_path) == {"a.txt": "whole"}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError(errno.ENOSPC, "No space left on device")])
@pytest.mark.parametrize("old", [None, "old"])
def test_a_file_that_could_not_be_finished_leaves_what_was_there(tmp_path, error, old):
    path = tmp_path / "a.txt"
    if old:
        path.write_text(old)

    with (
        pytest.raises((OutputError, RuntimeError, KeyboardInterrupt)),
        durable_file(path, replace=True) as draft,
    ):
        broken(error)(draft)

    assert tree(tmp_path) == ({"a.txt": old} if old else {})
    assert len(list(tmp_path.iterdir())) == bool(old), "nothing temporary is left"


def test_a_taken_path_is_refused_unless_it_may_be_replaced(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")

    with pytest.raises(OutputError, match=r"a: exists already; choose another name, or pass replace=True"):
        check_free(path, replace=False)
    with pytest.raises(OutputError, match="exists already"), durable_file(path, replace=False):
        pass
    with pytest.raises(OutputError, match="exists already"):
        write_folder(path, {"b": writer("new")}, replace=False)


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("folder", [True, False])
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (os.mkfifo, "a: is a device, pipe or socket, .*; choose another name$"),
        (lambda path: path.symlink_to(os.devnull), "a: is a device, pipe or socket, .*; choose another name$"),
        (lambda path: path.symlink_to(path.parent), "a: is a link, .*; name .* itself$"),
        (lambda path: path.symlink_to(__file__), "a: is a link, .*; name .*test_files.py itself$"),
        (lambda path: path.symlink_to("nowhere"), "a: is a link, .*; name .*nowhere itself$"),
    ],
    ids=["pipe", "link-to-device", "link-to-folder", "link-to-file", "broken-link"],
)
def test_devices_pipes_and_links_are_never_replaced(tmp_path, make, said, folder, replace):
    path = tmp_path / "a"
    make(path)
    before = os.lstat(path)

    with pytest.raises(OutputError, match=said):
        check_free(path, replace=replace, folder=folder)
    with pytest.raises(OutputError, match=said), durable_file(path, replace=replace) as draft:
        draft.write_text("new")
    with pytest.raises(OutputError, match=said):
        write_folder(path, {"b": writer("new")}, replace=replace)

    assert os.path.samestat(os.lstat(path), before)


def test_a_file_takes_the_place_of_another_when_told_to(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    with durable_file(path, replace=True) as draft:
        draft.write_text("new")

    assert tree(tmp_path) == {"a.txt": "new"}


def test_whoever_reads_a_file_while_it_is_replaced_reads_the_old_one_to_its_end(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    with path.open() as reader:
        with durable_file(path, replace=True) as draft:
            draft.write_text("new")
        read = reader.read()

    assert read == "old"


def test_a_file_never_takes_the_place_of_a_folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("old")

    with (
        pytest.raises(OutputError, match="a: is a folder"),
        durable_file(tmp_path / "a", replace=True) as draft,
    ):
        draft.write_text("new")

    assert tree(tmp_path) == {"a/b": "old"}


def test_a_missing_folder_is_refused_before_any_work(tmp_path):
    with pytest.raises(OutputError, match=r"the folder .*nowhere does not exist or cannot be entered; make it first"):
        check_free(tmp_path / "nowhere" / "a", replace=False)


def test_a_folder_that_is_not_writable_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)

    with pytest.raises(OutputError, match=r"a: the folder .* is not writable"):
        check_free(tmp_path / "a", replace=False)


def test_a_folder_that_refuses_what_it_says_is_allowed_is_found_out_before_any_work():
    if not Path("/proc").is_dir():
        pytest.skip("no folder here says that it can be written to and cannot")

    with pytest.raises(OutputError, match="/proc/a: "):
        check_free(Path("/proc/a"), replace=False)


def test_trying_leaves_nothing_behind(tmp_path):
    check_free(tmp_path / "a", replace=False)

    assert not list(tmp_path.iterdir())


def test_a_file_in_the_place_of_a_folder_is_refused_before_any_work(tmp_path):
    (tmp_path / "a").mkdir()

    check_free(tmp_path / "a", replace=True, folder=True)
    with pytest.raises(OutputError, match="a: is a folder"):
        check_free(tmp_path / "a", replace=True)


@pytest.mark.parametrize(("one", "other"), [("a", "a"), ("a/b", "a"), ("a", "a/b/c"), ("x/../a", "a"), ("link", "a")])
def test_two_results_do_not_meet(tmp_path, one, other):
    (tmp_path / "link").symlink_to("a")

    with pytest.raises(OutputError, match="is to be written"):
        check_apart(tmp_path / one, None, tmp_path / other)


@pytest.mark.parametrize(("one", "other"), [("a", "a"), ("a/b", "a"), ("x/../a", "a"), ("link", "a"), ("a", "link")])
def test_a_result_takes_no_place_of_what_is_read(tmp_path, one, other):
    (tmp_path / "link").symlink_to("a")

    with pytest.raises(OutputError, match="is read from, or inside it"):
        check_kept(None, tmp_path / one, read=[tmp_path / "b", None, tmp_path / other])


def test_a_result_may_lie_beside_and_around_what_is_read(tmp_path):
    check_kept(tmp_path / "a", None, read=[tmp_path / "a" / "b", tmp_path / "ab", None])


def test_results_beside_each_other_are_well(tmp_path):
    check_apart(tmp_path / "a", tmp_path / "ab", None, None)


def test_a_folder_that_must_not_be_entered_is_one_clear_error(tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o000)

    with as_nobody(), pytest.raises(OutputError, match="does not exist or cannot be entered"):
        check_free(locked / "deep" / "a", replace=False)


@pytest.mark.parametrize(
    "error", [PermissionError(errno.EACCES, "Permission denied"), OSError(errno.EROFS, "Read-only file system")]
)
def test_a_disk_that_refuses_is_one_clear_error(tmp_path, monkeypatch, error):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr("tempfile.mkdtemp", refuse)

    with (
        pytest.raises(OutputError, match=f"a: cannot be written: {error.strerror}"),
        durable_file(tmp_path / "a", replace=False),
    ):
        pass


def test_a_name_that_is_too_long_is_one_clear_error(tmp_path):
    with pytest.raises(OutputError, match="cannot be written: File name too long"):
        write_folder(tmp_path / ("a" * 300), {"b": writer("new")}, replace=False)


def test_a_folder_appears_with_all_its_files(tmp_path):
    write_folder(tmp_path / "a", {"b": writer("1"), "c": writer("2")}, replace=False)

    assert tree(tmp_path) == {"a/b": "1", "a/c": "2"}


@pytest.mark.parametrize("exchange", [True, False], ids=["in-one-step", "in-two-steps"])
def test_a_folder_takes_the_place_of_another_with_nothing_of_it_left(tmp_path, exchange, request):
    if not exchange:
        request.getfixturevalue("no_exchange")
    write_folder(tmp_path / "a", {"b": writer("1"), "gone": writer("2")}, replace=False)

    write_folder(tmp_path / "a", {"b": writer("3")}, replace=True)

    assert tree(tmp_path) == {"a/b": "3"}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, OSError(errno.ENOSPC, "No space left on device")])
@pytest.mark.parametrize("old", [True, False])
def test_a_folder_that_could_not_be_finished_leaves_what_was_there(tmp_path, error, old):
    if old:
        write_folder(tmp_path / "a", {"b": writer("1")}, replace=False)

    with pytest.raises((OutputError, RuntimeError, KeyboardInterrupt)):
        write_folder(tmp_path / "a", {"b": writer("2"), "c": broken(error)}, replace=True)

    assert tree(tmp_path) == ({"a/b": "1"} if old else {})
    assert [path.name for path in tmp_path.iterdir()] == (["a"] if old else []), "nothing temporary is left"


def test_a_folder_is_put_back_when_the_second_of_two_steps_fails(tmp_path, no_exchange, monkeypatch):
    write_folder(tmp_path / "a", {"b": writer("1")}, replace=False)
    rename = os.rename

    def fail_for_draft(old, new):
        if Path(old).name == "draft":
            raise OSError(errno.EIO, "Input/output error")
        rename(old, new)

    monkeypatch.setattr(os, "rename", fail_for_draft)

    with pytest.raises(OutputError, match="Input/output error"):
        write_folder(tmp_path / "a", {"b": writer("2")}, replace=True)

    assert tree(tmp_path) == {"a/b": "1"}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_that_cannot_be_moved_away_stays_alone(tmp_path, no_exchange, monkeypatch):
    write_folder(tmp_path / "a", {"b": writer("1")}, replace=False)

    def refuse(old, new):
        raise OSError(errno.EBUSY, "Device or resource busy")  # as for one that another disk is mounted on

    monkeypatch.setattr(os, "rename", refuse)

    with pytest.raises(OutputError, match="busy"):
        write_folder(tmp_path / "a", {"b": writer("2")}, replace=True)

    assert tree(tmp_path) == {"a/b": "1"}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_every_byte_is_flushed_to_the_disk_before_the_name_appears(tmp_path, monkeypatch):
    happened = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(
        os, "fsync", lambda handle: (happened.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name), fsync(handle))
    )
    monkeypatch.setattr(os, "rename", lambda old, new: (happened.append("appears"), rename(old, new)))

    write_folder(tmp_path / "a", {"b": writer("1"), "c": writer("2")}, replace=False)

    assert happened == ["b", "c", "draft", "appears", tmp_path.name]


def test_others_may_read_what_was_written_as_the_caller_has_it(tmp_path):
    before = os.umask(0o022)
    try:
        write_folder(tmp_path / "a", {"b": writer("1")}, replace=False)
        with durable_file(tmp_path / "c", replace=False) as draft:
            draft.write_text("2")
    finally:
        os.umask(before)

    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o644


def test_what_a_killed_writing_left_goes_with_the_next_one(tmp_path):
    code = """
import os, pathlib, signal
from sasrec.files import durable_file

with durable_file(pathlib.Path("a"), replace=True):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False)
    left = os.listdir(tmp_path)

    write_folder(tmp_path / "a", {"b": writer("new")}, replace=False)

    assert len(left) == 1
    assert os.listdir(tmp_path) == ["a"]


KILLED_BETWEEN = """
import ctypes, os, pathlib, signal
from sasrec import files

class Bare:
    def __init__(self, *_, **__):
        pass

def rename(old, new):
    move(old, new)
    os.kill(os.getpid(), signal.SIGKILL)

ctypes.CDLL, move, os.rename = Bare, os.rename, rename
files.write_folder(pathlib.Path("a"), {"b": lambda draft: draft.write_text("2")}, replace=True)
"""


def test_what_a_killed_replacement_moved_away_is_put_back_before_anything_is_written(tmp_path):
    write_folder(tmp_path / "a", {"b": writer("1")}, replace=False)

    done = subprocess.run([sys.executable, "-c", KILLED_BETWEEN], cwd=tmp_path, check=False)
    there, left = os.path.exists(tmp_path / "a"), [tree(one) for one in beside(tmp_path / "a")]
    with pytest.raises(OutputError, match="exists already"):
        write_folder(tmp_path / "a", {"b": writer("3")}, replace=False)

    assert (done.returncode, there) == (-signal.SIGKILL, False)
    assert {"a/b": "1"} in left
    assert tree(tmp_path) == {"a/b": "1"}
    assert os.listdir(tmp_path) == ["a"]


def test_what_a_killed_replacement_moved_away_goes_once_another_stands_there(tmp_path):
    write_folder(tmp_path / "a", {"b": writer("1")}, replace=False)
    subprocess.run([sys.executable, "-c", KILLED_BETWEEN], cwd=tmp_path, check=False)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("by hand")

    write_folder(tmp_path / "a", {"b": writer("3")}, replace=True)

    assert tree(tmp_path) == {"a/b": "3"}
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("name", ["renameat2", "renamex_np"])
def test_two_folders_are_swapped_in_one_step_by_what_the_system_has(tmp_path, monkeypatch, name):
    calls = []

    def swap(*arguments):
        calls.append(arguments)
        new, old = (one for one in arguments if isinstance(one, bytes))
        for one, other in ((old, old + b"x"), (new, old), (old + b"x", new)):
            os.rename(one, other)
        return 0

    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: SimpleNamespace(**{name: swap}))
    write_folder(tmp_path / "a", {"b": writer("1")}, replace=False)

    write_folder(tmp_path / "a", {"b": writer("2")}, replace=True)

    assert tree(tmp_path) == {"a/b": "2"}
    assert [one[-1] for one in calls] == [2]


def test_what_another_one_is_writing_at_this_moment_stays(tmp_path):
    with durable_file(tmp_path / "a", replace=True) as draft:
        draft.write_text("first")
        with durable_file(tmp_path / "a", replace=True) as other:
            other.write_text("second")

    assert tree(tmp_path) == {"a": "first"}
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize(
    "other",
    [".run.sasrec.abcd_123.tmp", ".run.training.abcdefgh.tmp", ".run.abcdefg.tmp", ".run.notes.tx.tmp", "run.a"],
)
def test_what_is_left_of_another_path_stays_however_its_name_begins(tmp_path, other):
    for name in (other, ".run.abcd_123.tmp", ".r[u]n.abcd_123.tmp"):
        (tmp_path / name).mkdir()

    sweep(tmp_path / "run")
    before = set(os.listdir(tmp_path))
    sweep(tmp_path / "r[u]n")

    assert before == {other, ".r[u]n.abcd_123.tmp"}
    assert os.listdir(tmp_path) == [other]


def test_what_is_written_to_a_folder_that_may_not_be_read_is_in_place(unreadable):
    with as_nobody():
        for text in ("first", "second"):
            with durable_file(unreadable / "file", replace=True) as draft:
                draft.write_text(text)
            write_folder(unreadable / "folder", {"a": writer(text)}, replace=True)

    unreadable.chmod(0o700)
    assert tree(unreadable) == {"file": "second", "folder/a": "second"}


def test_a_writing_whose_folder_was_swept_before_it_was_locked_makes_another(tmp_path, monkeypatch):
    make, made = tempfile.mkdtemp, []

    def swept_at_first(*args, **kwargs):
        made.append(make(*args, **kwargs))
        if len(made) == 1:
            sweep(tmp_path / "a")
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", swept_at_first)

    with durable_file(tmp_path / "a", replace=False) as draft:
        draft.write_text("whole")

    assert len(made) == 2
    assert tree(tmp_path) == {"a": "whole"}


HOLDER = """
import sys
from pathlib import Path
from sasrec.locking import held

with held(Path(sys.argv[1]), doing="somebody works there"):
    print("held", flush=True)
    sys.stdin.readline()
"""


@contextmanager
def holder(path):
    """Another process that holds a path until it reads a line or is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_path_is_held_by_one_process_at_a_time(tmp_path):
    path = tmp_path / "a"

    with holder(path) as other:
        with (
            pytest.raises(OutputError, match=r"a: we work here at this moment; wait until it ends, or choose another"),
            held(path, doing="we work here"),
        ):
            pytest.fail("two hold it")
        with held(tmp_path / "b", doing="we work here"):
            pass
        other.communicate("\n")
    with held(path, doing="we work here"):
        pass

    assert os.listdir(tmp_path) == [], "nothing is left of it"


def test_a_hold_ends_with_its_process_however_that_ends(tmp_path):
    with holder(tmp_path / "a") as other:
        other.kill()
        other.wait()

        with held(tmp_path / "a", doing="we work here"):
            pass

    assert os.listdir(tmp_path) == []


def test_a_hold_ends_with_an_error_in_its_block(tmp_path):
    for _ in range(2):
        with pytest.raises(RuntimeError), held(tmp_path / "a", doing="we work here"):
            raise RuntimeError

    assert os.listdir(tmp_path) == []


def test_a_path_in_a_missing_folder_is_not_held(tmp_path):
    with (
        pytest.raises(OutputError, match=r"the folder .*nowhere does not exist or cannot be entered; make it first"),
        held(tmp_path / "nowhere" / "a", doing="we work here"),
    ):
        pass
