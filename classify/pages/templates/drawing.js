// What is drawn is sent as a picture whenever it has changed and the answer before has come, and that answer is shown.
{
  const pad = document.querySelector("canvas.pad");
  const context = pad.getContext("2d");
  const pen = Number(pad.dataset.pen);
  const isFramed = "framed" in pad.dataset;
  const largest = 4; // times, to which a small drawing grows
  const side = 256; // pixels of the picture that is sent, its longer side
  const unit = Math.max(pad.width, pad.height);
  const pause = 700; // milliseconds without another answer, after which screen readers are told
  const told = document.querySelector("p.told");
  const heard = document.querySelector("[role=status]"); // what is seen, once it lasts
  const label = document.querySelector("p.label");
  const found = document.querySelector(".found");

  let strokes = []; // of points in pixels of the pad
  let picture = null; // that was dropped or chosen, to be sent as it is
  let dropped = null; // the same, as it is shown
  let cursor = null; // of the keyboard
  let isDown = false; // the pen of the keyboard
  let changes = 0;
  let isAsking = false;
  let isRefused = false; // what was dropped last, of which no answer to what was drawn before shall take the place
  let hearing = 0; // the timer of what is to be heard

  const trace = (on, lines, width, move = (point) => point) => {
    Object.assign(on, { lineCap: "round", lineJoin: "round", lineWidth: width, strokeStyle: "#fff" });
    for (const line of lines) {
      on.beginPath();
      line.map(move).forEach(([x, y], place) => (place ? on.lineTo(x, y) : on.moveTo(x, y)));
      const [x, y] = move(line[0]);
      on.lineTo(...(line.length === 1 ? [x + 0.01, y] : move(line.at(-1)))); // a line of no length is not drawn
      on.stroke();
    }
  };
  const paint = () => {
    context.fillStyle = "#000";
    context.fillRect(0, 0, pad.width, pad.height);
    if (dropped) {
      const scale = Math.min(pad.width / dropped.width, pad.height / dropped.height);
      const [width, height] = [dropped.width * scale, dropped.height * scale];
      context.imageSmoothingEnabled = scale < 1;
      context.drawImage(dropped, (pad.width - width) / 2, (pad.height - height) / 2, width, height);
    }
    trace(context, strokes, pen * unit * (isFramed ? 1 : 0.75));
    if (cursor && document.activeElement === pad) {
      context.lineWidth = 2;
      context.strokeStyle = isDown ? "#ff9248" : "#56b4e9";
      context.strokeRect(cursor[0] - 9, cursor[1] - 9, 18, 18);
    }
  };
  // Strokes as they would be had they been drawn as large as stored ones, with a pen as wide.
  const drawn = () => {
    const canvas = document.createElement("canvas");
    const size = side / unit;
    [canvas.width, canvas.height] = [pad.width * size, pad.height * size];
    const on = canvas.getContext("2d");
    on.fillRect(0, 0, canvas.width, canvas.height);
    if (isFramed) {
      trace(on, strokes, pen * side, ([x, y]) => [x * size, y * size]);
    } else {
      const points = strokes.flat();
      const [left, top] = [0, 1].map((axis) => Math.min(...points.map((point) => point[axis])));
      const [right, bottom] = [0, 1].map((axis) => Math.max(...points.map((point) => point[axis])));
      const [margin, width] = [8, pen * (side - 16)];
      const [across, down] = [canvas.width - 2 * margin - width, canvas.height - 2 * margin - width];
      const scale = Math.min(across / (right - left || 1), down / (bottom - top || 1), largest * size);
      const [x0, y0] = [canvas.width / 2 - (scale * (left + right)) / 2, canvas.height / 2 - (scale * (top + bottom)) / 2];
      trace(on, strokes, width, ([x, y]) => [x0 + x * scale, y0 + y * scale]);
    }
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  };

  const hear = (text) => {
    if (heard.textContent !== text) heard.textContent = text;
  };
  // An answer to every move of the pen would be chatter for who hears it.
  const hearLater = () => {
    clearTimeout(hearing);
    hearing = setTimeout(() => hear(told.textContent), pause);
  };
  const tell = (text, isFailure = false) => {
    if (told.textContent !== text) told.textContent = text;
    told.classList.toggle("failed", isFailure);
    hearLater();
  };
  const cell = (name, text, properties = {}) => {
    const made = Object.assign(document.createElement(name), properties);
    made.textContent = text;
    return made;
  };
  const showShare = ({ label: name, share }, place) => {
    const row = document.createElement("tr");
    const plot = cell("td", "", { className: "plot bars" });
    const bar = cell("span", "", { className: place ? "bar miss" : "bar" });
    bar.setAttribute("aria-hidden", "true");
    bar.style.setProperty("--v", (100 * share).toFixed(2));
    plot.append(bar);
    row.append(cell("th", name, { scope: "row" }), plot, cell("td", `${Math.round(100 * share)}%`));
    return row;
  };
  const showVoter = (neighbor) => {
    const item = document.createElement("li");
    if (neighbor.picture) item.append(Object.assign(new Image(), { src: neighbor.picture, alt: neighbor.told }));
    item.append(cell("strong", neighbor.label), ` at ${neighbor.distance}`, document.createElement("br"));
    item.append(cell("span", neighbor.id, { className: "faint" }));
    return item;
  };
  const show = (answer) => {
    label.textContent = answer.label ?? answer.best;
    label.classList.toggle("none", answer.label === null);
    label.classList.toggle("long", label.textContent.length > 6);
    tell(answer.told);
    found.querySelector("table").hidden = !answer.shares.length;
    found.querySelector("tbody").replaceChildren(...answer.shares.map(showShare));
    found.querySelector(".seen").src = answer.seen;
    found.querySelector("ul").replaceChildren(...answer.neighbors.map(showVoter));
    found.hidden = false;
  };
  const reset = (text, isFailure = false) => {
    found.hidden = true;
    label.textContent = "?";
    label.classList.remove("none", "long");
    tell(text, isFailure);
  };

  const wait = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  const ask = async () => {
    const body = picture ?? (await drawn());
    const response = await fetch("drawing", { method: "POST", body, headers: { "Content-Type": "image/png" } });
    if (response.status === 503) {
      await wait(Number(response.headers.get("Retry-After") ?? 1));
      changes += 1;
      return null;
    }
    return [response.ok, await response.json()];
  };
  const answer = async () => {
    if (isAsking) return;
    isAsking = true;
    let seen = -1;
    while (seen !== changes && (strokes.length || picture)) {
      seen = changes;
      try {
        const said = await ask();
        if (!said || isRefused || !(strokes.length || picture)) continue;
        if (said[0]) show(said[1]);
        else reset(said[1].error, true);
      } catch {
        reset("The service does not answer: draw on when it is there again.", true);
      }
    }
    isAsking = false;
  };
  const changed = () => {
    isRefused = false;
    changes += 1;
    paint();
    if (strokes.length || picture) answer();
    else reset("Nothing is drawn yet.");
  };
  const forget = () => ([picture, dropped] = [null, null]);
  const clear = () => {
    [strokes, isDown] = [[], false];
    forget();
    changed();
  };
  const undo = () => {
    if (picture) forget();
    else strokes.pop();
    isDown = false;
    changed();
  };

  const place = (event) => {
    const box = pad.getBoundingClientRect();
    return [((event.clientX - box.left) * pad.width) / box.width, ((event.clientY - box.top) * pad.height) / box.height];
  };
  pad.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    pad.setPointerCapture(event.pointerId);
    [cursor, isDown] = [null, false];
    forget();
    strokes.push([place(event)]);
    changed();
  });
  pad.addEventListener("pointermove", (event) => {
    if (!pad.hasPointerCapture(event.pointerId) || !strokes.length) return;
    const events = event.getCoalescedEvents?.() ?? [];
    strokes.at(-1).push(...(events.length ? events : [event]).map(place));
    changed();
  });
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  const press = (key, isLong) => {
    cursor ??= [pad.width / 2, pad.height / 2];
    if (key in arrows) {
      const step = unit / (isLong ? 8 : 32);
      const limits = [pad.width, pad.height];
      cursor = cursor.map((at, axis) => Math.min(limits[axis], Math.max(0, at + step * arrows[key][axis])));
      if (!isDown) return paint();
      strokes.at(-1).push([...cursor]);
    } else {
      isDown = !isDown;
      hear(isDown ? "The pen is down." : "The pen is up.");
      hearLater();
      if (!isDown) return paint();
      forget();
      strokes.push([[...cursor]]);
    }
    changed();
  };
  pad.addEventListener("keydown", (event) => {
    if (event.key in arrows || event.key === " ") press(event.key, event.shiftKey);
    else if (event.key === "Backspace") undo();
    else if (event.key === "Escape") clear();
    else return;
    event.preventDefault();
  });
  for (const kind of ["focus", "blur"]) pad.addEventListener(kind, paint);

  const take = async (file) => {
    if (!file) return;
    strokes = [];
    picture = file;
    dropped = await createImageBitmap(file).catch(() => null);
    changed();
  };
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      event.preventDefault();
      pad.classList.toggle("over", kind === "dragover");
      if (kind !== "drop") return;
      const [file] = event.dataTransfer.files;
      isRefused = !file;
      if (file) take(file);
      else tell("What was dropped is no file: drop a picture.", true);
    });
  }
  const chooser = document.querySelector(".choose input");
  chooser.addEventListener("change", () => {
    take(chooser.files[0]);
    chooser.value = "";
  });
  document.querySelector(".clear").addEventListener("click", clear);
  document.querySelector(".undo").addEventListener("click", undo);
  paint();
}
