"""What every test shares."""

import os

# A child process started in the repository's root must import the installed package, not the
# sources beside it, which lack the native modules.
os.environ["PYTHONSAFEPATH"] = "1"
