"""Not ours."""


def write() -> str:
    return "the user's own story"
