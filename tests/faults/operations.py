"""File operations below a folder: recorded in order, and each can be made to fail or to be the last of the process."""

import contextlib
import io
import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

KILLED = 137


@dataclass(frozen=True)
class Operation:
    """One operation: `open`, `write`, `truncate`, `sync`, `rename`, `unlink`, `mkdir`, `rmdir`, or a `commit` of ours.

    Attributes:
        kind: which.
        path: below the root; empty for the root itself.
        to: new path of a rename.
        offset: where `data` is written, the length after `truncate`, or the step of a commit.
        data: what is written.
    """

    kind: str
    path: str = ""
    to: str = ""
    offset: int = 0
    data: bytes = b""


class Fault:
    """What happens at operations from number `at` on: nothing, in this base class."""

    def __init__(self, at: int = -1) -> None:
        self.at = at

    def before(self, number: int, operation: Operation) -> None:
        """Raise, or end the process, in place of an operation."""

    def after(self, number: int, operation: Operation) -> None:
        """End the process after an operation."""

    def data(self, number: int, operation: Operation) -> bytes:
        """Return what of the data of a write is written, and in which form."""
        return operation.data


@dataclass
class Recorder:
    """Record the operations below `root` while `recording`."""

    root: Path
    fault: Fault = field(default_factory=Fault)
    log: list[Operation] = field(default_factory=list)

    def commit(self, step: int) -> None:
        """Record that a checkpoint was saved."""
        self.log.append(Operation("commit", offset=step))

    def perform(self, operation: Operation, call: Callable[[], Any]) -> Any:
        number = len(self.log)
        self.log.append(operation)
        self.fault.before(number, operation)
        try:
            return call()
        finally:
            self.fault.after(number, operation)

    def below(self, path: Any) -> str | None:
        """Return the path below the root, None if it is elsewhere."""
        if isinstance(path, int):
            return None
        whole = os.path.abspath(os.fsdecode(path))  # noqa: PTH100
        root = str(self.root)
        if whole == root:
            return ""
        return whole.removeprefix(f"{root}/") if whole.startswith(f"{root}/") else None

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:  # noqa: C901
        """Replace the functions that change files; what is synced is recorded, and not synced."""
        real_open, real_descriptor, real_sync = io.open, os.open, os.fsync
        folders: dict[int, str] = {}

        def opened(
            file: Any, mode: str = "r", buffering: int = -1, encoding: Any = None, *more: Any, **words: Any
        ) -> Any:
            path = self.below(file)
            if path is None or mode.strip("bt") == "r" or "opener" in words:  # a temporary file has no name
                return real_open(file, mode, buffering, encoding, *more, **words)
            truncated = Operation("open", path, data=b"w" if "w" in mode else b"")
            raw = self.perform(truncated, lambda: _Raw(self, path, str(file), mode.replace("b", "")))
            folders[raw.fileno()] = path
            buffer: Any = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
            return buffer if "b" in mode else io.TextIOWrapper(buffer, encoding, *more)

        def descriptor(path: Any, flags: int, *more: Any, **words: Any) -> int:
            number = real_descriptor(path, flags, *more, **words)
            if (below := self.below(path)) is not None:
                folders[number] = below
            return number

        def sync(number: int) -> None:
            if number in folders:
                self.perform(Operation("sync", folders[number]), lambda: None)
            else:
                real_sync(number)

        def one(kind: str, real: Callable[..., Any]) -> Callable[..., Any]:
            def called(path: Any, *more: Any, **words: Any) -> Any:
                below = self.below(path)
                if below is None:
                    return real(path, *more, **words)
                return self.perform(Operation(kind, below), lambda: real(path, *more, **words))

            return called

        def renaming(real: Callable[..., Any]) -> Callable[..., Any]:
            def called(path: Any, to: Any) -> Any:
                return self.perform(Operation("rename", self.below(path) or "", self.below(to) or ""),
                                    lambda: real(path, to))  # fmt: skip

            return called

        replaced = {name: one(name, getattr(os, name)) for name in ("unlink", "mkdir", "rmdir")}
        renames = {name: renaming(getattr(os, name)) for name in ("rename", "replace")}
        changed: dict[str, Any] = {"open": descriptor, "fsync": sync, **replaced, **renames}
        with (
            mock.patch.object(io, "open", opened),
            mock.patch.multiple(os, **changed),
        ):
            yield


