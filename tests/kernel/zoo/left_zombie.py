# SPDX-License-Identifier: Apache-2.0
"""The command ends and leaves a zombie: it is adopted as one, after the command's own end."""

from harness import truth

truth.peek("zombie", truth.spawn("zombie", lambda: 3))
truth.say("zombie", status=3 << 8)
truth.tell()
