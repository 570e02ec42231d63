"""Tables in files: Parquet, Arrow and Feather, and CSV; one file, or a folder of shards in the order of their names.

Shards are one table: rows go on from one to the next (part-2 comes before part-10).  A vector is a column of lists of
the same length, or several columns of numbers.  An empty cell is NaN in a column of numbers, and an error in a flag.
Rows become episodes by `segue.data.readers.rows`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from segue.core.types import SegueError
from segue.data.extras import need
from segue.data.readers import columns
from segue.data.readers.columns import Roles, listed
from segue.data.readers.damage import reading, sensible
from segue.data.readers.npy import natural
from segue.data.readers.reader import Options, Source
from segue.data.readers.rows import BLOCK, episodes

if TYPE_CHECKING:
    from pyarrow import Array, DataType, RecordBatch, Schema
    from pyarrow.csv import CSVStreamingReader

    Batches = Callable[[tuple[str, ...]], Iterator[RecordBatch]]

OPTIONS = columns.OPTIONS
CSV_OPTIONS = (*columns.OPTIONS, "delimiter")
CSV_BYTES = 2**22
_SUFFIXES = (".parquet", ".pq", ".arrow", ".feather", ".ipc")
_CSV_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
_DELIMITERS = {"comma": ",", "tab": "\t", "semicolon": ";"}
_WORDS = {"true": 1.0, "false": 0.0, "yes": 1.0, "no": 0.0}


def source(where: str, options: Options) -> Source:
    """Open a Parquet, Arrow or Feather file, or a folder of them; options as for every table (`columns.choose`)."""
    arrow(where)
    files = shards(Path(where), _SUFFIXES)
    names = [column_names(file) for file in files]
    roles = columns.choose(names[0], options, str(files[0]))
    for file, there in zip(files, names):
        if missing := [name for name in roles.columns if there.count(name) != 1]:
            raise SegueError(f"{file}: no column '{missing[0]}', which {files[0].name} has; shards must agree")

    def blocks() -> Iterator[dict[str, np.ndarray]]:
        for file in files:
            yield from file_blocks(file, roles.columns)

    return Source(roles.facts(options.source, len(roles.action)), episodes(blocks(), roles, where), rows_of(files))


def csv_source(where: str, options: Options) -> Source:
    """Open a CSV file with a line of names, or a folder of them; `delimiter=` comma, tab or semicolon."""
    arrow(where)
    files = shards(Path(where), _CSV_SUFFIXES)
    delimiter = _DELIMITERS[options.choice("delimiter", tuple(_DELIMITERS))]
    with _csv(files[0], delimiter, {}) as reader, reading(files[0]):
        names = list(reader.schema.names)
    roles = columns.choose(names, options, str(files[0]))

    def blocks() -> Iterator[dict[str, np.ndarray]]:
        first = 0
        for file in files:
            for block in _csv_blocks(file, delimiter, roles, first):
                first += len(block[roles.reward])
                yield block

    return Source(roles.facts(options.source, len(roles.action)), episodes(blocks(), roles, where))


def arrow(where: str) -> ModuleType:
    """Import pyarrow; `SegueError` if it is missing."""
    return need("pyarrow", "arrow", f"reading {where}")


def shards(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """The file, or the folder's files of that kind in order; `SegueError` if there is none."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise SegueError(f"{path}: no such file or folder; check the path")
    files = sorted((f for f in path.iterdir() if f.is_file() and f.name.endswith(suffixes)), key=natural)
    if not files:
        raise SegueError(f"{path}: no file of {', '.join('*' + s for s in suffixes)} in this folder; name one that has")
    return files


def column_names(path: Path) -> list[str]:
    """Names of the columns of a Parquet, Arrow or Feather file."""
    with _opened(path) as (schema, _, _), reading(path):
        return list(schema.names)


def rows_of(files: list[Path]) -> int | None:
    """Rows of all files together; None if a file does not say."""
    total = 0
    for file in files:
        with _opened(file) as (_, rows, _):
            if rows is None:
                return None
            total += rows
    return total


