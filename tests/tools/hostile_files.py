"""Parquet, Arrow, tar and NumPy files as an enemy, or a failing disk, makes them: each from a seed and a number."""

import io
import json
import struct
import tarfile
import zlib
from collections.abc import Callable
from decimal import Decimal
from functools import cache

import imagecodecs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SIDE = 8
_ROWS = 30
_VECTOR = pa.struct(
    [("type", pa.int8()), ("size", pa.int32()), ("indices", pa.list_(pa.int32())), ("values", pa.list_(pa.float64()))]
)
_LABELS = pa.array([i % 5 for i in range(_ROWS)])
_EXTREMES = [0, 1, 127, 128, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**64 - 1]


def case(seed: int, number: int) -> tuple[str, bytes]:
    """What the case is, in a word or two, and the file."""
    rng = np.random.default_rng([seed, number])
    kind = rng.choice(
        ["bytes", "footer", "integers", "content", "image", "tar", "arrow", "npy"],
        p=[0.22, 0.26, 0.14, 0.06, 0.14, 0.08, 0.08, 0.02],
    )
    if kind == "tar":
        return "tar", _hostile_tar(rng)
    if kind == "npy":
        return "npy", _mutate(_array(int(rng.integers(3))), rng)
    if kind == "arrow":
        return "arrow", _mutate(_arrow(str(rng.choice(list(_layouts()))), int(rng.integers(6))), rng)
    if kind == "content":
        name = str(rng.choice(list(CONTENTS)))
        return f"content {name}", _written(CONTENTS[name](rng), rng)
    if kind == "image":
        name, images = _hostile_images(rng)
        return f"image {name}", _written(_encoded_table(images, as_struct=bool(rng.integers(2))), rng)
    name = str(rng.choice(list(_layouts())))
    file = _corpus_file(name, int(rng.integers(6)))
    return f"{kind} {name}", {"bytes": _mutate, "footer": _mutate_footer, "integers": _lie}[kind](file, rng)


