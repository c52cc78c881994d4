"""How a pushed model is installed, loaded and fed, as its task tells it."""

from __future__ import annotations

from affect.usage import Card


def section(card: Card, repo: str, last: bool) -> str:
    """Return the card's section on using a model; `last` tells whether last/ is there.

    Command and program run as they are beside the files that they name.
    """
    what = f'".[{",".join(card.extras)}]"' if card.extras else "."
    parts = [
        "## How to use it",
        "It needs affect, the code that trained it: clone its repository (a package of that name on PyPI may be "
        "another one) and give, in the clone:",
        f"```\npip install {what}\n```",
    ]
    if card.command:
        parts += ["Then, in a shell:", f"```\naffect predict {repo} {card.command}\n```", "Or in Python:"]
    parts.append(f"```python\n{card.program}\n```")
    if last:
        parts.append(f'The newest weights are `from_pretrained("{repo}", subfolder="last")`.')
    return "\n\n".join(parts)
