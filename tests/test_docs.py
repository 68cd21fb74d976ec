"""README and docs: every block is run in its order and in a folder of its page, and says and draws what the page shows.

What no test can run has ``<!-- not run: why -->`` in the line before it. In what a page shows, ``...`` stands for
anything in its line, and alone in a line for any lines. What a Python expression gives stands in a comment behind it.
"""

import ast
import contextlib
import io
import os
import re
import shlex
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import made_letters
import matplotlib as mpl
import numpy as np
import PIL.Image
import pytest
import yaml
from object_store import BUCKET, serve

README = Path(__file__).parents[1] / "README.md"
DOCS = README.parent / "docs"
PAGES = [README, *sorted(DOCS.glob("*.md"))]
_BLOCK = re.compile(r"(?:^<!-- not run: ([^\n]+) -->\n)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_KINDS = {"console", "python", "sh", "text", "yaml"}
_NOT_RUN = {
    "README.md": [
        "it installs this clone; .ci/run does so from the built wheel, and walks the demo",
        "it runs these very tests; .ci/run runs it as it stands here",
    ],
    "benchmarks.md": [
        "MNIST's files are not here, and the figures are those of one machine; its command line is parsed",
        "MNIST's files are not here, and the figures are those of one machine; its command line is parsed",
    ],
    "commands.md": ["each line is for another shell", "it goes on until it is stopped; a test runs it so"],
    "embeddings.md": ["it takes a model"],
    "parts.md": [
        "a test runs it as sbatch would, for each task of the array",
        "a test reads it, and runs its command for each index",
    ],
    "python.md": ["Ray is an extra"],
    "ray.md": ["Ray is an extra", "a cluster has several machines", "a cluster has several machines"],
    "scale.md": ["it takes a hundred million images", "likewise", "likewise"],
}
# Times, threads, sizes on disk and speeds differ from run to run and machine to machine; so does which of two images at
# one distance scikit-learn finds, and its figures with it.
_VARIES = re.compile(
    r" +[\d,]+(?:\.\d+)? (?:s\b|min\b|h\b|[kM]?B\b|/s\b)| +\d+\.\d+ x\b|(?<=on )\d+ threads?|"
    r"(?<=scikit-learn )(brute|kd_tree|ball_tree) .*"
)
# Text of another matplotlib has another size and moves all else: 3.9 draws the right pictures up to 19 of 255 apart in
# the mean, more than wrong ones of this version are (5 to 6). So pixels are compared where this version draws, closely.
_DRAWN_BY = "3.11."
_MOST_DIFFERENT = 1


def blocks(page):
    """The blocks of a page that are run: kind and text."""
    return [(kind, text) for why_not, kind, text in _BLOCK.findall(page.read_text()) if not why_not]


def mask(told):
    """What a command tells without what varies, nor the spaces around it."""
    return "\n".join(re.sub(r" +", " ", _VARIES.sub(" *", line)).strip() for line in told.splitlines())


def check(said, shown, what):
    """See that something says what the page shows."""
    if "..." not in shown:
        assert said == shown, what
        return
    lines = [re.escape(line).replace(r"\.\.\.", ".*") for line in shown.splitlines()]
    pattern = "\n".join("(?s:.*)" if line == ".*" else line for line in lines)
    assert re.fullmatch(pattern, said.rstrip("\n")), f"{what}\n{said}"


@dataclass
class Shell:
    """Runs commands one after the other; programs that are not given are the system's own."""

    programs: dict[str, Callable[..., SimpleNamespace]]
    code: int = 0

    def __call__(self, line):
        """What the command tells, then what it gives; one that fails has `echo $?` after it."""
        if line == "echo $?":
            code, self.code = self.code, 0
            return f"{code}\n"
        assert self.code == 0, f"the command before {line} failed, and the page does not tell"
        program, *arguments = shlex.split(re.sub(r" +# .*", "", line))
        done = self.programs.get(program, partial(_of_the_system, line))(*arguments)
        self.code = done.code
        return done.stderr + done.stdout


def _of_the_system(line, *_arguments):
    done = subprocess.run(["/bin/sh", "-c", line], capture_output=True, text=True, check=False)
    return SimpleNamespace(code=done.returncode, stdout=done.stdout, stderr=done.stderr)


@pytest.fixture
def shell(invoke, monkeypatch):
    """A shell in the test's folder, with knnvote."""
    monkeypatch.setenv("COLUMNS", "200")
    return Shell({"knnvote": invoke})


def run_console(block, shell):
    """Run the commands of a block, each of which tells what stands below it."""
    for told in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, expected = told.partition("\n")
        check(mask(shell(command)), mask(expected), command)


def run_python(block, names):
    """Run a block, whose expressions give what is shown behind them, and give what it prints."""
    printed, lines = io.StringIO(), block.splitlines()
    with contextlib.redirect_stdout(printed):
        for statement in ast.parse(block).body:
            source = ast.unparse(statement)
            if not isinstance(statement, ast.Expr):
                exec(compile(source, "a block of Python", "exec"), names)  # noqa: S102  # these blocks are our own
                continue
            value = eval(compile(source, "a block of Python", "eval"), names)  # noqa: S307  # likewise
            shown = re.search(r"  # (.*)$", lines[statement.end_lineno - 1])
            if shown:
                check(repr(value), shown[1], source)
    return printed.getvalue()


def run_page(page, shell):
    """Run all blocks of a page in their order."""
    names, printed = {}, ""
    for kind, block in blocks(page):
        if kind == "text":
            check(printed, block, page.name)
            printed = ""
            continue
        assert printed == "", f"the page does not show what is printed before:\n{block}"
        if kind == "python":
            printed = run_python(block, names)
        else:
            run_console(block, shell)
    assert printed == ""
    assert shell.code == 0
    for picture in re.findall(r"^(\S+\.png): ", page.read_text(), re.MULTILINE):
        with PIL.Image.open(picture) as drawn:
            drawn.load()


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.name not in {"README.md", "tutorial.md", "object-stores.md", "serve.md"}],
    ids=lambda page: page.name,
)
def test_every_block_says_and_gives_what_the_page_shows(page, shell):
    run_page(page, shell)