def _hostile_tar(rng: np.random.Generator) -> bytes:
    """A shard with damage in some blocks, most in the sizes of headers, whose checksums are told anew."""
    file = _tar(int(rng.choice([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])))
    for _ in range(rng.integers(1, 4)):
        at = 512 * int(rng.integers(len(file) // 512))
        block = file[at : at + 512]
        size = int(rng.choice([-1, 1])) * int(rng.choice([0, 1, 511, 512, 1024, 4096, 2**31, 2**62]))
        damaged = {
            "size": block[:124] + size.to_bytes(12, "big", signed=True) + block[136:],
            "negative": block[:124] + (-abs(size)).to_bytes(12, "big", signed=True) + block[136:],
            "type": block[:156] + bytes([rng.choice(list(b"0157xgLKSV"))]) + block[157:],
            "sparse": block[:156] + b"S" + block[157:345] + rng.bytes(167),
            "text": block.replace(b"size", b"path").replace(b'"a"', rb'"\ud800"').replace(b"=0", b"=-512"),
            "bytes": _mutate(block, rng),
        }[str(rng.choice(["size", "negative", "type", "sparse", "text", "bytes"]))]
        if block[257:262] == b"ustar":
            damaged = damaged[:148] + b" " * 8 + damaged[156:]
            damaged = damaged[:148] + b"%06o\0 " % sum(damaged) + damaged[156:]
        file = file[:at] + damaged + file[at + 512 :]
    return file


@cache
def _tar(kind: int) -> bytes:
    """Images, classes and JSON, with extended headers and the maps of sparse members where the kind has them."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=kind) as archive:
        for row in range(6):
            image = imagecodecs.png_encode(np.full((SIDE, SIDE), row, np.uint8))
            for ending, content in (("png", image), ("cls", b"%d" % row), ("json", b'{"a": "a", "n": 1.5}')):
                member = tarfile.TarInfo(f"{'folder/' * (1 + row // 2 * 9)}{row}.{ending}")
                member.size = len(content)
                if row % 2:
                    member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "comment": "size=0"}
                if row % 3 == 0:
                    member.pax_headers = {"size": str(len(content)), "GNU.sparse.size": "0"}
                archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


@cache
def _array(kind: int) -> bytes:
    """Images of a few types, in either order."""
    pixels = np.random.default_rng(0).integers(0, 17, (_ROWS, SIDE, SIDE)).astype(["u1", ">f8", "<f4"][kind])
    stream = io.BytesIO()
    np.save(stream, np.asfortranarray(pixels) if kind else pixels)
    return stream.getvalue()


# Files in every layout.


@cache
def _layouts() -> dict[str, pa.Table]:
    pixels = np.random.default_rng(0).integers(0, 17, (_ROWS, SIDE, SIDE), dtype=np.uint8)
    flat = pa.array(pixels.ravel())
    fixed = pa.FixedSizeListArray.from_arrays(flat, SIDE * SIDE)
    nested = pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(flat, SIDE), SIDE)
    raw = pa.array([image.tobytes() for image in pixels])
    pngs, jpegs = ([encode(image) for image in pixels] for encode in (imagecodecs.png_encode, imagecodecs.jpeg8_encode))
    tensor = pa.fixed_shape_tensor(pa.uint8(), (SIDE, SIDE), permutation=[1, 0])
    images = {
        "png struct": pa.StructArray.from_arrays([pa.array(pngs), pa.array(["a.png"] * _ROWS)], ["bytes", "path"]),
        "jpeg": pa.array(jpegs),
        "raw": raw,
        "large raw": raw.cast(pa.large_binary()),
        "raw view": raw.cast(pa.binary_view()),
        "raw dictionary": raw.dictionary_encode(),
        "fixed raw": raw.cast(pa.binary(SIDE * SIDE)),
        "tensor": pa.FixedShapeTensorArray.from_numpy_ndarray(pixels),
        "permuted tensor": pa.ExtensionArray.from_storage(tensor, fixed),
        "fixed list": fixed,
        "list": fixed.cast(pa.list_(pa.uint8())),
        "large list": fixed.cast(pa.large_list(pa.float32())),
        "nested fixed list": nested,
        "nested list": pa.array(pixels.tolist(), pa.list_(pa.list_(pa.int32()))),
        "vectors": pa.array([{"type": 1, "values": image.ravel().astype(float)} for image in pixels], _VECTOR),
    }
    tables = {name: _with_others(image) for name, image in images.items()}
    wide = pixels.reshape(_ROWS, -1).T
    tables["wide"] = pa.table({**{f"pixel{i}": column for i, column in enumerate(wide)}, "label": _LABELS})
    return tables


def _with_others(image: pa.Array) -> pa.Table:
    """An image column with columns of many types beside it, and the metadata that other libraries write."""
    n = len(image)
    others = {
        "label": _LABELS[:n],
        "text": pa.array([None if i % 7 == 0 else "ä" * i for i in range(n)]),
        "struct": pa.array([{"a": i, "b": {"c": [i, None]}} for i in range(n)]),
        "map": pa.array([[("key", i)] for i in range(n)], pa.map_(pa.string(), pa.int64())),
        "decimal": pa.array([Decimal(i) for i in range(n)], pa.decimal128(20, 3)),
        "time": pa.array(range(n), pa.timestamp("us", "Europe/Berlin")),
        "times": pa.array([[("key", [i])] for i in range(n)], pa.map_(pa.string(), pa.list_(pa.timestamp("us")))),
        "null": pa.nulls(n),
    }
    feature = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": list("abcde")}}
    metadata = {"huggingface": json.dumps({"info": {"features": feature}}), "pandas": json.dumps({"columns": []})}
    metadata["org.apache.spark.version"] = "4.0.0"
    return pa.table({"image": image, **others}).replace_schema_metadata(metadata)


@cache
def _corpus_file(name: str, variant: int) -> bytes:
    return _written(_layouts()[name], np.random.default_rng([variant]))


@cache
def _arrow(name: str, variant: int) -> bytes:
    """As a file or a stream of Arrow, compressed or not."""
    stream, table = io.BytesIO(), _layouts()[name]
    table = table.append_column("kind", pa.array([f"kind {row % 3}" for row in range(_ROWS)]).dictionary_encode())
    options = pa.ipc.IpcWriteOptions(compression=[None, "zstd", "lz4"][variant % 3])
    with (pa.ipc.new_stream if variant % 2 else pa.ipc.new_file)(stream, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=7)
    return stream.getvalue()


def _written(table: pa.Table, rng: np.random.Generator) -> bytes:
    """As Parquet, in one of the ways to write it."""
    stream = io.BytesIO()
    pq.write_table(
        table,
        stream,
        compression=str(rng.choice(["none", "snappy", "gzip", "zstd", "lz4", "brotli"])),
        use_dictionary=bool(rng.integers(2)),
        row_group_size=int(rng.choice([7, 1000])),
        data_page_size=int(rng.choice([100, 1 << 20])),
        data_page_version=str(rng.choice(["1.0", "2.0"])),
        write_statistics=bool(rng.integers(2)),
        use_deprecated_int96_timestamps=bool(rng.integers(2)),
        write_page_index=bool(rng.integers(2)),
        write_page_checksum=bool(rng.integers(2)),
        store_schema=bool(rng.random() < 0.7),
    )
    return stream.getvalue()


# Damage to bytes.


def _mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """One to four bytes or ranges flipped, cut, inserted, doubled or overwritten."""
    for _ in range(rng.integers(1, 5)):
        if not data:
            break
        at, length = int(rng.integers(len(data))), int(rng.choice([1, 2, 4, 8, 64]))
        extreme = int(rng.choice(np.array(_EXTREMES, np.uint64)))
        insertion = {
            "flip": bytes([data[at] ^ 1 << int(rng.integers(8))]) + data[at + 1 : at + length],
            "cut": b"",
            "insert": rng.bytes(length) + data[at : at + length],
            "double": data[at : at + length] * 2,
            "random": rng.bytes(length),
            "integer": (extreme % (1 << 8 * min(length, 8))).to_bytes(min(length, 8), "little"),
            "varint": _varint(extreme),
        }[str(rng.choice(["flip", "flip", "cut", "insert", "double", "random", "integer", "varint"]))]
        data = data[:at] + insertion + data[at + length :]
    return data


def _mutate_footer(file: bytes, rng: np.random.Generator) -> bytes:
    """Damage in the footer alone, whose length is told anew so that it is read on."""
    body, footer = _split(file)
    return _join(body, _mutate(footer, rng))


def _lie(file: bytes, rng: np.random.Generator) -> bytes:
    """A number that the footer tells (rows, values, sizes, offsets) replaced by an extreme one, once or everywhere."""
    body, footer = _split(file)
    metadata = pq.read_metadata(io.BytesIO(file))
    group = metadata.row_group(0)
    column = group.column(int(rng.integers(group.num_columns)))
    told = [metadata.num_rows, group.num_rows, group.total_byte_size, column.num_values, column.data_page_offset]
    told += [column.total_compressed_size, column.total_uncompressed_size, column.dictionary_page_offset or 4]
    lie = int(rng.choice(np.array(_EXTREMES, np.uint64)))
    times = int(rng.choice([1, -1]))
    return _join(body, footer.replace(_varint(2 * int(rng.choice(told))), _varint(lie), times))


def _varint(number: int) -> bytes:
    """As Thrift's compact protocol writes it."""
    digits = []
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])