class _Raw(io.FileIO):
    """An unbuffered file whose writes are recorded."""

    def __init__(self, recorder: Recorder, below: str, path: str, mode: str) -> None:
        super().__init__(path, mode)
        self.recorder, self.below = recorder, below

    def write(self, data: Any) -> int:
        offset = os.fstat(self.fileno()).st_size if "a" in self.mode else self.tell()
        operation = Operation("write", self.below, offset=offset, data=bytes(data))
        number = len(self.recorder.log)
        write = super().write
        return int(self.recorder.perform(operation, lambda: write(self.recorder.fault.data(number, operation))))

    def truncate(self, size: int | None = None) -> int:
        length = self.tell() if size is None else size
        truncate = super().truncate
        return int(self.recorder.perform(Operation("truncate", self.below, offset=length), lambda: truncate(length)))


class Raises(Fault):
    """Operation `at` fails, and where `kinds` are given all of these from then on, as on a full disk."""

    def __init__(self, at: int, root: Path, error: int, kinds: tuple[str, ...] = ()) -> None:
        super().__init__(at)
        self.root, self.error, self.kinds = root, error, kinds

    def before(self, number: int, operation: Operation) -> None:
        if number == self.at or (number > self.at and operation.kind in self.kinds):
            named = operation.kind not in {"write", "sync", "truncate"}  # by a number, of an open file
            raise OSError(self.error, os.strerror(self.error), *([str(self.root / operation.path)] if named else []))


