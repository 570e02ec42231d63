"""Ways to damage a file of any format, and to make it hostile; each is made from a random generator alone."""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np

NUMBERS: tuple[Any, ...] = (np.nan, np.inf, -np.inf, -1, 0, 1, 2, 255, 1e30, -1e300, 2**31, 2**63 - 1, -(2**63))
JSONS: tuple[Any, ...] = (
    *(None, True, -1, 0, 1.5, 10**30, 1e308, "", "x\ny", "../../../etc/passwd", "/etc/passwd"),
    [],
    {},
)
JSONS += ([[]], {"a": {}}, "{" * 50, "{x:999999999d}", "{chunk_index.__class__}", "v3.9", float("nan"), float("inf"))
Rng = np.random.Generator


class Hostile:
    """What makes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.marker,))


def damaged(content: bytes, rng: Rng) -> bytes:
    """Bytes with one or more of: an end cut off, bits flipped, bytes overwritten, moved, repeated."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        n = len(data)
        if n < 8:
            break
        # libraries look at the beginning and the end of a file most
        at = int(rng.integers(n) if rng.integers(2) else min(rng.geometric(0.01), n) - 1)
        at = n - 1 - at if rng.integers(3) == 0 else at
        width = int(rng.integers(1, 33))
        match int(rng.integers(7)):
            case 0:
                del data[at:]
            case 1:
                data[at] ^= 1 << int(rng.integers(8))
            case 2:
                data[at : at + width] = rng.bytes(len(data[at : at + width]))
            case 3:
                data[at : at + width] = bytes([int(rng.choice([0, 255]))]) * len(data[at : at + width])
            case 4:
                value = int(rng.choice([2**31 - 1, 2**63 - 1, 2**40, 2**32, -1]))
                word = value.to_bytes(8, "little", signed=True)[: int(rng.choice([4, 8]))]
                data[at : at + len(word)] = word
            case 5:
                del data[at : at + width]
            case 6:
                data[at:at] = data[at : at + width]
    return bytes(data)


def strange(column: np.ndarray, rng: Rng, marker: Path) -> np.ndarray:
    """An array that is not what a reader expects of the column."""
    n = len(column) if column.ndim else 1
    flat = column.reshape(n, -1)
    match int(rng.integers(12)):
        case 0:
            return column[: int(rng.integers(n + 1))]
        case 1:
            return column.astype(str(rng.choice(["f2", "f8", "i1", "u1", "i8", ">f4", ">i2", "?", "c8", "g"])))
        case 2:
            return column.astype(str(rng.choice(["U3", "S2", "M8[s]", "m8[s]"])))
        case 3:
            out = flat.astype(np.float64)
            out[int(rng.integers(n)), int(rng.integers(flat.shape[1]))] = float(rng.choice(np.array(NUMBERS, float)))
            return out.reshape(column.shape)
        case 4:
            return np.array([Hostile(marker)] * n, object)
        case 5:
            return np.zeros((n, 0))
        case 6:
            return column.reshape(n, *([1] * int(rng.integers(1, 5))), -1)
        case 7:
            return np.array(rng.choice(np.array(NUMBERS, float)))
        case 8:
            return np.array([(1, 2.0)] * n, [("a", "i4"), ("b", "f4")])
        case 9:
            return np.asfortranarray(flat)
        case 10:
            return column[:0]
        case _:
            return np.concatenate([column, column])


