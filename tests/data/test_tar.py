"""Tar files of WebDataset: which members are a row, what becomes a column, and what is refused."""

import errno
import gzip
import io
import json
import re
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from knnvote import open_index
from knnvote.data.errors import ImageFileError, KnnvoteError
from knnvote.data.inputs import find_inputs

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 5, 4), np.uint8)


def png(pixels=PIXELS[0]):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def write_tar(path, members, kind="w"):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, kind) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def shard(start, stop, prefix="s/"):
    for i in range(start, stop):
        yield f"{prefix}{i:04d}.png", png(PIXELS[i])
        yield f"{prefix}{i:04d}.cls", str(i % 3).encode()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows_of(path):
    (source,) = find_inputs(path)
    with source.open_rows() as rows:
        found = [row for batch in rows.batches(rows.schema.names, 2) for row in batch.to_pylist()]
        assert rows.head().slice(0, 64).to_pylist() == found[:64]
        return found


def test_shards_give_the_index_and_the_answers_of_a_parquet_file_of_the_same_bytes(invoke):
    write_tar("in/a-00.tar", shard(0, 7))
    write_tar("in/a-01.tar", shard(7, 12))
    table = pa.table(
        {
            "image": [png(p) for p in PIXELS],
            "label": [i % 3 for i in range(12)],
            "key": [f"a-0{i // 7}.tar#s/{i:04d}" for i in range(12)],
        }
    )
    pq.write_table(table, "same.parquet")
    assert invoke("index", "in", "--out", "x.knn").code == 0
    assert invoke("index", "same.parquet", "--id-column", "key", "--out", "y.knn").code == 0
    answers = []
    for index, query in (("x.knn", "in"), ("y.knn", "in"), ("x.knn", "same.parquet")):
        out = f"{index}-{query}.out"
        assert invoke("classify", index, query, "--out", out, "--neighbors", "--k", "3").code == 0
        files = sorted(Path(out).glob("[!.]*.parquet"))
        columns = ["label", "prediction", "confidence", "distance", "neighbors"]
        answers.append(pa.concat_tables(pq.read_table(file, columns=columns) for file in files).to_pylist())
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][3]["neighbors"][0]["id"] == "a-00.tar#s/0003"
    assert sorted(path.name for path in Path("x.knn-in.out").glob("[!.]*")) == ["a-00.parquet", "a-01.parquet"]
    assert invoke("remove", "x.knn", "s/0003").code == 0
    assert invoke("verify", "x.knn-in.out").code == 0


def test_members_are_grouped_up_to_the_first_dot_of_the_name_of_the_file(here):
    members = [
        ("a.b/0001.JPG", b"1"),
        ("a.b/0001.json", b'{"w": 1.5, "label": "cat", "box": [1, 2], "n": null, "image": "p"}'),
        ("0001.png", b"2"),
        ("0001.txt", " é \n".encode()),
        ("only.cls", b"dog"),
    ]
    write_tar("x.tar", members)
    assert rows_of("x.tar") == [
        {
            "image": b"1",
            "__key__": "a.b/0001",
            "label": None,
            "txt": None,
            "w": 1.5,
            "json.label": "cat",
            "json.image": "p",
        }
        | {"n": None},
        {"image": b"2", "__key__": "0001", "label": None, "txt": "é", "w": None, "json.label": None, "json.image": None}
        | {"n": None},
        {"image": None, "__key__": "only", "label": "dog", "txt": None, "w": None, "json.label": None}
        | {"json.image": None, "n": None},
    ]
    assert here.is_dir()


def test_classes_are_numbers_where_all_are_whole_and_labels_of_json_are_taken(invoke):
    write_tar("x.tar", shard(0, 6))
    assert {type(row["label"]) for row in rows_of("x.tar")} == {int}
    write_tar("y.tar", [*shard(0, 5), ("s/9.png", png()), ("s/9.cls", b"07")])
    assert {row["label"] for row in rows_of("y.tar")} == {"0", "1", "2", "07"}
    labelled = [
        (f"{i}.{end}", png(PIXELS[i]) if end == "png" else b'{"label": "abc"}')
        for i in range(3)
        for end in ("png", "json")
    ]
    write_tar("z.tar", labelled)
    assert invoke("index", "z.tar", "--out", "z.knn").code == 0
    assert json.loads(invoke("inspect", "z.knn", "--json").stdout)["classes"] == ["abc"]


def stored_ids(index):
    return open_index(index).ids.to_pylist()


