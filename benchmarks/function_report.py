CHECKPOINTS = sorted({round(10 ** (i / 10)) for i in range(10, 41)})


def summary_tables(rows):
    return ["done"]


def markdown(rows):
    return ""


def draw(rows, path):
    pass
