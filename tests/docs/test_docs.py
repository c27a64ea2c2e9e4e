"""The documentation is true: its commands run, its links lead somewhere, its tables are the program's own."""

import ast
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

import reelsheet
from reelsheet.options import Options
from reelsheet.outcomes import RESULT_COLUMNS, ErrorCode, Status
from reelsheet.results.table import summarise
from reelsheet.settings import env_names
from reelsheet.surroundings import problems
from tests.stand_in.stores import KINDS

ROOT = Path(__file__).parents[2]
NOT_RUN = "# not run by the tests: "
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
OURS = re.compile(r"\b(?:REELSHEET|VIBEDREAM)_[A-Z][A-Z_]*[A-Z]\b")
VERBS = ("demo", "plan", "run", "retry", "resolve", "status", "report", "fetch", "sandbox", "init", "doctor", "worker")


@cache
def tracked() -> tuple[Path, ...]:
    """Every file of the project, as git knows them; new ones included."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],  # noqa: S607 - the one on PATH
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    found = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return tuple(path for path in found if path.is_file())


@cache
def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def pages() -> list[Path]:
    return [path for path in tracked() if path.suffix == ".md"]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


# Commands


def guides() -> list[Path]:
    """The pages whose commands are run."""
    named = {ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")}
    return [path for path in pages() if path in named or path.parent == ROOT / "docs"]


def blocks(page: Path) -> Iterator[str]:
    """What stands in its ```sh fences, without their indentation."""
    for indent, language, content in FENCE.findall(text_of(page)):
        if language in {"sh", "bash", "shell", "console"}:
            yield re.sub(rf"^{indent}", "", content, flags=re.MULTILINE)


def test_command_blocks_are_marked_as_sh_and_say_why_they_are_not_run():
    for page in pages():
        for _, language, content in FENCE.findall(text_of(page)):
            assert language not in {"bash", "shell", "console"}, f"{name_of(page)}: commands go into ```sh"
            first = content.strip().splitlines()[0].strip()
            if language == "sh" and "not run" in first:
                assert first.startswith(NOT_RUN), name_of(page)
                assert len(first) > len(NOT_RUN) + 5, name_of(page)


def test_every_make_command_has_its_target():
    targets = set(re.findall(r"^([a-z-]+):", text_of(ROOT / "Makefile"), re.MULTILINE))
    for page in pages():
        for block in blocks(page):
            for line in block.splitlines():
                words = line.partition("#")[0].split()
                asked = words[words.index("make") + 1 :] if "make" in words else []
                assert set(asked) <= targets, f"{name_of(page)}: {line}"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The project's files without its tests, beside the same installation."""
    for path in tracked():
        if path.suffix != ".lock" and "tests" not in path.relative_to(ROOT).parts:
            place = tmp_path / "copy" / path.relative_to(ROOT)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
    (tmp_path / "copy" / ".venv").symlink_to(ROOT / ".venv")
    return tmp_path / "copy"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", guides(), ids=name_of)
