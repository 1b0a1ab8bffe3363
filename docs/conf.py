"""The site: `make docs` writes it to docs/_build. README is its front page; GitHub shows the same pages."""

project = "retort"
extensions = ["myst_parser", "sphinxcontrib.mermaid"]
exclude_patterns = ["_build"]
html_theme = "alabaster"
html_theme_options = {"description": "Distil any Hugging Face encoder into a student small enough to ship"}
html_show_sourcelink = False

# Links to headings, as on GitHub; blocks of Mermaid, which GitHub draws, too.
myst_heading_anchors = 3
myst_fence_as_directive = ["mermaid"]
