"""`eventbus completion`: the script that lets a shell complete commands and options."""

from __future__ import annotations

from typing import Annotated

import typer

from console.exits import Mistake

VARIABLE = "_EVENTBUS_COMPLETE"
SHELLS = ("bash", "zsh", "fish")


def command(
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", autocompletion=lambda: list(SHELLS))],
) -> None:
    """Print what makes a shell complete commands and options.

    Completing asks no server.

    \b
    Examples:
      eval "$(eventbus completion bash)"                        # in ~/.bashrc
      eval "$(eventbus completion zsh)"                         # in ~/.zshrc, after compinit
      eventbus completion fish > ~/.config/fish/completions/eventbus.fish
    """
    from typer.completion import get_completion_script

    if shell not in SHELLS:
        raise Mistake(f"The shell must be one of {', '.join(SHELLS)}, not {shell!r}.")
    print(get_completion_script(prog_name="eventbus", complete_var=VARIABLE, shell=shell))
