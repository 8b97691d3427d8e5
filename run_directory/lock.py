"""One writer at a time: a lock that the operating system releases when its process ends.

    runs/tiny/.lock         held while a command writes runs/tiny; it names the process
    data/cache/.KEY.lock    held while a command makes data/cache/KEY

A second command is refused at once, or waits where both want the same result. A process that was
killed locks nothing, whatever file it left. Readers need no lock. While a folder is locked it must
stay where it is: `require_in_place` notices that it was moved, removed or replaced.
Previous: paths.py.  Next: files.py.
"""

import errno
import os
import platform
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from run_directory.paths import kind_of, require_folder

LOCK_FILE = ".lock"
PART = ".part"  # the end of the name of a file that is being written: .NAME.part
WITHOUT_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}
TRIES = 1000  # to lock a file that others remove at the same moment
POLL_SECONDS = 0.2  # between two looks at a lock that somebody else holds
FAR = 1 << 30  # Windows locks bytes, and nobody could read those that name the process

Say = Callable[[str], object]

_in_place: dict[Path, tuple[int, int]] = {}  # folders that this process writes, with their identity


class BeingWritten(ValueError):
    """Somebody else writes the same folder or file."""

    def __init__(self, path: Path, holder: str, instead: str) -> None:
        advice = f"wait for it, or {instead}" if instead else "wait for it"
        super().__init__(f"{path} is being written by {holder}; {advice}")
        self.holder = holder


@contextmanager
def only_writer(folder: Path, instead: str, say: Say) -> Iterator[None]:
    """Makes a folder where there is none, and holds its lock inside this context.

    What a killed writer left half-written is removed at the beginning, and at the end the folders
    that were made and stayed empty.

    Args:
        folder: the folder that is going to be written.
        instead: what to do instead of waiting, for the message; empty: nothing.
        say: prints a line.
    Raises BeingWritten where another process holds the lock, ValueError where a file is in the way,
    OSError where the folder cannot be made or written.
    """
    if kind_of(folder) != "missing":
        require_folder(folder, instead or "rename it")
    with held(folder / LOCK_FILE, folder, instead, say) as locked, staying_in_place(folder):
        if locked:
            remove_unfinished(folder)
        yield


@contextmanager
def first_free(folders: Iterable[Path], say: Say) -> Iterator[Path]:
    """Yields the first folder that holds nothing, locked: no two processes get the same."""
    with ExitStack() as lock:
        for folder in filter(is_unused, folders):
            try:
                lock.enter_context(only_writer(folder, "name another one", say))
            except BeingWritten:
                continue
            if is_unused(folder):  # nobody has filled it since
                yield folder
                return
            lock.close()


@contextmanager
def only_writer_of(file: Path, instead: str, say: Say) -> Iterator[bool]:
    """Holds the lock of a file, or of a folder that a rename will make; it lies beside it.

    Yields False on a disk without locks. Raises BeingWritten where another process holds the lock,
    OSError where nothing can be written there.
    """
    with held(lock_beside(file), file, instead, say) as locked:
        yield locked


@contextmanager
def in_turn(file: Path, waiting: Say) -> Iterator[bool]:
    """Holds the lock of a file, or of a folder, as soon as nobody else does.

    waiting(process) is called again and again until then. Yields False on a disk without locks,
    where nobody waits.
    """
    with ExitStack() as lock:
        while True:
            try:
                locked = lock.enter_context(only_writer_of(file, "", lambda line: None))
                break
            except BeingWritten as busy:
                waiting(busy.holder)
                time.sleep(POLL_SECONDS)
        yield locked


def lock_beside(file: Path) -> Path:
    """Returns the lock of a file: .NAME.lock, in the same folder."""
    file = file if file.name else file.resolve()
    return file.parent / f".{file.name}{LOCK_FILE}"


def is_unused(folder: Path) -> bool:
    """Returns whether a folder is missing, or holds nothing but the lock of a killed process."""
    try:
        return set(os.listdir(folder)) <= {LOCK_FILE}
    except FileNotFoundError:
        return not folder.is_symlink()
    except OSError:
        return False


