import re
import runpy
from pathlib import Path

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
PYTHON_BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def run(block, folder):
    path = folder / "example.py"
    path.write_text(block)
    return runpy.run_path(str(path))


def test_the_first_example_is_short_and_gives_logits_for_known_and_new_classes(tmp_path):
    block = PYTHON_BLOCKS[0]
    assert len([line for line in block.splitlines() if line.strip() and "import" not in line]) < 10
    names = run(block, tmp_path)
    assert names["known"].shape == (80, 20)
    assert names["new"].shape == (80, 20)
    accuracy = (names["known"].argmax(1).numpy() == names["shots"].labels).mean()
    assert accuracy > 0.5


def test_every_other_example_runs(tmp_path):
    assert len(PYTHON_BLOCKS) > 1
    for block in PYTHON_BLOCKS[1:]:
        assert run(block, tmp_path)


def test_the_tree_names_what_is_there():
    root = Path(__file__).resolve().parents[1]
    tree = re.search(r"## The house\n\n```\n(.*?)```", README, flags=re.DOTALL).group(1)
    folder = root
    for line in tree.splitlines():
        name = line.split()[0]
        folder = root if not line.startswith(" ") else folder
        assert (folder / name).exists() or (root / name).exists(), line
        if name.endswith("/") and not line.startswith(" "):
            folder = root / name


def test_ci_runs_the_readmes_test_command():
    script = (Path(__file__).resolve().parents[1] / ".ci" / "run").read_text()
    (command,) = (line for line in README.splitlines() if "-m pytest" in line)
    assert script.splitlines()[-1] == command
