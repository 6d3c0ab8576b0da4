"""Licences of a corpus's files, as a person wrote them: a YAML mapping of GLOB: LICENCE, matched with the end of a file's address.

    lomiri-wallpapers-16.04/*/greentock_*: CC-BY-4.0
    "*.jpg": CC-BY-SA-4.0

Knows YAML; judges no licence.
"""

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from infra import storage
from infra.problem import Problem


def read_licences(uri: str | None) -> dict[str, str]:
    """Licences by glob, the first that matches counts; none without a file.

    Raises:
        Problem: it is not such a file.
    """
    if uri is None:
        return {}
    wanted = "write one `GLOB: LICENCE` a line"
    try:
        found = YAML(typ="safe").load(storage.read_bytes(uri).decode())
    except (YAMLError, ValueError, RecursionError) as error:
        raise Problem(f"licences {uri}: is not YAML that can be read ({type(error).__name__}); {wanted}") from error
    if not isinstance(found, dict) or not all(isinstance(glob, str) and isinstance(licence, str) for glob, licence in found.items()):
        raise Problem(f"licences {uri}: is no list of globs and licences; {wanted}")
    return found
