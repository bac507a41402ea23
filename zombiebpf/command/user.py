# SPDX-License-Identifier: Apache-2.0
"""Choose the user that a command runs as: -u, else the caller of sudo."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from typing import NamedTuple, Optional

from zombiebpf.errors import UsageError

_SUDO = ("SUDO_COMMAND", "SUDO_GID", "SUDO_UID", "SUDO_USER", "SUDO_HOME")


class User(NamedTuple):
    """The user that a command runs as."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str


def choose_user(named: Optional[str], environ: Mapping[str, str]) -> Optional[User]:
    """Return the user `named` by -u, else the caller of sudo; None if this process runs as it.

    Raise UsageError if there is no such user.
    """
    user = _user_named(named) if named is not None else _caller_of_sudo(environ)
    if user is not None and user.uid == os.getuid() == os.geteuid():
        return None
    return user


def _user_named(name: str) -> User:
    try:
        number = name.isascii() and name.isdigit()
        entry = pwd.getpwuid(int(name)) if number else pwd.getpwnam(name)
    except (KeyError, ValueError):  # ValueError: a null byte, or too many digits
        raise UsageError(
            f"no user {name!r} on this machine", "-u takes a name or a uid of `getent passwd`"
        ) from None
    return User(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir, entry.pw_shell)


def _caller_of_sudo(environ: Mapping[str, str]) -> Optional[User]:
    uid = environ.get("SUDO_UID", "")
    if os.geteuid() != 0 or not uid.isdigit() or int(uid) == 0:
        return None
    user = _user_named(uid)
    gid = environ.get("SUDO_GID", "")  # after newgrp(1) it differs from passwd(5)
    return user._replace(gid=int(gid)) if gid.isdigit() else user


def groups_of(user: User) -> list[int]:
    """Return all gids of a user, first the one that newgrp(1) has chosen; see group(5)."""
    groups = os.getgrouplist(user.name, pwd.getpwuid(user.uid).pw_gid)
    return list(dict.fromkeys([user.gid, *groups]))


def environment_of(user: Optional[User], environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that `user` would have without sudo; None changes nothing.

    PATH stays as it is: its value before sudo is not known.
    """
    result = dict(environ)
    if user is None:
        return result
    for name in _SUDO:
        result.pop(name, None)
    result.update(HOME=user.home, USER=user.name, LOGNAME=user.name, SHELL=user.shell)
    if "MAIL" in result:
        result["MAIL"] = f"/var/mail/{user.name}"
    return result
