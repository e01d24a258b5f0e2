"""How the site is built: `make docs`. Pages with pictures are notebooks in text, which are executed; a warning or an
error in any of them ends the build."""

import os
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]
os.environ["PYTHONPATH"] = str(ROOT)  # of the notebooks, which run elsewhere and read the sweeps of the figures

project = "polyjax"
release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "docstrings", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"polyjax {release}"
html_show_copyright = False

default_role = "py:obj"  # what stands in backticks is code, and a link where there is such a thing
smartquotes_action = "D"  # dashes alone: ... is no ellipsis in [..., N]
highlight_language = "none"  # of blocks that name no language: commands and formulas
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 88
napoleon_use_rtype = False
myst_heading_anchors = 3

nb_execution_mode = "force"  # since a page is out of date also where the library has changed
nb_execution_timeout = 300
nb_execution_show_tb = True
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_merge_streams = True
