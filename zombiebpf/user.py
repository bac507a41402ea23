# SPDX-License-Identifier: Apache-2.0
"""Whom a command runs as: under sudo, who called it."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from typing import NamedTuple, Optional

from zombiebpf.errors import UsageError

_SUDO = ("SUDO_COMMAND", "SUDO_GID", "SUDO_UID", "SUDO_USER", "SUDO_HOME")


class User(NamedTuple):
    """Whom a command runs as."""

    name: str
    uid: int
    gid: int
    home: str
    shell: str


def choose_user(named: Optional[str], environ: Mapping[str, str]) -> Optional[User]:
    """`named` by -u, else the caller of sudo; None when that is who we are already.

    UsageError for a user that does not exist.
    """
    user = _user_named(named) if named is not None else _caller_of_sudo(environ)
    if user is not None and user.uid == os.getuid() == os.geteuid():
        return None
    return user


def _user_named(name: str) -> User:
    """By name or number."""
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
    gid = environ.get("SUDO_GID", "")  # not the one of passwd(5) after newgrp(1)
    return user._replace(gid=int(gid)) if gid.isdigit() else user


def groups_of(user: User) -> list[int]:
    """All groups: those of group(5), of passwd(5), and the one that newgrp(1) has chosen."""
    groups = os.getgrouplist(user.name, pwd.getpwuid(user.uid).pw_gid)
    return list(dict.fromkeys([user.gid, *groups]))


def environment_of(user: Optional[User], environ: Mapping[str, str]) -> dict[str, str]:
    """What `user` would have without sudo; everything stays for None.

    PATH stays too: what it was before sudo is not known.
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