def test_every_block_of_the_readme_says_what_it_shows_of_pictures_as_a_person_may_hold_them(tmp_path, shell):
    """Where the page tells that a list was filled in, that is done."""
    labels, wrong = made_letters.write_labelled(tmp_path / "letters", 3000)
    truth = made_letters.write_pictures(tmp_path / "new", 1000)
    knnvote = shell.programs["knnvote"]

    def type_in(command, *arguments):
        if command == "relabel":
            made_letters.fill_in(tmp_path / "suspects.csv", "fix", labels, 250)
        if command == "add":
            made_letters.fill_in(tmp_path / "review.csv", "label", truth, 100)
        return knnvote(command, *arguments)

    shell.programs["knnvote"] = type_in
    run_page(README, shell)
    assert f"{len(labels):,} pictures in 36 folders" in README.read_text()
    assert f"{len(wrong)} of them in a wrong one; `new/` holds {len(truth):,} others" in README.read_text()


def test_every_block_of_the_tutorial_says_what_the_page_shows_and_draws_its_pictures(tmp_path, shell):
    page = DOCS / "tutorial.md"
    run_page(page, shell)
    pictures = re.findall(r"!\[[^\]]+\]\((.+?)\)", page.read_text())
    assert sorted(pictures) == sorted(f"tutorial/{path.name}" for path in (DOCS / "tutorial").iterdir())
    for picture in pictures:
        shown, made = (
            np.asarray(PIL.Image.open(path).convert("L"), float)
            for path in (DOCS / picture, tmp_path / Path(picture).name)
        )
        assert shown.shape == made.shape
        if mpl.__version__.startswith(_DRAWN_BY):
            assert np.abs(shown - made).mean() < _MOST_DIFFERENT, picture
    for drawn, from_python in (("show.png", "again.png"), ("map.png", "map-again.png")):
        assert Path(drawn).read_bytes() == Path(from_python).read_bytes()


@pytest.mark.long
def test_every_block_of_object_stores_says_what_the_page_shows(tmp_path, monkeypatch, run_apart):
    monkeypatch.chdir(tmp_path)
    with serve() as store:
        # The account of this server stands in for the reader's, and its client for the command `aws`.
        def export(*settings):
            assert {setting.partition("=")[0] for setting in settings} <= store.environment.keys()
            return SimpleNamespace(code=0, stdout="", stderr="")

        def aws(*arguments):
            assert arguments[:3] == ("s3", "cp", "--recursive")
            folder, uri = Path(arguments[3]), arguments[4]
            for file in folder.iterdir():
                store.put(f"{uri.removeprefix(f's3://{BUCKET}/')}/{file.name}", file.read_bytes())
            return SimpleNamespace(code=0, stdout="", stderr="")

        def knnvote(*arguments):
            return run_apart(arguments, env={**store.environment, "COLUMNS": "200"})

        run_page(DOCS / "object-stores.md", Shell({"knnvote": knnvote, "export": export, "aws": aws}))


