"""Locks keep processes apart, and end with them."""

import errno
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from unittest.mock import Mock

import pytest

from crosspatch.errors import UsageError
from crosspatch.storage.lock import RunLock, holder, is_locked, locked

HOLD = """
import sys, time
from pathlib import Path
from crosspatch.storage.lock import RunLock
with RunLock(Path(sys.argv[1])).alone():
    print("held", flush=True)
    time.sleep(600)
"""


def test_the_second_is_refused_and_the_lock_ends_with_a_process_that_is_killed(tmp_path):
    lock = RunLock(tmp_path)
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "held\n"
            with pytest.raises(UsageError, match=f"another command is working in .*process {other.pid} on .*since 20"):
                lock.alone().__enter__()
            assert is_locked(lock.path)
        finally:
            other.kill()
    assert holder(lock.path) is not None  # its name stays, the lock does not
    assert not is_locked(lock.path)
    with lock.alone():
        assert is_locked(lock.path)
    assert (is_locked(lock.path), holder(lock.path)) == (False, None)


def is_alone_refused(root, match: str = "") -> bool:
    try:
        with RunLock(root).alone():
            return False
    except UsageError as error:
        return match in str(error)


def test_one_who_works_alone_can_leave_the_lock_to_others_and_waits_for_them(tmp_path):
    lock, done = RunLock(tmp_path), threading.Event()

    def work():
        with RunLock(tmp_path).together():
            time.sleep(0.3)
            done.set()

    with lock.alone():
        other = threading.Thread(target=work)
        other.start()
        assert not done.wait(0.3)  # kept out until the lock is left to it
        with lock.left_to_others():
            while not is_alone_refused(tmp_path):
                time.sleep(0.01)
            done.wait(5)
        assert done.is_set()
    other.join()
    # Several work together, and none alone beside them.
    with RunLock(tmp_path).together(), RunLock(tmp_path).together():
        assert is_alone_refused(tmp_path, match="several processes")
    assert not is_alone_refused(tmp_path)


def test_waiting_ends_when_the_other_does(tmp_path):
    with ExitStack() as other:
        other.enter_context(RunLock(tmp_path).alone())
        ended = threading.Event()
        other.callback(ended.set)
        threading.Timer(0.3, other.close).start()
        with RunLock(tmp_path).alone(wait=True):
            assert ended.is_set()


def test_a_file_that_is_no_note_names_nobody(tmp_path):
    for content in ("", "{", "[]", "null", '{"process": 1}'):
        (tmp_path / "x.holder").write_text(content)
        assert holder(tmp_path / "x") is None
    assert holder(tmp_path / "missing") is None
    assert not is_locked(tmp_path / "missing")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
def test_on_a_file_system_without_locks_every_process_gets_the_lock(tmp_path, monkeypatch, number):
    monkeypatch.setattr("filelock.FileLock.acquire", Mock(side_effect=OSError(number, os.strerror(number))))
    path = tmp_path / ".lock"
    path.touch()
    if number == errno.EIO:
        # The control: other errors are not taken for a free lock.
        with pytest.raises(OSError, match="Input/output"):
            is_locked(path)
        return
    with locked(path) as held:
        assert (held, is_locked(path)) == (True, False)
