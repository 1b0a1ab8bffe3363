"""Draw the house of docs/architecture.md from the imports: folders, the rooms in them, and which imports from which.

python tests/draw_architecture.py            writes the picture into docs/architecture.md
"""

from __future__ import annotations

from collections import defaultdict

from test_architecture import FILES, ORDER, REPOSITORY, imports, package_of, path_of

PAGE = REPOSITORY / "docs/architecture.md"
BEGIN, END = "<!-- drawn by tests/draw_architecture.py -->\n", "<!-- end of the picture -->"
FOLDERS = [folder for folders in reversed(ORDER) for folder in folders]

# A folder, or a folder and a room in it.
Place = tuple[str, ...]


def redrawn(page: str) -> str:
    """The page with the present picture in the place of the one that it holds."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}{picture(import_edges())}{END}{rest.partition(END)[2]}"


def import_edges() -> dict[Place, set[Place]]:
    """Each place -> the places that its modules import from."""
    edges = defaultdict(set)
    for file in FILES:
        own = package_of(file)
        for module, names in imports(file, own):
            # `from .. import trainers` names the folder behind the import, other forms before it.
            targets = [(*module, name) for name in names] if module == ("retort",) else [module]
            edges[_place(own)] |= {_place(target) for target in targets if target[0] == "retort"}
    return {importer: imported - {importer} for importer, imported in edges.items()}


def _place(module: tuple[str, ...]) -> Place:
    path = path_of(module)
    return (path if path.is_dir() else path.parent).relative_to(REPOSITORY).parts[:2]


def picture(edges: dict[Place, set[Place]]) -> str:
    """Folders and rooms in Mermaid's language: importers above, imported below."""
    lines = ["flowchart TD"]
    for folder in FOLDERS:
        rooms = sorted(path.parent.name for path in (REPOSITORY / folder).glob("*/__init__.py"))
        lines.append(f'  subgraph {folder}["{folder}/"]')
        lines += [f'    {folder}.{room}["{room}/"]' for room in rooms]
        for room in rooms:
            others = [other for other in rooms if (folder, other) in edges.get((folder, room), ())]
            lines += arrows(f"    {folder}.{room}", [f"{folder}.{other}" for other in others])
        lines.append("  end")
    below = {f: {to[0] for at, found in edges.items() if at[0] == f for to in found} - {f} for f in FOLDERS}
    for folder in FOLDERS:
        # What is reached through another folder needs no arrow of its own.
        further = {each for other in below[folder] for each in below[other]}
        lines += arrows(f"  {folder}", [other for other in FOLDERS if other in below[folder] - further])
    return "```mermaid\n" + "\n".join(lines) + "\n```\n"


def arrows(place: str, others: list[str]) -> list[str]:
    """A line with the arrows from a place; none if there are none."""
    return [f"{place} --> {' & '.join(others)}"] if others else []


if __name__ == "__main__":
    PAGE.write_text(redrawn(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
