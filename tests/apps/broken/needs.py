"""Needs a package nobody has."""

import no_such_package_anywhere

graph = no_such_package_anywhere