def _split(file: bytes) -> tuple[bytes, bytes]:
    start = len(file) - 8 - int.from_bytes(file[-8:-4], "little")
    return file[:start], file[start:-8]


def _join(body: bytes, footer: bytes) -> bytes:
    return body + footer + len(footer).to_bytes(4, "little") + b"PAR1"


# Valid Parquet of hostile content.


def _ragged(rng: np.random.Generator) -> pa.Table:
    lengths = rng.choice([0, 1, 63, 64, 64, 64, 65, 5000], _ROWS)
    return _with_others(pa.array([[1] * n if n else None for n in lengths], pa.list_(pa.int16())))


def _odd_vectors(rng: np.random.Generator) -> pa.Table:
    rows = [
        {
            "type": rng.choice([0, 0, 0, 1, 2]),
            "size": rng.choice([64, 64, 64, 0, -1, 2**24, 2**31 - 1]),
            "indices": np.sort(rng.choice([-1, 0, 1, 5, 63, 64, 2**31 - 1], (held := rng.integers(4)), replace=False)),
            "values": rng.choice([1.0, np.nan, np.inf, 1e308], held),
        }
        for _ in range(_ROWS)
    ]
    return _with_others(pa.array([row if rng.integers(9) else None for row in rows], _VECTOR))


def _long_rows(rng: np.random.Generator) -> pa.Table:
    n = int(rng.integers(1, 4))
    offsets = np.arange(n + 1, dtype=np.int32) * 1_000_000
    return _with_others(pa.ListArray.from_arrays(offsets, pa.array(np.zeros(n * 1_000_000, np.uint8))))