def test_ids_have_the_shard_before_the_key_and_keys_stand_for_them_where_one_image_has_it(invoke):
    for name in "ab":
        write_tar(f"in/{name}.tar", shard(0, 3, prefix=""))
    write_tar("in/c.tar", shard(5, 6, prefix=""))
    assert invoke("index", "in", "--out", "x.knn").code == 0
    assert stored_ids("x.knn") == [*(f"{name}.tar#000{i}" for name in "ab" for i in range(3)), "c.tar#0005"]
    told = "'0001', of a.tar#0001 and b.tar#0001: give these\n"
    assert invoke("remove", "x.knn", "0001", "0005").stderr.endswith(told)
    Path("fixes.csv").write_text("id,label\n0002,1\n")
    assert "'0002', of a.tar#0002 and b.tar#0002" in invoke("relabel", "x.knn", "fixes.csv").stderr
    Path("fixes.csv").write_text("id,label\nb.tar#0002,1\n0005,1\n")
    assert invoke("relabel", "x.knn", "fixes.csv").code == 0
    assert open_index("x.knn").labels.to_pylist() == [0, 1, 2, 0, 1, 1, 1]
    assert invoke("remove", "x.knn", "a.tar#0001", "b.tar#0001", "0005").code == 0
    assert stored_ids("x.knn") == ["a.tar#0000", "a.tar#0002", "b.tar#0000", "b.tar#0002"]


def test_where_a_stored_image_came_from_is_its_shard_and_its_row_there(invoke):
    write_tar("in/a.tar", shard(0, 3))
    write_tar("in/b.tar", shard(3, 5))
    assert invoke("index", "in", "--out", "x.knn").code == 0
    places = open_index("x.knn").places(np.array([4, 0, 2]))
    assert places.to_pydict() == {"file": ["b.tar", "a.tar", "a.tar"], "row": [1, 0, 2]}


def test_a_shard_whose_keys_begin_anew_is_added_and_one_that_is_stored_is_not(invoke):
    write_tar("a/0.tar", shard(0, 3, prefix=""))
    write_tar(
        "b/1.tar", [(name, png(PIXELS[9]) if name.endswith("png") else b"1") for name, _ in shard(0, 3, prefix="")]
    )
    assert invoke("index", "a", "--out", "x.knn").code == 0
    assert invoke("add", "x.knn", "b/1.tar").code == 0
    assert stored_ids("x.knn") == [f"{n}.tar#000{i}" for n in (0, 1) for i in range(3)]
    assert "stores 3 of the 3 ids already, the first '0.tar#0000'" in invoke("add", "x.knn", "a/0.tar").stderr
    write_tar("b/0.tar", shard(4, 6, prefix=""))
    assert invoke("index", "a/0.tar", "b/0.tar", "--out", "y.knn").code == 0
    assert stored_ids("y.knn")[-2:] == ["b/0.tar#0004", "b/0.tar#0005"]


def test_tables_of_labels_are_joined_by_keys_that_one_row_has(invoke):
    for name in "ab":
        write_tar(f"in/{name}.tar", [pair for pair in shard(0, 3, prefix="") if pair[0].endswith("png")])
    Path("keys.csv").write_text("key,label\n0000,x\n0001,y\n0002,y\n")
    assert invoke("index", "in/a.tar", "--labels", "keys.csv", "--out", "x.knn").code == 0
    assert open_index("x.knn").labels.to_pylist() == ["x", "y", "y"]
    told = "0000 is the name of several rows, a.tar#0000 and b.tar#0000: give these in column 'key'\n"
    assert invoke("index", "in", "--labels", "keys.csv", "--out", "y.knn").stderr.endswith(told)
    Path("ids.csv").write_text("key,label\na.tar#0000,x\n0001,y\na.tar#0002,y\nb.tar#0000,z\n")
    assert "0001 is the name of several rows" in invoke("index", "in", "--labels", "ids.csv", "--out", "y.knn").stderr
    Path("ids.csv").write_text("key,label\na.tar#0000,x\na.tar#0001,y\na.tar#0002,y\nb.tar#0000,z\n")
    assert invoke("index", "in", "--labels", "ids.csv", "--skip-bad", "--out", "y.knn").code == 0
    assert open_index("y.knn").labels.to_pylist() == ["x", "y", "y", "z"]