def test_every_command_of_a_page_does_what_it_is_there_for(page, copy, sandbox, prefect_home, tmp_path):
    """In the page's order, as one who types them, against the sandbox; `make` is what runs this very test."""
    environment = {
        "PATH": f"{copy}/.venv/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(tmp_path / "home"),
        "XDG_STATE_HOME": str(tmp_path / "state"),
        "PREFECT_HOME": str(shutil.copytree(prefect_home, tmp_path / "prefect")),
        "LANG": "C.UTF-8",
        **sandbox.environment(),
    }
    (tmp_path / "home").mkdir()
    here = tmp_path / "here"  # where the last block has gone with `cd`
    here.write_text(str(copy))
    for block in blocks(page):
        if block.startswith(NOT_RUN):
            continue
        commands = "\n".join(line for line in block.splitlines() if not line.strip().startswith("make "))
        done = subprocess.run(
            ["/bin/sh", "-eu", "-c", f"{commands}\npwd > '{here}'"],
            cwd=here.read_text().strip(),
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{block}\n{done.stdout.decode()[-2000:]}\n{done.stderr.decode()[-2000:]}"


# The command line


@cache
def flags() -> dict[str, set[str]]:
    """verb → its flags, as the program has them."""
    from reelsheet.cli.verbs import app

    found = {}
    for verb in VERBS:
        arguments = app[verb].assemble_argument_collection()
        names = {name for argument in arguments for name in argument.names if name.startswith("-")}
        found[verb] = {name for name in names if not name.startswith("--no-") or name == "--no-preflight"}
    return found


def test_the_verbs_are_all_there_are():
    from reelsheet.cli.verbs import app

    assert {name for name in app if not name.startswith("-")} == set(VERBS)


def test_every_verb_and_flag_is_on_the_commands_page():
    page = text_of(ROOT / "docs" / "commands.md")
    for verb, names in flags().items():
        assert f"`reelsheet {verb}" in page
        for name in names:
            assert re.search(rf"`(?:{verb} )?{re.escape(name)}[ `]", page), f"{verb} {name}"


def spoken(page: Path) -> Iterator[str]:
    """Every piece of code on a page: in a line, and each line of a block."""
    text = text_of(page)
    for _, language, content in FENCE.findall(text):
        if language in {"sh", "text", ""}:
            yield from content.splitlines()
    yield from CODE.findall(FENCE.sub("", text))


def flags_of_prefects_worker() -> set[str]:
    """`reelsheet worker` passes them on."""
    from prefect.cli.worker import worker_app

    return {name for argument in worker_app["start"].assemble_argument_collection() for name in argument.names}


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_flag_that_is_written_beside_a_verb_exists(page):
    for code in spoken(page):
        for verb, rest in re.findall(r"\breelsheet ([a-z]+)\b([^|;&`]*)", code.partition(" #")[0]):
            if verb in VERBS:
                known = flags()[verb] | {"--help"} | (flags_of_prefects_worker() if verb == "worker" else set())
                unknown = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", rest)) - known
                assert not unknown, f"{name_of(page)}: {code}"


@pytest.mark.parametrize("page", guides(), ids=name_of)
def test_every_flag_that_stands_alone_is_one_of_ours(page):
    known = set().union(*flags().values()) | {"--help", "--version"}
    for code in CODE.findall(FENCE.sub("", text_of(page))):
        if code.startswith("--"):
            assert code.split()[0].partition("=")[0] in known, f"{name_of(page)}: {code}"


# Settings


def settings() -> frozenset[str]:
    return env_names()


def test_every_setting_is_documented_and_in_the_example():
    page, example = text_of(ROOT / "docs" / "settings.md"), text_of(ROOT / ".env.example")
    for name in settings():
        assert f"| `{name}` |" in page
        assert re.search(rf"^(# )?{name}=", example, re.MULTILINE), f".env.example lacks {name}"


def test_every_documented_setting_is_read_somewhere():
    """Deployments have variables of their own; they are read in a file that is no documentation."""
    read = settings()
    for path in tracked():
        if path.suffix in {".py", ".yaml", ".yml", ".sh", ".toml", ".tf"} or path.name in {"Dockerfile", "Makefile"}:
            read |= set(OURS.findall(text_of(path)))
    for page in pages():
        assert set(OURS.findall(text_of(page))) <= read, name_of(page)
    assert set(OURS.findall(text_of(ROOT / ".env.example"))) <= settings()


def test_what_the_program_itself_reads_from_the_environment_is_documented():
    page = text_of(ROOT / "docs" / "settings.md")
    for path in tracked():
        if path.suffix == ".py" and path.is_relative_to(ROOT / "reelsheet"):
            for name in re.findall(r"environ(?:\.get\(|\[)\"(\w+)\"", text_of(path)):
                if name.startswith(("REELSHEET_", "VIBEDREAM_", "XDG_STATE")):
                    assert f"`{name}`" in page, f"{name_of(path)} reads {name}"


# Statuses, codes, columns


def rows_of(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table whose header begins with `heading`."""
    lines = text_of(ROOT / "docs" / page).splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    table = []
    for line in lines[at + 2 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
    return table


def test_every_status_and_error_code_is_in_troubleshooting_and_no_other():
    assert [row[0] for row in rows_of("troubleshooting.md", "status")] == [f"`{status}`" for status in Status]
    assert {row[0] for row in rows_of("troubleshooting.md", "error code")} == {f"`{code}`" for code in ErrorCode}
    for row in rows_of("troubleshooting.md", "error code"):
        assert {name.strip("`") for name in re.split(r" or |, ", row[1])} <= set(Status), row


def test_every_problem_around_a_run_is_in_troubleshooting_with_its_fix():
    assert [tuple(row) for row in rows_of("troubleshooting.md", "setting")] == problems.table()


def test_every_result_column_is_documented_in_order():
    assert [row[0] for row in rows_of("results.md", "column")] == [f"`{name}`" for name in RESULT_COLUMNS]


def test_every_key_of_the_summary_is_documented():
    made = summarise(
        [], run_id="r", started_at=None, finished_at=None, seconds=0, flow_run_id=None, exit_code=0
    ).as_json()
    page = text_of(ROOT / "docs" / "results.md")
    for name in made:
        assert f"`{name}`" in page or name in set(Status), name


def test_every_exit_code_is_documented():
    for page in ("README.md", "docs/commands.md", "docs/troubleshooting.md"):
        for code in ("0", "1", "2", "3", "4", "130", "143"):
            assert re.search(rf"(?<!\d){code}(?!\d)", text_of(ROOT / page)), f"{page}: {code}"


def test_every_parameter_of_the_flows_is_described_in_a_sentence():
    from prefect.utilities.callables import parameter_schema

    from flows.generate_videos import generate_videos
    from flows.reprocess_failed import reprocess_failed

    known = {option.name for option in fields(Options)} - {"verb", "source", "results"} | {"manifest"}
    for flow, first in ((generate_videos, "manifest"), (reprocess_failed, "results")):
        described = parameter_schema(flow.fn).properties
        assert set(described) == known - {"manifest"} | {first}
        for name, told in described.items():
            assert told.get("description", "").endswith("."), f"{flow.name} {name}"


def test_the_least_rights_are_those_that_the_program_asks_for():
    policy = next(
        content for _, language, content in FENCE.findall(text_of(ROOT / "SECURITY.md")) if language == "json"
    )
    given = {action for statement in json.loads(policy)["Statement"] for action in statement["Action"]}
    asked = {
        action
        for path in tracked()
        if path.is_relative_to(ROOT / "reelsheet") and path.suffix == ".py" and "sandbox" not in path.parts
        for action in re.findall(r'"(s3:[A-Z]\w+)"', text_of(path))
        if action != "s3:List"  # the beginning of two
    }
    assert given == asked


# Links


def anchors(page: Path) -> set[str]:
    """As a Git host makes them of the headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ +(.+?) *#*$", FENCE.sub("", text_of(page)), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.add(slug if slug not in found else f"{slug}-1")
    return found


def test_every_kind_of_store_that_is_imitated_is_in_the_table():
    rows = re.findall(r"^\| ([^|]+) \| imitated \|", text_of(ROOT / "docs" / "storage.md"), re.MULTILINE)
    assert rows == [kind.name for kind in KINDS]


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_link_leads_somewhere(page):
    for links in LINK.findall(FENCE.sub("", text_of(page))):
        target = links[0] or links[1]
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            assert target.startswith(("https://", "mailto:")), f"{name_of(page)}: {target}"
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{name_of(page)}: {target}"
        if anchor:
            assert anchor in anchors(there), f"{name_of(page)}: {target}"


@pytest.mark.parametrize("page", [page for page in pages() if page.parent == ROOT / "docs"], ids=name_of)
def test_every_page_can_be_found_from_the_readme(page):
    seen, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        here = waiting.pop()
        if here in seen or here.suffix != ".md" or not here.exists():
            continue
        seen.add(here)
        for links in LINK.findall(text_of(here)):
            target = (links[0] or links[1]).partition("#")[0]
            if target and "://" not in target:
                waiting.append((here.parent / target).resolve())
    assert page in seen


# What no file may hold


def test_no_file_names_a_registry_a_download_address_or_a_place_on_somebody_s_machine():
    """Written in pieces here, so that this file may be looked at as well."""
    registries = ("pypi.or" + "g", "pythonhosted.or" + "g", "npmj" + "s.", "crates.i" + "o", "rubygems.or" + "g")
    words = (*registries, "deb.debian.or" + "g", "anaconda.or" + "g", "index-ur" + "l=http", "/simpl" + "e/")
    places = (r"(?<![\w.])/wor" + r"k/", r"(?<![\w.])/roo" + r"t/", r"(?<![\w.])/tmp/" + r"w/")
    forbidden = re.compile("|".join((*map(re.escape, words), *places)))
    for path in tracked():
        content = path.read_bytes()
        if b"\0" in content[:8000]:
            continue
        for number, line in enumerate(content.decode("utf-8", "replace").splitlines(), 1):
            assert not forbidden.search(line), f"{name_of(path)}:{number}: {line.strip()[:160]}"


def test_the_changelog_begins_with_this_version():
    first = re.search(r"^## (\S+)", text_of(ROOT / "CHANGELOG.md"), re.MULTILINE)
    assert first
    assert first[1] == reelsheet.__version__


def test_no_secret_is_committed():
    shapes = re.compile(
        r"\bA(?:KI|SI)A[0-9A-Z]{16}\b|-----BEGIN [A-Z ]*PRIVATE KEY-----\n|\bgh[pousr]_[A-Za-z0-9]{36}\b"
    )
    for path in tracked():
        content = path.read_bytes()
        if b"\0" not in content[:8000] and path.suffix != ".lock":
            found = shapes.search(content.decode("utf-8", "replace"))
            assert not found or "EXAMPLE" in found[0], f"{name_of(path)}: {found[0]}"
    assert not [path for path in tracked() if path.name == ".env"]


# Examples


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_run_leaves_the_files_that_the_readme_shows(sandbox, prefect_home, tmp_path):
    (tmp_path / "m.csv").write_text(f"id,image\nmug,{sandbox.pictures}/morning-mug.jpg\n")
    environment = os.environ | {"PREFECT_HOME": str(prefect_home), "XDG_STATE_HOME": str(tmp_path / "state")}
    subprocess.run(
        [ROOT / ".venv" / "bin" / "reelsheet", "run", "m.csv", "--to", "out", "--yes", "--json"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        timeout=200,
        check=True,
    )
    shown = next(content for _, _, content in FENCE.findall(text_of(ROOT / "README.md")) if "DEST/videos/" in content)
    named = set(re.findall(r"[\w.-]+\.(?:csv|xlsx|html|json|mp4)", shown)) - {"NAME.mp4"}
    left = {path.name for path in (tmp_path / "out").rglob("*") if path.is_file() and path.suffix != ".mp4"}
    assert left == named
    assert len(list((tmp_path / "out" / "videos").iterdir())) == 1


def test_every_module_that_a_package_lists_is_there():
    """The docstring of a package lists its modules, one a line: the name, at least two spaces, what it does."""
    for path in tracked():
        if path.name == "__init__.py" and path.relative_to(ROOT).parts[0] in {"flows", "tasks", "reelsheet"}:
            docstring = ast.get_docstring(ast.parse(text_of(path))) or ""
            for module in re.findall(r"^(\w+)/?  +\S", docstring, re.MULTILINE):
                assert any((path.parent / name).exists() for name in (f"{module}.py", module)), (
                    f"{name_of(path)}: {module}"
                )


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_file_of_ours_that_a_page_names_is_there(page):
    for path in re.findall(
        r"`((?:reelsheet|flows|tasks|tests|scripts|deployments|data)/[\w./-]*\w)/?[`:,]", text_of(page)
    ):
        assert (ROOT / path).exists() or path == "deployments/compose.env", f"{name_of(page)}: {path}"
