"""Many names in little memory."""

from array import array
from collections.abc import Iterable, Iterator


class Names:
    """Hold names in one buffer: each takes its own bytes and eight more, where a list of strings takes sixty more."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._text, self._ends, self._last = bytearray(), array("Q"), ""
        self.is_sorted = True
        for name in names:
            self.append(name)

    def append(self, name: str) -> None:
        """Add a name at the end."""
        self.is_sorted &= name >= self._last
        self._last = name
        self._text += name.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._text))

    def __len__(self) -> int:
        return len(self._ends)

    def __iter__(self) -> Iterator[str]:
        start = 0
        for end in self._ends:
            yield self._text[start:end].decode("utf-8", "surrogatepass")
            start = end

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < len(self._ends):
            raise IndexError(index)
        start = self._ends[index - 1] if index else 0
        return self._text[start : self._ends[index]].decode("utf-8", "surrogatepass")

    def order(self) -> list[int]:
        """Return the positions of the names in their alphabetical order."""
        return list(range(len(self))) if self.is_sorted else sorted(range(len(self)), key=self.__getitem__)
