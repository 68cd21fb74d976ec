// The address of this page, where commands for programs name it.
for (const place of document.querySelectorAll(".here")) place.textContent = new URL(".", location.href).href;
