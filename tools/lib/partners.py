"""Pairs from two or more folders: images with the same name, endings aside, and subfolder."""

from __future__ import annotations

from pathlib import Path

from tools.lib.cli import UserError, printable, warn
from tools.lib.files import describe_lonely, match_names, normal_name
from tools.lib.image_files import describe_no_images, list_folder, list_tree, report_others
from tools.lib.run_folder import list_sources


def group_images(folder, folders):
    """The images in a folder and its subfolders: subfolder, accents composed -> paths. Those in
    others of the folders belong to these."""
    contents = list_tree(folder, {Path(other).resolve() for other in folders})
    report_others(folder, contents._replace(folders=[]))
    groups = {}
    for path in contents.images:
        place = normal_name(path.parent.relative_to(folder).as_posix())
        groups.setdefault(place, []).append(path)
    return groups


def match_trees(trees, folders):
    """The examples that images of several folders make, a tuple of paths each, and a line for each
    image that has no partner. trees: of `group_images`."""
    partners, lines = [], []
    for tree, folder in zip(trees[1:], folders[1:], strict=True):
        found = {}
        for place in sorted({*trees[0], *tree}):
            paths, others = trees[0].get(place, []), tree.get(place, [])
            found |= match_names(paths, others)
            taken = {*found.values()}
            lonely = [path for path in paths if path not in found]
            left = [other for other in others if other not in taken]
            lines += describe_lonely(lonely, left, Path(folder, place))
            lines += describe_lonely(left, lonely, Path(folders[0], place))
        partners.append(found)
    paths = [path for place in sorted(trees[0]) for path in trees[0][place]]
    examples = [(path, *(found[path] for found in partners)) for path in paths
                if all(path in found for found in partners)]
    return examples, lines


def raise_error(error):
    """Ends what is going on with an error."""
    raise error


def refuse_nested(flags, folders, trees):
    """Raises UserError where one of the folders, whose images have no partners, lies in another.
    trees: of `group_images`."""
    for flag, folder in zip(flags, folders, strict=True):
        for outer_flag, outer, tree in zip(flags, folders, trees, strict=True):
            if outer != folder and Path(outer).resolve() in Path(folder).resolve().parents:
                raise UserError(f"{flag} {folder} lies in {outer_flag} {outer}, and no image has a "
                                "partner: give two folders that do not hold each other, such as "
                                f"{Path(outer, min(tree)).as_posix()}")


def match_folders(options, refuse=raise_error):
    """The examples of --a_dir and --b_dir, a tuple of paths each. Raises UserError where images
    have no partner. refuse: as in `dataset.list_images`."""
    flags, folders = zip(*list_sources(options), strict=True)
    trees = [group_images(folder, folders) for folder in folders]
    for flag, folder, tree in zip(flags, folders, trees, strict=True):
        if not tree:
            raise UserError(f"{flag} {describe_no_images(folder, list_folder(folder))}")
    examples, lines = match_trees(trees, folders)
    if not examples:
        refuse_nested(flags, folders, trees)
    for line in lines:
        warn(printable(line))
    if not examples:
        raise UserError(f"no image of {flags[0]} {folders[0]} has a partner in {flags[1]} "
                        f"{folders[1]}: partners have the same name, endings aside")
    if lines and options.on_bad_image == "fail":
        number = "1 image has" if len(lines) == 1 else f"{len(lines)} images have"
        refuse(UserError(f"{number} no partner: add or remove what is named above, or give "
                         "--on_bad_image skip"))
    return examples