def _odd_numbers(rng: np.random.Generator) -> pa.Table:
    kind = rng.choice(["f2", "f4", "f8", "i8", "u8", "i1"])
    pixels = rng.integers(0, 256, (_ROWS, 64 * np.dtype(kind).itemsize), dtype=np.uint8).view(kind)
    return _with_others(pa.FixedSizeListArray.from_arrays(pa.array(pixels.ravel()), 64))


def _odd_names(rng: np.random.Generator) -> pa.Table:
    names = ["", "\n", "\0", ".", "a.b", "image", "image", "label", "list.element", "\U0001f600", "ä" * 1000, "pixel0"]
    chosen = [str(rng.choice(names)) for _ in range(4)]
    images = _layouts()[str(rng.choice(["png struct", "raw", "list"]))].column("image")
    return pa.Table.from_arrays([images, _LABELS, images, _LABELS], names=chosen)


def _many_columns(rng: np.random.Generator) -> pa.Table:
    n, prefix = int(rng.choice([1000, 3000])), str(rng.choice(["pixel", "x_", "999999999999999999"]))
    return pa.table({f"{prefix}{i}": pa.array([1, 2], pa.uint8()) for i in range(n)})


def _deep_type(rng: np.random.Generator) -> pa.Table:
    column = pa.array([1, 2])
    for _ in range(rng.integers(2, 60)):
        if rng.integers(2):
            column = pa.StructArray.from_arrays([column], ["a"])
        else:
            column = pa.ListArray.from_arrays(pa.array(np.arange(len(column) + 1, dtype=np.int32)), column)
    return pa.table({"image": column, "label": [0, 1]})


def _odd_types(rng: np.random.Generator) -> pa.Table:
    kinds = [
        pa.list_(pa.null()),
        pa.list_(pa.string()),
        pa.list_(pa.bool_()),
        pa.list_(pa.float16()),
        pa.list_(pa.list_(pa.list_(pa.list_(pa.int8())))),
        pa.list_(pa.decimal128(5, 1)),
        pa.list_(pa.uint8(), 64),
        pa.map_(pa.int8(), pa.int8()),
        pa.struct([("path", pa.string()), ("bytes", pa.binary())]),
        pa.struct([("path", pa.int8()), ("bytes", pa.dictionary(pa.int8(), pa.binary()))]),
        pa.dictionary(pa.int8(), pa.binary()),
        pa.binary(1),
        pa.large_string(),
        pa.null(),
        pa.uuid(),
        pa.json_(),
        pa.bool8(),
        pa.fixed_shape_tensor(pa.float16(), (8, 8)),
        pa.fixed_shape_tensor(pa.bool_(), (64,)),
        pa.fixed_shape_tensor(pa.uint8(), (1, 8, 8), permutation=[2, 0, 1]),
    ]
    fields = [pa.field(name, kinds[int(rng.integers(len(kinds)))]) for name in ("image", "label", "other")]
    n = int(rng.choice([0, 1, 70]))
    return pa.table([pa.nulls(n, field.type) for field in fields], schema=pa.schema(fields))


def _lying_metadata(rng: np.random.Generator) -> pa.Table:
    """An ARROW:schema, extension type or class names that do not fit the column."""
    name, other = rng.choice(list(_layouts()), 2)
    table, schema = _layouts()[str(name)], _layouts()[str(other)].schema
    texts = [
        "{}",
        "[" * 5000,
        '{"shape": [3]}',
        '{"shape": [-1, 64]}',
        '{"shape": [8, 8], "permutation": [7, 9]}',
        "\xff",
    ]
    text = str(rng.choice([*texts, '{"info": {"features": {"label": {"names": ["\\ud800", null, {}]}}}}']))
    extension = str(rng.choice(["arrow.fixed_shape_tensor", "arrow.uuid", "arrow.bool8", "arrow.json", "unknown"]))
    keys = {"ARROW:extension:name": extension, "ARROW:extension:metadata": text}
    fields = [pa.field(f.name, getattr(f.type, "storage_type", f.type), metadata=keys) for f in table.schema]
    table = pa.table([getattr(c.combine_chunks(), "storage", c) for c in table.columns], schema=pa.schema(fields))
    lie = {"huggingface": text, "pandas": text}
    if rng.integers(2):
        lie["ARROW:schema"] = schema.serialize().to_pybytes().hex()
    return table.replace_schema_metadata(lie)