def test_a_row_of_a_shard_is_reviewed_explained_and_shown_by_the_id_that_it_is_added_with(invoke):
    for place, name in enumerate("abc"):
        members = shard(3 * place, 3 * place + 3, prefix="")
        write_tar(f"{name}/{name}.tar", [(f"{i // 2}.{end[-3:]}", content) for i, (end, content) in enumerate(members)])
    assert invoke("index", "a", "--out", "x.knn").code == 0
    assert invoke("classify", "x.knn", "b/b.tar", "c/c.tar", "--out", "out", "--k", "1").code == 0
    assert invoke("review", "out", "--index", "x.knn").code == 0
    lines = Path("review.csv").read_text().splitlines()
    ids = [line.split(",")[0].strip('"') for line in lines[1:]]
    assert {*ids} <= {f"{name}.tar#{i}" for name in "bc" for i in range(3)}
    assert len(ids) > 1  # of rows with the same neighbours the first
    for name in ids:
        assert invoke("explain", "out", name, "--index", "x.knn").stdout.startswith(name.replace("tar", "parquet"))
    assert "1 image" in invoke("show", "b", "--id", "b.tar#1").stderr
    assert invoke("show", "b", "--id", "c.tar#1").code == 1
    Path("review.csv").write_text("\n".join([lines[0], *(f"{line}{i % 3}" for i, line in enumerate(lines[1:]))]))
    assert invoke("add", "x.knn", "b", "c", "--labels", "review.csv", "--skip-bad").code == 0
    grown = open_index("x.knn")
    told = dict(zip(grown.ids.to_pylist(), grown.labels.to_pylist(), strict=True))
    assert {name: told[name] for name in ids} == {name: i % 3 for i, name in enumerate(ids)}


def test_hostile_members_are_rows_at_most_and_leave_nothing_on_the_disk(here):
    with tarfile.open("x.tar", "w") as archive:
        for name, kind in (("l.png", tarfile.SYMTYPE), ("p.png", tarfile.FIFOTYPE), ("d.png", tarfile.CHRTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            archive.addfile(member)
        for name in ("../../up.png", "/root.png"):
            member = tarfile.TarInfo(name)
            member.size = len(png())
            archive.addfile(member, io.BytesIO(png()))
        member = tarfile.TarInfo("folder.png")
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
    before = sorted(here.rglob("*"))
    with pytest.warns(UserWarning, match=r"^x\.tar: 3 members .* are left out: l\.png, p\.png, d\.png$"):
        assert [row["__key__"] for row in rows_of("x.tar")] == ["../../up", "/root"]
    assert sorted(here.rglob("*")) == before


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.png", b""), ("b.png", b""), ("a.cls", b"")], "members of sample a do not follow one after the other"),
        ([("a.png", b""), ("a.jpg", b"")], r"sample a has several images .*, the second a\.jpg"),
        ([("a.png", b""), ("a.json", b"{")], r"a\.json is no JSON"),
        ([("a.cls", b"\xff")], "codec can't decode"),
        ([("a.txt", bytes((1 << 20) + 1))], r"member a\.txt has 1,048,577 bytes"),
    ],
)
def test_samples_that_cannot_be_told_apart_or_read_are_refused(here, members, message):
    write_tar(here / "x.tar", members)
    with pytest.raises(ImageFileError, match=message):
        rows_of(str(here / "x.tar"))


def test_what_is_cut_short_or_holds_more_than_one_is_refused_and_told(here):
    write_tar("x.tar", shard(0, 5))
    whole = Path("x.tar").read_bytes()
    for content, message in (
        (whole[:700], "unexpected end of data; get or write it again"),
        (b"no tar" * 200, "as a tar file"),
        (whole + whole, "holds more behind its end"),
    ):
        Path("y.tar").write_bytes(content)
        with pytest.raises(ImageFileError, match=message):
            rows_of("y.tar")
    Path("y.tar").write_bytes(whole[: 4 * 512])
    with pytest.warns(UserWarning, match="has no end mark"):
        assert len(rows_of("y.tar")) == 1
    assert here.is_dir()