class Short(Raises):
    """Write `at` takes half of its data, after which there is no room left."""

    def before(self, number: int, operation: Operation) -> None:
        if number != self.at or operation.kind != "write":
            super().before(number, operation)

    def data(self, number: int, operation: Operation) -> bytes:
        return operation.data[: max(1, len(operation.data) // 2)] if number == self.at else operation.data


class Ends(Fault):
    """The process ends before or after operation `at`, without any cleaning up."""

    def __init__(self, at: int, *, done: bool) -> None:
        super().__init__(at)
        self.done = done

    def before(self, number: int, operation: Operation) -> None:
        if number == self.at and not self.done:
            os._exit(KILLED)

    def after(self, number: int, operation: Operation) -> None:
        if number == self.at and self.done:
            os._exit(KILLED)


class Copies(Fault):
    """Copy the root before each operation that follows a change: what a process leaves that ends there."""

    def __init__(self, root: Path, copies: Path) -> None:
        super().__init__()
        self.root, self.copies, self.changed = root, copies, True

    def before(self, number: int, operation: Operation) -> None:
        if self.changed:
            shutil.copytree(self.root, self.copies / str(number))
        self.changed = operation.kind != "sync"


class Alters(Fault):
    """A failing disk: a bit of what is written for the file named like `path` is another, and nothing says so."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def data(self, number: int, operation: Operation) -> bytes:
        if Path(self.path).name not in operation.path:
            return operation.data
        middle = len(operation.data) // 2
        return operation.data[:middle] + bytes([operation.data[middle] ^ 1]) + operation.data[middle + 1 :]


class Disk:
    """What a power loss may leave of the operations: files and folders as nodes, of which each sync fixes one.

    A write that was not synced is there, not there, zeros, or half there; a change of a folder that was not synced is
    done or not, whatever became of the others.
    """

    def __init__(self, root: Path) -> None:
        self.contents: list[bytes] = []
        self.synced: list[bytes] = []
        self.folders: dict[int, dict[str, int]] = {0: {}}
        self.changes: list[tuple[int, bool, dict[str, int | None]]] = []
        self.count = 0
        self.start: dict[int, dict[str, int]] = {0: {}}
        for path in sorted(root.rglob("*")) if root.is_dir() else ():
            parent, name = self._place(path.relative_to(root).as_posix())
            self.folders[parent][name] = self._new(None if path.is_dir() else path.read_bytes())
        self.synced = list(self.contents)
        self.start = {folder: dict(names) for folder, names in self.folders.items()}

    def apply(self, operation: Operation) -> None:
        """Apply one recorded operation."""
        if operation.kind == "commit":
            return None
        if operation.path == "" and operation.kind == "sync":
            return self._sync(0)
        parent, name = self._place(operation.path)
        node = self.folders[parent].get(name)
        if operation.kind == "sync":
            assert node is not None
            return self._sync(node)
        if operation.kind == "open" and node is None:
            return self._change(parent, {name: self._new(b"")})
        if operation.kind == "mkdir":
            return self._change(parent, {name: self._new(None)})
        if operation.kind in {"unlink", "rmdir"}:
            return self._change(parent, {name: None})
        assert node is not None
        if operation.kind == "rename":
            other, to = self._place(operation.to)
            assert other == parent
            return self._change(parent, {name: None, to: node})
        before = self.contents[node]
        if operation.kind == "write":
            end = operation.offset + len(operation.data)
            self.contents[node] = before[: operation.offset] + operation.data + before[end:]
        else:
            self.contents[node] = b"" if operation.data == b"w" else before
            if operation.kind == "truncate":
                self.contents[node] = before[: operation.offset]
        return None

    def states(self) -> Iterator[dict[str, bytes | None]]:
        """Yield what a power loss now may leave: contents by path, None for a folder."""
        pending = [number for number, change in enumerate(self.changes) if not change[1]]
        chosen = [set(pending[:count]) for count in range(len(pending) + 1)]
        chosen += [{one} for one in pending] + [set(pending) - {one} for one in pending]
        chosen += map(set, itertools.combinations(pending, 2))
        for done in chosen:
            tree = {folder: dict(names) for folder, names in self.start.items()}
            for number, (folder, durable, names) in enumerate(self.changes):
                if durable or number in done:
                    for name, node in names.items():
                        if node is None:
                            tree.get(folder, {}).pop(name, None)
                        else:
                            tree.setdefault(folder, {})[name] = node
            for form in ("there", "not there", "zeros", "half"):
                yield dict(self._walk(tree, 0, "", form))

    def _walk(self, tree: dict[int, dict[str, int]], folder: int, path: str, form: str) -> Iterator[Any]:
        for name, node in tree.get(folder, {}).items():
            if node in self.folders:
                yield path + name, None
                yield from self._walk(tree, node, f"{path}{name}/", form)
            else:
                yield path + name, self._content(node, form)

    def _content(self, node: int, form: str) -> bytes:
        now, synced = self.contents[node], self.synced[node]
        if form == "there" or now == synced:
            return now
        kept = next(
            (i for i, (a, b) in enumerate(zip(now, synced, strict=False)) if a != b), min(len(now), len(synced))
        )
        new = len(now) - kept
        return {"not there": synced, "zeros": now[:kept] + bytes(new), "half": now[: kept + new // 2]}[form]

    def _new(self, content: bytes | None) -> int:
        self.count += 1
        if content is None:
            self.folders[self.count] = {}
        while len(self.contents) <= self.count:
            self.contents.append(b"")
            self.synced.append(b"")
        self.contents[self.count] = content or b""
        return self.count

    def _place(self, path: str) -> tuple[int, str]:
        folder = 0
        *parents, name = path.split("/")
        for parent in parents:
            folder = self.folders[folder][parent]
        return folder, name

    def _change(self, folder: int, names: dict[str, int | None]) -> None:
        self.changes.append((folder, False, names))
        for name, node in names.items():
            if node is None:
                self.folders[folder].pop(name, None)
            else:
                self.folders[folder][name] = node

    def _sync(self, node: int) -> None:
        if node in self.folders:
            self.changes = [(folder, durable or folder == node, names) for folder, durable, names in self.changes]
        else:
            self.synced[node] = self.contents[node]


def write_tree(tree: dict[str, bytes | None], folder: Path) -> None:
    """Write contents by path, None for a folder, in place of what is in `folder`."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path, content in tree.items():
        if content is None:
            (folder / path).mkdir(exist_ok=True)
        else:
            (folder / path).write_bytes(content)
