"""What `deploy/` says to run can be run: its commands parse, its paths, ports and times agree, its units are sound."""

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from itertools import chain, pairwise
from pathlib import Path

import pytest
import torch

from sasrec.cli import COMMANDS, command_line
from sasrec.serving.lifetime import _GRACE
from sasrec.serving.server import _FILES, Place

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
STATE = "/var/lib/sasrec"
UNITS = sorted(path.name for path in DEPLOY.glob("sasrec*.*"))


def unit(name):
    """Sections of a unit; of a setting that is given more than once the last."""
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=["="])
    parser.optionxform = str
    parser.read_string((DEPLOY / name).read_text())
    return parser


def container(instruction):
    """What follows an instruction of the last stage of the container file."""
    (found,) = re.findall(rf"^{instruction} (.*)$", text_of_container().rpartition("\nFROM ")[2], re.MULTILINE)
    return found


def text_of_container():
    """The container file, each instruction on one line."""
    return (DEPLOY / "Containerfile").read_text().replace("\\\n", " ")


def parsed(words, folder):
    """The arguments of a command of ours as its own parser understands them, with its state in a folder."""
    words = [word.replace(STATE, str(folder)) for word in words]
    _, bound, _ = command_line(words[0]).parse_args(words, exit_on_error=False, print_error=False)
    bound.apply_defaults()
    return bound.arguments


@pytest.fixture
def folder(tmp_path, small_model, monkeypatch):
    """A folder in the place of the state's: `retrain` looks at its model before anything else."""
    small_model.save(tmp_path / "model.sasrec")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_units_are_those_that_are_documented():
    shown = (DEPLOY / "README.md").read_text()

    assert UNITS == ["sasrec-retrain.service", "sasrec-retrain.timer", "sasrec.service"]
    assert all(f"`{path.name}`" in shown for path in DEPLOY.iterdir() if path.name != "README.md")


def test_the_unit_of_the_server_serves_on_the_loopback_and_has_time_to_drain(folder):
    service = unit("sasrec.service")["Service"]
    program, *words = shlex.split(service["ExecStart"])

    told = parsed(words, folder)

    assert program == "/opt/sasrec/bin/sasrec"
    assert told["model"] == folder / "model.sasrec"
    assert told["place"] == Place(port=8000, data=folder / "data", drain=5)
    assert told["place"].host == "127.0.0.1"
    assert int(service["TimeoutStopSec"].removesuffix("s")) >= told["place"].drain + _GRACE + 10
    assert f"/var/lib/{service['StateDirectory']}" == STATE == service["WorkingDirectory"]


def test_the_unit_of_the_training_speaks_of_the_same_model_and_data(folder):
    server, training = unit("sasrec.service")["Service"], unit("sasrec-retrain.service")
    program, *words = shlex.split(training["Service"]["ExecStart"])

    told, serving = parsed(words, folder), parsed(shlex.split(server["ExecStart"])[1:], folder)

    assert program == "/opt/sasrec/bin/sasrec"
    assert told["model"] == serving["model"]
    assert told["server"].data == serving["place"].data
    assert told["server"].activate
    assert (told["saved"].out, told["saved"].replace) == (folder / "next.sasrec", True)
    assert told["log"].parent == folder
    assert training["Unit"]["After"] == "sasrec.service"
    for name in ("User", "Group", "StateDirectory", "UMask", "SystemCallFilter", "ProtectSystem"):
        assert training["Service"][name] == server[name], name


def test_the_server_is_not_started_again_where_it_would_fail_again():
    stops = unit("sasrec.service")["Service"]["RestartPreventExitStatus"].split()
    listed = dict(re.findall(r"^\| (\d+) \| (.*?) \|$", (ROOT / "docs/cli.md").read_text(), re.MULTILINE))

    assert set(stops) == {"2", "3", "5"}
    assert "setting" in listed["2"]
    assert "data file" in listed["3"]
    assert "model is missing" in listed["5"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_understands_every_unit(tmp_path):
    for name in UNITS:
        text = (DEPLOY / name).read_text().replace("/opt/sasrec/bin/sasrec", sys.executable)
        (tmp_path / name).write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in UNITS)]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_container_serves_on_the_port_that_it_exposes(folder):
    words = json.loads(container("CMD"))

    told = parsed(words, folder)

    assert json.loads(container("ENTRYPOINT")) == ["sasrec"]
    assert container("WORKDIR") == container("VOLUME") == STATE
    assert told["place"] == Place(host="0.0.0.0", port=int(container("EXPOSE")), data=Path("data"), drain=5)
    assert container("STOPSIGNAL") == "SIGTERM"
    assert int(container("USER").partition(":")[0]) > 0


def test_the_user_and_the_group_of_the_container_are_those_that_it_makes():
    user, group = container("USER").split(":")
    steps = [shlex.split(step) for step in container("RUN").split("&&")]
    made = {program: (words[-1], dict(pairwise(words))) for program, *words in steps}

    assert (made["groupadd"][0], made["groupadd"][1]["--gid"]) == ("sasrec", group)
    assert (made["useradd"][0], made["useradd"][1]["--uid"], made["useradd"][1]["--gid"]) == ("sasrec", user, group)
    # A new volume begins as a copy of this folder, its owner and mode too.
    assert (made["install"][0], made["install"][1]["-o"], made["install"][1]["-g"]) == (STATE, "sasrec", "sasrec")
    assert "--no-create-home" in made["useradd"][1], "dot files of a shell would be in every volume"


