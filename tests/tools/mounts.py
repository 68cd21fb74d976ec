"""File systems in a namespace of its own, which commands in forks join."""

import shutil
import subprocess
from pathlib import Path


class Mounts:
    """A shell that may mount file systems, which nobody else sees but who joins it. On Linux alone.

    Attributes:
        join: Python by which a process of one thread joins it; a fork of `forks.Forks` runs it before its command.
    """

    def __init__(self, folder: Path) -> None:
        """Start it in a folder.

        Raises:
            OSError: no file system can be mounted here.
        """
        unshare = shutil.which("unshare")
        if unshare is None:
            raise OSError("there is no unshare")
        self._shell = subprocess.Popen(
            [unshare, "-rm", "sh", "-e"], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            self.do("mount -t tmpfs tmpfs /mnt; umount /mnt")
        except OSError:
            self.close()
            raise
        self.join = (
            "import ctypes, os\n"
            "libc = ctypes.CDLL(None, use_errno=True)\n"
            "for kind in ('user', 'mnt'):\n"
            f"    space = os.open(f'/proc/{self._shell.pid}/ns/{{kind}}', os.O_RDONLY)\n"
            "    assert libc.setns(space, 0) == 0, os.strerror(ctypes.get_errno())\n"
        )

    def do(self, script: str) -> None:
        """Run some commands in the folder.

        Raises:
            OSError: one of them failed; it says why on stderr.
        """
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{script}\necho\n")
        self._shell.stdin.flush()
        if not self._shell.stdout.readline():
            raise OSError(f"this failed: {script}")

    def close(self) -> None:
        """End it, and with it what was mounted."""
        self._shell.communicate()
