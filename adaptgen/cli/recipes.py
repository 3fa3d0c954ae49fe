"""`adaptgen recipes`: what can be trained, and whether a recipe is right."""

from __future__ import annotations

from typing import Annotated

import typer

from adaptgen.cli.common import new_console, print_error, print_json, say

__all__ = ["app"]

app = typer.Typer(help="List, show and check recipes for training.", no_args_is_help=True)


@app.command("ls")
def list_recipes(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for a machine.")] = False,
) -> None:
    """List the recipes that come with adaptgen.

    Example: adaptgen recipes ls
    """
    from rich.table import Table

    from adaptgen.shipped import recipe_names, shipped_folder

    rows = []
    for name in recipe_names():
        text = (shipped_folder("recipes") / f"{name}.yaml").read_text(encoding="utf-8")
        purpose = text.splitlines()[0].removeprefix("#").strip() if text.startswith("#") else ""
        rows.append({"name": name, "purpose": purpose})
    if as_json:
        print_json(rows)
        return
    table = Table("recipe", "purpose", box=None)
    for row in rows:
        table.add_row(row["name"], row["purpose"])
    new_console().print(table)


@app.command("cat")
def cat(name: Annotated[str, typer.Argument(metavar="NAME", help="A shipped name, or a file.")]) -> None:
    """Print a recipe, to read or to begin one of your own with.

    Example: adaptgen recipes cat music > mine.yaml
    """
    from adaptgen.errors import RecipeError
    from adaptgen.shipped import find_recipe

    path = find_recipe(name)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} cannot be read: {error}", "Give a YAML file") from None
    typer.echo(text, nl=False)


@app.command("validate")
def validate(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Recipe files or shipped names.")],
) -> None:
    """Check recipes without training; exits with 1 if one of them is wrong.

    Example: adaptgen recipes validate mine.yaml
    """
    from adaptgen import domains
    from adaptgen.errors import AdaptgenError
    from adaptgen.recipe_files import load_recipe
    from adaptgen.shipped import find_recipe

    num_wrong = 0
    for name in files:
        try:
            recipe = load_recipe(find_recipe(name))
            domains.get(recipe.domain).tokenizer_type.check_options(recipe.tokenizer)
        except AdaptgenError as error:
            print_error(error)
            num_wrong += 1
        else:
            say(f"{name}: valid")
    if num_wrong:
        raise typer.Exit(1)
