"""What a repository shows to the world: metadata, citation, templates, workflow, hooks, changelog."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import esd

REPOSITORY = Path(__file__).parent.parent
GITHUB = REPOSITORY / ".github"
INSTALL = "pip install 'esd-mpi[test]'"
HEADING = re.compile(r"## (Unreleased|(\d+\.\d+\.\d+) - (\d{4}-\d\d-\d\d))")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """[project] of pyproject.toml."""
    table: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    return dict(table["project"])


def yaml(path: Path) -> Any:
    """A YAML file; the parser comes with check-jsonschema."""
    reader = pytest.importorskip("ruamel.yaml", reason=f"needs check-jsonschema: {INSTALL}")
    return reader.YAML(typ="safe").load(path.read_text("utf-8"))


def test_the_metadata_is_valid_and_its_classifiers_exist() -> None:
    errors = pytest.importorskip(
        "validate_pyproject.errors", reason=f"needs validate-pyproject: {INSTALL}"
    )
    from validate_pyproject import api

    table = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    api.Validator()(table)
    table["project"]["license"] = 3
    with pytest.raises(errors.ValidationError):
        api.Validator()(table)


def test_the_metadata_is_complete(project: dict[str, Any]) -> None:
    for key in ("name", "description", "requires-python", "license", "authors", "keywords"):
        assert project[key], key
    assert project["dynamic"] == ["version"]
    for file in (project["readme"], *project["license-files"]):
        assert (REPOSITORY / file).stat().st_size > 1000
    assert len(project["description"]) <= 100
    assert not project["description"].endswith(".")
    classifiers = project["classifiers"]
    minimum = project["requires-python"].removeprefix(">=")
    assert f"Programming Language :: Python :: {minimum}" in classifiers
    for part in ("Development Status", "Intended Audience", "Operating System", "Topic", "Typing"):
        assert any(classifier.startswith(f"{part} :: ") for classifier in classifiers), part
    assert (REPOSITORY / "esd" / "py.typed").exists()
    assert len(classifiers) == len(set(classifiers))


def test_every_extra_has_lower_bounds_where_it_names_a_version(project: dict[str, Any]) -> None:
    for needed in project["dependencies"]:
        assert ">=" in needed, needed


def test_the_version_is_the_same_everywhere_and_the_changelog_is_dated() -> None:
    citation = yaml(REPOSITORY / "CITATION.cff")
    assert citation["version"] == esd.__version__
    lines = (REPOSITORY / "CHANGELOG.md").read_text("utf-8").splitlines()
    headings = [line for line in lines if line.startswith("## ")]
    found = [HEADING.fullmatch(heading) for heading in headings]
    assert all(found), headings
    assert headings[0] == "## Unreleased"
    released = [(match[2], match[3]) for match in found if match and match[2]]
    assert [date for _, date in released] == sorted((d for _, d in released), reverse=True)
    if released:  # between two releases the version is that of the last one
        assert released[0][0] == esd.__version__
        assert str(citation["date-released"]) == released[0][1]


@pytest.mark.parametrize(
    ("file", "schema"),
    [
        ("CITATION.cff", "vendor.citation-file-format"),
        (".github/workflows/ci.yml", "vendor.github-workflows"),
        (".github/ISSUE_TEMPLATE/config.yml", "vendor.github-issue-config"),
        (".github/ISSUE_TEMPLATE/bug_report.yml", "vendor.github-issue-forms"),
        (".github/ISSUE_TEMPLATE/feature_request.yml", "vendor.github-issue-forms"),
    ],
)
def test_a_file_is_what_its_reader_expects(file: str, schema: str, tmp_path: Path) -> None:
    checker = pytest.importorskip(
        "check_jsonschema", reason=f"needs check-jsonschema: {INSTALL}"
    ).main
    text = (REPOSITORY / file).read_text("utf-8")
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(f"{text}\nno such key: 1\n", "utf-8")
    for path, code in ((REPOSITORY / file, 0), (wrong, 1)):
        done = CliRunner().invoke(checker, ["--builtin-schema", schema, str(path)])
        assert done.exit_code == code, done.output


def test_the_workflow_runs_what_ci_runs() -> None:
    (job,) = yaml(GITHUB / "workflows" / "ci.yml")["jobs"].values()
    assert job["steps"][-1]["run"] == ".ci/run"
    assert (REPOSITORY / ".ci" / "run").stat().st_mode & 0o111
    assert "--privileged" in job["container"]["options"]


def test_hooks_before_a_commit_use_the_tools_that_ci_uses() -> None:
    (repository,) = yaml(REPOSITORY / ".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    commands = [hook["entry"].split()[:2] for hook in repository["hooks"]]
    assert [" ".join(words) for words in commands] == ["ruff check", "ruff format", "mypy"]
    checks = (REPOSITORY / "launch" / "test.sh").read_text("utf-8")
    assert all(f" {' '.join(words)}" in checks for words in commands)


def test_the_files_that_hosting_sites_look_for_are_there() -> None:
    for name in ("SECURITY.md", "CONTRIBUTING.md", "LICENSE", ".github/pull_request_template.md"):
        assert (REPOSITORY / name).stat().st_size > 200, name
    for name in re.findall(
        r"`([\w./]+\.(?:py|md|cff))`", (REPOSITORY / "docs/releasing.md").read_text()
    ):
        assert (REPOSITORY / name).exists(), name
