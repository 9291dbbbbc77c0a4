"""Mistakes about where images come from: splits taken for classes, other images taken for the same, packed bytes."""

from tests.mutants.mutant import Mutant

LAYOUT, SEARCH, LISTED = "ssl_cli/data/layout.py", "ssl_cli/data/search.py", "ssl_cli/data/listed.py"
ARCHIVE, INDEX, FINGERPRINT = (f"ssl_cli/data/{name}.py" for name in ("archive", "archive_index", "fingerprint"))
LAYOUTS, FOLDERS, LISTS = (f"tests/data/test_{name}.py" for name in ("layout", "folder", "listed"))
ARCHIVES, FINGERPRINTS = "tests/data/test_archives.py", "tests/data/test_fingerprint.py"

MUTANTS = [
    Mutant(
        None,
        "splits-in-lower-case-alone",
        LAYOUT,
        "    name = name.lower()\n    if name in SPLITS",
        "    if name in SPLITS",
        (LAYOUTS,),
    ),
    Mutant(
        None,
        "a-class-folder-is-gone-through",
        LAYOUT,
        "        if images or not within:  # it is a class\n            return below, depth\n",
        "",
        (LAYOUTS,),
    ),
    Mutant(None, "thumbnails-are-images", SEARCH, "if is_system_folder(name):", "if False:", (FOLDERS,)),
    Mutant(
        None,
        "the-ending-alone-decides",
        SEARCH,
        "return _starts_as_image(head())",
        "return False",
        (FOLDERS,),
    ),
    Mutant(
        None,
        "a-list-in-its-own-order",
        LISTED,
        "ordered = self.paths.order()",
        "ordered = [*range(len(self.paths))]",
        (LISTS,),
    ),
    Mutant(
        None,
        "two-labels-and-the-first-counts",
        LISTED,
        "elif any(words[order[-1]] != words[index] for words in (self.labels, self.groups)):",
        "elif False:",
        (LISTS,),
    ),
    Mutant(None, "a-replaced-archive-is-read", ARCHIVE, "!= self.index.version:", "is None:", (ARCHIVES,)),
    Mutant(None, "no-checksum", ARCHIVE, " or zlib.crc32(data) != member.crc", "", (ARCHIVES,)),
    Mutant(
        None, "inflated-without-an-end", ARCHIVE, ".decompress(data, member.size + 1)", ".decompress(data)", (ARCHIVES,)
    ),
    Mutant(
        None,
        "a-cut-tar-ends-silently",
        INDEX,
        'if os.pread(file.fileno(), tarfile.BLOCKSIZE, archive.offset).strip(b"\\0"):',
        "if False:",
        (ARCHIVES,),
    ),
    Mutant(
        None,
        "joined-tars-end-with-the-first",
        INDEX,
        "            place = _next_tar(file.fileno(), archive.offset)\n",
        "            place = None\n",
        (ARCHIVES,),
    ),
    Mutant(
        None, "a-label-is-a-part-of-the-path", LISTED, "elif found := _with_label(path, row):", "elif False:", (LISTS,)
    ),
    Mutant(None, "a-pair-of-splits-are-classes", LAYOUT, " else _alike(folders) or found", " else found", (LAYOUTS,)),
    Mutant(None, "a-header-of-any-size", INDEX, "not 0 <= size <= _LARGEST_HEADER", "size < 0", (ARCHIVES,)),
    Mutant(
        None,
        "the-count-alone-is-compared",
        FINGERPRINT,
        "if expected and record.fingerprint != expected:",
        "if False:",
        (FINGERPRINTS,),
    ),
    Mutant(
        None,
        "labels-do-not-count",
        FINGERPRINT,
        "(entry.size, words[label], names[group], _escaped(entry.name))",
        '(entry.size, b"-", names[group], _escaped(entry.name))',
        (FINGERPRINTS,),
    ),
]