@pytest.mark.slow
def test_a_network_trains_with_what_the_image_keeps_of_its_packages(tmp_path):
    packages = tmp_path / "packages"
    installed = Path(torch.__file__).parents[1]
    for folder in (".", "torch", "torch/bin"):  # real folders of links, so that what is deleted is links
        (packages / folder).mkdir()
        for path in (installed / folder).iterdir():
            if path not in (installed / "torch", installed / "torch/bin"):
                (packages / folder / path.name).symlink_to(path)
    thinning = re.search(r"^RUN cd (\S+) && (.*)$", text_of_container(), re.MULTILINE)
    assert thinning[1].endswith("/site-packages")
    code = f"""if True:
        import sys
        sys.path[:0] = {[str(packages), str(ROOT / "src")]}
        import polars, torch, sasrec, sasrec.serving.app
        rows = [(user, (user + step) % 9) for user in range(12) for step in range(6)]
        log = sasrec.read_log(polars.DataFrame(rows, schema=["user_id", "item_id"], orient="row"))
        config = sasrec.Config(width=8, length=6, epochs=1, threads=1)
        model = sasrec.train(sasrec.split(log), config)
        print(torch.__file__, len(model.recommend([3], k=2)))
    """

    subprocess.run(thinning[2], shell=True, cwd=packages, check=True)
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, f"{packages}/torch/__init__.py 2\n"), done.stderr
    assert not (packages / "torch/include").exists()


def test_the_health_check_of_the_container_tells_a_server_from_none(serving, small_model, tmp_path, monkeypatch):
    words = json.loads(re.search(r"CMD (\[.*\])", container("HEALTHCHECK"))[1])
    assert words[0] == "python"

    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # which nothing is asked by way of

    def checked(url):
        code = words[2].replace(f"http://127.0.0.1:{container('EXPOSE')}", url)
        assert url in code
        return subprocess.run([sys.executable, *words[1:2], code], capture_output=True, check=False).returncode

    with serving(small_model, data=tmp_path / "data") as running:
        well = checked(running.url)
    ill = checked(running.url)

    assert (well, ill != 0) == (0, True)


def test_the_container_file_copies_what_there_is():
    text = (DEPLOY / "Containerfile").read_text()
    copied = [word for line in re.findall(r"^COPY (?!--)(.*)$", text, re.MULTILINE) for word in line.split()[:-1]]
    let_in = re.findall(r"^!(.*)$", (DEPLOY / "Containerfile.dockerignore").read_text(), re.MULTILINE)

    assert sorted(copied) == sorted(let_in)
    assert all((ROOT / name).exists() for name in copied)


@pytest.mark.parametrize("extras", ["serve", "serve,postgres"])
def test_the_container_file_installs_what_sasrec_asks_for_before_it_has_its_code(extras):
    before, _, after = text_of_container().partition("COPY src ")
    told, file = re.search(r'RUN (python -c ".*?") > (\S+) &&', before).groups()
    own = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [own["dependencies"], *(own["optional-dependencies"][extra] for extra in extras.split(","))]

    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        told, shell=True, cwd=ROOT, capture_output=True, text=True, check=True, env={"PATH": path, "EXTRAS": extras}
    )

    assert done.stdout.splitlines() == list(chain(*asked))
    assert f"-r {file}" in before
    assert "--no-deps" in after
    assert "ARG EXTRAS=serve\n" in before


def test_torch_for_the_cpu_is_the_version_that_is_pinned():
    pinned = re.search(r"^torch==(.*)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)

    assert f"torch=={pinned[1]}+cpu" in (DEPLOY / "cpu.txt").read_text().splitlines()


def test_every_command_of_the_page_exists_and_its_flags_parse(folder):
    shown = (DEPLOY / "README.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", shown, flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    ours = [words for line in lines if (words := after_program(shlex.split(line, comments=True)))]

    for words in ours:
        parsed(words, folder)

    assert sorted(words[0] for words in ours) == ["activate", "retrain", "rollback", "rollback"]
    for name in re.findall(r"deploy/([\w.-]+)", "\n".join(lines)):
        assert (DEPLOY / name).exists(), name
    assert {*re.findall(r"(?:localhost|127\.0\.0\.1):(\d+)", shown)} == {"8000"}


def after_program(words):
    """The words of a command of ours within a line of a shell; none where the line runs something else."""
    places = [at for at, word in enumerate(words[:-1]) if word.endswith("sasrec") and words[at + 1] in COMMANDS]
    return words[places[0] + 1 :] if places else []


def test_the_server_may_open_as_many_files_as_it_asks_for():
    assert int(unit("sasrec.service")["Service"]["LimitNOFILE"]) == _FILES