def file_blocks(path: Path, wanted: tuple[str, ...]) -> Iterator[dict[str, np.ndarray]]:
    """Columns of a Parquet, Arrow or Feather file, by blocks of rows."""
    with _opened(path) as (_, rows, batches):
        sensible(path, "its rows", 4 * len(wanted) * (rows or 0))
        found, first = batches(wanted), 0
        while True:
            with reading(path):
                batch = next(found, None)
                if batch is None:
                    return
                block = {
                    name: _array(batch.column(batch.schema.get_field_index(name)), name, first, path) for name in wanted
                }
            first += batch.num_rows
            if batch.num_rows:
                yield block


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Schema, int | None, Batches]]:
    """A file's schema, its number of rows if it says so, and a function that gives its record batches."""
    pyarrow = arrow(str(path))
    with contextlib.ExitStack() as stack:
        with reading(path):
            file = stack.enter_context(pyarrow.OSFile(str(path)))
            magic = file.read(6)
            file.seek(0)
            if magic[:4] == b"PAR1":
                whole = stack.enter_context(need("pyarrow.parquet", "arrow", "reading Parquet").ParquetFile(file))
                schema, rows = whole.schema_arrow, whole.metadata.num_rows
                batches = lambda wanted: whole.iter_batches(BLOCK, columns=list(wanted), use_threads=False)  # noqa: E731
            elif magic[:4] == b"FEA1":
                raise SegueError(f"{path}: Feather of version 1, which Arrow no longer reads; write it as version 2")
            else:
                kind = pyarrow.ipc.open_file if magic == b"ARROW1" else pyarrow.ipc.open_stream
                schema, rows = kind(file).schema, None

                def batches(wanted: tuple[str, ...]) -> Iterator[RecordBatch]:
                    fields = [schema.get_field_index(name) for name in wanted]
                    file.seek(0)
                    reader = kind(file, options=pyarrow.ipc.IpcReadOptions(included_fields=fields, use_threads=False))
                    if kind is pyarrow.ipc.open_stream:
                        yield from reader
                    else:
                        yield from (reader.get_batch(i) for i in range(reader.num_record_batches))

        yield schema, rows, batches


def _array(column: Array, name: str, first: int, path: Path) -> np.ndarray:
    """An Arrow column as an array (rows, ...) of numbers, or (rows,) of words; `first` is its first row's number."""
    pyarrow = arrow(str(path))
    types, shape = pyarrow.types, [len(column)]
    column.validate(full=True)
    if isinstance(column.type, pyarrow.FixedShapeTensorType):
        return np.asarray(column.to_numpy_ndarray())
    if isinstance(column.type, pyarrow.BaseExtensionType):
        column = column.storage
    if types.is_dictionary(column.type):
        column = column.dictionary_decode()
    while types.is_list(column.type) or types.is_large_list(column.type) or types.is_fixed_size_list(column.type):
        lengths = need("pyarrow.compute", "arrow", "reading").list_value_length(column).fill_null(-1).to_numpy()
        wrong = lengths != lengths[0] if len(lengths) else np.zeros(0, bool)
        if wrong.any() or -1 in lengths[:1]:
            row = int(np.argmax(wrong)) // int(np.prod(shape[1:]))
            raise SegueError(
                f"{path}: '{name}' holds lists of different lengths, or none, in row {first + row}; rows need the same"
            )
        shape.append(int(lengths[0]) if len(lengths) else 0)
        column = column.flatten()
    if types.is_string(column.type) or types.is_large_string(column.type):
        return np.asarray(column.to_numpy(zero_copy_only=False)).reshape(shape)
    plain = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)
    if not any(one(column.type) for one in plain):
        raise SegueError(f"{path}: '{name}' holds {listed([str(column.type)])} instead of numbers; name another column")
    if column.null_count or types.is_decimal(column.type):
        column = column.cast(pyarrow.float64(), safe=False)
    return np.asarray(column.to_numpy(zero_copy_only=False)).reshape(shape)


@contextlib.contextmanager
def _csv(path: Path, delimiter: str, kinds: Mapping[str, DataType]) -> Iterator[CSVStreamingReader]:
    csv = need("pyarrow.csv", "arrow", "reading CSV")
    with reading(path):
        reader = csv.open_csv(
            str(path),
            csv.ReadOptions(use_threads=False, block_size=CSV_BYTES),
            csv.ParseOptions(delimiter=delimiter),
            csv.ConvertOptions(column_types=kinds, include_columns=list(kinds)),
        )
    with reader:
        yield reader


def _csv_blocks(path: Path, delimiter: str, roles: Roles, first: int) -> Iterator[dict[str, np.ndarray]]:
    """Columns by blocks of rows: words for flags and episodes, else numbers."""
    pyarrow = arrow(str(path))
    flags = {name for name in (roles.terminated, roles.truncated, roles.success) if name}
    words = flags | {roles.episode}
    kinds = {name: pyarrow.string() if name in words else pyarrow.float64() for name in roles.columns}
    with _csv(path, delimiter, kinds) as reader:
        while True:
            with reading(path):
                batch = next(reader, None)
                if batch is None:
                    return
                block = {name: _array(batch.column(name), name, first, path) for name in kinds}
            for name in flags:
                block[name] = _numbers(block[name], name, first, path)
            first += batch.num_rows
            yield block


def _numbers(words: np.ndarray, name: str, first: int, path: Path) -> np.ndarray:
    """Words such as 1, 0.0 and True as numbers; an empty one is NaN."""
    distinct, where = np.unique(words.astype(str), return_inverse=True)
    values = []
    for number, word in enumerate(distinct.tolist()):
        try:
            known = {**_WORDS, "none": np.nan, "": np.nan}
            lower = word.strip().lower()
            values.append(known[lower] if lower in known else float(word))
        except ValueError as error:
            row = first + int(np.argmax(where == number))
            raise SegueError(f"{path}: '{name}' is {word!r} in row {row}; a flag is 0 or 1") from error
    return np.array(values)[where]
