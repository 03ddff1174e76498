"""What is in launch/ for orchestrators that can't run in a test, against the schemas of those orchestrators.

kubernetes-validate has the API of Kubernetes with every unknown field refused; MPIJob's schema is that of its custom
resource definition; check-jsonschema has the schema of the Compose specification.
"""

from __future__ import annotations

import copy
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.shell import REPOSITORY

INSTALL = "pip install -e '.[test]'"
yaml = pytest.importorskip("yaml", reason=f"needs PyYAML: {INSTALL}")
CliRunner = pytest.importorskip("click.testing", reason=f"needs click: {INSTALL}").CliRunner
jsonschema = pytest.importorskip("jsonschema", reason=f"needs jsonschema: {INSTALL}")
kubernetes_validate = pytest.importorskip(
    "kubernetes_validate", reason=f"needs kubernetes-validate: {INSTALL}"
)

LAUNCH = REPOSITORY / "launch"
KUBERNETES = "1.33"
SCHEMA = REPOSITORY / "tests" / "data" / "mpijob_v2beta1.schema.json"
MANIFESTS = ("job.yaml", "mpijob.yaml")


def documents(name: str) -> list[dict[str, Any]]:
    """The objects of a file."""
    return list(yaml.safe_load_all((LAUNCH / "kubernetes" / name).read_text("utf-8")))


def of_kind(kind: str) -> dict[str, Any]:
    """The one object of a kind."""
    (found,) = (each for name in MANIFESTS for each in documents(name) if each["kind"] == kind)
    return found


def pod_templates(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """What its pods are made from."""
    if manifest["kind"] == "Job":
        yield manifest["spec"]["template"]
    if manifest["kind"] == "MPIJob":
        for replica in manifest["spec"]["mpiReplicaSpecs"].values():
            yield replica["template"]


def check(manifest: dict[str, Any]) -> None:
    """Fail if Kubernetes would refuse a manifest, or drop a field of it."""
    if manifest["kind"] == "MPIJob":
        jsonschema.validate(manifest, json.loads(SCHEMA.read_text("utf-8")))
        for template in pod_templates(manifest):
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "esd"}, **template}
            kubernetes_validate.validate(pod, KUBERNETES, strict=True)
    else:
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_is_what_kubernetes_and_the_mpi_operator_expect(name: str) -> None:
    manifests = documents(name)
    assert len(manifests) == 2
    for manifest in manifests:
        check(manifest)


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Job", ("spec", "backofLimit"), 3),
        ("Job", ("spec", "template", "spec", "containers", 0, "readOnlyRoot"), True),
        ("MPIJob", ("spec", "slotsPerWorkers"), 8),
        ("MPIJob", ("spec", "mpiImplementation"), "Open MPI"),
        ("MPIJob", ("spec", "mpiReplicaSpecs", "Workers"), {"template": {}}),
        ("MPIJob", ("spec", "mpiReplicaSpecs", "Worker", "restartPolicy"), "Sometimes"),
        ("MPIJob", ("spec", "mpiReplicaSpecs", "Worker", "template", "spec", "volume"), []),
    ],
)
def test_a_mistake_in_a_manifest_is_found(kind: str, path: tuple[Any, ...], value: object) -> None:
    manifest = copy.deepcopy(of_kind(kind))
    place: Any = manifest
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        check(manifest)


@pytest.mark.parametrize("kind", ["Job", "MPIJob"])
def test_every_pod_keeps_to_the_restricted_profile_and_has_what_the_image_needs(kind: str) -> None:
    manifest = of_kind(kind)
    for template in pod_templates(manifest):
        spec = template["spec"]
        (container,) = spec["containers"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["runAsUser"] == 1000
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        own = container["securityContext"]
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert own["readOnlyRootFilesystem"]
        assert not own["allowPrivilegeEscalation"]
        mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        assert mounted.keys() == {"/work", "/tmp"}
        assert {volume["name"] for volume in spec["volumes"]} == set(mounted.values())
    assert SSH_FOLDER in (LAUNCH / "image" / "sshd_config").read_text("utf-8")


SSH_FOLDER = str(of_kind("MPIJob")["spec"]["sshAuthMountPath"])


def test_a_preempted_pod_does_not_count_and_a_mistake_ends_the_job() -> None:
    """Rules are read from the top, and an exit code is only looked at where pods are never restarted in place."""
    spec = of_kind("Job")["spec"]
    first, second = spec["podFailurePolicy"]["rules"]
    assert (first["action"], first["onPodConditions"][0]["type"]) == ("Ignore", "DisruptionTarget")
    assert (second["action"], second["onExitCodes"]["values"]) == ("FailJob", [2])
    assert (
        second["onExitCodes"]["containerName"] == spec["template"]["spec"]["containers"][0]["name"]
    )
    assert spec["template"]["spec"]["restartPolicy"] == "Never"


def test_the_volume_of_the_runs_is_the_one_that_is_claimed_and_rank_0s() -> None:
    for name, kind in zip(MANIFESTS, ("Job", "MPIJob"), strict=True):
        claim = documents(name)[0]
        first = next(pod_templates(of_kind(kind)))
        volumes = {volume["name"]: volume for volume in first["spec"]["volumes"]}
        assert volumes["work"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    spec = of_kind("MPIJob")["spec"]
    assert spec["runLauncherAsWorker"]
    assert next(iter(spec["mpiReplicaSpecs"])) == "Launcher"


def test_the_compose_file_is_what_its_specification_expects(tmp_path: Path) -> None:
    check_jsonschema = pytest.importorskip(
        "check_jsonschema", reason=f"needs check-jsonschema: {INSTALL}"
    )
    file = LAUNCH / "compose.yaml"
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(file.read_text("utf-8").replace("depends_on:", "depend_on:"), "utf-8")
    for path, code in ((file, 0), (wrong, 1)):
        words = ["--builtin-schema", "vendor.compose-spec", str(path)]
        done = CliRunner().invoke(check_jsonschema.main, words)
        assert done.exit_code == code, done.output


def test_the_definition_for_apptainer_copies_what_is_there_and_installs_what_exists() -> None:
    """No Apptainer runs in the tests: what can be checked without is."""
    import tomllib

    text = (LAUNCH / "apptainer.def").read_text("utf-8")
    header, *rest = re.split(r"^%", text, flags=re.MULTILINE)
    assert re.findall(r"^(Bootstrap|From): \S+$", header, re.MULTILINE) == ["Bootstrap", "From"]
    sections = {part.partition("\n")[0]: part.partition("\n")[2] for part in rest}
    known = ("arguments", "files", "post", "environment", "runscript", "test", "labels")
    assert tuple(sections) == known
    copied = [line.split()[0] for line in sections["files"].splitlines() if line.strip()]
    assert all((REPOSITORY / name).exists() for name in copied)
    needed = {"pyproject.toml", "README.md", "LICENSE", "constraints.txt", "esd", "envs"}
    assert set(copied) == needed
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    named = [sections["arguments"].strip(), *re.findall(r"--build-arg (\S+)", header)]
    for assignment in named:
        key, _, value = assignment.partition("=")
        assert key == "extras"
        assert set(value.split(",")) <= extras["optional-dependencies"].keys()
    assert "{{ extras }}" in sections["post"]
    for name in ("post", "environment", "runscript", "test"):
        script = f"#!/bin/sh\n{sections[name]}".replace("{{ extras }}", "openmpi")
        done = subprocess.run(
            ["sh", "-n"], input=script, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