def strange_npz(content: bytes, rng: Rng, marker: Path) -> bytes:
    """An npz file with a member that is missing, strange, lying, packed otherwise, or a bomb."""
    with np.load(io.BytesIO(content)) as file:
        arrays = dict(file)
    names = list(arrays)
    name = str(rng.choice(names))
    out = io.BytesIO()
    kind = int(rng.integers(8))
    if kind == 0:
        del arrays[name]
    elif kind <= 3:
        arrays[name] = strange(arrays[name], rng, marker)
    if kind <= 3:
        np.savez(out, **arrays)
        return out.getvalue()
    packing = [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED][int(rng.integers(4))]
    with zipfile.ZipFile(out, "w", packing) as packed, warnings.catch_warnings(action="ignore"):
        for other, array in arrays.items():
            entry = f"{other}.npy"
            buffer = io.BytesIO()
            np.save(buffer, array)
            body = buffer.getvalue()
            if other == name and kind == 4:  # a header that claims more, or nonsense
                shape = [(10**12,), (2**62, 4), (-1, 3), (-(2**40), -(2**40)), (len(array), 10**9), ()][
                    int(rng.integers(6))
                ]
                header = repr({"descr": array.dtype.str, "fortran_order": bool(rng.integers(2)), "shape": shape})
                body = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + body[128:]
            elif other == name and kind == 5:
                words = [
                    "__import__('os').abort()",
                    "[" * 400,
                    "-" * 3000 + "1",
                    "{'shape': 1}",
                    "\x00",
                    "é" * 9,
                    "{" * 90,
                ]
                header = str(rng.choice(words))
                raw = header.encode()
                body = b"\x93NUMPY" + bytes([int(rng.integers(1, 5)), 0]) + len(raw).to_bytes(2, "little") + raw + body
            elif other == name and kind == 6:
                entry = str(
                    rng.choice([f"../../{other}.npy", f"/{other}.npy", "a\nb.npy", f"{other}", ".npy", "obs\r_0.npy"])
                )
            elif other == name and kind == 7:  # a bomb: 16 MB of zeros in 16 kB, and its header says so
                buffer = io.BytesIO()
                np.save(buffer, np.zeros((len(array), *array.shape[1:], 2**24 // max(array.size, 1)), np.int8))
                body = buffer.getvalue()
            packed.writestr(entry, body)
            if rng.integers(9) == 0:
                packed.writestr(entry, body)
    return out.getvalue()


def strange_hdf5(path: Path, rng: Rng, marker: Path) -> None:
    """Change one array of an HDF5 file to something else of the same name."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        name = str(rng.choice(names))
        parent = file[name].parent if rng.integers(6) else file[name].parent.parent or file
        before, short = file[name][()], name.rsplit("/", 1)[-1]
        if parent.name != file[name].parent.name:
            short = next(iter(parent))
        del parent[short]
        match int(rng.integers(12)):
            case 0:
                pass
            case 1:
                parent.create_group(short)
            case 2:
                parent.create_dataset(short, (len(before),), h5py.vlen_dtype(np.float32))
            case 3:
                parent.create_dataset(short, (len(before),), h5py.ref_dtype)
            case 4:
                parent.create_dataset(short, (len(before),), h5py.string_dtype())
            case 5:
                shape = (int(rng.choice([2**40, 2**62, len(before)])), int(rng.choice([1, 10**6])))
                parent.create_dataset(short, shape, "f4", chunks=(1, 1))
            case 6:
                parent.create_dataset(short, data=h5py.Empty("f4"))
            case 7:
                parent[short] = h5py.ExternalLink(str(rng.choice(["other.hdf5", "/dev/zero", path.name])), "/")
            case 8:
                parent[short] = h5py.SoftLink(str(rng.choice([f"{parent.name}/{short}", "/", "/none", ".."])))
            case 9:
                parent.create_dataset(short, before.shape, before.dtype, external=[("/dev/zero", 0, 2**20)])
            case _:
                column = strange(before, rng, marker)
                if column.dtype.kind in "fiub?cV":
                    parent[short] = column
        if rng.integers(4) == 0:
            holder = file["data"] if "data" in file and isinstance(file["data"], h5py.Group) else file
            holder.attrs["env_args"] = json.dumps(JSONS[int(rng.integers(len(JSONS)))])
            file.attrs["max_episode_steps"] = [np.nan, -1, 0, 2**70 + 0.0, 3][int(rng.integers(5))]


def strange_table(content: bytes, rng: Rng) -> Any:
    """A table with a column that is missing, doubled, renamed, empty, ragged, or of another kind."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if content[:4] == b"PAR1":
        whole = pq.read_table(pa.BufferReader(content))
    else:
        kind = pa.ipc.open_file if content[:6] == b"ARROW1" else pa.ipc.open_stream
        whole = kind(pa.BufferReader(content)).read_all()
    i, n = int(rng.integers(whole.num_columns)), whole.num_rows
    name = whole.schema.names[i]
    values: list[Any] = [
        *([None] * n, list(range(n)), [-1] * n, [2**62] * n, ["x"] * n, [""] * n, [b"\xff"] * n, [{"a": 1}] * n),
        *(
            [[]] * n,
            [[1.0]] * n,
            [[1.0] * (k % 3) for k in range(n)],
            [[[1], [2]]] * n,
            [[None, 1.0]] * n,
            [np.nan] * n,
        ),
        [1.0 if k else None for k in range(n)],
    ]
    match int(rng.integers(6)):
        case 0:
            return whole.remove_column(i)
        case 1:
            return whole.append_column(name, whole.column(i))
        case 2:
            return whole.rename_columns([f"a\n{c}" if c == name else c for c in whole.schema.names])
        case 3:
            return whole[: int(rng.integers(n + 1))]
        case _:
            return whole.set_column(i, name, pa.array(values[int(rng.integers(len(values)))]))


def strange_json(text: str, rng: Rng) -> str:
    """JSON with one value replaced by another."""
    lines = text.splitlines() if "}\n{" in text else [text]
    at = int(rng.integers(len(lines)))
    whole = json.loads(lines[at])
    if not whole:
        return "[]"
    holder: Any = whole
    while True:
        key = (
            list(holder)[int(rng.integers(len(holder)))] if isinstance(holder, dict) else int(rng.integers(len(holder)))
        )
        inner = holder[key]
        if not isinstance(inner, dict | list) or not inner or rng.integers(4) == 0:
            break
        holder = inner
    if rng.integers(5):
        holder[key] = JSONS[int(rng.integers(len(JSONS)))]
    else:
        del holder[key]
    lines[at] = json.dumps(whole)
    return "\n".join(lines)


def strange_csv(text: str, rng: Rng) -> str:
    """CSV with one cell that is something else."""
    lines = [line.split(",") for line in text.splitlines()]
    row = lines[int(rng.integers(len(lines)))]
    words = [
        "",
        "nan",
        "inf",
        "-1",
        "2",
        "1e999",
        "0x10",
        '"',
        '"a\nb"',
        "a,b",
        "TRUE",
        "no",
        "9" * 400,
        "\x00",
        "é",
        "1 ",
    ]
    row[int(rng.integers(len(row)))] = words[int(rng.integers(len(words)))]
    return "\n".join(map(",".join, lines))


def change(folder: Path, rng: Rng, marker: Path) -> str:
    """Change one file of a log, and say how."""
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    path = files[int(rng.integers(len(files)))]
    how = "strange" if rng.integers(2) else "damaged"
    content = path.read_bytes()
    if rng.integers(40) == 0:
        path.unlink()
        return f"no {path.name}"
    if how == "damaged" or path.suffix == ".mp4":
        path.write_bytes(damaged(content, rng))
    elif path.suffix == ".npz" and path.name != "made-000-val.npz":
        path.write_bytes(strange_npz(content, rng, marker))
    elif path.suffix == ".npy":
        np.save(path, strange(np.load(path), rng, marker))
    elif path.suffix == ".hdf5":
        strange_hdf5(path, rng, marker)
    elif path.suffix in (".parquet", ".arrow", ".feather"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        whole = strange_table(content, rng)
        if path.suffix == ".parquet":
            pq.write_table(whole, path)
        else:
            kind = pa.ipc.new_stream if rng.integers(2) else pa.ipc.new_file
            with pa.OSFile(str(path), "wb") as file, kind(file, whole.schema) as out:
                out.write_table(whole)
    elif path.suffix == ".csv":
        path.write_text(strange_csv(content.decode(), rng))
    elif path.suffix in (".json", ".jsonl"):
        path.write_text(strange_json(content.decode(), rng))
    return f"{how} {path.name}"