def header(name, size, kind=b"0", version=b"ustar\x0000", rest=b""):
    """A header of a member, in base 256 where its size is negative."""
    told = size.to_bytes(12, "big", signed=True) if size < 0 else b"%011o\0" % size
    numbers = b"0000644\0" + b"0000000\0" * 2 + told + b"00000000000\0"
    block = (name.encode().ljust(100, b"\0") + numbers + b" " * 8 + kind + bytes(100) + version + rest).ljust(
        512, b"\0"
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def pax(**records):
    """An extended header of the member that follows."""
    content = b""
    for name, value in records.items():
        record = f" {name.replace('__', '.')}={value}\n".encode()
        content += b"%d" % (len(record) + 2) + record
    assert len(content) < 512
    return header("pax", len(content), b"x") + content.ljust(512, b"\0")


SPARSE = {"GNU__sparse__major": 1, "GNU__sparse__minor": 0}
LEADS_BACK = r"^x\.tar: member {} has a damaged header, which leads back: get or write it again$"
UNREADABLE = r"^cannot read x\.tar as a tar file: {}; get or write it again$"
HOSTILE = {
    "for ever": (header("b.xyz", -512), LEADS_BACK.format("b.xyz")),
    "before the file": (header("b.xyz", -1024), LEADS_BACK.format("b.xyz")),
    "a folder": (header("b", -512, b"5"), LEADS_BACK.format("b")),
    "pax": (pax(size=-5) + header("b.txt", 0), LEADS_BACK.format("b.txt")),
    "pax of less": (header("pax", -512, b"x"), UNREADABLE.format("Negative size .*")),
    "pax of much": (
        header("pax", 1 << 21, b"x") + b"1" * (1 << 21) + header("b.txt", 0),  # which would take hours
        UNREADABLE.format("an extended header has 2,097,152 bytes of at most 65,536"),
    ),
    "old sparse": (header("b.xyz", -512, b"S", b"ustar  \0"), LEADS_BACK.format("b.xyz")),
    "cut sparse": (header("b.xyz", 0, b"S", b"ustar  \0", bytes(217) + b"\1"), UNREADABLE.format("index out .*")),
    "sparse 1.0": (pax(**SPARSE) + header("b.png", 512) + b"x" * 512, UNREADABLE.format("not enough values .*")),
}


@pytest.mark.parametrize(("member", "message"), HOSTILE.values(), ids=HOSTILE)
def test_headers_that_lie_are_told_as_an_error_of_their_file(here, member, message):
    for before in (b"", header("a.png", 0)):
        Path("x.tar").write_bytes(before + member)
        with pytest.raises(ImageFileError, match=message):
            rows_of("x.tar")
    assert here.is_dir()


def test_a_file_whose_headers_lie_fails_alone(invoke):
    write_tar("in/a.tar", shard(0, 6))
    assert invoke("index", "in", "--out", "x.knn").code == 0
    for number, (member, _) in enumerate(HOSTILE.values()):
        Path(f"in/b{number}.tar").write_bytes(header("a.png", 0) + member)
    write_tar("in/c.tar", shard(6, 12))
    done = invoke("classify", "x.knn", "in", "--out", "out")
    assert done.code == 3
    assert sorted(path.name for path in Path("out").glob("[!.]*.parquet")) == ["a.parquet", "c.parquet"]
    assert all(f"b{number}.tar" in done.stderr for number in range(len(HOSTILE)))
    assert "Traceback" not in done.stderr


def test_a_disk_that_fails_is_told_as_an_error_of_the_file(here, monkeypatch):
    write_tar("x.tar", shard(0, 2))

    def fail(*_args, **_named):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("tarfile.TarFile.next", fail)
    with pytest.raises(ImageFileError, match=r"^cannot read x\.tar: Input/output error$"):
        rows_of("x.tar")
    assert here.is_dir()


def test_half_a_character_in_json_is_a_question_mark(here):
    write_tar("x.tar", [("a.png", png()), ("a.json", rb'{"label": "\ud800", "\udfffb": "a", "n": 1}')])
    assert rows_of("x.tar") == [{"image": png(), "__key__": "a", "label": "?", "?b": "a", "n": 1}]
    assert here.is_dir()


@pytest.mark.parametrize("name", ["x.tar.gz", "x.tgz", "packed.tar"])
def test_a_packed_file_is_refused_with_a_command_that_unpacks_it(here, name):
    write_tar("x", shard(0, 4))
    Path(name).write_bytes(gzip.compress(Path("x").read_bytes()))
    with pytest.raises(ImageFileError) as refused:
        rows_of(name)
    command, made = re.search(r"lie in it: (.* > (\S+)) unpacks it", str(refused.value)).groups()
    subprocess.run(["sh", "-c", command], check=True, cwd=here)  # noqa: S607  # of this test's own making
    assert len(rows_of(made)) == 4


def test_tar_files_beside_images_are_refused_together_and_left_out_beside_parquet(here):
    write_tar("in/x.tar", shard(0, 3))
    (here / "in" / "y.png").write_bytes(png())
    with pytest.raises(KnnvoteError, match=r"such as x\.tar and y\.png: give 'in/\*\*/\*\.tar', or"):
        find_inputs("in")
    assert len(rows_of("in/**/*.tar")) == 3
    pq.write_table(pa.table({"image": [png()]}), "in/z.parquet")
    with pytest.warns(UserWarning, match=r"2 file\(s\) of images are left out beside Parquet files: x\.tar"):
        assert [source.relative for source in find_inputs("in")] == ["z.parquet"]


def test_a_shard_that_changed_is_classified_again(invoke):
    write_tar("in/a.tar", shard(0, 6))
    write_tar("in/b.tar", shard(6, 12))
    assert invoke("index", "in", "--out", "x.knn").code == 0
    assert invoke("classify", "x.knn", "in", "--out", "out").code == 0
    write_tar("in/b.tar", shard(6, 11))
    done = invoke("classify", "x.knn", "in", "--out", "out", "--json")
    assert json.loads(done.stdout)["files"] == {"written": 1, "skipped": 1, "failed": 0}