def remove_unfinished(folder: Path) -> None:
    """Removes the files that a killed writer of a folder left half-written."""
    for file in folder.glob(f".*{PART}"):
        name = file.name.removesuffix(PART)
        if file.is_file() and not file.with_name(name + LOCK_FILE).exists():
            file.unlink()


# A folder stays where it is -----------------------------------------------------------------


@contextmanager
def staying_in_place(folder: Path) -> Iterator[None]:
    """Inside this context `require_in_place` notices that a folder has moved or is gone."""
    place = folder.absolute()
    _in_place[place] = identity(place)
    try:
        yield
    finally:
        del _in_place[place]


def require_in_place(path: Path) -> None:
    """Raises FileNotFoundError where the folder that was locked around `path` is there no more."""
    path = path.absolute()
    for folder, locked in list(_in_place.items()):
        if folder != path and folder not in path.parents:
            continue
        try:
            is_same = identity(folder) == locked
        except OSError:
            is_same = False
        if not is_same:
            raise FileNotFoundError(
                f"{folder} was moved or removed while this command was writing it, so it stops; "
                "what it had written is where the folder is"
            )


def identity(folder: Path) -> tuple[int, int]:
    """Returns what tells a folder from another one of the same name."""
    status = folder.stat()
    return status.st_dev, status.st_ino


# The lock of the operating system -----------------------------------------------------------


@contextmanager
def held(file: Path, what: Path, instead: str, say: Say) -> Iterator[bool]:
    """Holds a lock on a file, which it makes and removes; yields False on a disk without locks.

    Folders that it makes, or that a killed process has made, are removed where they stay empty.
    Raises as only_writer does.
    """
    folder = file.parent
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    if file.exists() and is_unused(folder):
        made = [folder]
    opened, locked = open_locked(file, what, instead)
    if not locked:
        say(f"{what.parent} has no locks: let no other command write {what} meanwhile")
    try:
        with suppress(OSError):  # of a full disk; the name of the process is for people
            os.ftruncate(opened, 0)
            os.lseek(opened, 0, os.SEEK_SET)
            os.write(opened, f"process {os.getpid()} on {platform.node()}\n".encode())
        yield locked
    finally:
        is_own = is_at(opened, file)
        if sys.platform == "win32":  # which removes no file that is open
            os.close(opened)
        with suppress(OSError):
            if is_own:
                file.unlink()
        if sys.platform != "win32":
            os.close(opened)
        with suppress(OSError):  # where one is not empty, those around it are not
            for each in made:
                each.rmdir()


def open_locked(file: Path, what: Path, instead: str) -> tuple[int, bool]:
    """Opens and locks a file; returns it, and False on a disk without locks. Raises as `held`."""
    for _ in range(TRIES):
        with suppress(FileNotFoundError):  # the folder was removed at this moment: try again
            file.parent.mkdir(parents=True, exist_ok=True)
            opened = open_to_lock(file)
            try:
                locked = try_lock(opened)
            except OSError as error:
                if error.errno in WITHOUT_LOCKS:
                    return opened, False
                os.close(opened)
                raise
            if locked and is_at(opened, file):
                return opened, True
            os.close(opened)
            if not locked:
                raise BeingWritten(what, holder_of(file), instead)
    raise FileNotFoundError(f"{file.parent} cannot be made; is the working directory still there?")


def open_to_lock(file: Path) -> int:
    """Opens a file, which it makes. Raises OSError, with the folder, where it may not be made."""
    try:
        return os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    except OSError as error:
        error.filename = str(file.parent)  # people know the folder, not the lock
        raise


def try_lock(opened: int) -> bool:
    """Locks an open file; returns False where another process has locked it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(opened, FAR, os.SEEK_SET)
            msvcrt.locking(opened, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK):
            return False
        raise
    return True


def is_at(opened: int, file: Path) -> bool:
    """Returns whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(opened), file.stat())
    except OSError:
        return False


def holder_of(file: Path) -> str:
    """Returns the process that a lock names, which has perhaps not written it yet."""
    for _ in range(10):
        with suppress(OSError, ValueError):
            if text := file.read_text(encoding="utf-8").strip():
                return text
        time.sleep(POLL_SECONDS / 10)
    return "another process"