def _odd_labels(rng: np.random.Generator) -> pa.Table:
    kinds = [pa.float64(), pa.string(), pa.bool_(), pa.uint64(), pa.dictionary(pa.int32(), pa.string()), pa.int8()]
    labels = pa.array([None if i % 3 == 0 else i % 2 for i in range(_ROWS)]).cast(pa.float64())
    kind = kinds[int(rng.integers(len(kinds)))]
    labels = labels.cast(pa.int8()).cast(pa.string() if pa.types.is_dictionary(kind) else kind)
    labels = labels.dictionary_encode() if pa.types.is_dictionary(kind) else labels
    if rng.integers(2):  # not UTF-8
        words = pa.array([b"\xff\xfe" * (i % 3) for i in range(_ROWS)])
        labels = pa.StringArray.from_buffers(_ROWS, *words.buffers()[1:])
    table = _layouts()["list"]
    return table.set_column(table.schema.get_field_index("label"), "label", labels)


def _large_values(rng: np.random.Generator) -> pa.Table:
    value = b"\0" * int(rng.choice([1 << 10, 1 << 20]))
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(300, np.int32)), pa.array([value]))
    return pa.table({str(rng.choice(["image", "text"])): column, "image2": pa.array([b"\1" * 64] * 300)})


CONTENTS: dict[str, Callable[[np.random.Generator], pa.Table]] = {
    "ragged": _ragged,
    "odd vectors": _odd_vectors,
    "long rows": _long_rows,
    "odd numbers": _odd_numbers,
    "odd names": _odd_names,
    "many columns": _many_columns,
    "deep type": _deep_type,
    "odd types": _odd_types,
    "lying metadata": _lying_metadata,
    "odd labels": _odd_labels,
    "large values": _large_values,
}


# Images.


def _hostile_images(rng: np.random.Generator) -> tuple[str, list[bytes]]:
    """Two good images and six that one kind of damage made of a good one."""
    mode = str(rng.choice(["grey", "deep", "alpha", "colour", "colour alpha"]))
    channels = {"alpha": 2, "colour": 3, "colour alpha": 4}.get(mode)
    shape = (SIDE, SIDE, channels) if channels else (SIDE, SIDE)
    pixels = rng.integers(0, 17, shape, dtype=np.uint16 if mode == "deep" else np.uint8)
    good = imagecodecs.png_encode(np.ascontiguousarray(pixels[..., 0]) if channels else pixels)
    damage = str(rng.choice(["bytes", "chunks", "claims", "bomb", "jpeg", "jpeg claims", "other"]))
    if damage == "other":
        kind = str(rng.choice(["WEBP", "GIF", "BMP", "JPEG2000", "AVIF"]))
        whole = _by_pillow(pixels if mode in ("grey", "colour") else np.zeros((8, 8), np.uint8), kind)
        make: Callable[[], bytes] = lambda: whole[:4] + _mutate(whole[4:], rng)  # noqa: E731
    elif damage.startswith("jpeg"):
        jpeg = imagecodecs.jpeg8_encode(
            pixels.astype(np.uint8) if mode in ("grey", "colour") else np.zeros((8, 8), np.uint8)
        )
        make = lambda: _claim_jpeg(jpeg, rng) if "claims" in damage else _mutate(jpeg, rng)  # noqa: E731
    else:
        png = imagecodecs.png_encode(pixels)
        make = {
            "bytes": lambda: png[:8] + _mutate(png[8:], rng),
            "chunks": lambda: _mutate_chunks(png, rng),
            "claims": lambda: _claim_png(png, rng),
            "bomb": lambda: _bomb_png(png, rng),
        }[damage]
    return f"{damage} {mode}", [good, good, *(make() for _ in range(6))]


