# SPDX-License-Identifier: Apache-2.0
"""What the kernel is, asked once and kept until it boots again.

The layout of its structs, the addresses of its functions and the hooks that it grants do not
change while it runs. To read them takes longer than all else that a start does, but for the
verifier. A refusal is not kept: the next start may have other privileges.

No answer that was kept can be wrong unnoticed. Compiled probes are kept under a name that
depends on every answer that led to them, and are never compiled from answers that were kept:
with a wrong one they are not found, and all is asked again. The self-check of each start
judges the rest (zombiebpf.observe.selfcheck).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Callable, Optional

from zombiebpf.bpf.btf import Field, Types
from zombiebpf.bpf.functions import FENTRY, Trial
from zombiebpf.bpf.kallsyms import Range, find_functions, has_symbol
from zombiebpf.kernel import cache

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_FORMAT = b"1"  # of the answers


def _always(_: Any) -> bool:
    return True


class BootFacts:
    """Questions to the kernel, and its answers as values of JSON."""

    def __init__(self, name: Optional[str] = None) -> None:
        """Load what is in the cache under `name`; None: nothing, and keep nothing."""
        self._name = name
        self._answers = _load(name)
        self.were_kept = bool(self._answers)
        self._is_new = False
        self._used: dict[str, Any] = {}

    @classmethod
    def of_this_boot(cls) -> BootFacts:
        """Load what was kept since the kernel booted."""
        try:
            boot = _BOOT_ID.read_bytes()
        except OSError:
            return cls()
        return cls(cache.name_of(cache.BOOT, (_FORMAT, boot)))

    def ask(
        self, question: str, kernel: Callable[[], Any], keep: Callable[[Any], bool] = _always
    ) -> Any:
        """Return the answer that is known, else the kernel's, which is kept if `keep` says so."""
        if question in self._answers:
            answer = self._answers[question]
        else:
            answer = kernel()
            if keep(answer):
                self._answers[question] = answer
                self._is_new = True
        self._used[question] = answer
        return answer

    def used(self) -> bytes:
        """Return the answers that were given so far, in one form, whether they were kept or not."""
        return json.dumps(self._used, sort_keys=True).encode()

    def keep(self) -> None:
        """Store the answers for the next start, if there are new ones."""
        if self._name is not None and self._is_new:
            cache.keep(self._name, json.dumps(self._answers).encode())

    def forget(self) -> None:
        """Forget all answers, in the cache, too."""
        self._answers.clear()
        self._used.clear()
        self.were_kept = False
        if self._name is not None:
            cache.forget(self._name)


class KnownTypes(Types):
    """A kernel's types; its BTF is only read for what is not known yet."""

    def __init__(self, facts: BootFacts, read: Callable[[], Types]) -> None:
        """Answer from `facts`, else from what `read` returns."""
        self._facts, self._read = facts, read
        self._types: Optional[Types] = None

    def _kernel(self) -> Types:
        if self._types is None:
            self._types = self._read()
        return self._types

    def field(self, owner: str, path: str) -> Optional[Field]:
        """See Types."""
        found = self._facts.ask(f"field {owner} {path}", lambda: self._kernel().field(owner, path))
        return None if found is None else Field(*found)

    def size(self, owner: str) -> Optional[int]:
        """See Types."""
        return _int(self._facts.ask(f"size {owner}", lambda: self._kernel().size(owner)))

    def function(self, name: str) -> Optional[int]:
        """See Types."""
        return _int(self._facts.ask(f"function {name}", lambda: self._kernel().function(name)))

    def tracepoint_arguments(self, name: str) -> Optional[int]:
        """See Types."""
        found = self._facts.ask(
            f"tracepoint {name}", lambda: self._kernel().tracepoint_arguments(name)
        )
        return _int(found)


def find_known_functions(facts: BootFacts, names: Iterable[str]) -> list[Range]:
    """Return what find_functions() returns. Addresses that are hidden now are asked for again."""
    names = sorted(names)
    found = facts.ask(f"addresses {' '.join(names)}", lambda: find_functions(names), bool)
    return [Range(*each) for each in found]


def has_known_symbol(facts: BootFacts, name: str) -> bool:
    """Return what has_symbol() returns."""
    return bool(facts.ask(f"symbol {name}", lambda: has_symbol(name), bool))


def known_refusal(facts: BootFacts, trial: Trial, attach_kind: str, function: str) -> Optional[str]:
    """Return what Trial.refusal() returns. A refusal is not kept: privileges may change."""
    if attach_kind == FENTRY:
        trial.number(function)  # it is used whether there is a trial or not
    refusals: list[Optional[str]] = []

    def is_granted() -> bool:
        refusals.append(trial.refusal(attach_kind, function))
        return refusals[0] is None

    facts.ask(f"hook {attach_kind} {function}", is_granted, bool)
    return refusals[0] if refusals else None


def _int(value: Optional[int]) -> Optional[int]:
    return None if value is None else int(value)


def _load(name: Optional[str]) -> dict[str, Any]:
    kept = None if name is None else cache.find(name)
    return {} if kept is None else dict(json.loads(kept))
