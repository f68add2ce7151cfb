"""Named like a standard module: `langgraph dev` does not let it hide that, and neither do we."""

NOT_THE_STANDARD_QUEUE = True