def _by_pillow(pixels: np.ndarray, kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(stream, kind)
    return stream.getvalue()


def _encoded_table(images: list[bytes], *, as_struct: bool) -> pa.Table:
    column = pa.array(images)
    if as_struct:
        column = pa.StructArray.from_arrays([column, pa.nulls(len(images), pa.string())], ["bytes", "path"])
    return pa.table({"image": column, "label": _LABELS[: len(images)]})


def _chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], 8
    while at < len(png):
        size = int.from_bytes(png[at : at + 4], "big")
        found.append((png[at + 4 : at + 8], png[at + 8 : at + 8 + size]))
        at += 12 + size
    return found


def _png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """With checksums that fit, so that a decoder goes on to what lies in the chunks."""
    parts = [
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _mutate_chunks(png: bytes, rng: np.random.Generator) -> bytes:
    chunks = _chunks(png)
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(len(chunks)))
        name, body = chunks[at]
        names = [
            b"PLTE",
            b"tRNS",
            b"IDAT",
            b"IHDR",
            b"IEND",
            b"acTL",
            b"fcTL",
            b"fdAT",
            b"iCCP",
            b"eXIf",
            b"gAMA",
            b"sBIT",
        ]
        other = names[int(rng.integers(len(names)))]
        chunks[at : at + 1] = [
            [(name, _mutate(body, rng))],
            [(name, body), (name, body)],
            [],
            [(other, body)],
            [(name, body), (other, rng.bytes(int(rng.choice([0, 3, 13, 26, 256, 768]))))],
            [(b"IDAT", zlib.compress(_mutate(zlib.decompress(body), rng)))]
            if name == b"IDAT" and body == _chunks(png)[1][1]
            else [(name, body)],
        ][int(rng.integers(6))] or [(b"tEXt", b"")]
    return _png(chunks)


def _claim_png(png: bytes, rng: np.random.Generator) -> bytes:
    """Another size, depth, colour type, compression, filter or interlacing in the header."""
    (_, header), *rest = _chunks(png)
    sides = [0, 1, 7, 8, 9, 4096, 60_000, 2**31 - 1, 2**32 - 1]
    height, width = (int(rng.choice(sides)) if rng.integers(2) else 8 for _ in range(2))
    depth, colour, interlaced = (
        int(rng.choice([1, 2, 4, 8, 16, 255])),
        int(rng.choice([0, 2, 3, 4, 6, 9])),
        int(rng.integers(3)),
    )
    header = struct.pack(">IIBBBBB", width, height, depth, colour, header[10], header[11], interlaced)
    palette = [(b"PLTE", rng.bytes(int(rng.choice([3, 6, 768, 7]))))] if rng.integers(2) else []
    return _png([(b"IHDR", header), *palette, *rest])


def _bomb_png(png: bytes, rng: np.random.Generator) -> bytes:
    """Few bytes that inflate to 4 MB, where a decoder may inflate them."""
    bomb = _bomb()
    header, *rest = _chunks(png)
    name, prefix = [(b"iCCP", b"icc\0\0"), (b"zTXt", b"text\0\0"), (b"iTXt", b"text\0\1\0\0\0"), (b"IDAT", b"")][
        int(rng.integers(4))
    ]
    return _png([header, (name, prefix + bomb), *(rest if name != b"IDAT" else rest[1:])])


@cache
def _bomb() -> bytes:
    return zlib.compress(bytes(4 << 20), 9)


def _claim_jpeg(jpeg: bytes, rng: np.random.Generator) -> bytes:
    """Another size or precision in the frame header, another kind of frame, or a part of the file twice."""
    at = jpeg.index(b"\xff\xc0")
    height, width = (int(rng.choice([0, 1, 8, 9, 60_000, 65_535])) if rng.integers(2) else 8 for _ in range(2))
    frame = bytes([0xFF, int(rng.choice([0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA]))]) + jpeg[at + 2 : at + 4]
    frame += struct.pack(">BHH", int(rng.choice([8, 8, 8, 12, 16])), height, width)
    claimed = jpeg[:at] + frame + jpeg[at + 9 :]
    return claimed[:-2] + claimed[int(rng.choice([at, 2, len(claimed)])) :]
