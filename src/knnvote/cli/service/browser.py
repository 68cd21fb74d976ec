"""The browser of whoever runs a command."""

import os
import sys
import threading
import webbrowser

_DESKTOPS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")  # without any of them a browser would take the terminal
_ANYWHERE = {"//0.0.0.0:": "//127.0.0.1:", "//[::]:": "//[::1]:"}


def open_in_browser(address: str) -> bool:
    """Have the desktop's browser show a page.

    Args:
        address: of the page; where it listens on all addresses, that of the loopback is shown.

    Returns:
        Whether there is such a browser.
    """
    if sys.platform != "darwin" and not any(os.environ.get(name) for name in _DESKTOPS):
        return False
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    for anywhere, here in _ANYWHERE.items():
        address = address.replace(anywhere, here)
    # Some wait until their browser is closed.
    threading.Thread(target=webbrowser.open, args=(address,), name="browser", daemon=True).start()
    return True
