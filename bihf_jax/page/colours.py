"""Colours of the pages, as "#rrggbb"."""

import functools

# 256 colours of matplotlib's viridis, red, green and blue in hexadecimal: perceptually uniform, and read by
# colour-blind readers too (van der Walt and Smith 2015). None is grey, which means "no value". The darkest tenth is
# left out: it is lost on a dark ground. Written out, as matplotlib takes long to start; a test compares.
_SCALE = (
    "482475482576482677482878482979472a7a472c7a472c7a472d7b472e7c472f7d46307e46327e46337f463480453581453781453781"
    "453882443983443a83443b84433d84433e85423f854240864241864241864142874144874045884046883f47883f48893e49893e4a89"
    "3e4c8a3d4d8a3d4d8a3d4e8a3c4f8a3c508b3b518b3b528b3a538b3a548c39558c39568c39568c38588c38598c375a8c375b8d365c8d"
    "365d8d355e8d355f8d34608d34618d34618d33628d33638d32648e32658e31668e31678e31688e30698e306a8e306a8e2f6b8e2f6c8e"
    "2e6d8e2e6e8e2e6f8e2d708e2d718e2c718e2c728e2c728e2c738e2b748e2b758e2a768e2a778e2a788e29798e297a8e297b8e287c8e"
    "287c8e287d8e277e8e277f8e27808e26818e26828e26828e25838e25848e25848e25858e24868e24878e23888e23898e238a8d228b8d"
    "228c8d228d8d228d8d218e8d218f8d21908d21918c20928c20928c20938c1f948c1f958b1f968b1f968b1f978b1f988b1f998a1f9a8a"
    "1e9b8a1e9c891e9d891f9e891f9f881f9f881fa0881fa1881fa1871fa28720a38620a48621a58521a68522a78522a78522a88423a983"
    "24aa8325ab8225ac8226ad8127ad8128ae8029af7f2ab07f2ab07f2cb17e2db27d2eb37c2fb47c31b57b32b67a34b67935b77937b878"
    "37b87838b9773aba763bbb753dbc743fbc7340bd7242be7144bf7046c06f48c16e48c16e4ac16d4cc26c4ec36b50c46a52c56954c568"
    "56c66758c7655ac8645ac8645cc8635ec96260ca6063cb5f65cb5e67cc5c69cd5b6ccd5a6ece586ece5870cf5773d05675d05477d153"
    "7ad1517cd2507fd34e81d34d84d44b86d54986d54989d5488bd6468ed64590d74393d74195d84098d83e9bd93c9dd93b9dd93ba0da39"
    "a2da37a5db36a8db34aadc32addc30b0dd2fb2dd2db5de2bb5de2bb8de29bade28bddf26c0df25c2df23c5e021c8e020cae11fcde11d"
    "d0e11cd0e11cd2e21bd5e21ad8e219dae319dde318dfe318e2e418e5e419e7e419e7e419eae51aece51befe51cf1e51df4e61ef6e620"
    "f8e621fbe723fde725fde725"
)
# Told apart by colour-blind readers (Okabe and Ito 2008).
CATEGORIES: tuple[str, ...] = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
# Of the first category of labels, which is the absence of what is looked for.
ABSENT = "#b4bac3"


@functools.cache
def scale() -> tuple[str, ...]:
    """256 colours from the lowest to the highest value."""
    return tuple(f"#{_SCALE[start : start + 6]}" for start in range(0, len(_SCALE), 6))


def of_categories(number: int, *, first_is_absence: bool) -> list[str]:
    """A colour for each category; they repeat where there are more than colours."""
    start = (ABSENT,) if first_is_absence else ()
    return [*start, *(CATEGORIES[i % len(CATEGORIES)] for i in range(number - len(start)))][:number]
