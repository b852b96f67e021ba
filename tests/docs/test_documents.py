"""The documents against the program: examples are valid, commands exist, links lead somewhere, tables are complete."""

import itertools
import json
import os
import pathlib
import re
import subprocess
import textwrap

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = pathlib.Path(os.environ.get("EK_TEST_BINARY_DIR", ROOT / "build/dev")) / "agent/app/evenkeel"
MARKDOWN = sorted(ROOT.glob("*.md"))
README = ROOT / "README.md"
MAN = sorted((ROOT / "agent/app/man").iterdir())
DROPIN_PUBLIC = {"commandToExecute", "script", "fileUris", "skipDos2Unix", "secretsManagementSettings",
                 "authenticationSettings", "loggingSettings"}


def run(*argv, **options):
    return subprocess.run([str(word) for word in argv], capture_output=True, text=True, timeout=60, **options)


def blocks(path, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(), re.DOTALL | re.MULTILINE)


def here_documents(path):
    """JSON that an example writes into a file."""
    return [text for block in blocks(path, "sh") for text in re.findall(r"<<'END'\n(.*?)^END$", block, re.DOTALL | re.MULTILINE)]


def settings_examples():
    """(where, settings, secrets): a document that holds nothing but secrets belongs to the one before it."""
    found = []
    for path in MARKDOWN:
        for text in blocks(path, "json") + here_documents(path):
            if found and set(json.loads(text)) == {"secrets"}:
                found[-1][2] = text
            else:
                found.append([path.name, text, None])
    return [pytest.param(*example[1:], id=f"{example[0]}-{number}") for number, example in enumerate(found)]


@pytest.fixture(scope="module")
def schema():
    answer = run(PROGRAM, "schema")
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


@pytest.fixture(scope="module")
def verbs():
    answer = run(PROGRAM, "help", "--all")
    assert answer.returncode == 0, answer.stderr
    return {match[1] for match in re.finditer(r"^  ([a-z-]+) ", answer.stdout, re.MULTILINE)}


def test_there_are_examples():
    assert len(settings_examples()) >= 4


@pytest.mark.parametrize("settings, secrets", settings_examples())
def test_examples_are_valid(tmp_path, settings, secrets):
    (tmp_path / "settings.json").write_text(settings)
    options = []
    if secrets:
        (tmp_path / "secrets.json").write_text(secrets)
        options = ["--secrets", tmp_path / "secrets.json"]
    answer = run(PROGRAM, "validate", *options, tmp_path / "settings.json")
    assert answer.returncode == 0, answer.stderr
    assert not answer.stderr, "an example causes a warning"


def test_the_lab_plays_what_the_readme_shows():
    deployment = ROOT / "tests/lab/deployment"
    assert (deployment / "evenkeel.json").read_text() in blocks(README, "json")
    [nginx] = blocks(README, "nginx")
    assert textwrap.indent(nginx, "\t") in (deployment / "nginx-site.conf").read_text()


# Commands

def command_lines(path):
    text = path.read_text()
    if path.suffix != ".md":
        # mdoc: ".Cm verb" after the name; ".Dl evenkeel …" in examples
        yield from (f"evenkeel {match}" for match in re.findall(r"^\.(?:It )?Cm ([a-z-]+)", text, re.MULTILINE))
        yield from re.findall(r"^\.Dl (evenkeel .*)$", text, re.MULTILINE)
        yield from re.findall(r"^\.Ic (evenkeel .*)$", text, re.MULTILINE)
        return
    for block in blocks(path, "sh"):
        yield from (line.strip() for line in block.splitlines() if line.startswith("evenkeel "))
    without_blocks = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    yield from re.findall(r"`(evenkeel [a-z][^`]*)`", without_blocks)


@pytest.mark.parametrize("path", MARKDOWN + MAN, ids=lambda path: path.name)
def test_commands_exist(path, verbs):
    not_built = set(re.findall(r"`evenkeel ([a-z-]+)[^`]*`\) is not built yet", path.read_text()))
    for line in command_lines(path):
        verb = line.split()[1]
        if verb in not_built:
            assert verb not in verbs, f"{path.name} says that {verb} is not built yet, but it is"
        else:
            assert verb in verbs, f"{path.name}: {line}"


@pytest.mark.parametrize("path", MARKDOWN + MAN, ids=lambda path: path.name)
def test_options_exist(path):
    """Each option of a documented command, and each word after a verb that has words of its own, is in the verb's help."""
    for line in command_lines(path):
        words = re.split(r"\s+[|>&#].*", line)[0].split()[1:]
        options = {word.split("=")[0] for word in words if re.match(r"--[a-z]", word)}
        if options:
            told = run(PROGRAM, words[0], "--help").stdout
            assert options <= set(re.findall(r"--[a-z-]+", told)), f"{path.name}: {line}"


def test_the_manual_has_every_verb(verbs):
    page = (ROOT / "agent/app/man/evenkeel.1").read_text()
    told = set(re.findall(r"\b([a-z-]+)\b", " ".join(re.findall(r"^\.(?:It )?Cm (.*)$", page, re.MULTILINE))))
    assert verbs <= told, f"not in evenkeel(1): {sorted(verbs - told)}"


def test_commands_that_are_not_there_yet_are_not(verbs):
    row = next(line for line in README.read_text().splitlines() if line.startswith("| commands |"))
    works, missing = (set(re.findall(r"`([a-z-]+)`", cell)) for cell in row.split("|")[2:4])
    assert works <= verbs and not missing & verbs