def test_every_block_of_the_service_says_what_the_page_shows_where_it_runs(tmp_path, shell):
    """On a port that is free, which stands in the page then."""
    pytest.importorskip("uvicorn", reason="serving needs the extra serve")
    from services import running, service

    knnvote, page = shell.programs["knnvote"], tmp_path / "serve.md"
    with contextlib.ExitStack() as stack:

        def serve(command, *arguments):
            if command != "serve":
                return knnvote(command, *arguments)
            (path,) = arguments
            where = stack.enter_context(running(service(Path(path)), port)).address
            return SimpleNamespace(code=0, stdout="", stderr=f"{where} answers: open it to draw; Ctrl-C stops it\n")

        shell.programs["knnvote"] = serve
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        page.write_text((DOCS / "serve.md").read_text().replace(":8000", f":{port}"))
        run_page(page, shell)


@pytest.fixture
def digits(tmp_path, monkeypatch, invoke):
    """A folder with what the scripts of parts.md have for their inputs, and what one run makes of it."""
    monkeypatch.chdir(tmp_path)
    for arguments in (
        ("sample", "digits", "digits"),
        ("index", "digits/train.parquet", "--out", "digits.knn"),
        ("classify", "digits.knn", "digits", "--out", "whole"),
    ):
        assert invoke(*arguments).code == 0
    program = tmp_path / "bin" / "knnvote"  # which keeps what it was called with
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nfor argument; do printf "%s\\0" "$argument"; done\n')
    program.chmod(0o755)
    return {"PATH": f"{program.parent}:{os.environ['PATH']}"}


def run_parts(invoke, script, environments):
    """Run a script with its command in each environment, and see that together they make what one run does."""
    for environment in environments:
        done = subprocess.run(script, env=environment, capture_output=True, text=True, check=True)
        assert invoke(*done.stdout.split("\0")[:-1]).code == 0
    (made, whole) = (
        {path.name: path.read_bytes() for path in Path(out).glob("*.parquet")} for out in ("predictions", "whole")
    )
    assert made.keys() == whole.keys()
    assert all(made[name] == whole[name] for name in whole if name != ".knnvote.parquet")
    assert not Path("predictions/_knnvote").exists()


def script_of_parts(kind):
    return next(text for _, found, text in _BLOCK.findall((DOCS / "parts.md").read_text()) if found == kind)


def test_the_script_for_slurm_does_every_part(digits, invoke):
    script = script_of_parts("sh")
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)=(\S+)$", script, re.MULTILINE))
    first, last = map(int, options["array"].split("-"))
    assert first == 1
    Path("script").write_text(script)
    of_slurm = {"SLURM_CPUS_PER_TASK": options["cpus-per-task"], "SLURM_ARRAY_TASK_COUNT": f"{last}"}
    tasks = [{**digits, **of_slurm, "SLURM_ARRAY_TASK_ID": f"{number}"} for number in range(first, last + 1)]
    run_parts(invoke, ["/bin/sh", "script"], tasks)


def test_the_manifest_for_kubernetes_does_every_part(digits, invoke):
    job = yaml.safe_load(script_of_parts("yaml"))
    assert (job["apiVersion"], job["kind"], job["spec"]["completionMode"]) == ("batch/v1", "Job", "Indexed")
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    pods = [{**digits, "JOB_COMPLETION_INDEX": f"{index}"} for index in range(job["spec"]["completions"])]
    run_parts(invoke, [*container["command"], *container["args"]], pods)


def test_every_block_is_of_a_kind_that_is_run_or_says_why_it_is_not():
    not_run = {}
    for page in PAGES:
        found = _BLOCK.findall(page.read_text())
        assert len(re.findall(r"^\s*(?:```|~~~)", page.read_text(), re.MULTILINE)) == 2 * len(found), page
        assert page.read_text().count("<!-- not run") == sum(bool(why) for why, _, _ in found), page
        assert {kind for _, kind, _ in found} <= _KINDS, page
        not_run[page.name] = [why for why, _, _ in found if why]
    assert {page: reasons for page, reasons in not_run.items() if reasons} == _NOT_RUN


def test_the_readme_is_short_and_its_figures_are_those_of_the_benchmarks():
    text = README.read_text()
    assert len(text.splitlines()) <= 150
    measured = (DOCS / "benchmarks.md").read_text()
    rows = re.findall(r"^\| .+ \| [\d,]+ x \d+ \w+ \| .+\|$", text, re.MULTILINE)
    assert len(rows) >= 4
    for row in rows:
        assert row in measured