def completions(verb, word=""):
    """What bash offers after "evenkeel VERB WORD"."""
    script = (f"source <('{PROGRAM}' completion bash); COMP_WORDS=(evenkeel {verb} '{word}'); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1));"
              " _evenkeel; printf '%s\n' \"${COMPREPLY[@]}\"")
    answer = run("bash", "-c", script)
    assert answer.returncode == 0 and not answer.stderr, answer.stderr
    return set(answer.stdout.split())


def test_bash_completes_verbs_and_options():
    people = {match[1] for match in re.finditer(r"^  ([a-z-]+) ", run(PROGRAM, "help").stdout, re.MULTILINE)}
    assert completions("") == people
    assert completions("", "re") == {verb for verb in people if verb.startswith("re")}
    assert completions("simulate") == {"--in", "--duration", "--dry-run"}
    assert completions("completion") == {"bash", "zsh"}


def test_zsh_reads_its_completions():
    script = run(PROGRAM, "completion", "zsh")
    assert script.returncode == 0
    assert set(re.findall(r"^\t\t'([a-z-]+):", script.stdout, re.MULTILINE)) >= {"status", "drain", "completion"}
    try:
        answer = run("zsh", "-n", "/dev/stdin", input=script.stdout)
    except FileNotFoundError:
        pytest.skip("no zsh here")
    assert answer.returncode == 0, answer.stderr


# Links and paths

@pytest.mark.parametrize("path", MARKDOWN, ids=lambda path: path.name)
def test_links_lead_to_files(path):
    text = path.read_text()
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert (path.parent / target).exists(), f"{path.name}: {target}"
    for target in re.findall(r"`((?:scripts|agent|handlers|tests|\.ci|manifest)/[A-Za-z0-9_./*-]*)[^`]*`", text):
        assert list(ROOT.glob(target.rstrip("/"))), f"{path.name}: {target}"


# Tables

def table(heading):
    """The rows of the first table below a heading of the README, as lists of cells."""
    text = README.read_text().split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    rows = itertools.takewhile(lambda line: line.startswith("|"),
                               itertools.dropwhile(lambda line: not line.startswith("|"), text.splitlines()))
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in list(rows)[2:]]


def names(cell):
    return re.findall(r"`([^`]+)`", cell)


def test_settings_table_is_the_schema(schema):
    rows = table("Settings")
    told = [name for row in rows for name in names(row[0])]
    assert sorted(told) == sorted(schema["properties"]), "sections and members at top level"
    for first, _, members in rows:
        for section in names(first):
            if section in DROPIN_PUBLIC:
                continue
            node = schema["properties"][section]
            while "$ref" in node:
                node = schema["$defs"][node["$ref"].rpartition("/")[2]]
            assert sorted(names(members)) == sorted(node.get("properties", {})), section


def enum_and_table(table_name):
    """[(number, meaning)] of a table in exit_codes.c, the numbers from the header."""
    header = (ROOT / "agent/core/exit_codes.h").read_text()
    source = (ROOT / "agent/core/exit_codes.c").read_text()
    numbers = {name: int(value) for name, value in re.findall(r"^\t([A-Z_]+) = (-?\d+),", header, re.MULTILINE)}
    body = re.search(rf"{table_name}\[\] = {{(.*?)^}};", source, re.DOTALL | re.MULTILINE)[1]
    return sorted((numbers[name], meaning) for name, meaning in re.findall(r'{ ([A-Z_]+), "\w+", "(.*?)" }', body))


def test_code_tables_are_the_program_s():
    text = README.read_text().split("## Exit codes and error codes\n", 1)[1]
    rows = [(int(code), meaning) for code, meaning in re.findall(r"^\| (-?\d+) \| (.*?) \|$", text, re.MULTILINE)]
    expected = enum_and_table("exit_code_table")
    assert rows[: len(expected)] == expected
    assert rows[len(expected):] == enum_and_table("status_code_table")


def test_manual_has_the_program_s_exit_codes():
    page = (ROOT / "agent/app/man/evenkeel.1").read_text().split(".Sh EXIT STATUS", 1)[1].split(".Sh ", 1)[0]
    told = [(int(code), " ".join(text.split()).rstrip(".").lower()) for code, text in
            re.findall(r"^\.It (\d+)\n(.*?)(?=^\.)", page, re.DOTALL | re.MULTILINE)]
    assert told == [(code, meaning.lower()) for code, meaning in enum_and_table("exit_code_table")]


# Manual pages

def test_settings_manual_is_current():
    answer = run(ROOT / "scripts/settings-manual", PROGRAM)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout == (ROOT / "agent/app/man/evenkeel.json.5").read_text(), \
        f"run: scripts/settings-manual {PROGRAM} >agent/app/man/evenkeel.json.5"


@pytest.mark.parametrize("path", MAN, ids=lambda path: path.name)
def test_manual_pages_format(path):
    try:
        answer = run("groff", "-mdoc", "-Tutf8", "-ww", "-z", path)
    except FileNotFoundError:
        pytest.skip("no groff here")
    complaints = [line for line in answer.stderr.splitlines() if not re.search(r"(can't break|cannot break|cannot adjust) line", line)]
    assert answer.returncode == 0 and not complaints, complaints


def test_units_name_an_installed_page():
    for unit in (ROOT / "agent/app/units").iterdir():
        for name, section in re.findall(r"man:([\w.-]+)\((\d)\)", unit.read_text()):
            assert (ROOT / f"agent/app/man/{name}.{section}").exists(), unit.name


def test_changelog_has_this_version():
    project = re.search(r"^project\(evenkeel VERSION ([\d.]+)", (ROOT / "CMakeLists.txt").read_text(), re.MULTILINE)[1]
    assert re.search(rf"^## {re.escape(project)}$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
